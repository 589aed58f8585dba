"""``tl-run --help``: every choice with the first line of its file. Reads text only, so it answers
at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tl_runner.config.paths import CONF_DIR
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
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        if not line.startswith("#"):
            break
        text = line.lstrip("# ").strip()
        if text and not text.startswith("@package"):
            return text
    return ""


def text(*own: Path) -> str:
    """The help page; ``own`` are the user's ``--config-dir`` folders."""
    roots = (CONF_DIR, *own)
    page = [USAGE.format(default=default())]
    for group in GROUPS:
        rows = list(choices(group, *roots))
        if rows:
            width = max(18, *(len(name) for name, _ in rows))
            page.append(
                "\n".join(
                    [f"{group}=", *(f"  {name:<{width}}  {line}".rstrip() for name, line in rows)]
                )
                + "\n"
            )
    return "\n".join([*page, KEYS.format(rules=", ".join(LABEL_FREE))])
