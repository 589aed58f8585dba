"""The bases for methods on features of one's own, and words that no table has."""

import pytest
import torch
from torch import Tensor

from tl_runner.backbones.raw import Raw
from tl_runner.errors import ConfigError
from tl_runner.methods.features import Aligned, Domains, Weighted
from tl_runner.methods.features._components import ComponentSpace
from tl_runner.methods.features._learners import learn
from tl_runner.methods.features.no_transfer import NoTransfer
from tl_runner.methods.setting import Setting

OPTIONS = {"features": {"epochs": 0}, "learner": "ridge", "strength": 1.0, "scale": None}
SETTING = Setting(2, (1, 1, 3), lambda: Raw((1, 1, 3)), seed=0)


class Halved(Aligned):
    def align(self, domains: Domains) -> dict[str, Tensor]:
        identity = torch.eye(3, dtype=torch.float64)
        return {"source_map": identity / 2, "target_map": identity, "source_shift": domains.y[:3]}


class FirstTwice(Weighted):
    def weights(self, domains: Domains) -> Tensor:
        return torch.where(torch.arange(len(domains.source)) < 1, 2.0, 1.0).double()


def domains() -> Domains:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(30, 3, generator=draw, dtype=torch.float64)
    return Domains(x[:20], (x[:20, 0] > 0).long(), x[20:], 2)


def test_an_aligned_method_says_its_maps_alone():
    method, d = Halved(SETTING, **OPTIONS), domains()
    method.keep(method.fit(d), d.source)
    moved = ((d.source - d.y[:3]) / 2).float()
    torch.testing.assert_close(method.mapped(d.source.float(), "source"), moved)
    torch.testing.assert_close(method.mapped(d.target.float(), "target"), d.target.float())
    assert method.logits(moved).shape == (20, 2)


def test_a_weighted_method_says_its_weights_alone():
    method, d = FirstTwice(SETTING, **OPTIONS), domains()
    found = method.fit(d)
    assert found["weights"].mean().item() == pytest.approx(1)
    assert found["weights"][0] == 2 * found["weights"][1]
    expected = learn("ridge", d.source, d.y, 2, 1.0, found["weights"])
    assert torch.equal(found["learner_weight"], expected["weight"])


@pytest.mark.parametrize("key", ["learner", "scale"])
def test_a_word_that_no_table_has_is_refused(key):
    with pytest.raises(ConfigError, match=f"method.{key}=no should be one of"):
        NoTransfer(SETTING, **{**OPTIONS, key: "no"}, learn_from="both")


def test_other_words_that_no_table_has_are_refused():
    with pytest.raises(ConfigError, match=r"method\.learn_from=no"):
        NoTransfer(SETTING, **OPTIONS, learn_from="no")
    with pytest.raises(ConfigError, match=r"method\.kernel=no"):
        ComponentSpace("no", None, None, False, 0)
    x = torch.zeros(4, 2, dtype=torch.float64)
    with pytest.raises(ConfigError, match=r"method\.learner=logistic"):
        learn("logistic", x, x[:, 0], 0, 1.0)
