"""Words outside a method's table of choices raise, whoever builds it."""

from __future__ import annotations

import pytest
import torch

from tl_runner.errors import ConfigError
from tl_runner.losses.distillation import attention_distance
from tl_runner.methods.distillation.attention_transfer import AttentionTransfer
from tl_runner.methods.distillation.multi_teacher import MultiTeacher
from tl_runner.methods.setting import Setting

SETTING = Setting(10, (1, 28, 28), lambda: pytest.fail("nothing is built before"), 0)


def test_forms_of_attention():
    words = {"weight": 1.0, "student_layers": None, "teacher_layers": None}
    with pytest.raises(ConfigError, match=r"method.form=papers should be one of code, paper"):
        AttentionTransfer(SETTING, form="papers", **words)
    with pytest.raises(ValueError, match="form=papers should be one of"):
        attention_distance(torch.ones(2, 4), torch.ones(2, 4), "papers")


def test_weightings_of_teachers():
    with pytest.raises(ConfigError, match=r"method.weighting=gated should be one of average"):
        MultiTeacher(SETTING, temperature=4.0, weight=1.0, weighting="gated")
