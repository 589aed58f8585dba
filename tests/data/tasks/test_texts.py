"""Texts from tables: which texts become what, and what is said of tables that will not do."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest
import torch

from support.encoders import make_encoder, reviews, sentences, write_table
from support.runs import results
from tl_runner.backbones.text import Tokens
from tl_runner.build.texts import as_read
from tl_runner.data.tasks.texts import load
from tl_runner.errors import DataError

SETTINGS = {
    "source_file": None,
    "target_test_file": None,
    "source_test_file": None,
    "text": "text",
    "label": "label",
    "number": None,
    "domain": None,
    "source": None,
    "target": None,
    "val_fraction": 0.1,
    "test_fraction": 0.25,
    "target_labels": None,
    "transductive": None,
    "passes": None,
    "seed": 0,
}
N = 40
ROWS = [{"text": text, "label": label} for text, label in sentences(N, 5)]


def task_of(file, **more):
    return load(**{**SETTINGS, "target_file": str(file), **{k: _text(v) for k, v in more.items()}})


def _text(value):
    return str(value) if hasattr(value, "parts") else value


def pairs(task, name):
    """(text, class) of a split, in its order."""
    split = task.splits[name]
    assert split.y is not None
    texts = [task.texts[i] for i in split.x.flatten().tolist()]
    return [*zip(texts, [task.classes[c] for c in split.y.tolist()], strict=True)]


def as_csv(tmp_path, name="t.csv"):
    return write_table(tmp_path / name, ROWS)


def as_lines(tmp_path):
    file = tmp_path / "t.jsonl"
    file.write_text("\n".join(json.dumps(row) for row in ROWS), encoding="utf-8")
    return file


def as_parquet(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "t.parquet")
    return tmp_path / "t.parquet"


def as_gzip(tmp_path):
    file = tmp_path / "t.csv.gz"
    file.write_bytes(gzip.compress(as_csv(tmp_path).read_bytes()))
    return file


def with_mark(tmp_path):
    file = tmp_path / "marked.csv"
    file.write_bytes(b"\xef\xbb\xbf" + as_csv(tmp_path).read_bytes())
    return file


def with_tabs(tmp_path):
    return write_table(tmp_path / "t.TSV", ROWS, "\t")


FORMS = (as_csv, as_lines, as_parquet, as_gzip, with_mark, with_tabs)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_every_form_of_a_table_holds_the_same_texts(tmp_path, form):
    task = task_of(form(tmp_path), target_labels="all")
    assert task.classes == ("bad", "good")
    parts = [
        *pairs(task, "target_labelled"),
        *pairs(task, "target_val"),
        *pairs(task, "target_test"),
    ]
    assert sorted(parts) == sorted((row["text"], row["label"]) for row in ROWS)
    assert len(task.splits["target_test"]) == 10
    assert task.splits["target_train"].y is None


def test_texts_with_delimiters_quotes_and_line_breaks(tmp_path):
    odd = ['said "no", and left', "two\nlines", "tab\there", " spaces ", "über"]
    rows = [{"text": t, "label": "ab"[i % 2]} for i, t in enumerate(odd * 4)]
    task = task_of(write_table(tmp_path / "t.csv", rows), target_labels="all", test_fraction=0.5)
    assert {*task.texts} == {t.strip() for t in odd}


def test_source_and_target_from_one_file(tmp_path):
    rows = [{**row, "shop": "books" if i % 4 < 2 else "films"} for i, row in enumerate(ROWS)]
    file = write_table(tmp_path / "all.csv", rows)
    task = task_of(file, domain="shop", source="books", target="films")
    assert task.name == "books2films"
    source = [*pairs(task, "source_train"), *pairs(task, "source_val"), *pairs(task, "source_test")]
    of = {
        d: sorted((r["text"], r["label"]) for r in rows if r["shop"] == d)
        for d in ("books", "films")
    }
    assert sorted(source) == of["books"]
    assert sorted(pairs(task, "target_test")) == of["films"]
    assert len(task.splits["target_train"]) == 20
    assert task.files == {}


def test_a_target_without_labels(tmp_path):
    source, target = reviews(tmp_path / "s.csv", N, 1), reviews(tmp_path / "t.csv", 8, 2, False)
    task = task_of(target, source_file=source)
    assert "target_test" not in task.splits
    assert task.files["target"] == [f"t.csv:{i}" for i in range(1, 9)]
    assert "without labels, and none to test on" in task.protocol


def test_some_labels_make_it_semi_supervised(tmp_path):
    source = reviews(tmp_path / "s.csv", N, 1)
    rows = [{**row, "label": row["label"] if i < 6 else ""} for i, row in enumerate(ROWS)]
    task = task_of(write_table(tmp_path / "t.csv", rows), source_file=source)
    named = [name for name in ("labelled", "val", "test") if f"target_{name}" in task.splits]
    parts = [pair for name in named for pair in pairs(task, f"target_{name}")]
    assert sorted(parts) == sorted((row["text"], row["label"]) for row in rows[:6])
    held_out = sum(len(task.splits[f"target_{name}"]) for name in named[1:])
    assert len(task.splits["target_train"]) == N - held_out


def test_files_to_test_on(tmp_path):
    test = write_table(tmp_path / "test.csv", ROWS[:6])
    task = task_of(as_csv(tmp_path), target_test_file=test, target_labels="all")
    assert pairs(task, "target_test") == [(r["text"], r["label"]) for r in ROWS[:6]]
    assert len(task.splits["target_labelled"]) + len(task.splits["target_val"]) == N


def test_numbers(tmp_path):
    rows = [{"text": row["text"], "stars": i / 2} for i, row in enumerate(ROWS)]
    task = task_of(write_table(tmp_path / "t.csv", rows), number="stars", target_labels="all")
    assert task.classes == ()
    y = task.splits["target_test"].y
    texts = [task.texts[i] for i in task.splits["target_test"].x.flatten().tolist()]
    assert y.dtype == torch.float32
    by_place = {i / 2: row["text"] for i, row in enumerate(ROWS)}
    assert texts == [by_place[v] for v in y.tolist()]


def test_whole_numbers_are_ordered_by_size_and_empty_texts_left_out(tmp_path):
    rows = [{"text": row["text"], "label": i % 12} for i, row in enumerate(ROWS)]
    rows[3]["text"] = "  "
    task = task_of(write_table(tmp_path / "t.csv", rows), target_labels="all")
    assert task.classes == tuple(map(str, range(12)))
    assert len(task.texts) == N - 1
    assert any("1 rows without a text are left out" in note for note in task.notes)


def broken(tmp_path, content, name="t.csv"):
    file = tmp_path / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


GOOD = "text,label\nfine,a\npoor,b\nnice,a\nbad,b\n"
REFUSED = {
    "no file": (lambda p: p / "none.csv", {}, ["there is no such file"]),
    "a folder": (lambda p: p, {}, ["is a folder"]),
    "another kind": (lambda p: broken(p, "x", "t.xlsx"), {}, [".xlsx is no table"]),
    "a column of another name": (
        lambda p: broken(p, GOOD.replace("text,", "texts,")),
        {},
        ["no column text. Did you mean 'texts'?", "data.text"],
    ),
    "no labels": (lambda p: broken(p, "text\nfine\n"), {}, ["no labels in a column label"]),
    "a row too long": (
        lambda p: broken(p, GOOD + "well, that was,a\n"),
        {},
        ["row 5", "3 columns, and the head has 2", "double quotes"],
    ),
    "a quote that does not end": (lambda p: broken(p, GOOD + '"open,a\n'), {}, ["row 5"]),
    "not UTF-8": (
        lambda p: broken(p, GOOD.encode() + b"caf\xe9,a\n"),
        {},
        ["line 6 has the byte 0xe9", "iconv"],
    ),
    "no JSON": (lambda p: broken(p, '{"text": "a"}\n{', "t.jsonl"), {}, ["line 2 is no JSON"]),
    "damaged gzip": (lambda p: broken(p, b"\x1f\x8b\x08", "t.csv.gz"), {}, ["read as .gz"]),
    "two columns of a name": (
        lambda p: broken(p, "text,text\na,b\n"),
        {},
        ["two columns 'text'"],
    ),
    "one class": (lambda p: broken(p, "text,label\nfine,a\nnice,a\n"), {}, ["has one class, a"]),
    "no number": (
        lambda p: broken(p, "text,stars\nfine,2\npoor,two\n"),
        {"number": "stars"},
        ["row 2: 'two' is no number"],
    ),
    "no such domain": (
        lambda p: broken(p, "text,label,shop\nfine,a,books\npoor,b,films\n"),
        {"domain": "shop", "source": "book", "target": "films"},
        ["data.source=book", "Did you mean 'books'?"],
    ),
    "a source with gaps": (
        lambda p: broken(p, GOOD),
        {"source_file": "gaps"},
        ["1 of 3 texts have no label, the first in row 2"],
    ),
    "a class of the target alone": (
        lambda p: broken(p, "text,label\nfine,c\npoor,\n"),
        {"source_file": "full"},
        ["c is no class of the source"],
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_will_not_do_is_said(tmp_path, case):
    make, more, said = REFUSED[case]
    files = {
        "gaps": broken(tmp_path, "text,label\nfine,a\npoor,\nbad,b\n", "gaps.csv"),
        "full": broken(tmp_path, GOOD, "full.csv"),
    }
    more = {k: files.get(v, v) for k, v in more.items()}
    with pytest.raises(DataError) as refused:
        task_of(make(tmp_path), target_labels=None if "source_file" in more else "all", **more)
    for part in said:
        assert part in str(refused.value)


# ---- runs

WORDS = ("debug=smoke", "device=cpu", "figures=false", "data=texts")


def test_texts_are_adapted_to_and_new_ones_predicted(tl_run, tl_predict, tmp_path):
    """A frozen encoder: features once for two runs; the run's folder reads texts by itself."""
    pytest.importorskip("transformers")
    encoder = make_encoder(tmp_path / "encoder")
    source, target = reviews(tmp_path / "s.csv", N, 1), reviews(tmp_path / "t.csv", 30, 2, False)
    words = (
        *WORDS,
        *(f"data.source_file={source}", f"data.target_file={target}"),
        *("backbone=text", f"backbone.name={encoder}", f"cache.dir={tmp_path / 'cache'}"),
    )
    frozen = ("backbone.frozen=true", "backbone.bottleneck=8")
    first = tl_run(*words, *frozen, "method=dann", f"hydra.run.dir={tmp_path / 'a'}")
    assert first.code == 0, first.text
    assert "16 features of" in first.text
    assert "of them before" not in first.text
    second = tl_run(*words, *frozen, "method=mcc", f"hydra.run.dir={tmp_path / 'b'}")
    assert second.code == 0, second.text
    assert "of them before" in second.text
    tuned = tl_run(*words, "method=deepcoral", f"hydra.run.dir={tmp_path / 'c'}")
    assert tuned.code == 0, tuned.text
    encoder.rename(tmp_path / "gone")
    new = write_table(tmp_path / "new.csv", [{"text": t} for t, _ in sentences(5, 9)])
    rows = (tmp_path / "a" / "predictions.csv").read_text().splitlines()
    for run in ("a", "c"):
        ended = tl_predict(tmp_path / run, new, "--format", "csv")
        assert ended.code == 0, ended.text
        assert ended.out.splitlines()[1].startswith(f"{new}:1,")
        assert len(ended.out.splitlines()) == 6
    again = tl_predict(tmp_path / "a", target, "--format", "csv").out.splitlines()
    said = dict(row.split(",")[:2] for row in again[1:])
    for row in rows[1:]:
        name, predicted, _ = row.split(",")
        assert said[f"{tmp_path}/{name}"] == predicted
    everything = results(tmp_path)
    assert {result["metric"] for result in everything} == {"im"}
    arrays = np.load(tmp_path / "a" / "predictions.npz")
    assert arrays["target_train/probabilities"].shape[1] == 2


def test_a_tokenizer_reads_texts_once_for_every_seed(tmp_path, monkeypatch):
    folder, calls = make_encoder(tmp_path / "encoder"), []
    read = Tokens.__call__

    def counted(self, texts):
        calls.append(len(texts))
        return read(self, texts)

    monkeypatch.setattr(Tokens, "__call__", counted)
    options = {"name": str(folder), "module": "text", "max_length": 16}
    first, second = (
        as_read(task_of(as_csv(tmp_path), source_file=as_csv(tmp_path), seed=seed), options)[0]
        for seed in (0, 1)
    )
    assert len(calls) == 1
    rows = [
        {tuple(row) for row in task.splits["source_train"].x.flatten(1).tolist()}
        for task in (first, second)
    ]
    assert rows[0] != rows[1]


def test_words_beat_chance_and_a_run_reads_new_texts(tl_run, tl_predict, tmp_path):
    target = reviews(tmp_path / "t.csv", 120, 3)
    ended = tl_run(
        *("device=cpu", "figures=false", "data=texts", f"data.target_file={target}"),
        *("method=no_transfer", f"data.source_file={target}", f"hydra.run.dir={tmp_path / 'a'}"),
    )
    assert ended.code == 0, ended.text
    (result,) = results(tmp_path)
    assert result["metrics"]["target_test"]["accuracy"] > 0.9
    said = tl_predict(tmp_path / "a", target, "--format", "csv").out.splitlines()[1:]
    right = sum(
        row.split(",")[1] == label for row, (_, label) in zip(said, sentences(120, 3), strict=True)
    )
    assert right > 110
    picture = tl_run("device=cpu", "data=texts", f"data.target_file={target}", "backbone=lenet")
    assert picture.code == 2
    assert "backbone=tfidf or backbone=text reads" in picture.err
    reverse = tl_run("device=cpu", "data=fonts2digits", "backbone=tfidf", "method=no_transfer")
    assert reverse.code == 2
    assert "data=texts reads" in reverse.err
