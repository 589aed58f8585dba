"""Backbones: the layers that the papers' code has, at any size and number of channels."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tl_runner.backbones.dtn import DTN
from tl_runner.backbones.lenet import LeNet
from tl_runner.backbones.mlp import MLP
from tl_runner.errors import ConfigError


def test_dtn_is_the_network_of_the_digits_experiments():
    network = DTN((3, 32, 32), batch_norm=True, dropout=0.5)
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert [(c.in_channels, c.out_channels) for c in convolutions] == [
        (3, 64),
        (64, 128),
        (128, 256),
    ]
    assert {(c.kernel_size, c.stride, c.padding) for c in convolutions} == {
        ((5, 5), (2, 2), (2, 2))
    }
    (linear,) = (m for m in network.modules() if isinstance(m, nn.Linear))
    assert (linear.in_features, linear.out_features) == (256 * 4 * 4, network.out_features)
    assert [
        m.p for m in network.modules() if isinstance(m, nn.Dropout2d | nn.Dropout)
    ] == pytest.approx([0.1, 0.3, 0.5, 0.5])
    kinds = [type(m).__name__ for m in network.layers]
    assert kinds == ["Conv2d", "BatchNorm2d", "Dropout2d", "ReLU"] * 3 + [
        "Flatten",
        "Linear",
        "BatchNorm1d",
        "ReLU",
        "Dropout",
    ]
    plain = DTN((3, 32, 32), batch_norm=False, dropout=0.0)
    assert not [m for m in plain.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (2, 8, 8), (1, 9, 17), (3, 64, 40)])
def test_dtn_takes_any_shape(shape):
    network = DTN(shape, batch_norm=True, dropout=0.5).eval()
    assert network(torch.zeros(2, *shape)).shape == (2, 512)


@pytest.mark.parametrize(("kind", "least"), [(DTN, 8), (LeNet, 16)])
def test_images_that_are_too_small(kind, least):
    kind((1, least, least), batch_norm=True, dropout=0.0)
    with pytest.raises(ConfigError, match=f"at least {least}x{least}, not {least}x{least - 1}"):
        kind((1, least, least - 1), batch_norm=True, dropout=0.0)


def test_the_perceptron_drops_units_of_its_inputs_and_after_each_layer():
    net = MLP((1, 8, 8), hidden=[32, 16], batch_norm=False, dropout=0.5, input_dropout=0.2)
    assert [type(layer).__name__ for layer in net.layers] == [
        "Flatten",
        "Dropout",
        *2 * ["Linear", "ReLU", "Dropout"],
    ]
    assert [layer.p for layer in net.layers if isinstance(layer, nn.Dropout)] == [0.2, 0.5, 0.5]
    x = torch.ones(400, 1, 8, 8)
    dropped = (net.layers[:2](x) == 0).float().mean().item()
    assert dropped == pytest.approx(0.2, abs=0.02)
    assert torch.equal(net.eval().layers[:2](x), x.flatten(1))
