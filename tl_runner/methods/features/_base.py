"""Methods on fixed features, the common part: features first, then a fit on them."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from tl_runner.backbones._batch_norm import target_from_source
from tl_runner.errors import ConfigError, one_of
from tl_runner.methods.base import Method, encode, overridden, supervised_phase
from tl_runner.methods.features._fitted import Fitted
from tl_runner.methods.features._learners import FOR_NUMBERS, LEARNERS, WEIGHTABLE, learn, logits
from tl_runner.methods.phases import Hooks, Length, Outputs, Phase

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from tl_runner.methods.batch import SplitPasses
    from tl_runner.methods.features._learners import State
    from tl_runner.methods.setting import Setting

ENOUGH = 1e-12  # of a norm or a mean that is divided by
FLAT = 1e-6  # a deviation up to which a feature is constant
SCALES = ("unit", "standard", "each")


@dataclass(frozen=True)
class Domains:
    """The features that a fit sees, in double precision, and the labels that it may see.

    Attributes:
        source, y: the source's training images, (N, d), and their labels, (N,).
        target: the target's training images, without labels, (M, d).
        classes: K; 0 where the labels are numbers.
        labelled, labelled_y: the labelled target images, (L, d) and (L,), where the run has any.
    """

    source: Tensor
    y: Tensor
    target: Tensor
    classes: int
    labelled: Tensor | None = None
    labelled_y: Tensor | None = None

    def with_labelled(self, source: Tensor, labelled: Tensor | None) -> tuple[Tensor, Tensor]:
        """Features (N + L, k) and labels (N + L,) to learn from: the source's samples and the
        target's labelled ones, both given as the learner sees them."""
        if labelled is None or self.labelled_y is None:
            return source, self.y
        return torch.cat([source, labelled]), torch.cat([self.y, self.labelled_y])


class OnFeatures(Method):
    """Base of methods on features: a phase ``features`` that trains a network, and a phase ``fit``.

    The first trains on the source, and does nothing with ``backbone=raw`` or 0 epochs. The second
    gives :meth:`fit` the features of whole splits and keeps the tensors that it returns.

    Args:
        features: lengths and optimiser of the network.
        learner: the classifier that is fitted, one of :data:`_learners.LEARNERS`.
        strength: the inverse of its regularisation.
        scale: of the features: ``unit``, every vector to length 1; ``standard``, every feature to
            mean 0 and deviation 1 by the source; ``each``, by each domain itself; None, as they
            are.

    Raises:
        ConfigError: there is no such learner or scale; the learner cannot do what the method or the
            data need.
    """

    numbers = True
    weighted = False  # whether the learner gets samples of different weights

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
        one_of("method.learner", learner, LEARNERS)
        if scale is not None:
            one_of("method.scale", scale, SCALES)
        self.encoder, self.head = self.encoder_and_head()
        self.pretrain, self.learner, self.strength, self.scale = features, learner, strength, scale
        self.fitted = Fitted()
        self.notes: list[str] = []  # for the user, of the fit that runs
        if not setting.num_classes:
            self._check_for_numbers()
        if self.weighted and learner not in WEIGHTABLE:
            raise ConfigError(
                [
                    f"method.learner={learner} takes no weights of samples: choose one of "
                    f"{', '.join(WEIGHTABLE)}."
                ]
            )
        self.protocol = f"{learner} on {f'features scaled by {scale}' if scale else 'features'}"

    def _check_for_numbers(self) -> None:
        """Raise where the labels are numbers, and the learner or the network tells classes
        apart."""
        fit = [name for name in FOR_NUMBERS if not self.weighted or name in WEIGHTABLE]
        problems = []
        if self.learner not in fit:
            problems.append(
                f"method.learner={self.learner} tells classes apart: choose one of "
                f"{', '.join(fit)}."
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

    # ---- for a method to define

    @abstractmethod
    def fit(self, domains: Domains) -> Mapping[str, Tensor]:
        """The tensors that :meth:`mapped` and :meth:`logits` need, by name.

        A method ends it with :meth:`learn`, :meth:`learn_aligned` or :meth:`learn_weighted`.
        """

    def mapped(self, z: Tensor, domain: str) -> Tensor:
        """Scaled features (B, d) of a domain as the learner sees them, (B, k).

        By default :meth:`project` with the maps that :meth:`learn_aligned` left, if it did.
        """
        maps = self.fitted.part("map_")
        return self.project(maps, z, domain) if maps else z

    def project(self, maps: Mapping[str, Tensor], z: Tensor, domain: str) -> Tensor:
        """Features (B, d) of a domain in the common space, (z - shift) @ map, (B, k)."""
        if f"{domain}_shift" in maps:
            z = z - maps[f"{domain}_shift"].to(z)
        return z @ maps[f"{domain}_map"].to(z)

    def logits(self, z: Tensor) -> Tensor:
        """Logits (B, K), or numbers (B, 1), of features (B, k) as the learner sees them."""
        return logits(self.fitted.part("learner_"), z, self.setting.num_classes)

    # ---- for a fit to use

    def learn_aligned(self, domains: Domains, maps: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors of a fit that brings both domains to one space and learns there.

        Args:
            maps: ``source_map`` and ``target_map``, (d, k); ``source_shift`` and ``target_shift``,
                (d,), where they are not 0; and whatever else :meth:`project` needs.
        """
        source, labelled = self.project(maps, domains.source, "source"), domains.labelled
        if labelled is not None:
            labelled = self.project(maps, labelled, "target")
        kept = {f"map_{name}": tensor for name, tensor in maps.items()}
        return kept | self.learn(*domains.with_labelled(source, labelled))

    def learn_weighted(self, domains: Domains, weights: Tensor) -> dict[str, Tensor]:
        """The tensors of a fit that weighs the source's samples; labelled target ones weigh 1.

        Args:
            weights: of the source's samples, (N,), not negative; they are brought to a mean of 1.

        Raises:
            ConfigError: all weights are 0.
        """
        if not bool((weights > 0).any()):
            raise ConfigError(
                [
                    "no source sample weighs anything: the target's are too far for this kernel. "
                    "Take a wider one."
                ]
            )
        weights = weights / weights.mean().clamp_min(ENOUGH)
        each = weights
        if domains.labelled is not None:
            each = torch.cat([weights, weights.new_ones(len(domains.labelled))])
        x, y = domains.with_labelled(domains.source, domains.labelled)
        return {"weights": weights} | self.learn(x, y, each)

    def learn(self, x: Tensor, y: Tensor, weights: Tensor | None = None) -> dict[str, Tensor]:
        """The learner, fitted to features (N, k) and labels (N,), named as :meth:`logits` reads
        it."""
        state = self.fit_learner(x, y, weights)
        return {f"learner_{name}": tensor for name, tensor in state.items()}

    def fit_learner(self, x: Tensor, y: Tensor, weights: Tensor | None = None) -> State:
        """The learner, fitted to features (N, k) and labels (N,), on the device of the features.

        Args:
            weights: of the samples, (N,), brought to a mean of 1; None: all alike.
        """
        weights = None if weights is None else weights / weights.mean()
        classes, seed = self.setting.num_classes, self.setting.seed
        state = learn(self.learner, x, y, classes, self.strength, weights, seed)
        return {
            name: tensor.to(x) if tensor.is_floating_point() else tensor.to(x.device)
            for name, tensor in state.items()
        }

    def at_most(self, wanted: int, there: int, key: str) -> int:
        """The number of directions to take, as wanted or as there are; the user is told of the
        latter."""
        if wanted > there:
            self.notes.append(f"method.{key}={wanted}: there are {there}, all of which are taken.")
        return min(wanted, there)

    def keep(self, tensors: Mapping[str, Tensor], like: Tensor) -> None:
        """Put tensors beside what is fitted, on the device of another."""
        self.fitted.put(tensors, like.device)

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
                    "source": lambda x: self.embed(x, "source"),
                    "target": lambda x: self.embed(x, "target"),
                },
            ),
            hooks=Hooks(begin=lambda: target_from_source(self.encoder), fit=self.fit_all),
        )
        return [self.network(), fit]

    def network(self) -> Phase:
        """The phase ``features``.

        Nothing is trained, and nothing scored, where the network is taken as it is.
        """
        phase = supervised_phase(
            "features",
            self.pretrain,
            self.reads(source="source_train"),
            self.encoder,
            self.head,
            self.features,
            shared=not overridden(self, OnFeatures, "features"),
        )
        if not self.trains_network():
            phase.length = replace(phase.length, epochs=0, patience=None)
            phase.outputs = replace(phase.outputs, domains=())
            phase.updates, phase.shared = [], None
        return phase

    def fit_all(self, passes: SplitPasses) -> list[str]:
        """Fit the scaling and the method on whole splits; notes for the user."""
        self.notes = []
        # ---- features of whole splits
        z = {"source": passes(self.features, "source")}
        for domain in ("target", *(["labelled"] if self.setting.labelled else [])):
            z[domain] = passes(lambda x: self.features(x, "target"), domain)
        exact = {name: double(x.flatten(1)) for name, x in z.items()}
        # ---- scaling
        if self.scale in ("standard", "each"):
            for domain in ("source", "target"):
                of = exact["source" if self.scale == "standard" else domain]
                centre, deviation = of.mean(0), of.std(0, correction=0)
                self.keep(
                    {f"{domain}_centre": centre, f"{domain}_deviation": deviation}, z["source"]
                )
        scaled = {
            name: self.scaled(x, "source" if name == "source" else "target")
            for name, x in exact.items()
        }
        # ---- the method's own fit
        device = scaled["source"].device
        domains = Domains(
            scaled["source"],
            passes.labels("source").to(device),
            scaled["target"],
            self.setting.num_classes,
            scaled.get("labelled"),
            passes.labels("labelled").to(device) if "labelled" in scaled else None,
        )
        with torch.no_grad():
            self.keep(self.fit(domains), z["source"])
        return self.notes

    # ---- predictions

    def features(self, x: Tensor, domain: str = "source") -> Tensor:
        """Features (B, d) of images (B, C, H, W), under the batch norm of ``domain``."""
        return encode(self.encoder, x, domain)

    def scaled(self, z: Tensor, domain: str) -> Tensor:
        """Features (B, d) of a domain, scaled as the config says."""
        if self.scale is None:
            return z
        if self.scale == "unit":
            return z / z.norm(dim=1, keepdim=True).clamp_min(ENOUGH)
        centre = self.fitted[f"{domain}_centre"].to(z)
        deviation = self.fitted[f"{domain}_deviation"].to(z)
        return (z - centre) / torch.where(deviation > FLAT, deviation, 1.0)

    def embed(self, x: Tensor, domain: str) -> Tensor:
        """Features (B, k) of images (B, C, H, W) as the learner sees them."""
        return self._exactly(lambda z: self.mapped(self.scaled(z, domain), domain), x, domain)

    def classify(self, x: Tensor, domain: str) -> Tensor:
        """Logits (B, K), or numbers (B, 1), of images (B, C, H, W)."""
        return self._exactly(
            lambda z: self.logits(self.mapped(self.scaled(z, domain), domain)), x, domain
        )

    def _exactly(self, then: Callable[[Tensor], Tensor], x: Tensor, domain: str) -> Tensor:
        """``then`` of the features of images, without autocast: a map that was fitted in double
        precision is not applied in half."""
        z = self.features(x, domain).flatten(1).float()
        with torch.autocast(z.device.type, enabled=False):
            return then(z)


def double(z: Tensor) -> Tensor:
    """The same in double precision; Apple's GPUs have none, so from there on the CPU."""
    return (z.cpu() if z.device.type == "mps" else z).double()
