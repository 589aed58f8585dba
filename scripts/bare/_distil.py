"""The distilling step, the teacher asked in every step, and the layers that it compares."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bare._loop import Bare, Ground, Learner
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
