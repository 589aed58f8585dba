"""The front end: reads the command line before Hydra does, checks it, hands it over, and turns
endings into exit codes.

No torch here: ``--help``, ``--cfg`` and every complaint about a command answer at once.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shlex
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import tl_runner
from tl_runner.cli import torchrun
from tl_runner.config.paths import CONF_DIR
from tl_runner.errors import EXIT_DONE, EXIT_INTERRUPTED, EXIT_USER, ConfigError, UserError, nearest

if TYPE_CHECKING:
    from tl_runner.config.compose import Job, Plan

PASSED = (
    "--cfg",
    "-c",
    "--info",
    "-i",
    "--shell-completion",
    "-sc",
    "--hydra-help",
    "--resolve",
    "--package",
    "-p",
)
TAKE_VALUE = ("--config-dir", "-cd")
OWN = ("resume", "dry_run")
# key=~/folder: the shell expands no ~ there, and Hydra cannot read one
HOME = re.compile(r"^([\w.]+)=~(?=/|$)")


@dataclass
class Command:
    """A command line, taken apart.

    Attributes:
        overrides: the ``key=value`` words.
        flags: what goes to Hydra as it is.
        sweep: ``-m`` was given.
        config_dir: of ``--config-dir``.
        resume: the path after ``resume=``, as typed.
        dry_run: check and list only.
    """

    overrides: list[str] = field(default_factory=list)
    flags: list[str] = field(default_factory=list)
    sweep: bool = False
    help: bool = False
    config_dir: str | None = None
    resume: str | None = None
    dry_run: bool = False


def parse(argv: Sequence[str]) -> Command:
    """Take a command line apart; a path after ``resume=`` may hold any character.

    Raises:
        ConfigError: an unknown flag, or a word that is no override.
    """
    command, words, problems = Command(), list(argv), []
    while words:
        word = words.pop(0)
        if word in ("-h", "--help"):
            command.help = True
        elif word in ("-m", "--multirun"):
            command.sweep = True
        elif word.split("=")[0] in TAKE_VALUE:
            given = word.partition("=")[2] if "=" in word else (words.pop(0) if words else "")
            if not given:
                problems.append("--config-dir needs a folder.")
            elif not Path(given).expanduser().is_dir():
                problems.append(f"--config-dir {given}: there is no such folder.")
            command.config_dir = str(Path(given).expanduser().resolve())
        elif word.split("=")[0] in PASSED:
            command.flags.append(word)
            if (
                "=" not in word
                and words
                and "=" not in words[0].split("=")[0]
                and word in ("--cfg", "-c", "--info", "-i", "-sc", "--package", "-p")
            ):
                command.flags.append(words.pop(0))
        elif word.startswith("resume="):
            command.resume = word.removeprefix("resume=")
        elif word.startswith("dry_run="):
            value = word.removeprefix("dry_run=").lower()
            if value not in ("true", "false"):
                problems.append(f"{word}: dry_run is true or false.")
            command.dry_run = value == "true"
        elif word.startswith("-"):
            known = [
                "--help",
                "--multirun",
                "--config-dir",
                "--version",
                *(p for p in PASSED if p.startswith("--")),
            ]
            problems.append(f"{word}: no such flag.{nearest(word, known)} See tl-run --help.")
        elif "=" not in word and not word.startswith("~"):
            problems.append(
                f"{word}: expected key=value.{nearest(word, [f'{o}=' for o in OWN])} See tl-run "
                "--help."
            )
        else:
            command.overrides.append(HOME.sub(rf"\1={Path.home()}", word))
    if problems:
        raise ConfigError(problems)
    return command


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
            from tl_runner.cli import help

            print(help.text(*([Path(command.config_dir)] if command.config_dir else [])))
            return EXIT_DONE
        return _run(command, ["tl-run", *words])
    except UserError as error:
        print(f"tl-run: {_joined(error)}", file=sys.stderr)
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


def _joined(error: UserError) -> str:
    problems = error.problems if isinstance(error, ConfigError) else [str(error)]
    head = "" if len(problems) == 1 else f"{len(problems)} things to mend\n  "
    return head + "\n  ".join(problems)


def _run(command: Command, typed: list[str]) -> int:
    """Do a command under its id, which Hydra's folder names read from the environment."""
    from tl_runner.jobs import resume

    before = os.environ.get("TL_RUN_ID")
    os.environ["TL_RUN_ID"], lasting = resume.run_id(typed)
    try:
        return _do(command, typed, lasting)
    finally:
        os.environ.pop("TL_RUN_ID")
        if before is not None:
            os.environ["TL_RUN_ID"] = before


def _do(command: Command, typed: list[str], lasting: bool) -> int:
    from tl_runner.jobs import resume

    if command.flags:
        logging.raiseExceptions = False  # `tl-run --info | head` closes the pipe on Hydra's logger
        return _hydra(command, None)
    if command.sweep and torchrun.world() > 1:
        raise ConfigError(
            [
                "-m under torchrun: its processes share one run. Leave -m out, or start the sweep "
                "without torchrun."
            ]
        )
    if command.resume is not None:
        return _resume(command, typed)
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
        return _followed(plan.jobs[0], typed)
    if lasting and taken(folder) and resume.begun(folder, command.overrides):
        print(f"tl-run: this command was begun before; going on in {folder}", file=sys.stderr)
        return _resume(Command(resume=str(folder)), typed)
    raise_if_taken([job.folder for job in plan.jobs], plan.folder if command.sweep else None)
    if command.sweep:
        from tl_runner.jobs import sweep

        return sweep.run(plan, typed)
    return _hydra(command, typed, fresh=not plan.jobs[0].folder.exists())


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


def _resume(command: Command, typed: list[str]) -> int:
    """Go on in a folder: its own command again, what is done left alone."""
    from tl_runner.jobs import resume
    from tl_runner.record.run_folder import state

    if command.overrides or command.sweep:
        raise ConfigError(
            ["resume= replays the folder's own command: give no other keys beside it."]
        )
    recorded = resume.read(str(command.resume))
    command.overrides, command.config_dir, command.sweep = (
        recorded.overrides,
        recorded.config_dir,
        recorded.sweep,
    )
    plan = _plan(command, recorded.folder)
    if recorded.sweep:
        from tl_runner.jobs import sweep

        plan.folder = recorded.folder
        if command.dry_run:
            plan.jobs = sweep.left(plan.jobs, plan.folder)
        return _listed(plan) if command.dry_run else sweep.run(plan, typed)
    if command.dry_run:
        return _listed(plan)
    if state(recorded.folder) == "done":
        print(f"{recorded.folder} is done already; its result.json stands.")
        return EXIT_DONE
    if torchrun.rank():
        return _followed(plan.jobs[0], typed)
    return _resumed(plan.jobs[0], recorded.folder, typed)


def _followed(job: Job, typed: list[str]) -> int:
    """The run as processes of torchrun behind the first one have it: Hydra is not asked, folder and
    settings are rank 0's."""
    from tl_runner.jobs.run import follow

    return follow(job.config, job.choices, job.folder, typed)


def _plan(command: Command, came_from: Path | None = None) -> Plan:
    """What a command comes to, checked; Hydra's own complaints become ours. ``came_from``: the
    folder that it was read from."""
    import yaml
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from tl_runner.config import compose as plan

    try:
        return plan.make(
            command.overrides,
            sweep=command.sweep,
            config_dir=command.config_dir,
            came_from=came_from,
        )
    except (HydraException, OmegaConfBaseException, yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError([_words(error)]) from error


def _words(error: Exception) -> str:
    """Hydra's complaint on one line, with the word it is about."""
    lines = [
        line.strip()
        for line in str(error).splitlines()
        if line.strip() and set(line.strip()) - set("^~ ")
    ]
    said = " ".join(line for line in lines if not line.startswith("See https"))
    word = getattr(error, "override", None)
    if "hydra/launcher/" in said:
        said += (
            " A launcher is a plugin: pip install 'tl-run[sweep]' brings processes, "
            "'tl-run[cluster]' the others."
        )
    return (
        f"{word}: cannot be read ({said}). Quote the whole word for the shell: 'key=[1, 2]'."
        if word
        else said
    )


def _resumed(job: Job, folder: Path, typed: list[str]) -> int:
    """Go on in ``folder``; Hydra is not asked again, so its three files stay as they are."""
    from tl_runner.files import held
    from tl_runner.jobs.run import guarded

    with held(folder):
        code, _, message = guarded(
            job.config, job.choices, folder, typed, resume=True, sweep=False, quiet=False
        )
    if message:
        print(f"tl-run: {message}", file=sys.stderr)
    return code


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


def _hydra(command: Command, typed: list[str] | None, fresh: bool = False) -> int:
    """Give one run's command to Hydra, which makes the folder and calls the job; or one of its own
    flags."""
    import hydra
    from hydra.errors import HydraException
    from omegaconf import DictConfig
    from omegaconf.errors import OmegaConfBaseException

    codes: list[int] = []

    def task(config: DictConfig) -> None:
        from tl_runner.jobs import hydra_job as job

        codes.append(job.alone(config, command=typed or [], fresh=fresh))

    words = [*command.flags, *(["--multirun"] if command.sweep else []), *command.overrides]
    if command.config_dir:
        words += ["--config-dir", command.config_dir]
    full, sys.argv = os.environ.get("HYDRA_FULL_ERROR"), ["tl-run", *words]
    os.environ["HYDRA_FULL_ERROR"] = (
        "1"  # its exceptions come to us instead of ending the process with 1
    )
    try:
        hydra.main(version_base="1.3", config_path=str(CONF_DIR), config_name="config")(task)()
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        if full == "1":
            raise
        raise ConfigError([_words(error)]) from error
    except BrokenPipeError:  # `tl-run --cfg job | head`
        sys.stderr.close()
        return EXIT_DONE
    except OSError as error:
        raise UserError(
            f"The run's folder cannot be made: {error}. Choose another with hydra.run.dir=PATH."
        ) from error
    finally:
        if full is None:
            del os.environ["HYDRA_FULL_ERROR"]
    return codes[0] if codes else EXIT_DONE
