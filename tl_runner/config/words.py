"""What a choice's YAML says of its keys: default and comment of each, read as text.

Nothing is composed and nothing imported, so that help answers at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the fast one, where it was built
NOTES = {"defaults", "needs", "gives", "search", "allowed", "only_with", "hydra"}


@dataclass(frozen=True)
class Word:
    """A key, its default as written (empty of a section), and its comment."""

    key: str
    default: str
    comment: str


def header(file: Path) -> list[str]:
    """The comment at a file's head, line by line, without package directives."""
    found = []
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        if not line.startswith("#"):
            break
        text = line.removeprefix("#").removeprefix(" ").rstrip()
        if not text.lstrip().startswith("@package"):
            found.append(text)
    return found


def own_words(file: Path, prefix: str) -> Iterator[Word]:
    """The keys that a file itself sets.

    Args:
        prefix: of its keys, such as ``method.``; a file for the whole config has none.
    """
    text = file.read_text(encoding="utf-8", errors="replace")
    node = yaml.compose(text, Loader=LOADER)
    if "# @package _global_" in text.partition("\n")[0]:
        prefix = ""
    if isinstance(node, yaml.MappingNode):
        yield from _walk(node, prefix, text.splitlines())


def _walk(node: yaml.MappingNode, prefix: str, lines: list[str]) -> Iterator[Word]:
    for name, value in node.value:
        key = prefix + name.value
        named = "module" if any(k.value == "module" for k, _ in node.value) else "name"
        if name.value in NOTES or (name.value == named and key.count(".") < 2):
            continue  # what stands for the module; another name is a key as any
        if isinstance(value, yaml.MappingNode) and not value.flow_style:
            if said := _comment(lines, name.end_mark.line, name.end_mark.column):
                yield Word(key, "", said)
            yield from _walk(value, f"{key}.", lines)
        elif not isinstance(value, yaml.SequenceNode) or value.flow_style:
            default = lines[value.start_mark.line][value.start_mark.column : value.end_mark.column]
            yield Word(key, default, _comment(lines, value.end_mark.line, value.end_mark.column))


def _comment(lines: list[str], row: int, column: int) -> str:
    """The comment behind a value, and on the indented lines below that hold nothing else."""
    _, sign, said = lines[row][column:].partition("# ")
    words = [said.strip()] if sign else []
    for line in lines[row + 1 :]:
        if not words or not re.match(r"\s+# ", line):
            break
        words.append(line.strip().removeprefix("# "))
    return " ".join(words)


def all_words(roots: Sequence[Path], group: str, choice: str) -> list[Word]:
    """The keys of a choice with those of the files that it builds on, whose values it may change.

    Args:
        roots: the folders of config groups, the first that has a file counts.
        group: such as ``method``.
    """
    found: dict[str, Word] = {}
    prefix = f"{group.replace('/', '.')}."
    for word in _with_bases(roots, f"{group}/{choice}", prefix):
        old = found.pop(word.key, None)
        said = word.comment or (old.comment if old else "")
        found[word.key] = Word(word.key, word.default, said)
    return list(found.values())


def _with_bases(roots: Sequence[Path], name: str, prefix: str) -> Iterator[Word]:
    file = next((f for root in roots if (f := root / f"{name}.yaml").is_file()), None)
    if file is None:
        return
    text = file.read_text(encoding="utf-8", errors="replace")
    content = yaml.load(text, Loader=LOADER)
    defaults = content.get("defaults", []) if isinstance(content, dict) else []
    whole = "# @package _global_" in text.partition("\n")[0]
    for entry in defaults if isinstance(defaults, list) else []:
        if not isinstance(entry, str) or entry == "_self_":
            continue  # an override of another group is that group's
        base, _, at = entry.partition("@")
        base = base[1:] if base.startswith("/") else f"{name.rpartition('/')[0]}/{base}"
        # of a file for the whole config a part's package is a whole path
        under = prefix if not at else f"{at}." if whole else f"{prefix}{at}."
        if base != name:
            yield from _with_bases(roots, base, under)
    yield from own_words(file, prefix)


def index(roots: Sequence[Path], group: str) -> dict[str, list[str]]:
    """Every key of every choice of a group, and the choices that have it."""
    found: dict[str, list[str]] = {}
    choices = {f.stem for root in roots for f in (root / group).glob("[!_]*.yaml")}
    for choice in sorted(choices):
        for word in all_words(roots, group, choice):
            found.setdefault(word.key, []).append(choice)
    return found
