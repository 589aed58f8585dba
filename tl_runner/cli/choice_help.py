"""``tl-run method=dann --help``: a choice's words, its paper, its command and its keys."""

from __future__ import annotations

import ast
import re
import shutil
import textwrap
from collections.abc import Sequence
from pathlib import Path

from tl_runner.cli.help import GROUPS, choices, module_file
from tl_runner.config import words
from tl_runner.config.paths import CONF_DIR
from tl_runner.errors import ConfigError, nearest

FOLLOWS = re.compile(r"\$\{train\.")
PLAIN = ("seed", "selection", "figures")  # keys without a section
LEAST, MOST = 40, 120  # characters that a line may have, whatever the terminal says


def asked(overrides: Sequence[str]) -> list[tuple[str, str]]:
    """The choices that a command names, (group, choice).

    Raises:
        ConfigError: a word names no group, nor a key of one.
    """
    found, problems = [], []
    for word in overrides:
        key, _, choice = word.lstrip("+").partition("=")
        group = key.partition("@")[0]
        if group in GROUPS:
            if choice:
                found.append((group, choice))
            else:
                problems.append(f"{word}: name a choice, such as {group}=... See tl-run --help.")
        elif "." not in key and key not in PLAIN:
            problems.append(f"{word}: there is no such group.{nearest(key, GROUPS)}")
    if problems:
        raise ConfigError(problems)
    return found


def text(named: Sequence[tuple[str, str]], *own: Path) -> str:
    """The help of some choices.

    Args:
        own: the user's ``--config-dir`` folders.

    Raises:
        ConfigError: there is no such choice.
    """
    width = min(max(shutil.get_terminal_size().columns, LEAST), MOST)
    return "\n".join(_page(group, choice, [*own, CONF_DIR], width) for group, choice in named)


def _page(group: str, choice: str, roots: Sequence[Path], width: int) -> str:
    root = next((r for r in roots if (r / group / f"{choice}.yaml").is_file()), None)
    if root is None or choice.startswith("_"):
        known = [name for name, _ in choices(group, *roots)]
        near = nearest(choice, known)
        raise ConfigError([f"{group}={choice}: there is no such choice.{near} See tl-run --help."])
    head = words.header(root / group / f"{choice}.yaml")
    lines = [f"{group}={choice}", ""]
    for line in head:
        indented = "  " in line  # a command, and a table's row, stay on their line
        lines += [line] if indented else _wrapped(line, width, "  ")
    if group == "method" and (paper := papers(root / group / f"{choice}.yaml")):
        lines += ["", *_wrapped(paper, width, "  ")]
    found = words.all_words(roots, group, choice)
    if found:
        lines += ["", "Keys, with their defaults:"]
        following = [word for word in found if not word.comment and FOLLOWS.match(word.default)]
        for word in [word for word in found if word not in following]:
            if word.default == "???":
                lines += _wrapped(f"{word.key} has to be given", width, "  ", "      ")
                lines += _wrapped(word.comment, width, "      ") if word.comment else []
                continue
            value = f" = {word.default}" if word.default else ""
            lines += _wrapped(f"{word.key}{value}", width, "  ", "      ")
            if word.comment:
                lines += _wrapped(word.comment, width, "      ")
        for phase, names in _by_phase(following).items():
            said = f"{phase}: as train has them: {', '.join(names)}"
            lines += _wrapped(said, width, "  ", "      ")
    lines += ["", f"All keys of the run: tl-run {group}={choice} --cfg job"]
    return "\n".join(lines) + "\n"


def _by_phase(following: Sequence[words.Word]) -> dict[str, list[str]]:
    """Keys that follow those of ``train``, by the section of two names that they are in."""
    found: dict[str, list[str]] = {}
    for word in following:
        parts = word.key.split(".")
        found.setdefault(".".join(parts[:2]), []).append(".".join(parts[2:]))
    return found


def _wrapped(said: str, width: int, indent: str, later: str | None = None) -> list[str]:
    if not said:
        return [""]
    return textwrap.wrap(
        said,
        width,
        initial_indent=indent,
        subsequent_indent=indent if later is None else later,
        break_on_hyphens=False,
        break_long_words=False,
    )


def papers(file: Path) -> str:
    """What the docstring of a method's module says of its paper: its second paragraph."""
    found = module_file(file)
    if not found:
        return ""
    said = ast.get_docstring(ast.parse(found.read_text(encoding="utf-8"))) or ""
    paragraphs = said.split("\n\n")
    return " ".join(paragraphs[1].split()).replace("``", "`") if len(paragraphs) > 1 else ""
