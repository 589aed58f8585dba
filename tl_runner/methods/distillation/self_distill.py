"""Born-again networks: each generation learns from the one before, a network of the same size.

The first learns from the labels.

Furlanello, Lipton, Tschannen, Itti & Anandkumar, "Born-Again Neural Networks", ICML 2018, section 3
and figure 1.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from torch import nn

from tl_runner.losses.distillation import soft_targets
from tl_runner.methods.distillation._base import Distillation
from tl_runner.methods.distillation._teacher import Network, Teacher
from tl_runner.methods.phases import Hooks, Phase

if TYPE_CHECKING:
    from tl_runner.methods.batch import Batch, Losses
    from tl_runner.methods.setting import Setting


class SelfDistill(Distillation):
    """Phases: ``alone``, the first generation, by labels; ``generation_1`` to ``generation_n``.

    Each generation starts from new first weights.

    Args:
        generations: n, how many are born again.
        temperature: T; the paper's is 1.
        weight: of T^2 KL(generation before || this one).
    """

    without_labels = ""

    def __init__(
        self,
        setting: Setting,
        *,
        generations: int,
        temperature: float,
        weight: float,
        **options: Any,
    ):
        super().__init__(setting, teacher=None, teacher_seed=None, teach={}, alone=True, **options)
        self.generations, self.temperature, self.weight = generations, temperature, weight

    def make_teacher(self, number: int) -> Teacher:
        """A copy of the student, which takes the weights of each generation in turn."""
        encoder, head = self.encoder_and_head()
        return Teacher(Network(encoder, head), encoder)

    def teacher_phases(self) -> list[Phase]:
        """None: the generation before teaches."""
        return []

    def distil_phases(self) -> list[Phase]:
        precompute = self.precompute(self.distil_options, self.query_teachers)
        return [
            self.student_phase(
                f"generation_{i}",
                self.distil_options,
                section="distil",
                hooks=Hooks(partial(self.begin_generation, i), precompute=precompute),
            )
            for i in range(1, self.generations + 1)
        ]

    def begin_generation(self, generation: int) -> None:
        """Make the last generation the teacher, and start the student afresh."""
        last = self.alone if generation == 1 else Network(self.encoder, self.head)
        assert last
        self.teacher_list[0].network.load_state_dict(last.state_dict())
        encoder = self.fresh(f"backbone_{generation}", self.setting.make_backbone)
        sizes = self.head.in_features, self.head.out_features
        head = self.fresh(f"head_{generation}", lambda: nn.Linear(*sizes))
        self.encoder.load_state_dict(encoder.state_dict())
        self.head.load_state_dict(head.state_dict())

    def step(self, batch: Batch, progress: float) -> Losses:
        student, teacher = self.student_outputs(batch), self.teacher_outputs(batch)
        return {
            **self.label_loss(batch, student),
            "soft_targets": self.weight
            * soft_targets(student.logits, teacher["logits"], self.temperature),
        }
