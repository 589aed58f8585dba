"""A word outside its table raises as a method is made: nothing falls through to a default."""

from __future__ import annotations

import pytest

from tl_runner.backbones.mlp import MLP
from tl_runner.errors import ConfigError
from tl_runner.methods.adaptation.adda import Adda
from tl_runner.methods.adaptation.dan import Dan
from tl_runner.methods.adaptation.deepcoral import DeepCoral
from tl_runner.methods.adaptation.jan import Jan
from tl_runner.methods.finetuning.autoencoder import Autoencoder
from tl_runner.methods.finetuning.delta import Delta
from tl_runner.methods.finetuning.finetune import FineTune
from tl_runner.methods.finetuning.linear_probe import LinearProbe
from tl_runner.methods.setting import Setting

SECTION = {"epochs": 1, "optimizer": {"weight_decay": 0.0}}
ADAPTATION = {"pretrain": SECTION, "adapt": SECTION}
TRANSFER = {"pretrain": SECTION, "new_head": None}
TUNING = TRANSFER | {
    "finetune": SECTION,
    "freeze": 0,
    "layer_decay": 1.0,
    "head_rate": 1.0,
    "gradual": False,
    "alpha": 0.1,
    "beta": 0.1,
}
MADE = {"hidden": [4], "batch_norm": False, "dropout": 0.0, "input_dropout": 0.0}
MMD = {"weight": 1.0, "kernels": 5, "kernel_ratio": 2.0}
PROBE = TRANSFER | {"probe": SECTION, "keep": 0.5}


@pytest.mark.parametrize(
    ("kind", "options", "word"),
    [
        (Adda, ADAPTATION | {"discriminator_input": "feature", "hidden": 4}, "feature"),
        (Dan, ADAPTATION | MMD | {"layers": ["logits"], "estimator": "biased"}, "biased"),
        (Dan, ADAPTATION | MMD | {"layers": ["logit"], "estimator": "linear"}, "logit"),
        (Jan, ADAPTATION | MMD | {"estimator": "biased"}, "biased"),
        (DeepCoral, ADAPTATION | {"weight": 1.0, "layers": ["logits", "maps"]}, "maps"),
        (FineTune, TUNING | {"regulariser": "l2"}, "l2"),
        (Delta, TUNING | {"regulariser": "l2_sp", "probe": SECTION, "attention": True}, "l2_sp"),
        (LinearProbe, PROBE | {"select": "l2"}, "l2"),
        (Autoencoder, PROBE | {"select": "l2", "reconstruct": SECTION, "noise": 0.3}, "l2"),
    ],
    ids=lambda value: getattr(value, "__name__", value if isinstance(value, str) else ""),
)
def test_a_word_outside_its_table_raises(kind, options, word):
    setting = Setting(3, (1, 8, 8), lambda: MLP((1, 8, 8), **MADE), seed=0)
    with pytest.raises(ConfigError, match=f"={word}"):
        kind(setting, **options)
