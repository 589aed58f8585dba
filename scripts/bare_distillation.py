"""Bare loops of the methods that distil: their last phase, the teacher asked in every step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from bare import Bare, Ground, Learner
from torch import Tensor, nn

from tl_runner.losses import distillation as losses
from tl_runner.methods.batch import Samples

# student's and teachers' logits of target images, these, progress
Compare = Callable[[Tensor, Tensor, Samples, float], Tensor]


Layer = tuple[nn.Module, list[Tensor]]  # and what takes its outputs in a step


def taught(
    ground: Ground, compare: Compare, watched: Sequence[Layer] = (), more: Sequence[nn.Module] = ()
) -> Bare:
    """Cross-entropy on whatever is labelled, and a comparison with the teachers on the target's
    images.

    Args:
        watched: layers of the student, whose last output in a step is of the target's images, and
            of the teacher.
        more: networks that are trained beside the student.
    """
    method, weight = ground.method, ground.options["label_weight"]
    student = [method.encoder, method.head]
    learner = Learner(ground, [*student, *more])
    for layer, found in watched:
        layer.register_forward_hook(lambda layer, given, out, found=found: found.append(out))

    def step(progress: float, **batch: Samples) -> None:
        for _, found in watched:
            found.clear()
        with ground.device.autocast():
            # the target's last
            logits = {name: method.head(method.encoder(part.x)) for name, part in batch.items()}
            known = [name for name, part in batch.items() if part.y is not None]
            y = torch.cat([batch[name].y for name in known])
            loss = weight * F.cross_entropy(torch.cat([logits[name] for name in known]), y)
            with torch.no_grad():
                said = torch.stack(
                    [teacher.network(batch["target"].x) for teacher in method.teachers], 1
                )
            loss = loss + compare(
                logits["target"],
                said[:, 0] if len(method.teachers) == 1 else said,
                batch["target"],
                progress,
            )
        learner.descend(loss, progress)

    return Bare(step, [*student, *more])


def soft(options: Mapping[str, float]) -> Compare:
    t, weight = options["temperature"], options["weight"]
    return lambda s, teacher, target, progress: weight * losses.soft_targets(s, teacher, t)


def kd(ground: Ground) -> Bare:
    return taught(ground, soft(ground.options))


def fitnet(ground: Ground) -> Bare:
    o = ground.options

    def compare(s: Tensor, teacher: Tensor, target: Samples, progress: float) -> Tensor:
        weight = o["start_weight"] * (1 - progress) + o["end_weight"] * progress
        return weight * losses.softened_cross_entropy(s, teacher, o["temperature"])

    return taught(ground, compare)


def pairs(ground: Ground) -> list[tuple[Layer, Layer]]:
    """The layers that the method compares."""
    method = ground.method
    hint = getattr(method, "hint", None)
    paths = [(hint.guided, hint.hint)] if hint else method.layers.paths
    encoders = method.encoder, method.teachers[0].encoder
    return [
        tuple((e.get_submodule(path), []) for e, path in zip(encoders, both, strict=True))
        for both in paths
    ]


def fitnet_joint(ground: Ground) -> Bare:
    ((guided, hint),) = pairs(ground)
    regress, weight = ground.method.regressor, ground.options["weight"]

    def compare(s: Tensor, teacher: Tensor, target: Samples, progress: float) -> Tensor:
        return weight * F.mse_loss(regress(guided[1][-1]).float(), hint[1][-1].float())

    return taught(ground, compare, [guided, hint], [regress])


def attention_transfer(ground: Ground) -> Bare:
    both, weight, form = pairs(ground), ground.options["weight"], ground.options["form"]

    def compare(s: Tensor, teacher: Tensor, target: Samples, progress: float) -> Tensor:
        maps = [
            (losses.attention(own[1][-1]), losses.attention(other[1][-1])) for own, other in both
        ]
        return weight * torch.stack([losses.attention_distance(*pair, form) for pair in maps]).sum()

    return taught(ground, compare, [layer for pair in both for layer in pair])


def rkd(ground: Ground) -> Bare:
    o, own, other = (
        ground.options,
        (ground.method.encoder, []),
        (ground.method.teachers[0].encoder, []),
    )

    def compare(s: Tensor, teacher: Tensor, target: Samples, progress: float) -> Tensor:
        student, taught = own[1][-1].flatten(1), other[1][-1].flatten(1)
        distance = o["distance_weight"] * losses.relation_distance(student, taught)
        return distance + o["angle_weight"] * losses.relation_angle(student, taught)

    return taught(ground, compare, [own, other])


def dkd(ground: Ground) -> Bare:
    o = ground.options

    def compare(s: Tensor, teacher: Tensor, target: Samples, progress: float) -> Tensor:
        tckd, nckd = losses.decoupled(s, teacher, target.y, o["temperature"])
        return min(1.0, progress / o["rise"]) * (o["alpha"] * tckd.mean() + o["beta"] * nckd.mean())

    return taught(ground, compare)


def multi_teacher(ground: Ground) -> Bare:
    """Their mean."""
    t, weight, teachers = (
        ground.options["temperature"],
        ground.options["weight"],
        len(ground.method.teachers),
    )
    shares = torch.full((teachers,), 1 / teachers, device=ground.device.torch)
    return taught(
        ground,
        lambda s, said, target, progress: (
            weight * losses.soft_targets(s, losses.mixture(said.float(), shares, t), t)
        ),
    )


DISTILLATION: dict[str, Callable[[Ground], Bare]] = {
    "kd": kd,
    "fitnet": fitnet,
    "fitnet_joint": fitnet_joint,
    "attention_transfer": attention_transfer,
    "rkd": rkd,
    "dkd": dkd,
    "multi_teacher": multi_teacher,
    "self_distill": kd,
}
