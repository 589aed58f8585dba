"""Methods: networks made from a setting, and the phases that train them.

:class:`Method` is the base of all families. Beside it stand the pieces that several families build
theirs from: :func:`encode`, :func:`supervised_phase` and :func:`cross_entropy`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import nn

from tl_runner.backbones._batch_norm import norms_of, use_domain
from tl_runner.methods.phases import Outputs, Phase, Update

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

    from tl_runner.backbones._base import Backbone
    from tl_runner.methods.batch import Batch, Losses, Samples
    from tl_runner.methods.setting import Setting


class Method(nn.Module, ABC):
    """A transfer method: its networks are its submodules, its training is its phases.

    Attributes:
        titles: what the closing table calls phases, by name, where the name alone would not do.
        baseline: the phase that later ones are compared with; empty: the first.
        other_classes: whether the source's classes may be others than the target's.
        numbers: whether it can be asked for a number instead of a class: its phases then predict
            (B, 1).
        classes: whether it can be asked for a class.
        saw_target_labels: whether a network that it was given has learned from labels of the
            target.
        protocol: what the record is to say beside the data's protocol, in words.
        warnings: what the user should know before anything is trained.
        scaffold: networks that only training needs, so that the weights that a run leaves behind
            are without them.
        elsewhere: networks that are read from files of their own, so that no checkpoint holds them.
        estimated_by: estimators of :mod:`tl_runner.metrics.estimates` that were measured to come
            near the accuracy of this method (``docs/selection.md``); others are not shown.
        if_diverged: what to try when a loss became NaN or infinite, in a sentence.

    A subclass takes a :class:`Setting` and its YAML keys as keywords. Networks are made under
    :meth:`fresh`, so that one network's size never changes another's first weights.
    """

    titles: Mapping[str, str] = {}
    baseline = ""
    other_classes = False
    numbers = False
    classes = True
    saw_target_labels = False
    warnings: Sequence[str] = ()
    protocol: str = ""
    scaffold: Sequence[str] = ()
    elsewhere: Sequence[str] = ()
    estimated_by: Sequence[str] = ()
    if_diverged = (
        "Try a tenth of the learning rate (train.optimizer.lr or the phase's own), a warm-up "
        "(train.optimizer.warmup=0.1), or device.precision=fp32."
    )

    def __init__(self, setting: Setting):
        super().__init__()
        self.setting = setting

    def fresh(self, name: str, make: Callable[[], Any], seed: int | None = None) -> Any:
        """A network whose first weights depend on ``name`` and the seed (the run's) alone."""
        return self.setting.fresh(name, make, seed)

    def encoder_and_head(self) -> tuple[Backbone, nn.Linear]:
        """A fresh backbone and a linear head on it; the same for every method of one seed."""
        backbone = self.fresh("backbone", self.setting.make_backbone)
        return backbone, self.fresh(
            "head", lambda: nn.Linear(backbone.out_features, self.setting.num_classes or 1)
        )

    def reads(self, **splits: str) -> dict[str, str]:
        """These splits, and as ``labelled`` the labelled target images where the run has some."""
        return splits | ({"labelled": "target_labelled"} if self.setting.labelled else {})

    @abstractmethod
    def phases(self) -> list[Phase]:
        """The phases, in order.

        The splits that they read decide whether the result is stamped as having seen target labels.
        """

    def findings(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Results for the record beside the metrics, as JSON; ``rows`` are of ``metrics.jsonl``."""
        return {}

    def compared(self) -> dict[str, tuple[Sequence[nn.Module], Callable[[Tensor], Tensor]]]:
        """Classifiers whose cost is recorded beside their accuracy, by phase.

        Each is its networks, and a function from images (B, C, H, W) to logits.
        """
        return {}

    def networks(self) -> list[nn.Module]:
        """The networks that are compiled: each direct submodule."""
        return list(self.children())


def encode(encoder: nn.Module, x: Tensor, domain: str = "source") -> Tensor:
    """Features (B, d) of images (B, C, H, W), under the batch norm of their domain.

    All domains but ``source`` count as the target. Where the domains share one batch norm, it makes
    no difference.
    """
    use_domain(encoder, "source" if domain == "source" else "target")
    return encoder(x)


def supervised_phase(
    name: str,
    options: Mapping[str, Any],
    reads: Mapping[str, str],
    encoder: Backbone,
    head: nn.Module,
    features: Callable[[Tensor], Tensor] | None = None,
    predict: Callable[[Tensor], Tensor] | None = None,
    shared: bool = True,
) -> Phase:
    """A phase that trains an encoder and a head by cross-entropy on labelled splits.

    Every image counts the same, whichever split it is from. Under ``bn=concat`` batch norm
    normalises the splits together, else each by itself.

    Args:
        name: of the phase.
        options: its section of the config: lengths, ``optimizer`` and ``label_smoothing``.
        reads: the batch's domains and the split that each comes from.
        encoder, head: are trained.
        features: images (B, C, H, W) to features (B, d), by default ``encoder``.
        predict: images to logits (B, K), by default ``head`` on ``features``.
        shared: several runs may share the outcome, since ``features`` and ``predict`` follow from
            ``encoder`` and ``head`` alone.
    """
    features = features or encoder
    predict = predict or (lambda x: head(features(x)))
    smoothing = options["label_smoothing"]
    together = encoder.bn == "concat" or not norms_of(encoder)

    def step(batch: Batch, progress: float) -> Losses:
        parts: list[Samples] = [getattr(batch, domain) for domain in reads]
        images = [part.x for part in parts]
        logits = predict(torch.cat(images)) if together else torch.cat([predict(x) for x in images])
        return {"cross_entropy": cross_entropy(logits, parts, smoothing)}

    return Phase.of(
        options,
        name=name,
        reads=reads,
        updates=[Update("classifier", [encoder, head], options["optimizer"], step)],
        outputs=Outputs(predict, embed={"source": features, "target": features}),
        shared={"label_smoothing": smoothing, "together": together or len(reads) == 1}
        if shared
        else None,
    )


def overridden(method: Method, family: type, *names: str) -> bool:
    """Whether a subclass has put something of its own in the place of a family's methods.

    That may read options which nobody here knows of, so a phase that uses it is not shared.
    """
    return any(getattr(type(method), name) is not getattr(family, name) for name in names)


def cross_entropy(logits: Tensor, parts: Sequence[Samples], smoothing: float) -> Tensor:
    """Mean cross-entropy over the samples of several parts, each times its class's weight.

    Args:
        logits: of all parts, (B_1 + B_2 + ..., K).
        parts: their samples, with labels.
        smoothing: of the labels, in [0, 1).
    """
    known = [part.y for part in parts if part.y is not None]
    assert len(known) == len(parts)
    if all(part.class_weight is None for part in parts):
        return F.cross_entropy(
            logits, torch.cat(known) if len(known) > 1 else known[0], label_smoothing=smoothing
        )
    sums = [
        F.cross_entropy(
            own, y, weight=part.class_weight, label_smoothing=smoothing, reduction="sum"
        )
        for own, y, part in zip(logits.split([len(y) for y in known]), known, parts, strict=True)
    ]
    return torch.stack(sums).sum() / len(logits)
