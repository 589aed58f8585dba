"""``tl-predict``: what a run said of its test pictures it says again, from files, arrays and
exported networks."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from support.runs import TINY, data_root
from tl_runner.data.tasks.folder import listing_of
from tl_runner.predict import export, formats
from tl_runner.predict import run as predict_run
from tl_runner.predict.run import Found, Trained


def own_predictions(run, root):
    """(files, labels, probabilities) of the run's test pictures, as it recorded them."""
    files = listing_of(root, "target").files
    with np.load(run / "predictions.npz") as arrays:
        return (
            [files[i] for i in arrays["target_test/ids"]],
            arrays["target_test/labels"],
            arrays["target_test/probabilities"],
        )


def test_it_says_of_held_out_pictures_what_the_run_said(trained, tl_predict, tmp_path):
    run, root = trained
    files, _, p = own_predictions(run, root)
    ended = tl_predict(run, *files, "-o", tmp_path / "said.json")
    assert ended.code == 0, ended.err
    said = json.loads((tmp_path / "said.json").read_text())
    classes = json.loads((run / "result.json").read_text())["classes"]
    assert [entry["file"] for entry in said] == [str(f) for f in files]
    assert [entry["class"] for entry in said] == [classes[i] for i in p.argmax(1)]
    np.testing.assert_allclose(
        [[e["probabilities"][c] for c in classes] for e in said], p, atol=1e-6
    )
    assert "12 pictures" in ended.err


def test_a_folder_is_searched_and_what_cannot_be_read_is_named(trained, tl_predict, tmp_path):
    run, root = trained
    new = tmp_path / "new" / "deeper"
    new.mkdir(parents=True)
    shutil.copy(root / "cat" / "0.png", new / "a.png")
    Image.new("RGBA", (1, 1), (0, 0, 0, 0)).save(new / "b.png")
    (new / "c.jpg").write_bytes(b"")
    (new / "notes.txt").write_text("no picture")
    (new / ".hidden.png").write_bytes(b"")
    (new / "d.png").symlink_to("nowhere")
    (tmp_path / "elsewhere").mkdir()
    shutil.copy(root / "cat" / "0.png", tmp_path / "elsewhere" / "e.png")
    (new / "more").symlink_to(tmp_path / "elsewhere")
    ended = tl_predict(run, tmp_path / "new", "--format", "csv", "--top", 2)
    assert ended.code == 0
    rows = list(csv.DictReader(io.StringIO(ended.out)))
    assert [row["file"] for row in rows] == [str(new / n) for n in ("a.png", "b.png", "more/e.png")]
    assert list(rows[0]) == ["file", "class", "probability", "class_2", "probability_2"]
    assert float(rows[0]["probability"]) >= float(rows[0]["probability_2"])
    assert f"not read: {new / 'c.jpg'}: empty file" in ended.err
    assert f"not read: {new / 'd.png'}: [Errno 2] No such file" in ended.err
    table = tl_predict(run, tmp_path / "new")
    assert "a.png" in table.out.replace("\n", "")


def test_pictures_of_more_than_8_bits_depend_on_no_others(trained, tl_predict, tmp_path):
    draw = np.random.default_rng(0)
    dark, bright, real = (tmp_path / name for name in ("0.png", "1.png", "2.tif"))
    pixels = draw.integers(0, 256, (30, 30))
    Image.fromarray(pixels.astype(np.uint16)).save(dark)
    Image.fromarray((pixels * 257).astype(np.uint16)).save(bright)
    Image.fromarray((pixels / 255).astype(np.float32)).save(real)
    one = Trained(trained[0])
    together = one.predict([dark, bright, real])
    for file, values in zip(together.files, together.values, strict=True):
        np.testing.assert_allclose(one.predict([file]).values[0], values, atol=1e-6)
    np.testing.assert_allclose(together.values[1], together.values[2], atol=1e-6)
    assert np.abs(together.values[0] - together.values[1]).max() > 1e-3
    ended = tl_predict(trained[0], tmp_path)
    said = [line for line in ended.err.splitlines() if "more than 8 bits" in line]
    assert len(said) == 1
    assert said[0].startswith("3 of more than 8 bits a pixel")
    assert "white is 65535 in files of whole numbers, 1 in files of floats" in said[0]
    assert "more than 8 bits" not in tl_predict(trained[0], trained[1] / "cat").err


def test_features_are_what_the_head_sees(trained, tl_predict, tmp_path):
    run, root = trained
    ended = tl_predict(run, root / "cat", "--features", "-o", tmp_path / "f.npz")
    assert ended.code == 0, ended.err
    with np.load(tmp_path / "f.npz") as arrays:
        features, files = arrays["features"], arrays["files"]
    assert features.shape == (20, 64)
    assert [*files] == sorted(str(f) for f in (root / "cat").iterdir())
    one = Trained(run)
    p = one.predict([root / "cat" / "0.png"]).values
    at = [*files].index(str(root / "cat" / "0.png"))
    again = one.method.head(torch.from_numpy(features[at : at + 1])).softmax(1)
    np.testing.assert_allclose(again.detach().numpy(), p, atol=1e-6)
    text = tl_predict(run, root / "cat" / "0.png", "--features").out.splitlines()
    assert text[0].startswith("file,feature_0,")
    np.testing.assert_allclose([float(v) for v in text[1].split(",")[1:]], features[at], atol=1e-5)


@pytest.mark.parametrize("ending", ["onnx", "pt2"])
def test_an_exported_network_says_the_same_of_any_number_of_images(
    trained, tl_predict, tmp_path, ending
):
    run, _ = trained
    file = tmp_path / f"model.{ending}"
    runtime = pytest.importorskip("onnxruntime") if ending == "onnx" else None
    if runtime:
        pytest.importorskip("onnxscript")
    ended = tl_predict(run, "--export", file)
    assert ended.code == 0, ended.err
    assert "agrees with the run to" in ended.err
    assert [f.name for f in tmp_path.iterdir()] == [file.name]  # all in one file
    one = Trained(run)
    for n in (1, 7):
        images = torch.rand(n, 3, 24, 24)
        expected = one.phase.outputs.predict(images).softmax(1).detach()
        if runtime:
            session = runtime.InferenceSession(str(file))
            assert json.loads(session.get_modelmeta().custom_metadata_map["classes"]) == [
                "cat",
                "dög",
                "emu",
            ]
            found = torch.from_numpy(session.run(["probabilities"], {"images": images.numpy()})[0])
        else:
            about = {"classes": ""}
            found = torch.export.load(file, extra_files=about).module()(images)[1]
            assert json.loads(about["classes"]) == ["cat", "dög", "emu"]
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_weights_too_large_for_an_onnx_file_lie_beside_it(
    trained, tl_predict, tmp_path, monkeypatch
):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    monkeypatch.setattr(export, "LARGEST", 1000)
    run, _ = trained
    (tmp_path / "exported").mkdir()
    file = tmp_path / "exported" / "model.onnx"
    stale = file.with_name("model.onnx.data")
    stale.write_bytes(b"0" * 1000)  # of an export before
    assert tl_predict(run, "--export", file).code == 0
    assert sorted(f.name for f in file.parent.iterdir()) == ["model.onnx", "model.onnx.data"]
    assert stale.read_bytes()[:1000] != b"0" * 1000
    moved = file.parent.rename(tmp_path / "elsewhere")
    session = runtime.InferenceSession(str(moved / file.name), providers=["CPUExecutionProvider"])
    one = Trained(run)
    x = torch.rand(3, *one.outline.shape)
    (said,) = session.run(["probabilities"], {"images": x.numpy()})
    torch.testing.assert_close(
        torch.from_numpy(said), one.outputs(one.answers, x).softmax(1), atol=1e-5, rtol=1e-4
    )


def test_many_pictures_are_labelled_by_a_folded_network(trained, monkeypatch):
    few, many = Trained(trained[0]), Trained(trained[0])
    x = torch.rand(predict_run.WORTH_FOLDING, *few.outline.shape)
    monkeypatch.setattr(predict_run, "WORTH_FOLDING", 2 * len(x))
    expected = few.outputs(few.answers, x)
    monkeypatch.undo()
    assert norms(few.method) == norms(many.method) > 10
    torch.testing.assert_close(many.outputs(many.answers, x), expected, atol=1e-5, rtol=1e-4)
    assert norms(many.method) == 0


def norms(method):
    return sum(isinstance(module, torch.nn.BatchNorm2d) for module in method.modules())


@pytest.mark.parametrize(
    "words",
    [
        ("method=shot", "backbone.bn=domain_specific"),
        pytest.param(("method=adda",), marks=pytest.mark.slow),
        pytest.param(("method=mcd",), marks=pytest.mark.slow),
        ("method=multitask", "method.baselines=false"),
        ("method=lora", "data.target_labels=3"),
    ],
    ids=lambda words: words[0],
)
def test_methods_are_taken_up_again_and_exported(tl_run, tl_predict, tmp_path, words):
    run = tmp_path / "run"
    assert tl_run(*TINY, *words, "train.epochs=1", f"hydra.run.dir={run}").code == 0
    Image.fromarray(np.arange(784, dtype=np.uint16).reshape(28, 28)).save(tmp_path / "a.png")
    ended = tl_predict(run, tmp_path / "a.png", "--format", "json")
    assert ended.code == 0, ended.err
    (said,) = json.loads(ended.out)
    assert sum(said["probabilities"].values()) == pytest.approx(1, abs=1e-4)
    assert tl_predict(run, "--export", tmp_path / "m.pt2").code == 0
    weights = torch.load(run / "checkpoints" / "best.pt", weights_only=True)["method"]
    own = Trained(run).method.state_dict()
    assert all(torch.equal(own[name], value) for name, value in weights.items())


# ---- messages


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "nothing to label: name pictures"),
        (("nowhere.png",), "nowhere.png: there is no such file or folder."),
        (("--format", "jso", "x"), "no such format. Did you mean 'json'"),
        (("--export", "m.onx"), "should end in .onnx or .pt2"),
        (("--export", "m.pt2", "x"), "leave out files and other options"),
        (("x", "--features", "--format", "json"), "--format csv or npz"),
        (("x", "-o", "labels.txt"), "should end in .csv, .json, .npz"),
        (("x", "-o", "nowhere/labels.csv"), "there is no folder nowhere"),
        (("--export", "nowhere/m.pt2"), "there is no folder nowhere"),
        (("x", "--device", "cud"), "--device cud should be one of auto"),
        (("x", "--top", "0"), "--top 0: at least 1"),
        (("x", "--tp", "0"), "See tl-predict --help"),
    ],
)
def test_what_is_wrong_with_a_command(trained, tl_predict, words, said):
    ended = tl_predict(trained[0], *words)
    assert (ended.code, ended.out) == (2, "")
    assert said in ended.err


def test_what_is_wrong_with_a_run(trained, tl_predict, tmp_path):
    run, root = trained
    picture = root / "cat" / "0.png"
    np.savez(tmp_path / "x.npz", x=np.zeros((2, 3)))
    ended = tl_predict(run, tmp_path / "x.npz")
    assert ended.code == 2
    assert "x.npz: this run predicts pictures, not such a file." in ended.err

    def said(change):
        copy = tmp_path / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(run, copy)
        change(copy)
        ended = tl_predict(copy, picture)
        assert ended.code == 2
        return ended.err

    def edit(**values):
        def change(copy):
            content = json.loads((copy / "result.json").read_text())
            (copy / "result.json").write_text(
                json.dumps({k: v for k, v in (content | values).items() if v is not None})
            )

        return change

    assert "is no run's folder" in said(lambda copy: (copy / "result.json").unlink())
    assert "is damaged" in said(lambda copy: (copy / "result.json").write_text("[1"))
    assert "not done (interrupted). Finish it: tl-run resume=" in said(edit(status="interrupted"))
    assert "an earlier version wrote it" in said(edit(outline=None))
    assert "outline.classes is missing" in said(edit(outline={"shape": [3, 24, 24]}))
    assert "best.pt is not there" in said(lambda copy: (copy / "checkpoints" / "best.pt").unlink())
    assert "not a readable checkpoint" in said(
        lambda copy: (copy / "checkpoints" / "best.pt").write_bytes(b"x")
    )

    def weights(change):
        def changed(copy):
            state = torch.load(file := copy / "checkpoints" / "best.pt", weights_only=True)
            torch.save(change(state), file)

        return changed

    def whole(state):
        return {**state, "method": {k: v.long() for k, v in state["method"].items()}}

    assert "best.pt does not fit the run's own method: the weights are no mapping" in said(
        weights(lambda state: {k: v for k, v in state.items() if k != "method"})
    )
    assert "is int64, and the network's is float32" in said(weights(whole))

    def configured(old, new):
        def change(copy):
            text = (copy / "config.yaml").read_text()
            assert old in text
            (copy / "config.yaml").write_text(text.replace(old, new))

        return change

    for new in ("name: lenett", "name: resnet20\n  depth: 3"):
        text = said(configured("name: resnet20", new))
        assert "config.yaml: " in text
        assert "lenett" in text or "backbone.depth" in text
    assert "config.yaml is not the config of a network (TypeError: " in said(
        configured("dropout: 0.0", "dropout: x")
    )
    assert "data='x' should be keys and values" in said(
        lambda copy: (copy / "config.yaml").write_text("seed: 1\ndata: x")
    )
    assert "classes=['a', 'b'] should be those of outline.classes" in said(edit(classes=["a", "b"]))
    assert "does not fit the run's own method" in said(
        edit(classes=["a", "b"], outline={"classes": ["a", "b"], "shape": [3, 24, 24]})
    )
    assert tl_predict(run, picture, "--device", "cuda:7").code == 2


@pytest.mark.parametrize(
    ("file", "name", "path", "said"),
    [
        ("copy/evil.py", "evil.method", "copy", "code that came with its folder"),
        ("copy/evil.py", "sent.copy.evil", "..", "code that came with its folder"),
        ("evil.py", "sent.evil", "..", "code that came with its folder"),
        ("pkg/evil.py", "sent.pkg.evil", "..", "code that came with its folder"),
        ("../installed_elsewhere/evil.py", "installed_elsewhere.evil", "..", "not made for tl-run"),
    ],
)
def test_code_that_came_with_a_run_is_not_run(
    trained, tl_predict, tmp_path, monkeypatch, file, name, path, said
):
    sent = tmp_path / "sent"
    copy = sent / "copy"
    shutil.copytree(trained[0], copy)
    (sent / file).parent.mkdir(exist_ok=True)
    (sent / file).write_text("raise SystemExit('it ran')")
    config = (copy / "config.yaml").read_text()
    (copy / "config.yaml").write_text(config.replace("name: target_only", f"name: {name}"))
    monkeypatch.syspath_prepend(str(sent / path))
    ended = tl_predict(copy, trained[1])
    assert ended.code == 2
    assert said in ended.err


def test_nothing_readable_is_an_error_that_names_the_files(trained, tl_predict, tmp_path):
    (tmp_path / "a.png").write_bytes(b"no picture")
    ended = tl_predict(trained[0], tmp_path / "a.png")
    assert ended.code == 2
    assert (
        f"none of the pictures can be read:\n  {tmp_path / 'a.png'}: cannot identify" in ended.err
    )


def test_help_is_instant():
    code = (
        "import sys; from tl_runner.cli import predict; predict.parser().format_help(); assert "
        "'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_equal_probabilities_name_the_first_class():
    assert formats.likeliest(np.array([0.4, 0.4, 0.2]), ["a", "b", "c"], 2) == [
        ("a", 0.4),
        ("b", 0.4),
    ]
    found = Found([], np.zeros((0, 2)), {})
    assert (
        formats.written("csv", found, formats.Shown(["a", "b"], 5))
        == b"file,class,probability,class_2,probability_2\n"
    )


@pytest.mark.real_data
def test_a_hundred_held_out_photographs(tl_run, tl_predict, tmp_path):
    tar = data_root() / "cifar10-images.tar" if data_root() else None
    if not (tar and tar.exists()):
        pytest.skip("no cifar10-images.tar under the data root")
    import tarfile

    with tarfile.open(tar) as file:
        wanted = [
            m
            for m in file
            if m.name.split("/")[2:3] in (["cat"], ["ship"]) and m.name.split("/")[1] == "test"
        ]
        file.extractall(tmp_path, wanted, filter="data")
    root = tmp_path / "cifar10-images" / "test"
    words = [
        "data=folder",
        f"data.target_dir={root}",
        "data.size=32",
        "data.target_labels=all",
        "data.test_fraction=0.6",
    ]
    run = tmp_path / "run"
    ended = tl_run(
        *(word for word in TINY if not word.startswith("data.")),
        "method=target_only",
        *words,
        "train.limit.samples=null",
        f"cache.dir={tmp_path}",
        f"hydra.run.dir={run}",
    )
    assert ended.code == 0, ended.text
    files, _, p = own_predictions(run, root)
    files, p = files[:100], p[:100]
    assert len(files) == 100
    found = Trained(run).predict(files)
    assert found.files == files
    np.testing.assert_array_equal(found.values.argmax(1), p.argmax(1))
    np.testing.assert_allclose(found.values, p, atol=1e-6)
