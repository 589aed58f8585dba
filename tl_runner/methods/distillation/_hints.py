"""Inner layers of the student that are compared with inner layers of the teacher.

:class:`LayerPairs` are any such layers, :class:`Hint` the one pair of FitNets, with the regressor
from the one layer to the other. A method holds one of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor, nn

from tl_runner.backbones._inner_layers import Watched, missing, outputs, with_shapes
from tl_runner.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tl_runner.backbones._base import Backbone
    from tl_runner.methods.distillation._base import Distillation

    Names = Sequence[str] | None  # paths of layers as the user gave them; None: the defaults


class LayerOutputs(NamedTuple):
    """Outputs (2, ...) of every layer of both networks for two images of noise, by path."""

    student: Mapping[str, Tensor]
    teacher: Mapping[str, Tensor]


def layer_outputs(
    method: Distillation, student_layers: Names, teacher_layers: Names
) -> LayerOutputs:
    """The layers that there are to compare.

    Raises:
        ConfigError: the user names layers that are not there, or as many of the one network as not
            of the other.
    """
    networks = method.encoder, method.teacher_list[0].encoder
    found = LayerOutputs(*(outputs(network, method.setting.shape) for network in networks))
    if problems := [
        *missing("student", student_layers or [], found.student),
        *missing("teacher", teacher_layers or [], found.teacher),
    ]:
        raise ConfigError(problems)
    if student_layers and teacher_layers and len(student_layers) != len(teacher_layers):
        raise ConfigError(
            [
                f"method.student_layers names {len(student_layers)} and method.teacher_layers "
                f"{len(teacher_layers)}: they go in pairs."
            ]
        )
    return found


class LayerPairs:
    """Layers of the student and the layer of the teacher that each is compared with.

    Args:
        method: whose networks they are in.
        found: its layers.
        paths: of each pair, the student's layer and the teacher's.
        mismatch: why two outputs (2, ...), of the student and of the teacher, cannot be compared,
            or None.

    Raises:
        ConfigError: some of them cannot be compared.
    """

    def __init__(
        self,
        method: Distillation,
        found: LayerOutputs,
        paths: Sequence[tuple[str, str]],
        mismatch: Callable[[Tensor, Tensor], str | None],
    ):
        reasons = [mismatch(found.student[own], found.teacher[other]) for own, other in paths]
        if problems := [reason for reason in reasons if reason]:
            raise ConfigError([" ".join([*problems, *there_are(found)])])
        teacher = method.teacher_list[0]
        self.paths = [*paths]
        self._student = Watched(method, method.encoder, [own for own, _ in paths])
        self._teacher = Watched(teacher, teacher.encoder, [other for _, other in paths])

    def student(self, x: Tensor) -> tuple[Tensor, Tensor, Mapping[str, Tensor]]:
        """Logits (B, K), features (B, d) and the layers' outputs by path, for images."""
        seen = self._student(x)
        return seen.logits, seen.features, seen.layers

    def teacher(self, x: Tensor) -> Mapping[str, Tensor]:
        """The layers' outputs (B, ...) by path, for images."""
        return self._teacher(x).layers


def there_are(found: LayerOutputs) -> list[str]:
    """Sentences that list the layers of both networks."""
    return [
        f"The student has {with_shapes(found.student)}.",
        f"The teacher has {with_shapes(found.teacher)}.",
    ]


class Hint:
    """A hidden layer of the teacher, the hint, and one of the student, the guided layer.

    By default they are the ends of two blocks, those nearest to the middle of either network that
    fit together.

    Romero et al., "FitNets: Hints for Thin Deep Nets", ICLR 2015, section 2.2.

    Args:
        method: whose networks they are in.
        student_layers, teacher_layers: their paths; at most one each.

    Attributes:
        guided, hint: the paths.

    Raises:
        ConfigError: the user names several layers, or some that are not there or do not fit.
    """

    def __init__(self, method: Distillation, student_layers: Names, teacher_layers: Names):
        named = {"student": student_layers, "teacher": teacher_layers}
        if problems := [
            f"method.{side}_layers names {len(layers)}: this method has one hint."
            for side, layers in named.items()
            if layers and len(layers) > 1
        ]:
            raise ConfigError(problems)
        found = layer_outputs(method, student_layers, teacher_layers)
        own = candidates(method.encoder, found.student, student_layers)
        others = candidates(method.teacher_list[0].encoder, found.teacher, teacher_layers)
        pairs = sorted(
            ((guided, hint) for guided in own for hint in others),
            key=lambda pair: own[pair[0]] + others[pair[1]],
        )
        fitting = (p for p in pairs if not misfit(found.student[p[0]], found.teacher[p[1]]))
        self.guided, self.hint = next(fitting, pairs[0])
        self._pair = LayerPairs(method, found, [(self.guided, self.hint)], misfit)
        guided, hint = found.student[self.guided], found.teacher[self.hint]
        self._shapes = tuple(guided.shape[1:]), tuple(hint.shape[1:])
        self._rectified = bool((hint >= 0).all())

    def make_regressor(self) -> nn.Sequential:
        return regressor(*self._shapes, self._rectified)

    def student(self, x: Tensor) -> tuple[Tensor, Tensor, Mapping[str, Tensor]]:
        """Logits (B, K), features (B, d) and the guided layer's output by its path, for images."""
        return self._pair.student(x)

    def query(self, x: Tensor) -> dict[str, Tensor]:
        """The teacher's ``hint``, (B, ...), for images (B, C, H, W)."""
        return {"hint": self._pair.teacher(x)[self.hint]}


def candidates(encoder: Backbone, found: Mapping[str, Tensor], named: Names) -> dict[str, float]:
    """Layers that may be the hint or the guided one, and how far they are from the middle.

    The last layer of each block, at 0 to 1/2 of the network's blocks; the one that the user named,
    if any, alone.
    """
    if named:
        return dict.fromkeys(named, 0.0)
    blocks = [
        [unit for unit in units if not isinstance(unit, nn.Flatten)]
        for units in encoder.blocks().values()
    ]
    paths = {layer: path for path, layer in encoder.named_modules() if path in found}
    ends = [paths[units[-1]] for units in blocks if units and units[-1] in paths]
    return {path: abs(i / max(1, len(ends) - 1) - 0.5) for i, path in enumerate(ends)}


def misfit(student: Tensor, teacher: Tensor) -> str | None:
    """Why no regressor leads from the student's outputs to the teacher's, or None.

    One does between vectors, and by a convolution from maps that are at least as large.
    """
    if student.ndim == teacher.ndim == 2:
        return None
    if student.ndim == teacher.ndim == 4 and all(
        s >= t for s, t in zip(student.shape[2:], teacher.shape[2:], strict=True)
    ):
        return None
    return (
        f"the guided layer gives {tuple(student.shape[1:])} and the hint "
        f"{tuple(teacher.shape[1:])}: no convolution leads from the one "
        "to the other. Name layers with method.student_layers=[PATH] and "
        "method.teacher_layers=[PATH], the student's maps no smaller."
    )


def regressor(guided: Sequence[int], hint: Sequence[int], rectified: bool) -> nn.Sequential:
    """From the guided layer's outputs to the hint's: a convolution without padding, or linear.

    It ends in the same non-linearity as the hint: in a ReLU, where that is never negative.

    Args:
        guided, hint: shapes (C, H, W) or (d,).
        rectified: the hint is never negative.
    """
    last: list[nn.Module] = [nn.ReLU()] if rectified else []
    if len(guided) == 1:
        return nn.Sequential(nn.Linear(guided[0], hint[0]), *last)
    kernel = [g - h + 1 for g, h in zip(guided[1:], hint[1:], strict=True)]
    return nn.Sequential(nn.Conv2d(guided[0], hint[0], (kernel[0], kernel[1])), *last)
