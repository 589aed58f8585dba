"""The words of ``tl-run``, taken apart before Hydra sees them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tl_runner.errors import ConfigError, nearest

# flags of Hydra's that print something and run nothing: (the words that may follow, the one taken
# where none does)
PRINTING: dict[str, tuple[tuple[str, ...], str | None]] = {
    "--cfg": (("job", "hydra", "all"), "job"),
    "--info": (
        ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath"),
        "all",
    ),
    "--shell-completion": ((), None),
    "--hydra-help": ((), None),
}
BESIDE = ("--package", "--resolve")  # of what --cfg prints
SHORT = {"-c": "--cfg", "-i": "--info", "-sc": "--shell-completion", "-p": "--package"}
CONFIG_DIR = ("--config-dir", "-cd")
OWN = ("resume", "dry_run")
# key=~/folder: the shell expands no ~ there, and Hydra cannot read one
HOME = re.compile(r"^([\w.]+)=~(?=/|$)")


@dataclass
class Command:
    """A command line, taken apart.

    Attributes:
        overrides: the ``key=value`` words.
        flags: Hydra's own that print something, by long name, with what follows them.
        sweep: ``-m`` was given.
        config_dir: of ``--config-dir``.
        resume: the path after ``resume=``, as typed.
        dry_run: check and list only.
        typed: the whole line, for the record.
    """

    overrides: list[str] = field(default_factory=list)
    flags: dict[str, str | None] = field(default_factory=dict)
    sweep: bool = False
    help: bool = False
    config_dir: str | None = None
    resume: str | None = None
    dry_run: bool = False
    typed: list[str] = field(default_factory=list)


def parse(argv: Sequence[str]) -> Command:
    """Take a command line apart; a path after ``resume=`` may hold any character.

    Raises:
        ConfigError: an unknown flag, or a word that is no override.
    """
    command, words, problems = Command(typed=["tl-run", *argv]), list(argv), list[str]()
    while words:
        word = words.pop(0)
        flag = SHORT.get(word.split("=")[0], word.split("=")[0])
        if word in ("-h", "--help"):
            command.help = True
        elif word in ("-m", "--multirun"):
            command.sweep = True
        elif flag in CONFIG_DIR:
            given = word.partition("=")[2] if "=" in word else (words.pop(0) if words else "")
            if not given:
                problems.append("--config-dir needs a folder.")
            elif not Path(given).expanduser().is_dir():
                problems.append(f"--config-dir {given}: there is no such folder.")
            command.config_dir = str(Path(given).expanduser().resolve())
        elif flag in PRINTING or flag in BESIDE:
            problems += _flag(command, flag, word, words)
        elif word.startswith("resume="):
            command.resume = word.removeprefix("resume=")
        elif word.startswith("dry_run="):
            value = word.removeprefix("dry_run=").lower()
            if value not in ("true", "false"):
                problems.append(f"{word}: dry_run is true or false.")
            command.dry_run = value == "true"
        elif word.startswith("-"):
            known = ["--help", "--multirun", "--config-dir", "--version", *PRINTING, *BESIDE]
            problems.append(f"{word}: no such flag.{nearest(word, known)} See tl-run --help.")
        elif "=" not in word and not word.startswith("~"):
            problems.append(
                f"{word}: expected key=value.{nearest(word, [f'{o}=' for o in OWN])} See tl-run "
                "--help."
            )
        else:
            command.overrides.append(HOME.sub(rf"\1={Path.home()}", word))
    problems += _together(command)
    if problems:
        raise ConfigError(problems)
    return command


def _flag(command: Command, flag: str, word: str, words: list[str]) -> list[str]:
    """Take up a flag of Hydra's and the word that belongs to it; what is wrong with it.

    An override has ``=``, so it is never such a word.
    """
    given = word.partition("=")[2] if "=" in word else None
    if flag == "--package":
        given = given or (words.pop(0) if words and "=" not in words[0] else None)
        command.flags[flag] = given
        return [] if given else ["--package needs a section, such as method."]
    options, usual = PRINTING.get(flag, ((), None))
    if given is None and options and words and not words[0].startswith(("-", "~")):
        given = words.pop(0) if "=" not in words[0] else None
    command.flags[flag] = given or usual
    if given and given not in options:
        cure = f"write {flag} {' or '.join(options)}." if options else f"{flag} takes no word."
        return [f"{word} {given}: {cure}{nearest(given, options)}"]
    return []


def _together(command: Command) -> list[str]:
    """What is wrong with the flags of a command that print something."""
    printing = [flag for flag in command.flags if flag in PRINTING]
    if len(printing) > 1:
        return [f"{' and '.join(printing)}: one at a time."]
    if alone := [flag for flag in command.flags if flag in BESIDE and printing != ["--cfg"]]:
        return [f"{alone[0]} is of what --cfg prints. Add --cfg."]
    if printing and command.sweep:
        return [f"{printing[0]} prints what one run has: leave -m out."]
    return []
