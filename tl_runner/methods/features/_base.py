"""What the methods from before deep networks have in common: features first, then a fit on them. No
method by itself."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tl_runner.backbones._batch_norm import target_from_source
from tl_runner.errors import ConfigError
from tl_runner.methods.base import Classifier, Setting
from tl_runner.methods.batch import SplitPasses
from tl_runner.methods.features._fitted import Fitted
from tl_runner.methods.features._learners import FOR_NUMBERS, WEIGHTABLE, learn, logits
from tl_runner.methods.phases import Hooks, Length, Outputs, Phase

ENOUGH = 1e-12  # of a norm or a deviation that is divided by


@dataclass(frozen=True)
class Domains:
    """What a fit sees: features in double precision, (N, d), (M, d) and (L, d), and the labels of
    the first and the last.

    Attributes:
        source, y: of the source's training images.
        target: of the target's training images, without labels.
        labelled, labelled_y: of those with labels, where the run has any.
        classes: K; 0 where the labels are numbers.
    """

    source: Tensor
    y: Tensor
    target: Tensor
    classes: int
    labelled: Tensor | None = None
    labelled_y: Tensor | None = None


class OnFeatures(Classifier):
    """Phases: ``features``, a network trained on the source (none with ``backbone=raw``, or of 0
    epochs), and ``fit``.

    Args:
        features: lengths and optimiser of the network.
        learner: the classifier that is fitted, one of :data:`learners.LEARNERS`.
        strength: the inverse of its regularisation.
        scale: of the features: ``unit``, every vector to length 1; ``standard``, every feature to
            mean 0 and deviation 1 by the source; ``each``, by each domain itself; None, as they
            are.
    """

    numbers = True
    weighted = False  # whether its samples weigh differently

    def __init__(
        self,
        setting: Setting,
        *,
        features: Mapping[str, Any],
        learner: str,
        strength: float,
        scale: str | None,
    ):
        super().__init__(setting)
        self.pretrain, self.learner, self.strength, self.scale = features, learner, strength, scale
        self.fitted = Fitted()
        if not setting.num_classes:
            self.check_for_numbers()
        if self.weighted and learner not in WEIGHTABLE:
            raise ConfigError(
                [
                    f"method.learner={learner} takes no weights of samples: choose one of "
                    f"{', '.join(WEIGHTABLE)}."
                ]
            )
        self.protocol = f"{learner} on {f'features scaled by {scale}' if scale else 'features'}"

    def check_for_numbers(self) -> None:
        """Raise where what is asked for is a number and the learner, or the network before it,
        tells classes apart."""
        fit = [name for name in FOR_NUMBERS if not self.weighted or name in WEIGHTABLE]
        problems = (
            []
            if self.learner in fit
            else [
                f"method.learner={self.learner} tells classes apart: choose one of "
                f"{', '.join(fit)}."
            ]
        )
        if self.trains_network():
            problems.append(
                "the phase features trains a network to tell classes apart: set backbone=raw, or "
                "method.features.epochs=0."
            )
        if problems:
            raise ConfigError(["the labels of this data are numbers (y is of floats).", *problems])

    def trains_network(self) -> bool:
        return bool(self.pretrain["epochs"]) and any(True for _ in self.encoder.parameters())

    # ---- what a method says

    @abstractmethod
    def fit(self, domains: Domains) -> Mapping[str, Tensor]:
        """What :meth:`logits` needs."""

    def mapped(self, z: Tensor, domain: str) -> Tensor:
        """Scaled features (B, d) of the source or the target to those that the learner sees."""
        return z

    # ---- phases

    def phases(self) -> list[Phase]:
        fit = Phase(
            name="fit",
            reads=self.reads(source="source_train", target="target_train"),
            updates=[],
            length=Length(epochs=0, batch_size=1),
            outputs=Outputs(
                lambda x: self.classify(x, "target"),
                lambda x: self.classify(x, "source"),
                embed={
                    "source": lambda x: self.seen(x, "source"),
                    "target": lambda x: self.seen(x, "target"),
                },
            ),
            hooks=Hooks(begin=lambda: target_from_source(self.encoder), fit=self.fit_all),
        )
        return [self.network(), fit]

    def network(self) -> Phase:
        """The phase ``features``; nothing is trained, and nothing scored, where the network is
        taken as it is."""
        phase = self.supervised("features", self.pretrain, self.reads(source="source_train"))
        if not self.trains_network():
            phase.length = replace(phase.length, epochs=0, patience=None)
            phase.outputs = replace(phase.outputs, domains=())
            phase.updates, phase.shared = [], None
        return phase

    def fit_all(self, passes: SplitPasses) -> list[str]:
        """The scaling, and what the method fits, from whole splits; what the user should know of
        it."""
        self.said: list[str] = []
        z = {"source": passes(self.features, "source")}
        for domain in ("target", *(["labelled"] if self.setting.labelled else [])):
            z[domain] = passes(lambda x: self.features(x, "target"), domain)
        exact = {d: self.doubled(x.flatten(1)) for d, x in z.items()}
        if self.scale in ("standard", "each"):
            for domain in ("source", "target"):
                of = exact["source" if self.scale == "standard" else domain]
                self.keep(
                    {
                        f"{domain}_centre": of.mean(0),
                        f"{domain}_deviation": of.std(0, correction=0),
                    },
                    z["source"],
                )
        scaled = {
            d: self.scaled(x, "source" if d == "source" else "target") for d, x in exact.items()
        }
        domains = Domains(
            scaled["source"],
            passes.labels("source").to(scaled["source"].device),
            scaled["target"],
            self.setting.num_classes,
            scaled.get("labelled"),
            passes.labels("labelled").to(scaled["source"].device) if "labelled" in scaled else None,
        )
        with torch.no_grad():
            self.keep(self.fit(domains), z["source"])
        return self.said

    @staticmethod
    def doubled(z: Tensor) -> Tensor:
        """In double precision; Apple's GPUs have none, so from there on the CPU."""
        return (z.cpu() if z.device.type == "mps" else z).double()

    def at_most(self, wanted: int, there: int, key: str) -> int:
        """A number of directions that there are."""
        if wanted > there:
            self.said.append(f"method.{key}={wanted}: there are {there}, all of which are taken.")
        return min(wanted, there)

    def keep(self, tensors: Mapping[str, Tensor], like: Tensor) -> None:
        """Leave tensors behind, on the device of another."""
        self.fitted.put(tensors, like.device)

    # ---- predictions

    def scaled(self, z: Tensor, domain: str) -> Tensor:
        """Features (B, d) as ``scale`` says."""
        if self.scale == "unit":
            return z / z.norm(dim=1, keepdim=True).clamp_min(ENOUGH)
        if self.scale in ("standard", "each"):
            centre, deviation = (
                self.fitted[f"{domain}_{part}"].to(z) for part in ("centre", "deviation")
            )
            return (z - centre) / torch.where(deviation > 1e-6, deviation, 1.0)
        return z

    def classify(self, x: Tensor, domain: str) -> Tensor:
        """Images (B, C, H, W) to logits (B, K), or numbers (B, 1)."""
        return self.exactly(
            lambda z: self.logits(self.mapped(self.scaled(z, domain), domain)), x, domain
        )

    def seen(self, x: Tensor, domain: str) -> Tensor:
        """Images (B, C, H, W) to what the learner sees."""
        return self.exactly(lambda z: self.mapped(self.scaled(z, domain), domain), x, domain)

    def exactly(self, then: Callable[[Tensor], Tensor], x: Tensor, domain: str) -> Tensor:
        """``then`` of the features of images: what was fitted in double precision is not applied in
        half."""
        z = self.features(x, domain).flatten(1).float()
        with torch.autocast(z.device.type, enabled=False):
            return then(z)

    def logits(self, z: Tensor) -> Tensor:
        """Of what the learner sees, (B, d) to (B, K) or (B, 1)."""
        return logits(self.fitted.part("learner_"), z, self.setting.num_classes)

    def learned(self, x: Tensor, y: Tensor, weights: Tensor | None = None) -> dict[str, Tensor]:
        """The learner, fitted on (N, d) and (N,); names as :meth:`logits` finds them."""
        weights = None if weights is None else weights / weights.mean()
        state = learn(
            self.learner, x, y, self.setting.num_classes, self.strength, weights, self.setting.seed
        )
        return {f"learner_{name}": tensor for name, tensor in state.items()}

    @staticmethod
    def refuse_beyond(numbers: int, device: torch.device, what: str, cure: str) -> None:
        """Raise where so many double-precision numbers would not fit the memory that is free there.

        Raises:
            ConfigError: with ``cure``, what to do about it.
        """
        free = free_memory(device)
        if numbers * 8 > free:
            raise ConfigError(
                [
                    f"{what} would take {numbers * 8 / 2**30:,.1f} GiB, and {free / 2**30:,.1f} "
                    f"GiB are free. {cure}"
                ]
            )


class Weighted(OnFeatures):
    """The learner sees the source's samples, each with a weight, and those of the target that have
    a label with weight 1."""

    weighted = True

    @abstractmethod
    def weights(self, domains: Domains) -> Tensor:
        """Of the source's samples, (N,), not negative; they are brought to a mean of 1."""

    def fit(self, domains: Domains) -> Mapping[str, Tensor]:
        weights = self.weights(domains)
        if not bool((weights > 0).any()):
            raise ConfigError(
                [
                    "no source sample weighs anything: the target's are too far for this kernel. "
                    "Take a wider one."
                ]
            )
        weights = weights / weights.mean().clamp_min(ENOUGH)
        x, y, w = domains.source, domains.y, weights
        if domains.labelled is not None and domains.labelled_y is not None:
            x, y = torch.cat([x, domains.labelled]), torch.cat([y, domains.labelled_y])
            w = torch.cat([weights, weights.new_ones(len(domains.labelled))])
        return {"weights": weights} | self.learned(x, y, w)


class Aligned(OnFeatures):
    """Both domains are brought to one space by a matrix each, (z - centre) @ map; the learner sees
    the source's samples there."""

    @abstractmethod
    def align(self, domains: Domains) -> Mapping[str, Tensor]:
        """``source_map`` and ``target_map``, (d, k); ``source_shift`` and ``target_shift``, (d,),
        where they are not 0."""

    def mapped(self, z: Tensor, domain: str) -> Tensor:
        return self.along(self.fitted.part("map_"), z, domain)

    def along(self, maps: Mapping[str, Tensor], z: Tensor, domain: str) -> Tensor:
        """Features (B, d) of a domain to the common space, (B, k)."""
        if f"{domain}_shift" in maps:
            z = z - maps[f"{domain}_shift"].to(z)
        return z @ maps[f"{domain}_map"].to(z)

    def fit(self, domains: Domains) -> Mapping[str, Tensor]:
        found = self.align(domains)
        x, y = self.along(found, domains.source, "source"), domains.y
        if domains.labelled is not None and domains.labelled_y is not None:
            x, y = (
                torch.cat([x, self.along(found, domains.labelled, "target")]),
                torch.cat([y, domains.labelled_y]),
            )
        return {f"map_{name}": tensor for name, tensor in found.items()} | self.learned(x, y)


def principal(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """(mean (d,), the first k principal directions as columns (d, k)) of x (N, d), their signs
    fixed; k at most min(N, d)."""
    mean = x.mean(0)
    centred = x - mean
    if len(x) >= x.shape[1]:  # of many samples the covariance is smaller
        directions = torch.linalg.eigh(centred.T @ centred).eigenvectors.flip(1)[:, :k]
    else:
        directions = torch.linalg.svd(centred, full_matrices=False).Vh[:k].T
    return mean, signed(directions)


def signed(columns: Tensor) -> Tensor:
    """Columns (d, k), each with the sign that makes its largest entry positive: a library may
    return either."""
    largest = columns.gather(0, columns.abs().argmax(0, keepdim=True))
    return columns * torch.where(largest < 0, -1.0, 1.0).to(columns.dtype)


def free_memory(device: torch.device) -> float:
    """Bytes that may still be taken there."""
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return float(torch.cuda.mem_get_info(device)[0] + cached)
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return (
            float(next(line.split()[1] for line in lines if line.startswith("MemAvailable"))) * 1024
        )
    except (OSError, StopIteration, ValueError):
        return 8.0 * 2**30  # unknown: what a small machine has
