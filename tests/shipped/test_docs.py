"""The pages: fresh tables, sound links, short lines and pages, commands that a dry run takes."""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from itertools import takewhile
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from support.runs import ROOT

CONF = ROOT / "conf"
FOLDERS = ("docs", "findings")
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(p for d in FOLDERS for p in (ROOT / d).rglob("*.md"))]
COMMANDS = ("tl-run", "tl-report", "tl-predict", "tl-similarity")
PLUGINS = {"processes": "joblib", "slurm": "submitit", "slurm_local": "submitit"}
LAUNCHER = "hydra/launcher="
SH_BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PLACEHOLDER = re.compile(r"<[^<>]*>")
CODE_BLOCK = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def taken_apart(program: str, words: list[str]):
    """What a command's own parser makes of its words; raises a UserError. No torch."""
    from tl_runner.cli import predict, report, run, similarity

    if program == "tl-run":
        return run.parse(words)
    own = {"tl-report": report, "tl-predict": predict, "tl-similarity": similarity}[program]
    return own.parser().parse_intermixed_args(words)


@cache
def dry_run(overrides: tuple[str, ...], sweep: bool) -> None:
    """Compose and check; raises a ConfigError with everything that is wrong."""
    from tl_runner.config.compose import check

    check(overrides, sweep=sweep)


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


each_page = pytest.mark.parametrize("page", PAGES, ids=name)


def test_the_tables_of_choices_are_fresh():
    spec = importlib.util.spec_from_file_location("make_docs", ROOT / "scripts" / "make_docs.py")
    make_docs = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make_docs)
    assert not [name(page) for page in make_docs.stale_pages()], "run: python scripts/make_docs.py"


@each_page
def test_pages_and_lines_are_short(page):
    lines = page.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= (200 if page.name == "README.md" and page.parent == ROOT else 300)
    wide = [line for line in lines if len(line) > 100 and not line.startswith("|")]
    assert not [line for line in wide if "http" not in line]


def headings(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    found: list[str] = []
    for _, text in re.findall(r"^(#+) (.*)$", without_code(page), re.MULTILINE):
        slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        found.append(f"{slug}-{found.count(slug)}" if slug in found else slug)
    return set(found)


def without_code(page: Path) -> str:
    return CODE_BLOCK.sub("", page.read_text(encoding="utf-8"))


@each_page
def test_links_between_pages_resolve(page):
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(page)):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        to = (page.parent / path).resolve() if path else page
        if not to.exists() or (anchor and anchor not in headings(to)):
            broken.append(target)
    assert not broken


def command_lines(page: Path) -> Iterator[list[str]]:
    """The words of each command in the page's sh blocks, up to a comment, ``&&`` or ``|``."""
    for body in SH_BLOCK.findall(page.read_text(encoding="utf-8")):
        for line in body.replace("\\\n", " ").splitlines():
            line = PLACEHOLDER.sub("RUN", line).removeprefix("$ ")
            if line.startswith(COMMANDS):
                words = shlex.split(line, comments=True)
                yield list(takewhile(lambda word: word not in ("&&", "||", "|", ";"), words))


def for_the_reader(word: str) -> bool:
    """Whether a word's value is for the reader to fill in: ``<run id>``, ``RUN`` or ``...``."""
    return bool(re.search(r"\bRUN\b|\.\.\.", word))


def one_job(words: list[str]) -> list[str]:
    """The first of a sweep's jobs; other choices of its groups have to have a file."""
    chosen = []
    for override in OverridesParser.create().parse_overrides(words):
        line, group = str(override.input_line), override.key_or_group
        if override.is_discrete_sweep() and not line.partition("=")[2].startswith("choice("):
            values = list(override.sweep_string_iterator())
            if (CONF / group).is_dir():
                assert not [v for v in values if not (CONF / group / f"{v}.yaml").is_file()]
            line = f"{group}={values[0]}"
        chosen.append(line)
    return chosen


def checked(program: str, words: list[str]) -> None:
    """Take a command apart and, if it runs something, check it as a dry run does."""
    if "--config-dir" in words:
        return
    command = taken_apart(program, words)
    if program != "tl-run" or command.resume or command.help or not command.overrides:
        return
    overrides = [word for word in command.overrides if not for_the_reader(word)]
    if command.sweep:
        overrides = [o for o in one_job(overrides) if o not in ("sweep=seeds", "sweep=lr_grid")]
    launcher = next((o.partition("=")[2] for o in overrides if o.startswith(LAUNCHER)), None)
    if launcher and not find_spec(f"hydra_plugins.hydra_{PLUGINS.get(launcher)}_launcher"):
        return
    whole = command.sweep and any(o.startswith(("sweep=", "hydra")) for o in overrides)
    assert whole or not any(o.startswith("sweep=") for o in overrides), "a sweep needs -m"
    dry_run(tuple(sorted(overrides)), whole)


@each_page
def test_commands_pass_a_dry_run(page):
    """Every ``tl-run`` line of an sh block is composed and checked, with these exceptions.

    - Of a sweep the first job, unless a word such as ``sweep=tpe`` needs the sweep as a whole;
      the presets of grids, whose jobs other tests check, are left out.
    - Words that the reader fills in are left out.
    - ``resume=``, ``--help`` and Hydra's flags alone are only taken apart, and so is every line of
      the other commands: they read folders that are not here.
    - ``--config-dir`` is passed over: the reader has to make that folder.
    """
    wrong = []
    for program, *words in command_lines(page):
        try:
            checked(program, words)
        except (Exception, SystemExit) as error:
            wrong.append((shlex.join([program, *words]), getattr(error, "problems", str(error))))
    assert not wrong
