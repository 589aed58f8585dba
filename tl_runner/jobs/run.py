"""One run, read from top to bottom: seed, data, device, method, phases, evaluation, record."""

from __future__ import annotations

import atexit
import gc
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from tl_runner import plugins, randomness
from tl_runner.backbones import Backbone
from tl_runner.backbones._texts import FOLDER as READER
from tl_runner.build.backbone import frozen_network
from tl_runner.build.finished_run import FROZEN_WEIGHTS
from tl_runner.build.given_teachers import given
from tl_runner.build.method import method_of
from tl_runner.build.texts import as_read
from tl_runner.config.compose import Job, taken
from tl_runner.data.augment import Views
from tl_runner.data.splits import Split
from tl_runner.data.task import Task
from tl_runner.errors import CheckpointError, ConfigError, LostError, human_list
from tl_runner.jobs.run_log import write_traceback
from tl_runner.record import target_predictions
from tl_runner.record.closing_table import closing_table
from tl_runner.record.console import Progress, Silent
from tl_runner.record.environment import environment
from tl_runner.record.result import result, write_figures
from tl_runner.record.run_folder import RunFolder, Unwritten
from tl_runner.training import device as devices
from tl_runner.training.distributed import here
from tl_runner.training.frozen_features import keep, on_features
from tl_runner.training.interrupt import ignore_termination
from tl_runner.training.phase_cache import PhaseCache
from tl_runner.training.trainer import Trainer

gc.freeze()  # what the imports left is not looked at again after every run of a sweep
atexit.register(gc.unfreeze)

# per thread, so before the first parallel operation: adversarial training meets denormals, which
# slow it a hundredfold
torch.set_flush_denormal(True)


def run(job: Job) -> dict[str, Any]:
    """Train and evaluate what ``job.config`` describes, into its folder. The content of
    ``result.json``.

    Under torchrun every process calls this with the same command; the settings and the folder are
    those of rank 0, which alone evaluates, writes and returns something.

    Raises:
        UserError: the data, the device or the checkpoint is wrong; nothing was written.
        DivergedError, Interrupted, LostError, OSError: as the trainer's.
    """
    ranks = here()
    config, path, resume = ranks.share(lambda: (job.config, job.folder, job.resume))
    randomness.seed_all(config["seed"])
    with ranks.together():
        device = devices.resolve(config["device"], worker=job.quiet)
        began_reading = time.perf_counter()
        task, augment = load_data(config)
        data_s = time.perf_counter() - began_reading
    folder, progress = (
        (RunFolder(path), Progress(job.quiet)) if ranks.main else (Unwritten(path), Silent())
    )
    cache = phase_cache(config, job.sweep) if ranks.world == 1 else None
    try:
        with ranks.together():
            task, reader = as_read(task, config["backbone"])
            frozen = frozen_network(config["backbone"], task.shape)
            computed = ""
            if frozen:
                task, computed = on_features(task, frozen, device, config, augment)
                augment = None
            teachers, sums = given(config, task.outline())
            task = replace(task, checksums={**task.checksums, **sums})
            method = method_of(config, task.outline(), teachers)
            task = replace(
                task,
                protocol="; ".join(filter(None, [task.protocol, method.protocol, tested(task)])),
            )
            device.place(method)
            for network in method.networks():
                device.accelerate(network)
            splits = {
                name: split.to(device.torch, device.channels_last)
                for name, split in task.splits.items()
            }
            episodes = {name: tasks.to(device.torch) for name, tasks in task.episodes.items()}
            trainer = Trainer(
                method,
                splits,
                device,
                config,
                augment,
                folder,
                progress,
                ranks,
                cache,
                episodes,
                task.passes,
                {"source": task.source_classes or task.classes, "target": task.classes},
            )
            began = resume and (path / "environment.json").exists()
            assert resume or not taken(path), path
            if began:
                same_ground(folder, task, ranks.world)
            if resume:
                trainer.restore()
        ranks.same("data files", lambda: task.checksums)
        ranks.same("weights", lambda: [p.double().sum().item() for p in method.parameters()])

        if ranks.main and config.get("track"):
            folder.tracker = plugins.module("record/trackers", config["track"]["name"]).Tracker(
                path, folder.metrics()
            )
        progress.keep(path / "run.log")
        if reader and not began:
            for name, file in reader.files().items():
                folder.content(f"{READER}/{name}", file)
        if frozen and ranks.main:
            keep(frozen, path / FROZEN_WEIGHTS, config)
        if not began:
            folder.text("config.yaml", OmegaConf.to_yaml(OmegaConf.create(config)))
            folder.json(
                "environment.json", environment(device, job.command, task.checksums, ranks.world)
            )
        several = f", {ranks.world} processes" if ranks.world > 1 else ""
        progress.say(
            f"{job.choices['method']} on {task.name} ({task.protocol}), seed {config['seed']}, "
            f"{device.describe()}{several}"
        )
        networks = [*method.modules(), *(frozen.modules() if frozen else ())]
        backbones = [m for m in networks if isinstance(m, Backbone)]
        for origin in dict.fromkeys([*(m.origin for m in backbones), computed]):
            if origin:
                progress.say(origin)
        for text in dict.fromkeys(unfilled(m) for m in backbones):
            if text:
                trainer.warn(text)
        if task.passes and (lengths := trainer.loops.lengths(trainer.phases)):
            progress.say(lengths)
        if text := from_scratch(task, backbones):
            trainer.warn(text)
        if text := devices.slower_than_fp32(device):
            trainer.warn(text)
        for note in task.notes:
            trainer.warn(note)
        trainer.run()
        if not ranks.main:
            return {}

        trainer.load_best()
        reports, predictions = trainer.final()
        folder.arrays("predictions.npz", predictions)
        if listed := target_predictions.table(predictions, task):
            folder.text(target_predictions.FILE, listed)
        if config["figures"]:
            try:
                write_figures(folder, predictions, reports, task, config["figures"] == "all")
            except Exception as error:  # what was trained is worth more than its pictures
                write_traceback(path)
                trainer.warn(
                    f"the figures could not be drawn ({type(error).__name__}: {error}; traceback "
                    f"in {path / 'run.log'})."
                )
        content = result(trainer, task, job.choices, reports, predictions, device, data_s)
        folder.json("result.json", content)
        progress.say(closing_table(content, path))
        return content
    except LostError:
        # torchrun now stops every process, and this one has yet to record that the run failed
        ignore_termination()
        raise
    finally:
        if folder.tracker:
            folder.tracker.close()
        progress.close()
        release(device)


def phase_cache(config: Mapping[str, Any], sweep: bool) -> PhaseCache | None:
    """Where phases are shared: ``cache.phases=auto`` shares them between the runs of a sweep, and
    with later sweeps."""
    wanted = config["cache"]["phases"]
    return (
        PhaseCache(Path(config["cache"]["dir"]).expanduser())
        if wanted is True or (wanted == "auto" and sweep)
        else None
    )


def load_data(config: Mapping[str, Any]) -> tuple[Task, Views | None]:
    """The task, cut to ``train.limit.samples``, and the augmentation of its training batches."""
    options = {
        k: v for k, v in config["data"].items() if k not in ("name", "gives", "augment", "inner")
    }
    load = getattr(plugins.module("data/tasks", config["data"]["name"]), "load", None)
    if load is None:
        raise ConfigError(
            [f"data.name={config['data']['name']}: that module has no function load."]
        )
    task: Task = load(**options, seed=randomness.derive(config["seed"], "data"))
    augment = Views(**config["data"]["augment"])
    most = config["train"]["limit"]["samples"]
    if most:
        listed = [split for name, split in task.splits.items() if name.startswith("target")]
        if "target" in task.files and any(len(split) > most for split in listed):
            note = f"train.limit.samples={most} leaves images out of {target_predictions.FILE}."
            task = replace(task, notes=(*task.notes, note))
        transductive = config["data"].get("transductive", False)
        task.splits.update(
            {
                name: first_of(
                    split, most, "target_train" if transductive and name == "target_test" else name
                )
                for name, split in task.splits.items()
            }
        )
        for tasks in task.episodes.values():
            tasks.scored = min(
                tasks.scored, max(2, most // (tasks.ways * (tasks.shots + tasks.queries)))
            )
    if "target_labelled" in task.splits:
        task = replace(
            task, protocol=f"{task.protocol}, {len(task.splits['target_labelled']):,} target labels"
        )
    return task, augment or None


def tested(task: Task) -> str:
    """How many few-shot tasks the test score is a mean over, in words."""
    return f"{task.episodes['meta_test'].scored:,} test tasks" if task.episodes else ""


def from_scratch(task: Task, backbones: Sequence[Backbone]) -> str:
    """A warning where a network learns one's own pictures from random weights, or is frozen with
    them; or empty."""
    if task.inputs and not any(m.origin for m in backbones):
        return "the frozen network has random weights: name some with backbone.weights."
    small = task.shape[1:] == (1, 1)
    learned = "target_labelled" in task.splits and "source_train" not in task.splits
    if not task.passes or small or not learned or any(m.origin for m in backbones):
        return ""
    return (
        "the network starts from random weights, which takes many labelled pictures. To start from "
        "a pretrained one: backbone=torchvision backbone.weights=IMAGENET1K_V1 downloads published "
        "weights; backbone.weights=FILE takes a file of them; backbone.weights=FOLDER a run's."
    )


def unfilled(backbone: Backbone) -> str:
    """A warning that names the tensors which a backbone's weights file did not have; or empty."""
    names = backbone.unfilled
    if not names:
        return ""
    return f"backbone.weights has not all of the backbone: {human_list(names, 5)} start at random."


def same_ground(folder: RunFolder, task: Task, world: int) -> None:
    """Whether the data files and the number of processes are still those that the run began
    with."""
    try:
        environment = json.loads((folder.path / "environment.json").read_text(encoding="utf-8"))
        began, processes = environment["data_sha256"], environment.get("world_size", 1)
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"{folder.path}/environment.json is damaged ({type(error).__name__}). Start afresh."
        ) from error
    changed = [name for name, digest in task.checksums.items() if began.get(name) != digest]
    if changed:
        raise CheckpointError(
            f"{', '.join(changed)} changed since the run began. Put the old file back, or start "
            "the run afresh."
        )
    if processes != world:
        cure = f"under torchrun with {processes} processes" if processes > 1 else "without torchrun"
        raise CheckpointError(
            f"{folder.path} is a run of {processes} process(es), not of {world}. Resume it "
            f"{cure}, or start afresh."
        )


def first_of(split: Split, most: int, name: str) -> Split:
    """At most ``most`` samples, the same for every seed."""
    order = torch.randperm(len(split), generator=randomness.generator(0, "limit", name))[:most]
    return split.take(order.sort().values)


def release(device: devices.Device) -> None:
    """Give memory back: a sweep runs many jobs in one process."""
    gc.collect()
    # jobs have networks of the same code: what was compiled for one counts against the other's
    # limit
    if device.compile:
        torch.compiler.reset()
    if device.torch.type == "cuda":
        torch.cuda.empty_cache()
