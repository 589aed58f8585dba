"""``tl-run --help``: every choice with the first line of its file. Reads text only, so it answers
at once."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import yaml

from tl_runner.config.paths import CONF_DIR
from tl_runner.config.words import LOADER, header
from tl_runner.metrics.selection_rules import LABEL_FREE

GROUPS = (
    "method",
    "data",
    "backbone",
    "device",
    "train",
    "experiment",
    "sweep",
    "hydra/launcher",
    "track",
    "debug",
)

FAMILIES = {  # of methods, by their folder
    "adaptation": "a labelled source, an unlabelled target, the same classes",
    "finetuning": "a pretrained network and some target labels",
    "distillation": "a small network that learns from a large one",
    "fewshot": "new classes from a few examples",
    "features": "from before deep networks: features, vectors, numbers",
    "multitask": "several tasks on one backbone",
}
METHODS = Path(__file__).resolve().parent.parent / "methods"
MORE = "A choice's own keys and paper: tl-run method=dann --help, tl-run data=folder --help\n"

USAGE = """\
tl-run [group=choice ...] [key=value ...] [-m]   run a transfer-learning experiment

  tl-run                                         the default: {default}
  tl-run method=source_only seed=1               another method, another seed
  tl-run -m method=source_only,adda seed=0,1,2   a sweep: every combination, a table over the seeds
  tl-run -m sweep=tpe method=adda                a search: Optuna tries what the method declares
  tl-run resume=outputs/adda/fonts2digits/RUN    go on where a run, or a sweep, was interrupted
  tl-run dry_run=true -m seed=0,1,2              check everything and list the jobs, run none
  tl-run debug=smoke data=mnist2usps             a few steps of every phase, seconds on a CPU
"""

KEYS = """\
The usual keys (all of a run's: tl-run --cfg job)
  seed=0              seeds the data's draw, the weights and every batch
  selection=last      which epoch is reported: {rules},
                      or, of target labels, target_val (held out), oracle (the test images)
  data.root=PATH      where data that is downloaded lives; default $TL_DATA_ROOT, else ./data
  train.epochs=N      the default length of a phase; method.<phase>.epochs=N for one phase
  cache.phases=auto   compute phases that runs share once: true, false, or in sweeps (auto)
  hydra.run.dir=PATH  the run's folder; hydra.sweep.dir=PATH a sweep's
  --config-dir PATH   adds your own configs: PATH/method/mine.yaml is method=mine
  --cfg job           print the whole config and stop
  --version           print the version and stop
  --shell-completion  TAB completion: eval "$(tl-run -sc install=bash)" (or zsh, fish)

Exit codes: 0 done; 1 a run failed; 2 the command, config, data or checkpoint is wrong;
130 interrupted.
"""


def default() -> str:
    """The bare command's method and data, as ``conf/config.yaml`` has them."""
    lines = (CONF_DIR / "config.yaml").read_text(encoding="utf-8").splitlines()
    chosen = dict(
        line.strip(" -").split(": ")
        for line in lines
        if line.startswith(("  - method: ", "  - data: "))
    )
    return " ".join(f"{group}={chosen[group]}" for group in ("method", "data")) + ", no download"


def choices(group: str, *roots: Path) -> Iterator[tuple[str, str]]:
    """(name, first line) of a group's files under each root, sorted; names that start with ``_``
    are parts."""
    for root in roots:
        for file in sorted((root / group).glob("[!_]*.yaml")):
            yield file.stem, first_line(file)


def first_line(file: Path) -> str:
    """The file's first comment that is not a package directive, without its ``#``."""
    return next((line.strip() for line in header(file) if line.strip()), "")


def module_name(file: Path) -> str:
    """The module that a choice of ``method`` names, itself or by the file that it is built on."""
    content = yaml.load(file.read_text(encoding="utf-8", errors="replace"), Loader=LOADER)
    if not isinstance(content, dict):
        return ""
    own = content.get("method", content)
    if isinstance(own, dict) and isinstance(own.get("name"), str):
        return str(own["name"])
    for base in content.get("defaults", []):
        under = file.parent / f"{base}.yaml"
        if isinstance(base, str) and under.is_file() and (name := module_name(under)):
            return name
    return ""


def module_file(file: Path) -> Path | None:
    """Where the module of a shipped choice of ``method`` stands; None of a user's own."""
    name = module_name(file)
    found = [p for p in METHODS.glob(f"*/{name}.py") if name and not name.startswith("_")]
    return found[0] if len(found) == 1 else None


def families(*roots: Path) -> dict[str, list[tuple[str, str]]]:
    """(name, first line) of the methods by their family, those of the user's own last."""
    found: dict[str, list[tuple[str, str]]] = {name: [] for name in FAMILIES}
    for root in roots:
        for name, line in choices("method", root):
            module = module_file(root / "method" / f"{name}.yaml")
            family = module.parent.name if module else ""
            found.setdefault(family if family in FAMILIES else "", []).append((name, line))
    return found


def text(*own: Path) -> str:
    """The help page, wrapped to the terminal where it is printed to one.

    Args:
        own: the user's ``--config-dir`` folders.
    """
    roots = (CONF_DIR, *own)
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    page = [USAGE.format(default=default())]
    for group in GROUPS:
        parts = families(*roots) if group == "method" else {"": list(choices(group, *roots))}
        width = max([18, *(len(name) for rows in parts.values() for name, _ in rows)])
        for family, rows in parts.items():
            title = FAMILIES.get(family, "")
            head = f"{group}=" + (f"  {title}" if title else "")
            lines = [line for row in rows for line in _row(*row, width, columns)]
            page += ["\n".join([_fitted(head, columns), *lines]) + "\n"] if rows else []
    page[0] = _fitted(page[0], columns)
    rest = [MORE, KEYS.format(rules=", ".join(LABEL_FREE))]
    return "\n".join([*page, *(_fitted(part, columns) for part in rest)])


def _fitted(said: str, columns: int) -> str:
    """Lines of ``what  its meaning``, each that is too wide over two and more; 0: as they are."""
    lines = []
    for line in said.split("\n"):
        if not columns or len(line) <= columns:
            lines.append(line)
            continue
        indent = len(line) - len(line.lstrip())
        what, _, meaning = line.strip().partition("  ")
        parts = [(indent, what), (indent + 6, meaning.strip())] if meaning else [(indent, what)]
        for margin, part in parts:
            room = max(columns - margin, 20)
            wrapped = textwrap.wrap(part, room, break_on_hyphens=False, break_long_words=False)
            lines += [" " * margin + row for row in wrapped]
    return "\n".join(lines)


def _row(name: str, line: str, width: int, columns: int) -> list[str]:
    """A choice and its line, wrapped to so many columns; 0: on one line."""
    first = f"  {name:<{width}}  "
    if columns < len(first) + 20:
        return [f"{first}{line}".rstrip()]
    said = textwrap.wrap(line, columns - len(first), break_on_hyphens=False) or [""]
    return [f"{first}{said[0]}".rstrip(), *(" " * len(first) + more for more in said[1:])]
