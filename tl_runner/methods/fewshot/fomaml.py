"""FOMAML: MAML without second derivatives: the query set's gradient at the adapted weights moves
the first ones.

Finn, Abbeel & Levine, "Model-Agnostic Meta-Learning", ICML 2017, section 5.2; Nichol, Achiam &
Schulman, "On First-Order Meta-Learning Algorithms", 2018, section 2.
"""

from __future__ import annotations

from tl_runner.methods.fewshot.maml import MAML


class FOMAML(MAML):
    """As :class:`MAML`, the inner gradients held constant."""

    first_order = True
