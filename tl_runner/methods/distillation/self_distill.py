"""Born-again networks: each generation learns from the one before it, a network of the same size;
the first from the labels.

Furlanello, Lipton, Tschannen, Itti & Anandkumar, "Born-Again Neural Networks", ICML 2018, section 3
and figure 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import Tensor, nn

from tl_runner.backbones._inner_layers import Seen
from tl_runner.losses.distillation import soft_targets
from tl_runner.methods.base import Setting
from tl_runner.methods.batch import Losses, Samples
from tl_runner.methods.distillation._base import Distillation
from tl_runner.methods.distillation._teacher import Network, Teacher
from tl_runner.methods.phases import Phase


class SelfDistill(Distillation):
    """Phases: the first generation by labels alone; ``generation_1`` to ``generation_n``, each from
    new first weights.

    Args:
        generations: n, how many are born again.
        temperature: T; the paper's is 1.
        weight: of T^2 KL(generation before || this one).
    """

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

    without_labels = ""

    def _teacher(self, number: int) -> Teacher:
        encoder, head = self.encoder_and_head()
        return Teacher(Network(encoder, head), encoder)

    def teaching(self) -> list[Phase]:
        return []

    def distilling(self) -> list[Phase]:
        generations = range(1, self.generations + 1)
        begins = [partial(self.born_again, i) for i in generations]
        return [
            self.distil_phase(f"generation_{i}", self.distil, section="distil", begin=begins[i - 1])
            for i in generations
        ]

    def born_again(self, generation: int) -> None:
        """The last generation teaches, the student starts afresh."""
        last = (self.alone if generation == 1 else None) or Network(self.encoder, self.head)
        self.every_teacher[0].network.load_state_dict(last.state_dict())
        for name, network in (("backbone", self.encoder), ("head", self.head)):
            make = (
                self.setting.make_backbone
                if name == "backbone"
                else lambda: nn.Linear(self.head.in_features, self.head.out_features)
            )
            network.load_state_dict(self.fresh(f"{name}_{generation}", make).state_dict())

    def transfer(
        self, student: Seen, teacher: Mapping[str, Tensor], taught: Samples, progress: float
    ) -> Losses:
        return {
            "soft_targets": self.weight
            * soft_targets(student.logits, teacher["logits"], self.temperature)
        }
