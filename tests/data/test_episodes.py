"""Few-shot tasks: what is drawn, from which classes; how learners of them are scored, batched,
killed and taken up again."""

from __future__ import annotations

import json
import zipfile
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from support.kills import interrupted
from support.meta_learners import SHOTS, WAYS, batch, made
from support.phase_loops import CPU
from support.runs import data_root
from support.same_runs import assert_same
from tl_runner import randomness
from tl_runner.data.episodes import ImageEpisodes
from tl_runner.data.fewshot_task import by_class, turned
from tl_runner.data.splits import Split
from tl_runner.data.tasks import folder_episodes, glyphs, omniglot, sinusoid
from tl_runner.errors import DataError
from tl_runner.methods.fewshot.anil import ANIL
from tl_runner.methods.fewshot.maml import MAML
from tl_runner.methods.fewshot.meta_sgd import MetaSGD
from tl_runner.methods.fewshot.protonet import ProtoNet
from tl_runner.methods.fewshot.reptile import Reptile
from tl_runner.methods.phases import Batching
from tl_runner.training.task_evaluator import TaskEvaluator, half_width, report, scored

PROTOCOL = {"ways": 5, "shots": 1, "queries": 2, "training": {}, "tasks": {"val": 10, "test": 20}}
TINY = (
    "device=cpu",
    "figures=false",
    "backbone.filters=4",
    "data.images=4",
    "data.tasks.val=4",
    "data.tasks.test=8",
    "train.epochs=2",
    "train.steps_per_epoch=3",
    "method.meta.batch_size=4",
)


def labelled(classes: int = 12, images: int = 6) -> Split:
    """Made up: image i of class c is all c, its last pixel i."""
    y = torch.arange(classes).repeat_interleave(images)
    x = y.to(torch.uint8)[:, None, None, None].repeat(1, 1, 2, 2) * 20
    x[:, 0, 1, 1] = torch.arange(images).repeat(classes)
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(3))
    return Split(x[order], y[order], order)


def draws(episodes, tasks=200, seed=0):
    return episodes.at(episodes.plan(tasks, torch.Generator().manual_seed(seed)))


def test_a_task_has_so_many_classes_and_its_sets_share_no_image():
    split = labelled()
    found = draws(ImageEpisodes(split, "", ways=5, shots=2, queries=3))
    assert found.support.shape == (200, 10, 1, 2, 2)
    assert found.query.shape == (200, 15, 1, 2, 2)
    assert torch.equal(found.support_y[0], torch.arange(5).repeat_interleave(2))
    for support, query in zip(found.support_index, found.query_index, strict=True):
        both = torch.cat([support, query])
        assert len(both.unique()) == 25
        classes = split.y[support].view(5, 2)
        assert (classes == classes[:, :1]).all()
        assert len(classes[:, 0].unique()) == 5
        assert torch.equal(split.y[query].view(5, 3)[:, 0], classes[:, 0])
    assert torch.equal(found.support, split.x[found.support_index])


def test_classes_are_numbered_at_random_and_all_are_drawn_alike():
    split = labelled(classes=6)
    found = draws(ImageEpisodes(split, "", ways=3, shots=1, queries=1), tasks=3000)
    for position in range(3):
        counts = split.y[found.support_index[:, position]].bincount(minlength=6).float()
        assert ((counts - 500).abs() < 5 * 500**0.5).all()
    images = (found.support[:, :, 0, 1, 1]).flatten().bincount(minlength=6).float()
    assert ((images - 1500).abs() < 5 * 1500**0.5).all()


def test_classes_of_unlike_sizes_give_their_own_images():
    y = torch.tensor([0, 0, 1, 1, 1, 1, 1, 2, 2, 2])
    split = Split(torch.full((10, 1, 2, 2), 200, dtype=torch.uint8), y, torch.arange(10))
    found = draws(ImageEpisodes(split, "", ways=3, shots=1, queries=1))
    for support, query in zip(found.support_index, found.query_index, strict=True):
        assert torch.equal(y[support], y[query])
        assert (support != query).all()
    assert len(torch.cat([found.support_index, found.query_index]).unique()) == 10


@pytest.mark.parametrize(
    ("protocol", "said"),
    [
        ({"ways": 13, "shots": 1, "queries": 1}, "12 classes, and a task takes 13"),
        ({"ways": 5, "shots": 4, "queries": 3}, "6 images, and a task takes 4 to learn from and 3"),
    ],
)
def test_what_cannot_be_drawn_is_said(protocol, said):
    with pytest.raises(DataError, match=said):
        ImageEpisodes(labelled(), "omniglot: meta_val", **protocol)


def test_parts_share_no_class_and_turns_of_a_character_stay_together():
    split = labelled(classes=20)
    parts = by_class(split, (10, 4, 6), torch.Generator().manual_seed(0))
    classes = [set(part.y.tolist()) for part in parts.values()]
    assert [len(own) for own in classes] == [10, 4, 6]
    assert not classes[0] & classes[1]
    assert not classes[0] & classes[2]
    assert not classes[1] & classes[2]
    four = turned(parts["val"])
    assert len(four.y.unique()) == 16
    assert {*four.ids.tolist()} == {*parts["val"].ids.tolist()}
    for turn in range(4):
        rows = slice(turn * 24, (turn + 1) * 24)
        assert torch.equal(four.x[rows], torch.rot90(parts["val"].x, turn, (2, 3)))


def test_the_turns_of_a_tasks_classes_do_not_hang_together():
    split = labelled(classes=40, images=4)
    n = int(split.y.max()) + 1
    four = turned(split)
    found = draws(ImageEpisodes(four, "", ways=5, shots=1, queries=1), tasks=500)
    turns = four.y[found.support_index] // n
    assert (turns == turns[:, :1]).all(1).float().mean() < 0.02  # by chance 1 in 256
    assert ((turns.flatten().bincount(minlength=4) - 625.0).abs() < 5 * 625**0.5).all()


def test_sinusoids_are_what_the_paper_says():
    task = sinusoid.load(
        shots=5,
        queries=50,
        training={"shots": 10, "queries": 10},
        tasks={"val": 5, "test": 5},
        amplitude=(0.1, 5.0),
        phase=(0.0, np.pi),
        x=(-5.0, 5.0),
        seed=0,
    )
    found = draws(task.episodes["meta_test"], tasks=500)
    assert found.support.shape == (500, 5, 1, 1, 1)
    assert found.query_y.shape == (500, 50)
    x, y = found.query[:, :, 0, 0, 0].double(), found.query_y.double()
    assert -5 <= x.min() < -4.9
    assert 4.9 < x.max() <= 5
    basis = torch.stack([x.sin(), x.cos()], 2)  # A sin(x - p) = A cos p sin x - A sin p cos x
    fitted = torch.linalg.lstsq(basis, y[..., None]).solution[..., 0]
    assert torch.allclose((basis @ fitted[..., None])[..., 0], y, atol=1e-4)
    amplitude, phase = fitted.norm(dim=1), torch.atan2(-fitted[:, 1], fitted[:, 0])
    assert 0.099 < amplitude.min() < 0.3
    assert 4.8 < amplitude.max() < 5.001
    assert phase.min() > -1e-3
    assert phase.max() < np.pi + 1e-3
    assert (draws(task.episodes["meta_train"]).support.shape[1], found.query.shape[1]) == (10, 50)


def test_glyphs_are_classes_apart_of_several_faces():
    points, _images, owner = glyphs.characters()
    assert len(points) > 400
    assert owner.bincount().min() >= glyphs.FACES
    assert len({ord("A"), 0x391} & {*points}) == 1  # capital alpha is drawn like A
    assert len({ord("6"), ord("9")} & {*points}) == 1  # turned
    assert ord("O") not in points  # turned it is itself
    load = {
        **PROTOCOL,
        "images": 5,
        "jitter": {"rotate": 10.0},
        "classes": {"val": 20, "test": 30},
        "rotations": {"train": True, "test": False},
    }
    one, again, other = (glyphs.load(**load, seed=seed) for seed in (0, 0, 1))
    sizes = {name: len(e) for name, e in one.episodes.items()}
    assert sizes == {"meta_train": 4 * (len(points) - 50), "meta_val": 20, "meta_test": 30}
    assert torch.equal(one.episodes["meta_test"].split.x, again.episodes["meta_test"].split.x)
    assert not torch.equal(one.episodes["meta_test"].split.x, other.episodes["meta_test"].split.x)
    with pytest.raises(DataError, match="leave none"):
        glyphs.load(**{**load, "classes": {"val": 300, "test": 400}}, seed=0)


def drawings(root: Path, monkeypatch, zipped: bool) -> Path:
    """Made up: 6 characters of 3 drawings each in Omniglot's form, black on white."""
    monkeypatch.setattr(omniglot, "CHARACTERS", 6)
    monkeypatch.setattr(omniglot, "DRAWINGS", 3)
    monkeypatch.setattr(omniglot, "TRAINED", 4)
    for part, alphabets in zip(omniglot.PARTS, (("Greek", "Latin"), ("Ogham",)), strict=True):
        archive = {}
        for alphabet in alphabets:
            for character in (1, 2):
                for i in range(3):
                    image = np.ones((105, 105), dtype=bool)
                    image[10 * character : 10 * character + 30, 10 + i : 60] = False
                    content = BytesIO()
                    Image.fromarray(image).save(content, "PNG")
                    archive[
                        f"{part}/{alphabet}/character{character:02}/00{character}_{i:02}.png"
                    ] = content.getvalue()
        folder = root / omniglot.FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        if zipped:
            with zipfile.ZipFile(folder / f"{part}.zip", "w") as file:
                for name, content in archive.items():
                    file.writestr(name, content)
        for name, content in () if zipped else archive.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
    return root


def read(root: Path, cache: Path, **more):
    settings = {
        **PROTOCOL,
        "ways": 2,
        "queries": 1,
        "val_classes": 2,
        "rotations": {"train": True, "test": True},
        "seed": 0,
    }
    return omniglot.load(root=str(root), download=False, cache=str(cache), **settings | more)


@pytest.mark.parametrize("zipped", [True, False])
def test_omniglot_is_read_from_zips_and_folders_and_decoded_once(tmp_path, monkeypatch, zipped):
    root = drawings(tmp_path / "data", monkeypatch, zipped)
    task = read(root, tmp_path / "cache")
    assert {name: len(e) for name, e in task.episodes.items()} == {
        "meta_train": 8,
        "meta_val": 8,
        "meta_test": 8,
    }
    x = task.episodes["meta_train"].split.x
    assert x.shape == (24, 1, 28, 28)
    assert x.amax() == 255
    assert x.float().mean() < 80
    assert len(task.checksums) == (2 if zipped else 1)
    monkeypatch.setattr(omniglot, "_decode", lambda paths: pytest.fail("decoded a second time"))
    assert torch.equal(read(root, tmp_path / "cache").episodes["meta_train"].split.x, x)


def test_what_is_wrong_with_omniglots_files_is_said(tmp_path, monkeypatch):
    with pytest.raises(DataError, match=r"(?s)not complete.*data.download=true.*data=glyphs"):
        read(tmp_path, tmp_path / "cache")
    root = drawings(tmp_path / "data", monkeypatch, zipped=True)
    file = root / omniglot.FOLDER / "images_evaluation.zip"
    whole = file.read_bytes()
    file.write_bytes(whole[:200])
    with pytest.raises(DataError, match=r"images_evaluation.zip cannot be read"):
        read(root, tmp_path / "cache")
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("images_evaluation/Ogham/character01/001_01.png", b"no picture")
    with pytest.raises(DataError, match="cannot be read"):
        read(root, tmp_path / "cache")
    root = drawings(tmp_path / "short", monkeypatch, zipped=False)
    next((root / omniglot.FOLDER / "images_evaluation").rglob("*.png")).unlink()
    with pytest.raises(DataError, match="2 drawings of 3"):
        read(root, tmp_path / "cache")


@pytest.mark.slow
@pytest.mark.real_data
def test_the_real_omniglot(tmp_path):
    root = data_root()
    if not (root / omniglot.FOLDER).is_dir():
        pytest.skip("no Omniglot under the data root")
    task = read(root, tmp_path, val_classes=100)
    assert {name: len(e) for name, e in task.episodes.items()} == {
        "meta_train": 4400,
        "meta_val": 400,
        "meta_test": 1692,
    }
    ids = [{*e.split.ids.tolist()} for e in task.episodes.values()]
    assert [len(own) for own in ids] == [22000, 2000, 8460]
    assert not ids[0] & ids[1]
    assert not ids[0] & ids[2]
    assert not ids[1] & ids[2]


# ---- scoring


def test_scores_are_means_over_tasks_with_1_96_standard_errors():
    scores = np.array([[0.2, 0.4], [0.2, 0.8], [0.2, 0.9]])
    found = report(scores, "accuracy")
    assert found["metrics"]["accuracy"] == pytest.approx(0.7)
    assert found["metrics"]["accuracy_ci95"] == pytest.approx(
        1.96 * np.std([0.4, 0.8, 0.9], ddof=1) / 3**0.5
    )
    assert found["curve"]["steps"] == [0, 1]
    assert found["curve"]["accuracy"] == pytest.approx([0.2, 0.7])
    assert found["curve"]["ci95"] == pytest.approx([0.0, half_width(scores[:, 1])])
    assert half_width(np.array([1.0])) == 0
    said = torch.tensor([[[[0.1, 0.9], [0.8, 0.2]], [[0.9, 0.1], [0.8, 0.2]]]])
    assert scored(said, torch.tensor([[1, 0]]))[0].tolist() == [[1.0, 0.5]]
    assert scored(torch.tensor([[[[1.0], [2.0]]]]), torch.tensor([[1.0, 4.0]]))[0].tolist() == [
        [2.0]
    ]


def test_a_task_that_diverges_is_counted_and_said():
    said = torch.tensor([[[[0.1, 0.9], [0.8, 0.2]], [[torch.nan, 0.9], [0.8, 0.2]]]])
    scores, finite = scored(said, torch.tensor([[1, 0]]))
    assert scores.tolist() == [[1.0, 0.5]]
    assert finite.tolist() == [[True, False]]
    found = report(np.array([[2.0, 200.0], [0.5, 2.0]]), "mse", lost=1)
    assert found["notes"] == {
        "mse": "1 of 2 tasks diverged in the inner loop, their errors count as 100 times the mean "
        "of the first weights'."
    }
    # left out it would look better than a method of which none diverged
    assert found["metrics"]["mse"] == 101.0


def test_a_run_whose_tasks_all_diverge_fails_and_some_are_counted(tl_run, tmp_path):
    words = (
        "method=maml",
        "data=sinusoid",
        *(w for w in TINY if w.partition(".")[0] != "backbone" and "images" not in w),
    )
    words += ("data.tasks.test=40", "method.inner.test_steps=6")
    ended = tl_run(*words, "method.inner.test_rate=1e30", f"hydra.run.dir={tmp_path / 'all'}")
    assert ended.code == 1
    assert "4 of 4 tasks diverged in the inner loop" in ended.err
    ended = tl_run(*words, "method.inner.test_rate=0.15", f"hydra.run.dir={tmp_path / 'some'}")
    result = json.loads((tmp_path / "some" / "result.json").read_text())
    assert ended.code == 0, ended.text
    assert "tasks diverged in the inner loop" in result["notes"]["meta_test"]["mse"]
    scores = np.load(tmp_path / "some" / "predictions.npz")["meta_test/mse"]
    assert scores.max() == pytest.approx(100 * scores[:, 0].mean(), rel=1e-6)
    assert result["metrics"]["meta_test"]["mse"] == pytest.approx(scores[:, -1].mean())
    assert "tasks diverged in the inner loop" in ended.text


@pytest.mark.parametrize("kind", [MAML, ANIL, MetaSGD, Reptile, ProtoNet])
def test_scoring_changes_nothing_of_the_learner(kind):
    method = (
        made(kind, norm=True, optimizer="adam", batch=2)
        if kind is Reptile
        else made(kind, norm=True)
    )
    method.eval()
    before = {k: v.clone() for k, v in method.state_dict().items()}
    of = batch()
    said = method.curve(of.support, of.query)
    assert said.shape == (4, 1 if kind is ProtoNet else 3, WAYS * SHOTS, WAYS)
    assert all(torch.equal(v, before[k]) for k, v in method.state_dict().items())
    assert not any("running" in k for k in before)
    assert all(p.grad is None for p in method.parameters())


@pytest.mark.parametrize("kind", [MAML, ANIL])
def test_a_support_sets_statistics_leave_each_query_image_to_itself(kind):
    of = batch()
    first = {"support": (slice(None), slice(0, 1))}
    alone = {}
    for bn in ("support", "transductive"):
        method = made(kind, norm=True, bn=bn)
        whole = method.curve(of.support, of.query)[:, :, :1]
        part = type(of.query)(
            of.query.x[first["support"]], of.query.y[first["support"]], of.query.index[:, :1], WAYS
        )
        if bn == "support":
            alone[bn] = torch.allclose(whole, method.curve(of.support, part), rtol=1e-9)
        else:
            two = type(of.query)(of.query.x[:, :2], of.query.y[:, :2], of.query.index[:, :2], WAYS)
            alone[bn] = torch.allclose(whole, method.curve(of.support, two)[:, :, :1], rtol=1e-9)
    assert alone == {"support": True, "transductive": False}


def test_answers_after_a_step_are_those_of_a_network_that_took_it():
    method, of = made(MAML, rate=0.3), batch(1)
    said = method.curve(of.support, of.query)[0]
    copy = made(MAML, rate=0.3)
    own = torch.optim.SGD(copy.parameters(), lr=0.3)
    for step in range(3):
        assert torch.allclose(said[step], copy(of.query.x[0]), rtol=1e-6)
        own.zero_grad()
        torch.nn.functional.cross_entropy(copy(of.support.x[0]), of.support.y[0]).backward()
        own.step()


# ---- runs


@pytest.mark.parametrize(
    "words",
    [
        ("method=maml", "method.task_batching=vmap"),
        ("method=protonet", "data.training.ways=6", "data.training.queries=2"),
        pytest.param(
            ("method=reptile", "method.task_batching=loop", "data.training.shots=2"),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ("method=meta_sgd", "method.bn=support", "method.task_batching=vmap", "method.chunk=2"),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ("method=anil", "selection=meta_val", "method.task_batching=vmap"),
            marks=pytest.mark.slow,
        ),
    ],
    ids=lambda words: words[0],
)
def test_a_killed_run_goes_on_to_the_bit(tl_run, tmp_path, monkeypatch, words):
    assert tl_run(*TINY, *words, f"hydra.run.dir={tmp_path / 'whole'}").code == 0
    ended = interrupted(tl_run, monkeypatch, 5, *TINY, *words, f"hydra.run.dir={tmp_path / 'cut'}")
    assert ended.code == 130, ended.text
    assert tl_run(f"resume={tmp_path / 'cut'}").code == 0
    assert_same(tmp_path / "whole", tmp_path / "cut")
    assert json.loads((tmp_path / "cut" / "result.json").read_text())["metric"] == "accuracy"


def test_the_plan_that_was_measured_is_recorded_and_kept(tl_run, tmp_path, monkeypatch):
    from tl_runner.training.phase_loop import PhaseLoop

    measured = []
    monkeypatch.setattr(PhaseLoop, "fastest", lambda self: measured.append(1) or "loop")
    ended = interrupted(
        tl_run, monkeypatch, 4, *TINY, "method=maml", f"hydra.run.dir={tmp_path / 'cut'}"
    )
    assert ended.code == 130
    assert tl_run(f"resume={tmp_path / 'cut'}").code == 0
    assert measured == [1]
    assert json.loads((tmp_path / "cut" / "result.json").read_text())["phases"][0]["plan"] == "loop"


def test_a_run_killed_before_its_scores_scores_as_it_trained(tl_run, tmp_path, monkeypatch):
    from tl_runner.methods.fewshot._base import MetaLearner
    from tl_runner.training.trainer import Trainer

    together = []
    over_tasks = MetaLearner.over_tasks
    monkeypatch.setattr(
        MetaLearner,
        "over_tasks",
        lambda self, *a, **k: together.append(self.together) or over_tasks(self, *a, **k),
    )
    words = (*TINY, "method=maml", "method.task_batching=loop", f"hydra.run.dir={tmp_path / 'cut'}")
    with monkeypatch.context() as killed:
        killed.setattr(Trainer, "final", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
        assert tl_run(*words).code == 130
    together.clear()
    assert tl_run(f"resume={tmp_path / 'cut'}").code == 0
    assert together
    assert not any(together)


def test_auto_takes_the_plan_of_the_least_time(monkeypatch):
    from tl_runner.training.phase_loop import PhaseLoop

    class Made:
        epochs, steps = 1, 100
        phase = SimpleNamespace(
            name="meta", batching=Batching({"loop": 4, "vmap of 2": 2, "vmap of 4": 1})
        )
        batches = type(
            "Batches",
            (),
            {"begin_epoch": lambda self, epoch: None, "__getitem__": lambda self, step: "batch"},
        )()
        method = torch.nn.Linear(1, 1)
        followed = ""

        def follow(self, plan):
            self.followed = plan

        def _train_mode(self):
            pass

        def _seconds(self, batch):
            if self.followed == "loop":
                raise torch.OutOfMemoryError
            return {"vmap of 2": 1.0, "vmap of 4": 2.0}[self.followed]

    made = Made()
    assert PhaseLoop.fastest(made) == "vmap of 2"
    made.steps, made.followed = 6, ""
    assert PhaseLoop.fastest(made) == "vmap of 2"
    assert not made.followed  # not worth measuring


def test_a_run_says_its_protocol_and_keeps_the_curve(tl_run, tmp_path):
    ended = tl_run(*TINY, "method=maml", "figures=true", f"hydra.run.dir={tmp_path / 'run'}")
    assert ended.code == 0, ended.text
    content = json.loads((tmp_path / "run" / "result.json").read_text())
    assert "5-way 1-shot, 1 query a class" in content["protocol"]
    assert "batch norm: transductive" in content["protocol"]
    assert "8 test tasks" in content["protocol"]
    assert content["uses_target_labels"] is False
    assert content["curve"]["meta_test"]["steps"] == [0, 1, 2, 3]
    assert content["score"] == content["metrics"]["meta_test"]["accuracy"]
    with np.load(tmp_path / "run" / "predictions.npz") as found:
        assert found["meta_test/accuracy"].shape == (8, 4)
        assert found["meta_test/accuracy"][:, -1].mean() == pytest.approx(content["score"])
    assert (tmp_path / "run" / "figures" / "inner_steps.png").stat().st_size > 5000
    assert "inner steps" in ended.text


def test_every_step_has_fresh_tasks_and_every_method_the_same_test_tasks():
    from tl_runner.training.task_batches import TaskBatches

    device = CPU
    episodes = ImageEpisodes(labelled(30, 20), "", ways=5, shots=1, queries=1, scored=40)
    batches = TaskBatches({"tasks": episodes}, 8, 50, device, (0, "meta"))
    seen = []
    for epoch in range(2):
        batches.begin_epoch(epoch)
        seen += [tuple(task.tolist()) for step in range(50) for task in batches[step].support.index]
    assert len(set(seen)) == len(seen) == 800
    plans = [
        TaskEvaluator(made(kind), {"meta_test": episodes}, device, 7).tasks["meta_test"]
        for kind in (MAML, ANIL)
    ]
    assert torch.equal(*plans)
    assert torch.equal(plans[0], episodes.plan(40, randomness.generator(7, "tasks", "meta_test")))


def test_the_same_weights_are_scored_once():
    asked = []

    def curve(support, query):
        asked.append(len(query.x))
        return query.y[:, None, :, None].eq(torch.arange(5)).float() * method.weight.sum()

    method = torch.nn.Linear(1, 1)
    phase = SimpleNamespace(name="meta", outputs=SimpleNamespace(curve=curve))
    episodes = {
        f"meta_{part}": ImageEpisodes(labelled(30, 20), "", ways=5, shots=1, queries=1, scored=40)
        for part in ("val", "test")
    }
    evaluator = TaskEvaluator(method, episodes, CPU, 7)
    torch.nn.init.constant_(method.weight, 1.0)
    right = evaluator.after_epoch(phase)["meta_val"]
    assert right == {"accuracy": 1.0, "accuracy_ci95": 0.0}
    assert evaluator.after_phase(phase)["meta_val"] == right
    assert evaluator.at_the_end(phase)[0]["meta_test"]["metrics"]["accuracy"] == 1.0
    assert asked == [40, 40]  # of either list once
    torch.nn.init.constant_(method.weight, -1.0)
    assert evaluator.after_epoch(phase)["meta_val"]["accuracy"] == 0.0
    assert evaluator.at_the_end(phase)[0]["meta_val"]["metrics"]["accuracy"] == 0.0
    assert asked == 4 * [40]


@pytest.mark.slow
def test_memory_stays_flat_over_2000_meta_steps():
    import resource

    method = made(MAML, 3, norm=True)
    optimizer = torch.optim.Adam(method.parameters())
    peaks = []
    for step in range(2000):
        optimizer.zero_grad()
        method.step(batch(seed=step), 0.0)[0]["query"].backward()
        optimizer.step()
        if step in (199, 1999):
            peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    assert peaks[1] - peaks[0] < 20_000  # kB


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("method=dann", "data=glyphs"), "method=maml or protonet does"),
        (("method=maml", "data=fonts2digits"), "data=glyphs, data=omniglot and data=sinusoid have"),
        (("method=protonet", "data=sinusoid"), "ask for a number"),
        (("method=maml", "method.chunk=3"), "does not divide method.meta.batch_size=16"),
        (("method=maml", "method.chunk=4"), "is of method.task_batching=vmap, not auto"),
        (("method=maml", "data.training.ways=20"), "as many outputs in training as in tests, 5"),
        (("method=maml", "method.bn=running"), "Choose transductive or support"),
        (("method=maml", "train.steps_per_epoch=null"), "tasks have no end"),
        (("method=maml", "train.accumulate=2"), "method.task_batching cuts a meta-batch"),
        (
            ("method=maml", "train.batch_size=8"),
            "few-shot tasks make no use of it. method.meta.batch_size counts tasks",
        ),
        (("method=protonet", "train.mixup=0.2"), "few-shot tasks make no use of it"),
        (("method=protonet", "data.inner.rate=0.2"), "has no inner loop"),
        (("method=reptile", "data.inner.rate=0.2"), "Set method.inner.* itself"),
        (("method=maml", "device=auto", "device.precision=bf16"), "autocast misses"),
        (
            ("method=reptile", "data.training.shots=30"),
            "Lower data.training.shots or data.training.queries",
        ),
        (("method=maml", "device.compile=true"), "cannot be compiled yet"),
        (("method=maml", "backbone.bn=concat"), "few-shot tasks have none"),
        (
            ("method=maml", "data=sinusoid", "backbone=torchvision", "backbone.frozen=true"),
            "tasks of this data draw new numbers",
        ),
        (("method=maml", "data=sinusoid", "selection=meta_val"), "ask for a number"),
        (("method=maml", "data=sinusoid", "train.patience=2"), "ask for a number"),
        (("method=maml", "data.shots=0"), "data.shots=0 should be a whole number of at least 1"),
        (("method=maml", "data.shots=30"), "20 images, and a task takes 30 to learn from"),
        (("method=maml", "data.ways=80"), "60 classes, and a task takes 80"),
        (("method=maml", "data=sinusoid", "data.x=[1,0]"), "from the smaller to the larger"),
        (("method=maml", "method.inner.rate=0"), "method.inner.rate=0 should be"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(tl_run, words, said):
    ended = tl_run(*words, "device=cpu", "debug=smoke")
    assert ended.code == 2
    assert said in ended.err
    assert "Traceback" not in ended.text


def test_a_run_of_tasks_hands_on_nothing_but_its_backbone(tl_run, tmp_path):
    run = tmp_path / "run"
    assert (
        tl_run(*TINY, "method=maml", "method.task_batching=vmap", f"hydra.run.dir={run}").code == 0
    )
    ended = tl_run("method=kd", "debug=smoke", "device=cpu", f"method.teacher={run}")
    assert ended.code == 2
    assert f"backbone.weights={run}" in ended.err
    words = (
        "method=source_only",
        "debug=smoke",
        "device=cpu",
        "figures=false",
        "backbone=conv4",
        "backbone.filters=4",
    )
    assert tl_run(*words, f"backbone.weights={run}").code == 0


def pictures_of(root: Path, classes: int, n: int = 4) -> Path:
    """Made up: noise, a folder a class."""
    draw = np.random.default_rng(0)
    for c in range(classes):
        (root / f"class{c:02}").mkdir(parents=True)
        for i in range(n):
            Image.fromarray(draw.integers(0, 255, (20, 20, 3), dtype=np.uint8)).save(
                root / f"class{c:02}" / f"{i}.png"
            )
    return root


FOLDER = {
    **PROTOCOL,
    "ways": 2,
    "queries": 1,
    "size": 16,
    "channels": 3,
    "fit": "crop",
    "unreadable": "fail",
    "workers": 0,
    "seed": 0,
    "classes": {"val": 3, "test": 4},
    "rotations": {"train": False, "test": False},
    "small_classes": "fail",
}


def test_classes_of_too_few_pictures_are_named_or_left_out(tmp_path):
    root = pictures_of(tmp_path / "things", 12)
    for name, left in (("class03", 1), ("class07", 0)):
        for file in sorted((root / name).iterdir())[left:]:
            file.unlink()
    (root / "class07").rmdir()
    settings = {**FOLDER, "target_dir": str(root), "cache": str(tmp_path / "cache")}
    settings["classes"] = {"val": 3, "test": 4}
    with pytest.raises(DataError, match=r"some have fewer: class03 1\. .*data\.small_classes=skip"):
        folder_episodes.load(**settings)
    task = folder_episodes.load(**{**settings, "small_classes": "skip"})
    assert "1 classes of too few pictures left out" in task.protocol
    assert sum(len(e) for e in task.episodes.values()) == 10
    assert sorted({int(c) for e in task.episodes.values() for c in e.split.y}) == [*range(10)]


def test_folders_of_pictures_are_tasks(tmp_path):
    root = pictures_of(tmp_path / "things", 12)
    task = folder_episodes.load(**FOLDER, target_dir=str(root), cache=str(tmp_path / "cache"))
    assert {name: len(e) for name, e in task.episodes.items()} == {
        "meta_train": 5,
        "meta_val": 3,
        "meta_test": 4,
    }
    assert "5 / 3 / 4 classes (train, val, test)" in task.protocol
    with pytest.raises(DataError, match=r"12 classes .*leave 0 for training"):
        folder_episodes.load(
            **{**FOLDER, "classes": {"val": 5, "test": 10}},
            target_dir=str(root),
            cache=str(tmp_path / "cache"),
        )
    (root / "class00" / "0.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"1 of 48 pictures cannot be read"):
        folder_episodes.load(**FOLDER, target_dir=str(root), cache=str(tmp_path / "cache"))
    task = folder_episodes.load(
        **{**FOLDER, "unreadable": "skip"}, target_dir=str(root), cache=str(tmp_path / "cache")
    )
    assert "1 unreadable pictures skipped" in task.protocol
    assert sum(len(e.split) for e in task.episodes.values()) == 47


def test_stopping_early_needs_validation_classes(tl_run, tmp_path):
    for part, classes in (("train", "abc"), ("test", "de")):
        for name in classes:
            (tmp_path / "pictures" / part / name).mkdir(parents=True)
            for i in range(3):
                Image.new("L", (8, 8), 40 * i).save(
                    tmp_path / "pictures" / part / name / f"{i}.png"
                )
    words = (
        "method=maml",
        "data=folder_episodes",
        f"data.target_dir={tmp_path / 'pictures'}",
        "data.ways=2",
        "device=cpu",
        "debug=smoke",
    )
    ended = tl_run(*words, "train.patience=2")
    assert ended.code == 2
    assert "this data has no validation classes" in ended.err


def test_a_folders_own_parts_hold_other_classes(tmp_path):
    for part, first, n in (("train", 0, 4), ("val", 4, 2), ("test", 6, 3)):
        made = pictures_of(tmp_path / "made" / part, first + n)
        (tmp_path / "things" / part).mkdir(parents=True)
        for c in range(first, first + n):
            (made / f"class{c:02}").rename(tmp_path / "things" / part / f"class{c:02}")
    settings = {**FOLDER, "target_dir": str(tmp_path / "things"), "cache": str(tmp_path / "cache")}
    task = folder_episodes.load(**settings)
    assert {name: len(e) for name, e in task.episodes.items()} == {
        "meta_train": 4,
        "meta_val": 2,
        "meta_test": 3,
    }
    (tmp_path / "things" / "test" / "class06").rename(tmp_path / "things" / "test" / "class00")
    with pytest.raises(DataError, match="the class class00 is in train and in test"):
        folder_episodes.load(**settings)
    with pytest.raises(DataError, match="there is no such folder"):
        folder_episodes.load(**{**settings, "target_dir": str(tmp_path / "nowhere")})
