"""The words a method is said in: phases, updates, gates. The loop knows these and nothing of any method."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from tl_runner import randomness
from tl_runner.backbones.base import Backbone

Losses = Mapping[str, Tensor]  # scalars; their sum is minimised
Metrics = Mapping[str, Tensor]  # scalars to be averaged over an epoch; no gradient


@dataclass
class Samples:
    """One domain's part of a batch: ``x`` float (B, C, H, W), ``y`` int64 (B,) or None, ``index`` int64 (B,)."""

    x: Tensor
    y: Tensor | None
    index: Tensor


class Batch(SimpleNamespace):
    """The domains that a phase reads, by name: ``batch.source.x``, ``batch.target.x``."""


@dataclass
class Gate:
    """Let an update run only while a metric of its phase stays above a bound, over windows of steps.

    The first window is open. The window's mean is read once at its end, so the device is asked once a window.
    """

    metric: str
    above: float
    window: int


@dataclass
class Update:
    """One optimiser's share of a step.

    Attributes:
        name: also its key in the checkpoint.
        networks: what it trains; every other network has its gradients off while it runs.
        optimizer: name, lr, betas, ..., as in ``conf/train/_optimizer.yaml``.
        step: (batch, progress in [0, 1) of the phase) to losses, or to (losses, metrics).
        repeats: times per step.
        gate: when to run; None is always.
        couples: the loss is no mean over the batch's samples, so several ranks would change what it computes.
    """

    name: str
    networks: Sequence[nn.Module]
    optimizer: Mapping[str, Any]
    step: Callable[[Batch, float], Losses | tuple[Losses, Metrics]]
    repeats: int = 1
    gate: Gate | None = None
    couples: bool = False


@dataclass
class Phase:
    """One stage of a method.

    Attributes:
        name: ``pretrain``, ``adapt``, ...
        reads: the batch's domains and the split that each comes from.
        updates: run in this order in every step.
        predict: images (B, C, H, W) to logits (B, K): the classifier that this phase is making.
        source_predict: the same for images of the source, where batch norm keeps a branch a domain; None: ``predict``.
        epochs, steps_per_epoch, batch_size: its length; ``steps_per_epoch`` None is one pass over the first split.
        begin: run once when the phase starts, not when it is resumed.
        shared: the options that the updates' steps depend on, as JSON, if the phase may be shared between runs: then its outcome
            follows from these, its networks' first weights, what it reads and the seed alone. None: computed by every run.
        embed: images (B, C, H, W) of the source and of the target to features (B, d), for pictures of the two domains and the
            selection rules that compare them. ``target``'s are what ``predict`` classifies.
        watch: epoch means to a warning for the user, or None.
    """

    name: str
    reads: Mapping[str, str]
    updates: Sequence[Update]
    predict: Callable[[Tensor], Tensor]
    source_predict: Callable[[Tensor], Tensor] | None = field(default=None, kw_only=True)
    epochs: int
    batch_size: int
    steps_per_epoch: int | None = None
    begin: Callable[[], object] | None = None
    shared: Mapping[str, Any] | None = None
    embed: Mapping[str, Callable[[Tensor], Tensor]] = field(default_factory=dict)
    watch: Callable[[Mapping[str, float]], str | None] = field(default=lambda means: None)

    @classmethod
    def of(cls, options: Mapping[str, Any], **fields: Any) -> Phase:
        """A phase with the lengths of its config section."""
        lengths = {key: options[key] for key in ("epochs", "batch_size", "steps_per_epoch")}
        return cls(**lengths, **fields)


class Method(nn.Module, ABC):
    """A transfer method: its networks are its submodules, its training is its phases.

    A subclass takes (task, backbone) and its YAML keys as keywords. Networks are made under :meth:`fresh`, so that
    one network's size never changes another's first weights.
    """

    def __init__(self, num_classes: int, make_backbone: Callable[[], Backbone], seed: int):
        super().__init__()
        self.num_classes, self._make_backbone, self._seed = num_classes, make_backbone, seed

    def fresh(self, name: str, make: Callable[[], nn.Module]) -> Any:
        """A network whose first weights depend on the seed and ``name`` alone."""
        with randomness.seeded(self._seed, "init", name):
            return make()

    def encoder_and_head(self) -> tuple[Backbone, nn.Linear]:
        """A fresh backbone and a linear head on it; the same for every method of one seed."""
        backbone = self.fresh("backbone", self._make_backbone)
        return backbone, self.fresh("head", lambda: nn.Linear(backbone.out_features, self.num_classes))

    @abstractmethod
    def phases(self) -> list[Phase]:
        """The phases, in order. What they read decides whether the result is stamped as having seen target labels."""

    def networks(self) -> list[nn.Module]:
        """What is compiled: each direct submodule."""
        return list(self.children())


class Classifier(Method):
    """A backbone and a linear head, and the supervised phase that trains them."""

    def __init__(self, *built: Any):
        super().__init__(*built)
        self.encoder, self.head = self.encoder_and_head()

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) to logits (B, K)."""
        return self.head(self.encoder(x))

    def supervised(self, name: str, options: Mapping[str, Any], domain: str, split: str) -> Phase:
        """Cross-entropy on one labelled split, both networks trained."""
        smoothing = options["label_smoothing"]

        def classify(batch: Batch, progress: float) -> Losses:
            samples: Samples = getattr(batch, domain)
            assert samples.y is not None
            return {"cross_entropy": F.cross_entropy(self(samples.x), samples.y, label_smoothing=smoothing)}

        update = Update("classifier", [self.encoder, self.head], options["optimizer"], classify)
        return Phase.of(
            options,
            name=name,
            reads={domain: split},
            updates=[update],
            predict=self,
            # a subclass with a forward of its own may read options that nobody here knows of
            shared={"label_smoothing": smoothing} if type(self).forward is Classifier.forward else None,
            embed={"source": self.encoder, "target": self.encoder},
        )
