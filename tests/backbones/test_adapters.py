"""Adapters and prompts: what a layer computes under them, beside PEFT and by hand, and merged."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from support.encoders import make_encoder
from support.methods import build, go, loop_of
from tl_runner.backbones import _adapters as adapters
from tl_runner.backbones._adapters import Decomposed, LowRank, Rescaled, Weight, merged
from tl_runner.backbones._folding import folded
from tl_runner.backbones._prompts import prompt
from tl_runner.backbones._weights import fill, read
from tl_runner.errors import CheckpointError, ConfigError

KINDS = (LowRank, Decomposed)


def disturbed(modules, seed=0):
    """Adapters away from where they began."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in modules:
            for p in module.parameters():
                p.add_(0.3 * torch.randn(p.shape, generator=draw))
    return modules


def low_rank(network, kind=LowRank, rank=2, alpha=4.0, found=None):
    made = []
    for weight in found or adapters.layers(network):
        made.append(weight.adapt(kind(weight.value, rank, alpha, weight.parts)))
        made[-1].begin(weight.value)
    return made


def with_biases(network):
    """Biases that are not 0, as a fresh encoder's are."""
    draw = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, p in network.named_parameters():
            if name.endswith("bias"):
                p.normal_(generator=draw)
    return network


class Standardised(nn.Conv2d):
    """A convolution whose weight is standardised as it is used."""

    def forward(self, x):
        weight = (self.weight - self.weight.mean((1, 2, 3), keepdim=True)) / self.weight.std()
        return self._conv_forward(x, weight, self.bias)


LAYERS = {
    "linear": (lambda: nn.Linear(5, 7), (3, 5)),
    "convolution": (lambda: nn.Conv2d(4, 6, 3), (3, 4, 8, 8)),
    "grouped": (lambda: nn.Conv2d(4, 6, 3, groups=2), (3, 4, 8, 8)),
    "padded by reflection": (
        lambda: nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"),
        (3, 4, 8, 8),
    ),
    "standardised": (lambda: Standardised(4, 6, 3), (3, 4, 8, 8)),
    "one row": (lambda: nn.Conv1d(4, 6, 3), (3, 4, 8)),
}


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("kind", KINDS)
def test_an_adapted_layer_begins_as_it_was_and_is_merged_to_the_bit(layer, kind):
    torch.manual_seed(0)
    make, shape = LAYERS[layer]
    network, plain, x = nn.Sequential(make()), nn.Sequential(make()), torch.randn(shape)
    before, weight = network(x), network[0].weight.detach().clone()
    (adapter,) = low_rank(network, kind)
    assert torch.equal(network(x), before)
    disturbed([adapter])
    adapted = network(x)
    assert not torch.allclose(adapted, before, atol=1e-2)
    plain.load_state_dict(merged(network.state_dict()))
    assert torch.equal(plain(x), adapted)
    moved = weight.flatten(1) + 2.0 * adapter.b @ adapter.a
    if kind is Decomposed:
        moved = adapter.m[:, None] * moved / moved.norm(dim=1, keepdim=True)
    torch.testing.assert_close(network[0].weight.flatten(1), moved)


def test_the_norm_in_dora_has_no_gradient():
    torch.manual_seed(0)
    weight = torch.randn(3, 4, dtype=torch.float64)
    adapter = Decomposed(weight, 2, 2.0).double()
    adapter.begin(weight)
    disturbed([adapter])
    out = torch.randn(3, 4, dtype=torch.float64)
    (adapter(weight) * out).sum().backward()
    moved = (weight + adapter.b @ adapter.a).detach()
    scale = (adapter.m / moved.norm(dim=1)).detach()[:, None]
    torch.testing.assert_close(adapter.b.grad, (scale * out) @ adapter.a.detach().T)
    torch.testing.assert_close(adapter.m.grad, (out * moved / moved.norm(dim=1)[:, None]).sum(1))


@pytest.mark.parametrize("dora", [False, True])
def test_low_rank_layers_are_pefts(dora):
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    ours, x = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 5)), torch.randn(4, 6)
    theirs = copy.deepcopy(ours)
    own = disturbed(low_rank(ours, Decomposed if dora else LowRank, rank=3, alpha=6.0))
    config = peft.LoraConfig(r=3, lora_alpha=6, target_modules=["0", "2"], use_dora=dora)
    peft.inject_adapter_in_model(config, theirs)
    with torch.no_grad():
        for layer, adapter in zip((theirs[0], theirs[2]), own, strict=True):
            layer.lora_A["default"].weight.copy_(adapter.a)
            layer.lora_B["default"].weight.copy_(adapter.b)
            if dora:
                layer.lora_magnitude_vector["default"].weight.copy_(adapter.m)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-6)


def test_scales_of_a_text_encoder_are_pefts(tmp_path):
    peft = pytest.importorskip("peft")
    from transformers import AutoModel

    folder = make_encoder(tmp_path / "encoder")
    ours, theirs, plain = (
        with_biases(AutoModel.from_pretrained(folder, add_pooling_layer=False)) for _ in range(3)
    )
    own = disturbed(adapters.rescale(ours))
    inner = r".*\d+\.output\.dense"
    config = peft.IA3Config(
        target_modules=rf".*(key|value)|{inner}", feedforward_modules=r".*\d+.output.dense"
    )
    peft.inject_adapter_in_model(config, theirs)
    scaled = {n: m for n, m in theirs.named_modules() if hasattr(m, "ia3_l")}
    assert len(own) == len(scaled) == 6  # keys, values, inner activations of two layers
    places = {
        id(adapter): name
        for name, module in ours.named_modules()
        if parametrize.is_parametrized(module, "weight")
        for adapter in module.parametrizations["weight"]
    }
    with torch.no_grad():
        for adapter in own:
            vector = scaled[places[id(adapter)]].ia3_l["default"]
            vector.copy_(adapter.l.view_as(vector))
    tokens = {
        "input_ids": torch.tensor([[2, 5, 6, 3, 0], [2, 7, 8, 9, 3]]),
        "attention_mask": torch.tensor([[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]),
    }
    ours.eval(), theirs.eval()
    there = tokens["attention_mask"].bool()
    adapted = ours(**tokens).last_hidden_state[there]
    torch.testing.assert_close(adapted, theirs(**tokens).last_hidden_state[there])
    plain.eval()
    assert not torch.allclose(adapted, plain(**tokens).last_hidden_state[there], atol=1e-3)
    plain.load_state_dict(merged(ours.state_dict()))
    assert torch.equal(plain(**tokens).last_hidden_state[there], adapted)


@pytest.mark.parametrize(
    ("adapt", "wide"), [("lora", None), ("lora", 6), ("dora", None), ("dora", 6), ("ia3", None)]
)
def test_attention_in_one_tensor_is_adapted_part_by_part(adapt, wide):
    torch.manual_seed(0)
    network = with_biases(
        nn.ModuleDict(
            {
                "attend": nn.MultiheadAttention(8, 2, kdim=wide, vdim=wide, batch_first=True),
                "fc2": nn.Linear(16, 8),
            }
        )
    )
    plain = copy.deepcopy(network)
    q, kv = torch.randn(3, 4, 8), torch.randn(3, 5, wide or 8)
    before = network.attend(q, kv, kv)[0]
    if adapt == "ia3":
        found = adapters.rescale(network)
    else:
        found = low_rank(
            network,
            Decomposed if adapt == "dora" else LowRank,
            found=[w for _, w in adapters.projections(network)],
        )
    assert torch.equal(network.attend(q, kv, kv)[0], before)
    disturbed(found)
    adapted = network.attend(q, kv, kv)[0]
    assert not torch.allclose(adapted, before, atol=1e-2)
    plain.load_state_dict(merged(network.state_dict()))
    torch.testing.assert_close(plain.attend(q, kv, kv)[0], adapted)
    if wide is None:
        change = plain.attend.in_proj_weight
        change = change - network.attend.parametrizations.in_proj_weight.original
        if adapt == "ia3":
            own, scale = network.attend.parametrizations.in_proj_bias.original, found[0].l
            torch.testing.assert_close(plain.attend.in_proj_bias[8:], own[8:] * scale)
            torch.testing.assert_close(plain.attend.in_proj_bias[:8], own[:8])
        ranks = [torch.linalg.matrix_rank(part).item() for part in change.chunk(3)]
        assert ranks == {"lora": [2, 2, 2], "dora": [8, 8, 8], "ia3": [0, 8, 8]}[adapt]


def test_every_matrix_of_torchvisions_transformer_has_an_adapter():
    torchvision = pytest.importorskip("torchvision")
    network = torchvision.models.VisionTransformer(32, 16, 2, 2, 8, 16, num_classes=3)
    network.heads = nn.Identity()  # begins as 0
    names = {(type(w.module).__name__, w.name, w.parts) for w in adapters.layers(network)}
    assert ("MultiheadAttention", "in_proj_weight", 3) in names
    adapted = low_rank(network)
    matrices = [p for n, p in network.named_parameters() if p.ndim > 1 and n.endswith(".original")]
    assert len(adapted) == len(matrices)
    left = {n for n, p in network.named_parameters() if p.ndim > 1 and "parametrizations" not in n}
    assert left == {"class_token", "encoder.pos_embedding"}
    (network(torch.randn(1, 3, 32, 32)) * torch.randn(8)).sum().backward()
    assert all(adapter.b.grad.abs().sum() > 0 for adapter in adapted)


def test_other_libraries_parametrizations_are_left_as_they_are():
    network = nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(3, 3)))
    network.append(nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)))
    assert merged(network.state_dict()).keys() == network.state_dict().keys()


def test_an_adapter_of_an_older_run_has_no_scale_in_its_file():
    network = nn.Sequential(nn.Linear(3, 4))
    (adapter,) = low_rank(network, rank=2, alpha=6.0)
    state = {k: v for k, v in network.state_dict().items() if not k.endswith("scale")}
    network.load_state_dict(state)
    assert adapter.scale == 3.0


def test_a_backbone_starts_from_an_adapted_runs_merged_weights(tmp_path):
    _, _, adapted, _ = build("method=dora", "data.target_labels=5")
    adapted.start()
    disturbed(adapted.adapters)
    torch.save({"method": adapted.state_dict()}, tmp_path / "w.pt")
    _, _, plain, _ = build("method=source_only")
    said = fill(plain.encoder, read(tmp_path / "w.pt"), "w.pt")
    own = len(plain.encoder.state_dict())
    assert f"{own} of {own} tensors" in said
    x = torch.rand(4, 1, 28, 28)
    own, found = plain.encoder.state_dict(), merged(adapted.encoder.state_dict())
    assert all(torch.equal(own[name], found[name]) for name in own)
    # whose memory is laid out another way, so that sums end in other last bits
    torch.testing.assert_close(plain.eval().features(x), adapted.eval().features(x))


def test_prompts_are_no_other_networks_weights(tmp_path):
    from tl_runner.backbones.text import Text

    folder = make_encoder(tmp_path / "encoder")
    words = {"pooling": "mean", "max_length": 16, "gradient_checkpointing": False}
    made, plain = (Text((16, 1, 1), name=str(folder), **words) for _ in range(2))
    prompt(made, 2, deep=False)
    with pytest.raises(CheckpointError, match="tl-predict takes the run as it is"):
        fill(plain, made.state_dict(), "w.pt")


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_prompts_of_pictures_by_hand(library, deep):
    torch.manual_seed(0)
    if library == "timm":
        timm = pytest.importorskip("timm")
        network = timm.models.vision_transformer.VisionTransformer(
            32,
            16,
            embed_dim=12,
            depth=3,
            num_heads=2,
            num_classes=0,
            reg_tokens=1,
            global_pool="avg",
            fc_norm=False,
        ).eval()
        layers, own = network.blocks, 2

        def tokens_of(x):
            return network._pos_embed(network.patch_embed(x))

        def finish(tokens):
            return network.norm(tokens)[:, own:].mean(1)
    else:
        torchvision = pytest.importorskip("torchvision")
        network = torchvision.models.VisionTransformer(32, 16, 3, 2, 12, 24, num_classes=3).eval()
        network.heads, layers, own = nn.Identity(), network.encoder.layers, 1

        def tokens_of(x):
            tokens = network._process_input(x)
            first = network.class_token.expand(len(x), -1, -1)
            return torch.cat([first, tokens], 1) + network.encoder.pos_embedding

        def finish(tokens):
            return network.encoder.ln(tokens)[:, 0]

    x = torch.randn(2, 3, 32, 32)
    reference, plain = copy.deepcopy(layers), network(x)
    prompts = prompt(network, 3, deep)
    assert prompts.tokens.shape == (3 if deep else 1, 3, 12)
    assert torch.equal(network(x), plain)  # nothing before it begins
    prompts.begin()
    tokens = tokens_of(x)
    for i, layer in enumerate(reference):
        if i == 0 or deep:
            new = prompts.tokens[i].expand(2, -1, -1)
            tokens = torch.cat([tokens[:, :own], new, tokens[:, own + 3 * (i > 0) :]], 1)
        tokens = layer(tokens)
    tokens = torch.cat([tokens[:, :own], tokens[:, own + 3 :]], 1)
    torch.testing.assert_close(network(x), finish(tokens))
    assert not torch.allclose(network(x), plain, atol=1e-3)
    other = copy.deepcopy(network)  # as an average of weights is one
    disturbed([other.prompts])
    assert not torch.allclose(other(x), network(x), atol=1e-3)


@pytest.mark.parametrize("deep", [False, True])
def test_prompts_of_texts_are_seen_and_leave_positions_and_padding_as_they_are(tmp_path, deep):
    from transformers import AutoModel

    folder = make_encoder(tmp_path / "encoder")
    network = AutoModel.from_pretrained(folder, add_pooling_layer=False).eval()
    ids = torch.tensor([[2, 5, 6, 3, 0, 0], [2, 7, 8, 9, 10, 3]])
    mask = (ids > 0).long()
    plain = network(input_ids=ids, attention_mask=mask).last_hidden_state
    words = network.embeddings(ids[:1, :4])
    layers = copy.deepcopy(network.encoder.layer)
    prompts = prompt(network, 3, deep)
    again = network(input_ids=ids, attention_mask=mask).last_hidden_state
    assert torch.equal(again, plain)
    prompts.begin()
    states = network(input_ids=ids, attention_mask=mask).last_hidden_state
    assert states.shape == plain.shape
    alone = network(input_ids=ids[:1, :4], attention_mask=mask[:1, :4]).last_hidden_state
    torch.testing.assert_close(states[:1, :4], alone)
    tokens = torch.cat([prompts.tokens[0][None], words], 1)
    for i, layer in enumerate(layers):
        if deep and i:
            tokens = torch.cat([prompts.tokens[i][None], tokens[:, 3:]], 1)
        out = layer(tokens)
        tokens = out[0] if isinstance(out, tuple) else out
    torch.testing.assert_close(alone, tokens[:, 3:])
    assert not torch.allclose(states[:, :4], plain[:, :4], atol=1e-3)


def test_dora_and_prompts_train_on_the_source_as_if_they_were_not_there(tmp_path):
    """DoRA's lengths are those that the weights have when the target's phase begins."""
    _, task, method, device = build("method=dora", "data.target_labels=5")
    _, _, floor, _ = build("method=source_only")
    go(loop_of(method, 0, task, device))
    go(loop_of(floor, 0, task, device))
    x = torch.rand(8, 1, 28, 28)
    torch.testing.assert_close(
        method.eval().features(x), floor.eval().features(x), rtol=0.05, atol=5e-3
    )
    lengths = [w.value.flatten(1).norm(dim=1) for w in method.adapted]
    assert not any(adapter.begun for adapter in method.adapters)
    before = method.features(x)
    method.start()
    torch.testing.assert_close(method.features(x), before)
    for adapter, length in zip(method.adapters, lengths, strict=True):
        torch.testing.assert_close(adapter.m, length)
    _, _, other, _ = build("method=dora", "data.target_labels=5")
    other.load_state_dict(method.state_dict())
    assert all(adapter.active for adapter in other.adapters)


@pytest.mark.parametrize("kind", KINDS)
def test_an_adapted_network_is_folded(kind):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 3))
    network[1].running_mean.normal_()
    disturbed(low_rank(network, kind))
    x = torch.randn(2, 3, 9, 9)
    expected = network.eval()(x)
    fast = folded(network, x)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in fast.modules())
    with torch.inference_mode():
        torch.testing.assert_close(fast(x), expected)
    assert parametrize.is_parametrized(network[0])


@pytest.mark.parametrize(
    ("name", "adapt"),
    [
        ("maxvit_nano_rw_256", "ia3"),  # whose rows alternate by head
        ("beit_base_patch16_224", "ia3"),  # whose biases stand beside the layer
        ("convit_tiny", "ia3"),
        ("gcvit_xxtiny", "lora"),  # whose global blocks have no queries
    ],
)
def test_layouts_that_are_not_known_are_refused_or_adapted_whole(name, adapt):
    timm = pytest.importorskip("timm")
    with torch.device("meta"):
        network = timm.create_model(name, num_classes=0)
    if adapt == "ia3":
        with pytest.raises(ValueError, match="known"):
            adapters.rescale(network)
        assert not any(parametrize.is_parametrized(m) for m in network.modules())
    else:
        low_rank(network)
        assert all(
            weight.parts == 1 or weight.value.shape[0] % 3 == 0
            for _, weight in adapters.projections(network)
        )


def test_an_older_runs_adapters_cannot_be_merged_and_it_says_why(tmp_path):
    network = nn.Sequential(nn.Linear(3, 4))
    low_rank(network)
    state = {k: v for k, v in network.state_dict().items() if not k.endswith("scale")}
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match="did not keep their scale"):
        read(tmp_path / "w.pt")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("method=lora", "backbone=raw"), "no linear or convolutional"),
        (("method=ia3",), "method=lora"),
        (("method=prompt",), "backbone.name=vit_"),
        (("method=lora", "method.layers=attention"), "method.layers=all"),
    ],
)
def test_a_backbone_that_cannot_take_them_is_refused_with_the_cure(words, said):
    with pytest.raises(ConfigError, match=said):
        build("data.target_labels=5", *words)


def test_rows_before_the_first_stay():
    scaled = Rescaled((6, 2), first=4)
    disturbed([scaled])
    weight = torch.randn(6, 2)
    torch.testing.assert_close(scaled(weight)[:4], weight[:4])
    torch.testing.assert_close(scaled(weight)[4:], weight[4:] * scaled.l[:, None])
    assert Weight(nn.Linear(2, 2), "bias").value.shape == (2,)
