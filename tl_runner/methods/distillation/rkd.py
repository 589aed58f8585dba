"""RKD: a batch's features relate to each other as the teacher's do, by distances and by angles.

Park, Kim, Lu & Cho, "Relational Knowledge Distillation", CVPR 2019, eq. 4-9.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tl_runner.backbones._inner_layers import Watched
from tl_runner.losses.distillation import relation_angle, relation_distance
from tl_runner.methods.distillation._base import Distillation

if TYPE_CHECKING:
    from torch import Tensor

    from tl_runner.methods.batch import Batch, Losses
    from tl_runner.methods.setting import Setting


class RKD(Distillation):
    """Phases: ``teach``, ``alone`` (the student by labels alone), ``distil``.

    The features are those that each network's head reads.

    Args:
        distance_weight, angle_weight: of the two losses.
    """

    couples = True

    def __init__(
        self, setting: Setting, *, distance_weight: float, angle_weight: float, **options: Any
    ):
        super().__init__(setting, **options)
        self.distance_weight, self.angle_weight = distance_weight, angle_weight
        if not setting.deployed:
            (teacher,) = self.teacher_list
            self.watched_teacher = Watched(teacher, teacher.encoder)

    def query_teachers(self, x: Tensor) -> dict[str, Tensor]:
        return {"features": self.watched_teacher(x).features}

    def step(self, batch: Batch, progress: float) -> Losses:
        student, teacher = self.student_outputs(batch), self.teacher_outputs(batch)
        own, others = student.features, teacher["features"]
        return {
            **self.label_loss(batch, student),
            "distance": self.distance_weight * relation_distance(own, others),
            "angle": self.angle_weight * relation_angle(own, others),
        }
