"""KD: a student learns the probabilities that a teacher gives all classes, beside the labels.

Hinton, Vinyals & Dean, "Distilling the Knowledge in a Neural Network", NIPS 2014 Deep Learning
Workshop, section 2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tl_runner.losses.distillation import soft_targets
from tl_runner.methods.distillation._base import Distillation

if TYPE_CHECKING:
    from tl_runner.methods.batch import Batch, Losses
    from tl_runner.methods.setting import Setting


class KD(Distillation):
    """Phases: ``teach``, ``alone`` (the student by labels alone), ``distil``.

    Args:
        temperature: T of both networks' softmax.
        weight: of T^2 KL(teacher || student).
    """

    def __init__(self, setting: Setting, *, temperature: float, weight: float, **options: Any):
        super().__init__(setting, **options)
        self.temperature, self.weight = temperature, weight

    def step(self, batch: Batch, progress: float) -> Losses:
        """Cross-entropy of all labelled images, and the soft targets of ``batch.target``.

        ``student.logits`` and ``teacher["logits"]`` are of the target's images alone, labelled or
        not.
        """
        student, teacher = self.student_outputs(batch), self.teacher_outputs(batch)
        return {
            **self.label_loss(batch, student),
            "soft_targets": self.weight
            * soft_targets(student.logits, teacher["logits"], self.temperature),
        }
