"""Fill the tables of choices in the Markdown pages from ``conf/`` and from the methods' docstrings.

    python scripts/make_docs.py            write what has changed
    python scripts/make_docs.py --check    write nothing; exit 1 and name the pages that are stale

A page marks a table by two comments, between which everything is replaced:

    <!-- table: method/adaptation -->    the choices of a family of methods, one line each
    <!-- table: data -->                 the choices of a config group
    <!-- keys: method/adaptation -->     their own keys, with default and meaning
    <!-- keys: config -->                the keys at the top level of conf/config.yaml
    <!-- papers: method/adaptation -->   the papers, from the module docstrings
    <!-- end -->

Reads text alone and imports no torch.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
import textwrap
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tl_runner.cli.help import first_line, module_name  # noqa: E402
from tl_runner.config.words import own_words  # noqa: E402

CONF = ROOT / "conf"
METHODS = ROOT / "tl_runner" / "methods"
WIDTH = 100
Row = tuple[str, str, str]  # a key, its default as written, its comment

MARKER = re.compile(r"(?ms)^<!-- (table|keys|papers): (\S+) -->\n.*?^<!-- end -->$")


def main() -> int:
    """Write or check every page; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 if stale")
    check = parser.parse_args().check
    stale = stale_pages()
    for page, text in stale.items():
        print(f"{page.relative_to(ROOT)} {'is stale' if check else 'written'}")
        if not check:
            page.write_text(text, encoding="utf-8")
    if stale and check:
        print("Run: python scripts/make_docs.py")
    return int(check and bool(stale))


def stale_pages() -> dict[Path, str]:
    """The pages whose tables are not what they should be, with their new text."""
    stale = {}
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        old = page.read_text(encoding="utf-8")
        new = MARKER.sub(block, old)
        if new != old:
            stale[page] = new
    return stale


def block(match: re.Match[str]) -> str:
    """A marked block with fresh content."""
    kind, of = match.groups()
    files = choices(of)
    if not files:
        raise SystemExit(f"<!-- {kind}: {of} -->: there are no such choices.")
    lines = {"table": table, "keys": keys, "papers": papers}[kind](files)
    body = "\n".join(lines)
    return f"<!-- {kind}: {of} -->\n\n{body}\n\n<!-- end -->"


def choices(of: str) -> list[Path]:
    """The files that ``of`` names: a config group, a family of methods, one choice, or config."""
    if of == "config":
        return [CONF / "config.yaml"]
    if (CONF / of).is_dir():
        return sorted((CONF / of).glob("[!_]*.yaml"))
    if (CONF / f"{of}.yaml").is_file():
        return [CONF / f"{of}.yaml"]
    group, _, name = of.partition("/")
    if group != "method":
        return []
    return [file for file in sorted((CONF / group).glob("[!_]*.yaml")) if family(file) == name]


def group_of(file: Path) -> str:
    """The config group of a file, such as ``hydra/launcher``."""
    return file.parent.relative_to(CONF).as_posix()


def table(files: list[Path]) -> list[str]:
    """Name and first line of each choice."""
    rows = [f"| `{file.stem}` | {cell(first_line(file))} |" for file in files]
    return [f"| `{group_of(files[0])}=` | what it is |", "| --- | --- |", *rows]


def cell(text: str) -> str:
    """Text that may stand in a cell."""
    return text.replace("|", r"\|")


def keys(files: list[Path]) -> list[str]:
    """Each choice's own keys, those of what it is built on left out."""
    many = len(files) > 1
    rows = []
    for file in files:
        for key, default, comment in keys_of(file):
            first = f"| `{file.stem}` " if many else ""
            shown = f"`{cell(default)}`" if default else ""
            rows.append(f"{first}| `{key}` | {shown} | {cell(comment)} |")
    head = f"| `{group_of(files[0])}=` " if many else ""
    rule = "| --- " if many else ""
    return [f"{head}| key | default | what it is |", f"{rule}| --- | --- | --- |", *rows]


def keys_of(file: Path) -> Iterator[Row]:
    """What a file itself sets."""
    whole = file == CONF / "config.yaml"
    prefix = "" if whole else f"{group_of(file).replace('/', '.')}."
    for word in own_words(file, prefix):
        yield word.key, word.default, word.comment


def papers(files: list[Path]) -> list[str]:
    """The second paragraph of each module's docstring, which names the paper, as a list."""
    lines, done = [], set()
    for file in files:
        name = module_name(file)
        paragraphs = docstring(name).split("\n\n")
        if len(paragraphs) < 2 or name in done:
            continue
        done.add(name)
        said = " ".join(paragraphs[1].split()).replace("``", "`")
        item = f"- **`{name}`**: {said}"
        lines += textwrap.wrap(item, WIDTH, subsequent_indent="  ", break_on_hyphens=False)
    return lines


@cache
def module_file(name: str) -> Path:
    """Where a method's module stands, flat or in a family's folder."""
    found = [p for p in METHODS.rglob(f"{name}.py") if not p.name.startswith("_")]
    if len(found) != 1:
        raise SystemExit(f"{len(found)} modules named {name}.py under {METHODS.relative_to(ROOT)}.")
    return found[0]


@cache
def family(file: Path) -> str:
    """The folder that a method's module stands in."""
    return module_file(module_name(file)).parent.name


def docstring(name: str) -> str:
    """Of a method's module."""
    tree = ast.parse(module_file(name).read_text(encoding="utf-8"))
    return ast.get_docstring(tree) or ""


if __name__ == "__main__":
    sys.exit(main())
