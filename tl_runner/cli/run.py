"""The front end: reads the command line before Hydra does, checks it, hands it over, and turns
endings into exit codes.

No torch here: ``--help``, ``--cfg`` and every complaint about a command answer at once.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import tl_runner
from tl_runner.cli import torchrun
from tl_runner.cli.command import Command, parse
from tl_runner.cli.complaints import hydras, joined
from tl_runner.errors import EXIT_DONE, EXIT_INTERRUPTED, EXIT_USER, ConfigError, UserError
from tl_runner.report.latest import WORD, named

if TYPE_CHECKING:
    from tl_runner.config.compose import Job, Plan


# words that say what a command is to do beside what its data are
OWN = ("folder", "arrays", "texts")  # data that are files of the user's own
SOURCES = ("data.source_dir", "data.source_file", "data.source")
CHOSEN = ("method", "experiment", "sweep", *SOURCES)


def main(argv: Sequence[str] | None = None) -> None:
    """The ``tl-run`` command. Ends the process with the exit code of the design."""
    words = list(sys.argv[1:] if argv is None else argv)
    with contextlib.suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGTERM, _terminated)  # a scheduler's signal is Ctrl-C
    try:
        sys.exit(_command(words) if torchrun.world() == 1 else _shared(words))
    except BrokenPipeError:  # `tl-run --help | head`
        # or Python would complain once more as it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_DONE)
    except KeyboardInterrupt:
        if not torchrun.rank():
            print("tl-run: stopped before a run began.", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)


def _command(words: list[str]) -> int:
    """Do what the words say: the exit code."""
    if "--version" in words:
        print(f"tl-run {tl_runner.__version__}")
        return EXIT_DONE
    try:
        command = parse(words)
        if command.help:
            from tl_runner.cli import choice_help, help

            own = [Path(command.config_dir)] if command.config_dir else []
            named = choice_help.asked(command.overrides)
            print(choice_help.text(named, *own) if named else help.text(*own), end="")
            return EXIT_DONE
        return _under_its_id(command)
    except UserError as error:
        print(f"tl-run: {joined(error)}", file=sys.stderr)
        return EXIT_USER


def _shared(words: list[str]) -> int:
    """Under torchrun every process does the same; rank 0 alone speaks, and the others leave after
    it."""
    from tl_runner.training import distributed as ranks

    with ranks.joined():
        if not torchrun.rank():
            return _command(words)
        with (
            open(os.devnull, "w") as nowhere,
            contextlib.redirect_stdout(nowhere),
            contextlib.redirect_stderr(nowhere),
        ):
            return _command(words)


def _terminated(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _under_its_id(command: Command) -> int:
    """Do a command under its id, which Hydra's folder names read from the environment."""
    from tl_runner.jobs import resume

    before = os.environ.get("TL_RUN_ID")
    os.environ["TL_RUN_ID"], lasting = resume.run_id(command.typed)
    try:
        return _do(command, lasting)
    finally:
        os.environ.pop("TL_RUN_ID")
        if before is not None:
            os.environ["TL_RUN_ID"] = before


def _do(command: Command, lasting: bool) -> int:
    """Check a command and do it; ``lasting``: under an id that a scheduler would give again."""
    from tl_runner.jobs import resume

    if command.flags:
        from tl_runner.cli import hydra_flags

        return hydra_flags.answer(command)
    if command.sweep and torchrun.world() > 1:
        raise ConfigError(
            [
                "-m under torchrun: its processes share one run. Leave -m out, or start the sweep "
                "without torchrun."
            ]
        )
    if command.resume is not None:
        return _resume(command)
    if more := suited(command.overrides):
        print(f"tl-run: no source and no method: {' '.join(more)}", file=sys.stderr)
        command.overrides = [*more, *command.overrides]
    if not command.sweep and (
        preset := next((o for o in command.overrides if o.startswith("sweep=")), None)
    ):
        problems = [f"{preset}: a sweep preset makes a sweep. Add -m."]
        try:
            _plan(command)
        except ConfigError as error:
            problems += error.problems
        raise ConfigError(problems)
    plan = _plan(command)
    if command.dry_run:
        return _listed(plan)
    from tl_runner.config.compose import taken
    from tl_runner.record.run_folder import state

    folder = plan.folder if command.sweep else plan.jobs[0].folder
    if torchrun.world() > 1:
        from tl_runner.training.distributed import here

        if here().share(
            lambda: lasting and resume.begun(folder, command.overrides) and state(folder) == "done"
        ):
            print(f"{folder} is done already; its result.json stands.")
            return EXIT_DONE
    if torchrun.rank():
        return _followed(plan.jobs[0])
    if lasting and taken(folder) and resume.begun(folder, command.overrides):
        print(f"tl-run: this command was begun before; going on in {folder}", file=sys.stderr)
        return _resume(Command(resume=str(folder), typed=command.typed))
    raise_if_taken([job.folder for job in plan.jobs], plan.folder if command.sweep else None)
    if command.sweep:
        from tl_runner.jobs.sweep import run_sweep

        return run_sweep(plan)
    return _started(plan)


def suited(overrides: Sequence[str]) -> list[str]:
    """What a command means that gives data of one's own, no source and no method: training on its
    labels, from the network that it names, or from none. Empty of any other command."""
    given = {o.partition("=")[0]: o.partition("=")[2] for o in overrides}
    if given.get("data") not in OWN or not given.keys().isdisjoint(CHOSEN):
        return []
    if given.keys().isdisjoint(("data.target_dir", "data.target_file")):
        return []
    labels = [] if "data.target_labels" in given else ["data.target_labels=all"]
    if given.get("backbone.weights", default_weights(given.get("backbone"))) not in (None, "null"):
        return ["method=finetune", "method.pretrain.epochs=0", *labels]
    return ["method=target_only", *labels]


def default_weights(backbone: str | None) -> str | None:
    """The weights that a shipped backbone starts from where a command names none."""
    import yaml

    from tl_runner.config.paths import CONF_DIR

    file = CONF_DIR / "backbone" / f"{backbone}.yaml"
    found = yaml.safe_load(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return found.get("weights")


def _started(plan: Plan) -> int:
    """Run the one job of a command, in a folder that Hydra makes."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from tl_runner.jobs.launch import launch_one

    (job,) = plan.jobs
    try:
        return launch_one(job, plan.config_dir, fresh=not job.folder.exists())
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        raise ConfigError([hydras(error)]) from error
    except OSError as error:
        raise UserError(
            f"The run's folder cannot be made: {error}. Choose another with hydra.run.dir=PATH."
        ) from error


def _listed(plan: Plan) -> int:
    """``dry_run=true``: the jobs, or what a search explores."""
    own = ["--config-dir", os.path.relpath(plan.config_dir)] if plan.config_dir else []
    for i, job in enumerate(plan.jobs):
        print(f"{i}: tl-run {shlex.join([*own, *job.overrides])}")
    count = f"{len(plan.jobs)} run{'s' * (len(plan.jobs) != 1)}"
    if plan.space:
        from tl_runner.jobs import search

        print(search.described(plan))
        count += " in the first trial"
    print(
        f"{count}, all valid settings; nothing was run, and no data, weights or layers were "
        "looked at."
    )
    return EXIT_DONE


def _resume(command: Command) -> int:
    """Go on in a folder: its own command again, what is done left alone."""
    from tl_runner.jobs import resume
    from tl_runner.record.run_folder import state

    if command.overrides or command.sweep:
        raise ConfigError(
            [
                "resume= replays the folder's own command: give no other keys beside it. To train "
                "longer or otherwise, start anew from a run's weights: backbone.weights=FOLDER."
            ]
        )
    recorded = resume.read(str(named(str(command.resume))))
    if command.resume == WORD:
        print(f"tl-run: last is {recorded.folder}", file=sys.stderr)
    command.overrides, command.config_dir, command.sweep = (
        recorded.overrides,
        recorded.config_dir,
        recorded.sweep,
    )
    plan = _plan(command, recorded.folder)
    if recorded.sweep:
        from tl_runner.jobs import sweep, sweep_file

        plan.folder = recorded.folder
        if command.dry_run:
            plan.jobs = sweep_file.left(plan.jobs, plan.folder)
        return _listed(plan) if command.dry_run else sweep.run_sweep(plan)
    if command.dry_run:
        return _listed(plan)
    if state(recorded.folder) == "done":
        print(f"{recorded.folder} is done already; its result.json stands.")
        return EXIT_DONE
    if torchrun.rank():
        return _followed(plan.jobs[0])
    return _resumed(replace(plan.jobs[0], folder=recorded.folder, resume=True))


def _followed(job: Job) -> int:
    """The run as processes of torchrun behind the first one have it: Hydra is not asked, folder and
    settings are rank 0's."""
    from tl_runner.jobs.endings import follow

    return follow(replace(job, quiet=True))


def _resumed(job: Job) -> int:
    """Go on in a job's folder; Hydra is not asked again, so its three files stay as they are."""
    from tl_runner.files import held
    from tl_runner.jobs.endings import guarded

    with held(job.folder):
        code, _, message = guarded(job)
    if message:
        print(f"tl-run: {message}", file=sys.stderr)
    return code


def _plan(command: Command, came_from: Path | None = None) -> Plan:
    """What a command comes to, checked; Hydra's own complaints become ours. ``came_from``: the
    folder that it was read from."""
    import yaml
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from tl_runner.config import compose

    try:
        return compose.make(
            command.overrides,
            sweep=command.sweep,
            config_dir=command.config_dir,
            came_from=came_from,
            command=command.typed,
        )
    except (HydraException, OmegaConfBaseException, yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError([hydras(error)]) from error


def raise_if_taken(folders: Sequence[Path], sweep: Path | None = None) -> None:
    """A run's record is never written over, nor a sweep's."""
    from tl_runner.config.compose import taken

    held = [f for f in (*folders, *([sweep] if sweep else [])) if taken(f)]
    held = [sweep] if sweep in held else held
    problems = [
        f"{f} holds another {'sweep' if f == sweep else 'run'}. Choose another folder, or go on "
        f"there with: tl-run resume={f}"
        for f in held
    ]
    if len(set(folders)) < len(folders):
        problems.append(
            "several runs of the sweep would share one folder: let hydra.sweep.subdir tell them "
            "apart."
        )
    if problems:
        raise ConfigError(problems)
