"""RKD: the student's features of a batch stand to each other as the teacher's do, by distances and
by angles.

Park, Kim, Lu & Cho, "Relational Knowledge Distillation", CVPR 2019, eq. 4-9.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from tl_runner.backbones._inner_layers import Seen
from tl_runner.losses.distillation import relation_angle, relation_distance
from tl_runner.methods.base import Setting
from tl_runner.methods.batch import Losses, Samples
from tl_runner.methods.distillation._base import Distillation


class RKD(Distillation):
    """Phases: ``teach``, the student by labels alone, ``distil``, on the features that each head
    reads.

    Args:
        distance_weight, angle_weight: of the two losses.
    """

    couples = True

    def __init__(
        self, setting: Setting, *, distance_weight: float, angle_weight: float, **options: Any
    ):
        super().__init__(setting, **options)
        self.distance_weight, self.angle_weight = distance_weight, angle_weight

    def answers(self, teacher: Seen) -> dict[str, Tensor]:
        return {"features": teacher.features}

    def transfer(
        self, student: Seen, teacher: Mapping[str, Tensor], taught: Samples, progress: float
    ) -> Losses:
        return {
            "distance": self.distance_weight
            * relation_distance(student.features, teacher["features"]),
            "angle": self.angle_weight * relation_angle(student.features, teacher["features"]),
        }
