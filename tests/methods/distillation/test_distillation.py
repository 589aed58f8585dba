"""What distillation promises: a teacher that stays as it is, a student taught as its paper says,
both compared with labels alone."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from torch import nn

from support.methods import build, go, loop_of, same, state
from support.pictures import made_up
from support.runs import TINY, results
from tl_runner.backbones._inner_layers import Watched, outputs
from tl_runner.backbones._inner_layers import parts as parts_of
from tl_runner.backbones.resnet20 import ResNet20
from tl_runner.build.given_teachers import Shared
from tl_runner.losses.distillation import soft_targets, softened_cross_entropy
from tl_runner.methods.distillation._hints import regressor
from tl_runner.methods.distillation._prior import shift_biases

METHODS = (
    "kd",
    "fitnet",
    "fitnet_joint",
    "attention_transfer",
    "rkd",
    "dkd",
    "multi_teacher",
    "self_distill",
)
SMALL = ("backbone@teacher=lenet",)  # quicker than the shipped one
ALL = ("data.target_labels=all",)


def made(*words):
    """(task, method, device) with a teacher that has batch norm, on few images."""
    _, task, method, device = build(*(() if "method=self_distill" in words else SMALL), *words)
    return task, method, device


def number(method, name):
    return [phase.name for phase in method.phases()].index(name)


def last(method):
    return len(method.phases()) - 1


# ---- the teacher


@pytest.mark.parametrize("views", [True, False])
@pytest.mark.parametrize("name", METHODS)
def test_the_teacher_stays_as_it_is_to_the_bit(name, views):
    task, method, device = made(
        f"method={name}", f"method.distil.augment={str(views).lower()}", *ALL
    )
    teachers = method.teachers
    begun = method.phases()[last(method)]
    if begun.hooks.begin:
        begun.hooks.begin()
    loop = loop_of(method, last(method), task, device)
    before = state(teachers)
    assert any("running_mean" in key for key in before)
    modes = []
    hook = teachers[0].encoder.register_forward_hook(
        lambda layer, given, out: modes.append((layer.training, out.requires_grad))
    )
    go(loop, epochs=2)
    hook.remove()
    assert same(before, state(teachers))
    assert modes
    assert set(modes) == {(False, False)}
    taught = {id(p) for p in teachers.parameters()}
    for runner in loop.updates:
        assert not taught & {id(p) for p in runner.parameters}
    assert all(p.grad is None for p in teachers.parameters())


def test_it_is_in_no_checkpoint_of_the_student(tl_run, tmp_path):
    ended = tl_run(*TINY, *SMALL, "method=kd", f"hydra.run.dir={tmp_path / 'run'}")
    assert ended.code == 0, ended.text
    best, whole = (
        torch.load(tmp_path / "run" / "checkpoints" / f"{n}.pt", weights_only=True)["method"]
        for n in ("best", "last")
    )
    assert {key.partition(".")[0] for key in best} == {"encoder", "head"}
    assert {key.partition(".")[0] for key in whole} == {"encoder", "head", "teachers", "alone"}


@pytest.mark.parametrize("name", METHODS)
def test_it_is_asked_once_where_the_images_are_always_the_same(name):
    words = (f"method={name}", *ALL, "train.batch_size=50")
    found = {}
    for fixed in (True, False):
        task, method, device = made(*words, f"method.distil.augment={str(not fixed).lower()}")
        phase = method.phases()[last(method)]
        if phase.hooks.begin:
            phase.hooks.begin()
        loop = loop_of(method, last(method), task, device)
        if not fixed:
            assert loop.phase.hooks.precompute is None
        asked = []
        method.teachers[0].encoder.register_forward_hook(
            lambda layer, given, out, asked=asked: asked.append(len(out))
        )
        found[fixed] = go(loop, epochs=2)
        if fixed:
            # and two images for the shapes
            assert sum(asked) == len(loop.batches.splits["target"]) + 2
        else:
            assert asked == [50] * 8
    for key, value in found[
        True
    ].items():  # the same answers, up to the rounding of other batch sizes
        assert value == pytest.approx(found[False][key], rel=2e-3), key


def test_too_many_answers_are_not_kept(monkeypatch):
    task, method, device = made("method=kd", "method.distil.augment=false")
    monkeypatch.setattr("tl_runner.methods.distillation._teacher.MAX_BYTES", 100)
    loop = loop_of(method, last(method), task, device)
    go(loop)
    assert loop.precomputed == {}


def test_mixed_images_are_asked_about_anew():
    still = [
        f"data.augment.{key}=0" for key in ("rotate", "translate", "scale", "stretch", "shear")
    ]
    assert made("method=kd", *still)[1].phases()[-1].hooks.precompute is not None
    assert made("method=kd", *still, "train.mixup=0.5")[1].phases()[-1].hooks.precompute is None


# ---- labels


@pytest.mark.parametrize(
    "words", [("method=kd", "method.temperature=4"), ("method=kd", "method.temperature=1")]
)
def test_without_labels_the_soft_targets_keep_t_squared(words):
    task, method, device = made(*words, "method.label_weight=0", "method.distil.augment=false")
    loop = loop_of(method, last(method), task, device)
    loop.begin_epoch(0)
    assert set(loop.phase.reads) == {"target"}
    batch = loop.batches[0]
    batch.precomputed = {}
    assert batch.target.y is None
    method.eval()
    losses = method.step(batch, 0.0)
    assert set(losses) == {"soft_targets"}
    expected = soft_targets(
        method(batch.target.x), method.teachers[0](batch.target.x), method.temperature
    )
    torch.testing.assert_close(losses["soft_targets"], expected)
    p, q = (
        (net(batch.target.x) / method.temperature).softmax(1)
        for net in (method.teachers[0], method)
    )
    torch.testing.assert_close(
        expected,
        method.temperature**2 * (p * (p.log() - q.log())).sum(1).mean(),
        rtol=1e-3,
        atol=1e-6,
    )


@pytest.mark.parametrize(
    ("words", "reads"),
    [
        ((), {"source": "source_train", "target": "target_train"}),
        (
            ("data.target_labels=3",),
            {"source": "source_train", "labelled": "target_labelled", "target": "target_train"},
        ),
        (ALL, {"source": "source_train", "target": "target_labelled"}),
        (
            ("data=split_digits", "data.source_classes=null", "data.target_classes=null"),
            {"target": "target_labelled"},
        ),
        (
            (
                "data=split_digits",
                "data.source_classes=null",
                "data.target_classes=null",
                "data.target_labels=3",
            ),
            {"labelled": "target_labelled", "target": "target_train"},
        ),
    ],
)
def test_what_is_taught_and_what_is_labelled(words, reads):
    task, method, device = made("method=kd", *words)
    # the first one's size is an epoch's
    assert list(method.phases()[-1].reads.items()) == list(reads.items())
    labels = {split for split in reads.values() if split != "target_train"}
    for phase in method.phases()[:-1]:
        assert set(phase.reads.values()) == labels
    losses = go(loop_of(method, last(method), task, device))
    assert set(losses) == {"cross_entropy", "soft_targets"}


def test_the_labels_loss_is_of_every_labelled_image():
    task, method, device = made(
        "method=kd", "data.target_labels=3", "backbone.batch_norm=false", "method.label_weight=0.3"
    )
    loop = loop_of(method, last(method), task, device)
    loop.begin_epoch(0)
    batch = loop.batches[0]
    losses = method.label_loss(batch, method.student_outputs(batch))
    images, y = (
        torch.cat([batch.source.x, batch.labelled.x]),
        torch.cat([batch.source.y, batch.labelled.y]),
    )
    torch.testing.assert_close(
        losses["cross_entropy"], 0.3 * nn.functional.cross_entropy(method(images), y)
    )


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("data.target_labels=3",),
        ALL,
        (
            "data=split_digits",
            "data.source_classes=null",
            "data.target_classes=null",
            "data.target_labels=3",
        ),
    ],
)
def test_both_students_take_as_many_steps_an_epoch(tl_run, tmp_path, words):
    tiny = [w for w in TINY if not w.startswith(("train.steps", "train.epochs"))]
    run = (
        "train.epochs=1",
        "train.steps_per_epoch=null",
        "train.batch_size=16",
        f"hydra.run.dir={tmp_path / 'run'}",
    )
    assert tl_run(*tiny, *SMALL, "method=kd", *words, *run).code == 0
    rows = [
        json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    ]
    steps = {row["phase"]: row["step"] for row in rows if "step" in row}
    assert steps["teach"] == steps["alone"] == steps["distil"]


def test_both_students_start_from_the_same_weights():
    _, method, _ = made("method=kd")
    assert same(state(method.encoder), state(method.alone.encoder))
    assert same(state(method.head), state(method.alone.head))


# ---- teachers that are given


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """A folder for what is trained once."""
    return tmp_path_factory.mktemp("shelf")


@pytest.fixture
def trained(tl_run, tmp_path, shelf):
    """A run on printed digits, to teach."""
    words = (*TINY, "method=source_only", "backbone.batch_norm=true")
    if not (shelf / "teacher").exists():
        ended = tl_run(*words, f"hydra.run.dir={shelf / 'teacher'}")
        assert ended.code == 0, ended.text
    return shutil.copytree(shelf / "teacher", tmp_path / "teacher")


def test_a_run_teaches(tl_run, tmp_path, trained):
    ended = tl_run(
        *TINY, "method=kd", f"method.teacher={trained}", f"hydra.run.dir={tmp_path / 'run'}"
    )
    assert ended.code == 0, ended.text
    assert f"teacher: {trained}, source_only on fonts2digits" in ended.text
    score = json.loads((trained / "result.json").read_text())["score"]
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    teach = result["phases"][0]
    assert (teach["name"], teach["epochs"]) == ("teach", 0)
    assert teach["metrics"]["target_test"]["accuracy"] == score
    recorded = json.loads((tmp_path / "run" / "environment.json").read_text())["data_sha256"]
    assert str(trained / "checkpoints" / "best.pt") in recorded
    whole = torch.load(tmp_path / "run" / "checkpoints" / "last.pt", weights_only=True)["method"]
    assert not any(key.startswith("teachers") for key in whole)  # it lies in its own folder


def test_the_student_predicts_when_the_teacher_is_gone(tl_run, tmp_path, trained):
    from tl_runner.build.finished_run import FinishedRun

    assert (
        tl_run(
            *TINY, "method=fitnet", f"method.teacher={trained}", f"hydra.run.dir={tmp_path / 'run'}"
        ).code
        == 0
    )
    trained.rename(tmp_path / "elsewhere")
    run = FinishedRun(tmp_path / "run")
    assert {name for name, _ in run.method.named_children()} == {"encoder", "head", "teachers"}
    assert not len(run.method.teachers)
    best = torch.load(tmp_path / "run" / "checkpoints" / "best.pt", weights_only=True)["method"]
    assert same(best, state(run.method))
    assert run.phase.outputs.predict(torch.rand(2, 1, 28, 28)).shape == (2, 10)


def test_a_file_of_weights_teaches(tl_run, tmp_path, trained):
    weights = torch.load(trained / "checkpoints" / "best.pt", weights_only=True)["method"]
    torch.save(weights, tmp_path / "weights.pt")
    words = (*TINY, "method=kd", f"method.teacher={tmp_path / 'weights.pt'}")
    ended = tl_run(*words, *SMALL, f"hydra.run.dir={tmp_path / 'run'}")
    assert ended.code == 0, ended.text
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    score = json.loads((trained / "result.json").read_text())["score"]
    assert result["phases"][0]["metrics"]["target_test"]["accuracy"] == score
    ended = tl_run(*words, "backbone@teacher=mlp")
    assert ended.code == 2
    assert "method.teacher=" in ended.err
    assert "of the teacher's weights" in ended.err
    assert "Name its network with backbone@teacher=" in ended.err
    torch.save(
        {k: v[:5] if k.startswith("head") else v for k, v in weights.items()},
        tmp_path / "weights.pt",
    )
    ended = tl_run(*words, *SMALL)
    assert ended.code == 2
    assert "its head tells 5 classes apart, and this data has 10" in ended.err
    torch.save({k: v for k, v in weights.items() if "head" not in k}, tmp_path / "weights.pt")
    ended = tl_run(*words, *SMALL)
    assert ended.code == 2
    assert "has 0 layers of 10 x 500" in ended.err


def test_a_teacher_that_changed_meanwhile_is_not_gone_on_with(
    tl_run, tmp_path, trained, monkeypatch
):
    from support.kills import interrupted

    words = (*TINY, "method=kd", f"method.teacher={trained}", f"hydra.run.dir={tmp_path / 'run'}")
    assert interrupted(tl_run, monkeypatch, 10, *words).code == 130
    best = trained / "checkpoints" / "best.pt"
    content = torch.load(best, weights_only=True)
    content["method"]["head.bias"] += 1
    torch.save(content, best)
    ended = tl_run(f"resume={tmp_path / 'run'}")
    assert ended.code == 2
    assert "best.pt changed since the run began" in ended.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("method.teacher=nowhere",), "method.teacher=nowhere: there is no such folder or file."),
        (
            (
                "data=split_digits",
                "data.source_classes=null",
                "data.target_classes=null",
                "data.size=32",
            ),
            "images of 1x28x28",
        ),
        (
            ("method.teacher=[{},{}]",),
            "names 2 teachers, and this method has one. method=multi_teacher",
        ),
        (("method=multi_teacher",), "one teacher is method=kd"),
        (("method.leave_out=[10]",), "classes are numbered 0 to 9"),
        (("method.leave_out=[3]",), "needs data.target_labels=all"),
        (("method.match_prior=true",), "method.leave_out, which names none"),
        (("backbone.bn=domain_specific",), "one student learns from all images"),
        (("method=dkd", "data.target_labels=0"), "learns from target labels"),
        (
            ("method=dkd", "data.target_labels=all", "train.mixup=0.2"),
            "method=dkd tells the label's class from the others",
        ),
        (
            ("method.distil.augment=false", "train.mixup=0.2"),
            "method.distil.augment=false mixes no images",
        ),
        (
            ("method=rkd", "method.distil.batch_size=2"),
            "method.distil.batch_size should be at least 3",
        ),
        (
            ("method=fitnet", "method.student_layers=[layers.3,layers.7]"),
            "this method has one hint",
        ),
        (("data.target_labels=all", "method.leave_out=[0,1,2,3,4,5,6,7,8]"), "two are needed"),
        (
            (
                "method.match_prior=true",
                "method.leave_out=[1]",
                "data.target_labels=all",
                "selection=im",
            ),
            "selection=im has nothing to choose",
        ),
        (("method.teacher=" + 300 * "a",), "there is no such folder or file"),
        (("method.teach.epochs=3",), "method.teach.epochs=3: method.teacher="),
        (("backbone@teacher=mlp",), "is trained and brings its network"),
        (("method=fitnet", "train.patience=1"), "nothing scores it. Set method.hint.patience=null"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_trained(tl_run, trained, words, said):
    if "method.teacher=[{},{}]" in words:
        shutil.copytree(trained, trained.with_name("another"))
    words = [word.format(trained, trained.with_name("another")) for word in words]
    given = (
        []
        if any(word.startswith("method.teacher=") for word in words)
        else [f"method.teacher={trained}"]
    )
    method = [] if any(word.startswith("method=") for word in words) else ["method=kd"]
    ended = tl_run(*TINY, *method, *given, *words)
    assert ended.code == 2, ended.text
    assert said in ended.err


def test_a_teacher_that_saw_target_labels_is_on_record(tl_run, tmp_path):
    assert (
        tl_run(
            *TINY,
            "method=target_only",
            "data.target_labels=5",
            f"hydra.run.dir={tmp_path / 'teacher'}",
        ).code
        == 0
    )
    ended = tl_run(
        *TINY,
        "method=kd",
        f"method.teacher={tmp_path / 'teacher'}",
        "seed=1",
        f"hydra.run.dir={tmp_path / 'run'}",
    )
    assert ended.code == 0, ended.text
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["uses_target_labels"] is True
    assert "the teacher saw target labels" in ended.text
    (record,) = result["findings"]["teachers"]
    assert (record["run"], record["method"], record["seed"], record["uses_target_labels"]) == (
        str(tmp_path / "teacher"),
        "target_only",
        0,
        True,
    )
    plain = tl_run(*TINY, "method=kd", *SMALL, f"hydra.run.dir={tmp_path / 'plain'}")
    assert plain.code == 0
    assert (
        json.loads((tmp_path / "plain" / "result.json").read_text())["uses_target_labels"] is False
    )


def test_a_teacher_of_another_seed_may_know_what_is_held_out(tl_run, tmp_path, trained):
    ended = tl_run(
        *TINY,
        "method=kd",
        f"method.teacher={trained}",
        "seed=1",
        f"hydra.run.dir={tmp_path / 'run'}",
    )
    assert ended.code == 0, ended.text
    assert "was trained with seed 0: images that are held out for validation here" in ended.text


def test_a_student_without_labels_predicts_and_teaches(tl_run, tmp_path):
    data = ("data=split_digits", "data.source_classes=null", "data.target_classes=null")
    assert (
        tl_run(*TINY, *data, "method=target_only", f"hydra.run.dir={tmp_path / 'teacher'}").code
        == 0
    )
    unlabelled = (
        *data,
        "data.target_labels=0",
        "method=kd",
        "method.alone=false",
        "method.label_weight=0",
    )
    given = f"method.teacher={tmp_path / 'teacher'}"
    ended = tl_run(*TINY, *unlabelled, given, f"hydra.run.dir={tmp_path / 'student'}")
    assert ended.code == 0, ended.text
    ended = tl_run(
        *TINY,
        *unlabelled,
        f"method.teacher={tmp_path / 'student'}",
        f"hydra.run.dir={tmp_path / 'next'}",
    )
    assert ended.code == 0, ended.text
    ended = tl_run(*TINY, *data, "data.target_labels=0", "method=kd", given)
    assert ended.code == 2
    assert "there are no labels: set data.target_labels, or method.teacher" in ended.err


def test_a_teacher_of_vectors_sees_them_in_its_own_scale(tl_run, tmp_path):
    """Made up: two files of vectors with other means; the teacher's test score is that of its own
    run."""
    import numpy as np

    draw = np.random.default_rng(0)
    y = draw.integers(0, 3, 300)
    x = np.eye(3)[y] @ draw.normal(size=(3, 6)) * 3 + draw.normal(size=(300, 6))
    np.savez(
        tmp_path / "a.npz",
        x=x[:200].astype("f4"),
        y=y[:200],
        x_test=x[200:].astype("f4"),
        y_test=y[200:],
    )
    np.savez(tmp_path / "b.npz", x=(40 * x[:200] + 9).astype("f4"), y=y[:200])
    words = [w for w in TINY if not w.startswith("data.")]
    data = ("data=arrays", f"data.target_file={tmp_path / 'a.npz'}", "data.target_labels=all")
    assert (
        tl_run(*words, *data, "method=target_only", f"hydra.run.dir={tmp_path / 'teacher'}").code
        == 0
    )
    source = f"data.source_file={tmp_path / 'b.npz'}"
    ended = tl_run(
        *words,
        *data,
        source,
        "method=kd",
        f"method.teacher={tmp_path / 'teacher'}",
        f"hydra.run.dir={tmp_path / 'run'}",
    )
    assert ended.code == 0, ended.text
    teacher, run = (
        json.loads((tmp_path / n / "result.json").read_text()) for n in ("teacher", "run")
    )
    assert teacher["outline"]["scale"] != run["outline"]["scale"]
    assert run["phases"][0]["metrics"]["target_test"]["accuracy"] == pytest.approx(
        teacher["score"], abs=0.011
    )


def test_a_preset_says_that_there_is_a_teacher(tl_run):
    ended = tl_run(
        "experiment=distil_photos",
        "data.target_dir=photos",
        "backbone@teacher=lenet",
        "dry_run=true",
    )
    assert ended.code == 0, ended.text
    ended = tl_run("method=dann", "teacher.batch_norm=false", "dry_run=true")
    assert ended.code == 2
    assert "method=dann has no teacher" in ended.err


def test_a_choice_for_the_teacher_needs_a_method_that_has_one(tl_run):
    ended = tl_run("method=dann", "backbone@teacher=mlp", "dry_run=true")
    assert ended.code == 2
    assert "method=dann has no teacher. method=kd has one." in ended.err
    ended = tl_run(
        "-m",
        "method=target_only,kd",
        "data.target_labels=5",
        "backbone@teacher=mlp",
        "teacher.hidden=[9]",
        "dry_run=true",
    )
    assert ended.code == 0, ended.text
    ended = tl_run("method=kd", "teacher.hidden=[9]", "dry_run=true")
    assert "backbone@teacher=mlp would have it" in ended.err


# ---- one teacher for a sweep


def test_a_sweep_trains_its_teacher_once(tl_run, tmp_path, made_up_root):
    data = ("data=mnist", f"data.root={made_up_root}", "data.val_fraction=0")
    train = ("device=cpu", "figures=false", "train.epochs=1", "train.batch_size=20")
    swept = (
        "method=kd,rkd",
        "backbone=mlp",
        "backbone.hidden=[8],[16]",
        "seed=0",
        "method.teacher_seed=5",
    )
    ended = tl_run(
        "-m",
        *data,
        *train,
        *swept,
        *SMALL,
        "train.steps_per_epoch=2",
        f"hydra.sweep.dir={tmp_path / 'sweep'}",
    )
    assert ended.code == 0, ended.text
    found = [result["phases"][0] for result in results(tmp_path / "sweep")]
    assert len(found) == 4
    assert sum("shared" not in phase for phase in found) == 1
    assert len({json.dumps(phase["metrics"]) for phase in found}) == 1
    alone = [result["phases"][1] for result in results(tmp_path / "sweep")]
    # of each size one; the second method takes it over
    assert sum("shared" not in phase for phase in alone) == 2


# ---- FitNets


def test_the_hint_trains_the_student_up_to_the_guided_layer_alone():
    task, method, device = made("method=fitnet", "backbone.dropout=0.3")
    guided, hint = method.hint.guided, method.hint.hint
    assert (guided, hint) == ("layers.8", "layers.8")  # the middle of LeNet's three blocks
    where = number(method, "hint")
    before = state(method)
    go(loop_of(method, where, task, device), epochs=1)
    changed = {key for key, value in state(method).items() if not torch.equal(value, before[key])}
    upto = (
        "encoder.layers.0.",
        "encoder.layers.1.",
        "encoder.layers.4.",
        "encoder.layers.5.",
        "regressor.",
    )
    assert changed
    assert all(key.startswith(upto) for key in changed), changed
    assert any("running_mean" in key for key in changed)
    assert any(key.startswith("regressor") for key in changed)
    loss = go(loop_of(method, where, task, device), epochs=1)
    assert set(loss) == {"hint"}


def test_the_second_stage_goes_on_from_the_first_and_its_weight_falls():
    task, method, device = made("method=fitnet", "data.target_labels=all")
    loop = loop_of(method, last(method), task, device)
    assert loop.phase.hooks.begin is None
    assert method.regressor not in loop.phase.updates[0].networks
    loop.begin_epoch(0)
    batch = loop.batches[0]
    batch.precomputed = {}
    method.eval()
    plain = softened_cross_entropy(method(batch.target.x), method.teachers[0](batch.target.x), 3.0)
    for progress, weight in ((0.0, 4.0), (0.5, 2.5), (1.0, 1.0)):
        torch.testing.assert_close(method.step(batch, progress)["soft_targets"], weight * plain)


def test_the_joint_variant_adds_the_mean_squared_distance():
    task, method, device = made(
        "method=fitnet_joint", "method.weight=7", "backbone.batch_norm=false"
    )
    loop = loop_of(method, last(method), task, device)
    loop.begin_epoch(0)
    batch = loop.batches[0]
    batch.precomputed = {}
    method.eval()
    guided, hint = method.hint.guided, method.hint.hint
    student = Watched(method, method.encoder, [guided])(batch.target.x).layers[guided]
    teacher = Watched(method.teachers[0], method.teachers[0].encoder, [hint])(
        batch.target.x
    ).layers[hint]
    expected = 7 * (method.regressor(student) - teacher).square().mean()
    torch.testing.assert_close(method.step(batch, 0.0)["hint"], expected)


def test_the_regressor_has_the_papers_shape():
    """Section 2.2: a convolution without padding whose kernel takes the guided size to the
    hint's."""
    net = regressor((8, 12, 10), (16, 8, 8), rectified=True)
    assert net(torch.rand(2, 8, 12, 10)).shape == (2, 16, 8, 8)
    assert net[0].kernel_size == (5, 3)
    assert isinstance(net[-1], nn.ReLU)
    assert [type(layer) for layer in regressor((8,), (16,), rectified=False)] == [nn.Linear]


@pytest.mark.parametrize(
    ("name", "words", "said"),
    [
        (
            "fitnet",
            ("student_layers=[layers.77]",),
            "has no layer layers.77. Did you mean 'layers.7'? It has layers.0 (20, 24, 24)",
        ),
        (
            "fitnet_joint",
            ("student_layers=[layers.7]", "teacher_layers=[layers.0]"),
            "gives (50, 4, 4) and the hint (20, 24, 24)",
        ),
        (
            "attention_transfer",
            ("student_layers=[layers.7]", "teacher_layers=[layers.3]"),
            "maps of one height and width",
        ),
        (
            "attention_transfer",
            ("student_layers=[layers.7,layers.3]", "teacher_layers=[layers.3]"),
            "they go in pairs",
        ),
        ("attention_transfer", (), "the student has none. Choose networks that halve images alike"),
    ],
)
def test_layers_that_cannot_be_compared_are_refused_with_those_there_are(tl_run, name, words, said):
    backbone = () if words else ("backbone=mlp",)
    ended = tl_run(
        *TINY, *SMALL, f"method={name}", *backbone, *(f"method.{word}" for word in words)
    )
    assert ended.code == 2
    assert said in ended.err
    assert "teach 1/" not in ended.text


def test_attention_is_compared_at_every_size_that_both_have():
    _, method, _ = made("method=attention_transfer")
    assert method.layers.paths == [
        ("layers.1", "layers.1"),
        ("layers.3", "layers.3"),
        ("layers.6", "layers.6"),
        ("layers.8", "layers.8"),
    ]


# ---- several teachers, generations


def test_every_weighting_of_teachers():
    for weighting in ("average", "agreement", "gate", "validation"):
        task, method, device = made(
            "method=multi_teacher", "method.teachers=2", f"method.weighting={weighting}", *ALL
        )
        names = [phase.name for phase in method.phases()]
        assert names == [
            "teach",
            "teach_2",
            "alone",
            *(["weigh"] if weighting == "validation" else []),
            "distil",
        ]
        assert not same(state(method.teachers[0]), state(method.teachers[1]))
        means = go(loop_of(method, last(method), task, device))
        assert ("gate" in means) is (weighting == "gate")


def test_teachers_weigh_by_the_log_odds_of_being_right():
    task, method, device = made(
        "method=multi_teacher", "method.teachers=3", "method.weighting=validation"
    )
    y = task.splits["source_val"].y
    for teacher, right in zip(method.teachers, (0.9, 0.5, 0.0), strict=True):
        wrong = torch.arange(len(y)) >= round(right * len(y))
        said = nn.functional.one_hot(torch.where(wrong, (y + 1) % 10, y), 10).float()
        teacher.forward = lambda x, said=said: said[: len(x)]
    go(loop_of(method, number(method, "weigh"), task, device, steps=1))
    assert len(y) < 500  # one chunk
    a = [round(right * len(y)) / len(y) for right in (0.9, 0.5)]
    odds = [torch.tensor(v / (1 - v) * 9).log().item() for v in a]
    assert method.shares.tolist() == pytest.approx(
        [odds[0] / sum(odds), odds[1] / sum(odds), 0.0], rel=1e-4
    )
    assert method.findings([])["shares"] == [round(share, 4) for share in method.shares.tolist()]


def test_the_gate_learns_from_labels_and_leaves_the_student_alone():
    task, method, device = made(
        "method=multi_teacher",
        "method.weighting=gate",
        "method.weight=0",
        "method.label_weight=0",
        *ALL,
    )
    loop = loop_of(method, last(method), task, device)
    before = state(method)
    go(loop)
    moved = {
        k.partition(".")[0]
        for k, v in state(method).items()
        if not torch.equal(v, before[k]) and "running" not in k and "num_b" not in k
    }
    assert moved == {"gate"}


def test_each_generation_learns_from_the_one_before():
    task, method, device = made("method=self_distill", "method.generations=2")
    assert [phase.name for phase in method.phases()] == ["alone", "generation_1", "generation_2"]
    first = state(method.encoder)
    go(loop_of(method, 0, task, device))
    for generation, before in ((1, method.alone), (2, method)):
        loop = loop_of(method, generation, task, device)
        taught, started = state(before.encoder), state(method.encoder)
        loop.phase.hooks.begin()
        assert same(taught, state(method.teachers[0].encoder))
        assert not same(started, state(method.encoder))
        assert not same(first, state(method.encoder))
        go(loop)
        assert same(taught, state(method.teachers[0].encoder))


# ---- classes that the student never sees

LEFT_OUT = (
    "method=kd",
    "method.leave_out=[3,5]",
    "data=split_digits",
    "data.source_classes=null",
    "data.target_classes=null",
)


def test_classes_are_left_out_of_what_the_student_sees(tl_run, tmp_path):
    words = [w for w in TINY if "limit" not in w]
    ended = tl_run(
        *words,
        *SMALL,
        *LEFT_OUT,
        "method.match_prior=true",
        "train.epochs=4",
        f"hydra.run.dir={tmp_path / 'run'}",
    )
    assert ended.code == 0, ended.text
    (result,) = results(tmp_path)
    names = [phase["name"] for phase in result["phases"]]
    assert names == ["teach", "alone", "distil", "match_prior"]
    import numpy as np

    said = np.load(tmp_path / "run" / "predictions.npz")["target_train/probabilities"].argmax(1)
    share = np.bincount(said, minlength=10) / len(said)
    labels = np.load(tmp_path / "run" / "predictions.npz")["target_labelled/labels"]
    for c in (3, 5):
        assert share[c] == pytest.approx((labels == c).mean(), abs=0.02)
    rows = [
        json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    ]
    moved = next(row for row in rows if row["phase"] == "match_prior" and "bias_3" in row)
    assert moved["bias_3"] > 0


def test_no_batch_has_them():
    from tl_runner.data.splits import without

    _, task, method, _ = build(*SMALL, *LEFT_OUT)
    phases = {phase.name: phase for phase in method.phases()}
    assert phases["teach"].sampling.leave_out == ()
    for name in ("alone", "distil"):
        assert phases[name].sampling.leave_out == [3, 5]
        left = without(task.splits["target_labelled"], phases[name].sampling.leave_out)
        assert not ({3, 5} & set(left.y.tolist()))
        assert len(left) == sum(y not in (3, 5) for y in task.splits["target_labelled"].y.tolist())
    assert without(task.splits["target_train"], [3]) is task.splits["target_train"]


def test_one_class_is_answered_exactly_as_often_as_its_prior():
    _, method, _ = made("method=kd")
    method.leave_out = [2]
    logits = torch.randn(1000, 10, generator=torch.Generator().manual_seed(0))
    logits[:, 2] -= 4.0
    y = torch.arange(1000) % 8  # an eighth is of class 2

    class SplitPasses:
        def __call__(self, network, domain):
            return logits

        def labels(self, domain):
            return y

    before = method.head.bias.detach().clone()
    (move,) = shift_biases(method, SplitPasses())["moved"].tolist()
    shifted = logits.clone()
    shifted[:, 2] += move
    assert int((shifted.argmax(1) == 2).sum()) == 125
    torch.testing.assert_close(method.head.bias[2] - before[2], torch.tensor(move))
    assert torch.equal(method.head.bias[[0, 1, 3]], before[[0, 1, 3]])


# ---- layers, and what a network costs


def test_layers_are_listed_and_watched_as_the_network_runs():
    net = ResNet20((3, 32, 32), dropout=0.0)
    before = state(net)
    found = outputs(net, (3, 32, 32))
    assert same(before, state(net))
    assert net.training
    x = torch.rand(4, 3, 32, 32)
    net.eval()
    path = "stage2.1.second"
    head = nn.Linear(net.out_features, 5)
    watched = Watched(lambda x: head(net(x)), net, [path])
    seen = watched(x)
    torch.testing.assert_close(seen.features, net(x))
    torch.testing.assert_close(seen.logits, head(net(x)))
    assert seen.layers[path].shape[1:] == found[path].shape[1:]
    assert watched.found == {}  # nothing is held between passes
    net(x)
    assert watched.found == {}


def test_what_the_next_layer_writes_over_is_seen_as_it_was():
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace=True))
    x = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    seen = Watched(net, net, ["0"])(x)
    assert seen.layers["0"].min() < 0
    torch.testing.assert_close(seen.layers["0"], net[0](x))


def test_what_a_layer_depends_on_is_what_has_a_gradient():
    net = ResNet20((3, 32, 32), dropout=0.0)
    for path in ("", *list(outputs(net, (3, 32, 32)))[5::9]):
        net.zero_grad(set_to_none=True)
        if not path:
            continue
        found = {}
        hook = net.get_submodule(path).register_forward_hook(
            lambda layer, given, out, found=found: found.update(out=out)
        )
        net(torch.rand(2, 3, 32, 32))
        hook.remove()
        found["out"].square().sum().backward()
        learned = {p for p in net.parameters() if p.grad is not None}
        weights, behind = parts_of(net, path, (3, 32, 32))
        assert learned <= set(weights), path
        assert not learned & {p for layer in behind for p in layer.parameters()}, path


def test_the_record_says_what_each_network_costs(tl_run, tmp_path):
    words = (
        "method=kd",
        "backbone=mlp",
        "backbone.hidden=[20]",
        "backbone@teacher=mlp",
        "teacher.hidden=[30,40]",
    )
    ended = tl_run(*TINY, *words, f"hydra.run.dir={tmp_path / 'run'}")
    assert ended.code == 0, ended.text
    (result,) = results(tmp_path)
    weights = {
        "teach": 784 * 30 + 30 * 40 + 40 * 10,
        "alone": 784 * 20 + 20 * 10,
        "distil": 784 * 20 + 20 * 10,
    }
    biases = {"teach": 80, "alone": 30, "distil": 30}
    for name, found in result["costs"].items():
        assert found["flops"] == 2 * weights[name]
        assert found["parameters"] == weights[name] + biases[name]
        assert found["latency_ms"] > 0
    lines = [line.split() for line in ended.text.splitlines()]
    titles = {" ".join(line[:2]) for line in lines} | {line[0] for line in lines if line}
    assert {"teacher", "student alone", "kd"} <= titles
    assert "over alone" in ended.text


def test_a_loss_that_compares_images_is_not_cut(tl_run):
    ended = tl_run(*TINY, *SMALL, "method=rkd", "train.accumulate=2")
    assert ended.code == 2
    assert "couples the samples of a batch" in ended.err


def test_a_teacher_of_more_classes_teaches_those_that_the_data_has(tl_run, tmp_path, trained):
    words = ("data=split_digits", "data.source_classes=null", "data.target_classes=[7, 2]")
    run = (*TINY, "method=kd", f"method.teacher={trained}", f"hydra.run.dir={tmp_path / 'run'}")
    ended = tl_run(*run, *words)
    assert ended.code == 0, ended.text
    assert "knows 8 more classes (0, 1, 3, 4, 5 and 3 more)" in ended.err
    logits = torch.arange(30.0).view(3, 10)
    assert Shared(lambda x: x, [2, 7])(logits).tolist() == [[2, 7], [12, 17], [22, 27]]


def test_a_teacher_that_does_not_know_a_class_is_refused(tl_run, tmp_path, trained):
    pets = made_up(tmp_path / "pets", n=4)
    data = ("data=folder", f"data.target_dir={pets}", "data.size=28", "data.channels=1")
    words = [word for word in TINY if not word.startswith("data.")]
    teacher = ("method=kd", f"method.teacher={trained}", "data.target_labels=all")
    ended = tl_run(*words, *teacher, *data)
    assert ended.code == 2
    assert "tells 0, 1, 2, 3, 4 and 5 more apart, and knows nothing of cat, dög" in ended.err
