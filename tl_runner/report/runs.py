"""Runs as their folders tell them.

Whatever is read here may be damaged or somebody else's: it is skipped with a warning.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tl_runner.errors import UserError
from tl_runner.files import is_held
from tl_runner.report.reading import (
    mapping,
    normal,
    number,
    read_json,
    read_lines,
    read_yaml,
    read_yaml_list,
    warn,
)
from tl_runner.similarity.measures import SECTIONS

CHOICES = ("method", "data", "backbone", "device")
# keys that say how runs are started and watched: their results are the same
HOW = ("hydra", "sweep", "cache", "track")
STATUSES = ("done", "failed", "interrupted", "running", "missing")
ENDED = ("done", "failed", "interrupted")  # of a run that wrote its result
# numbers of result.json itself
WHOLE_RUN = ("score", "wall_s", "images_per_s", "peak_memory_mb", "forgetting")
ABSENT = object()  # no such key; a key whose value is null is another thing
_NOT_RUNS = {"checkpoints", "figures"}


@dataclass(frozen=True, eq=False)
class Run:
    """One run as its folder tells it.

    Attributes:
        folder: as found; a job that never started may have none on the disk.
        status: done, failed, interrupted (killed, say), running or missing (never began).
        error: the whole message; empty where there is none.
        seed: None where the folder does not say.
        choices: method, data, backbone and device.
        words: the overrides as typed, which make this run's own command.
        overrides: what they set beside the choices, key to text.
        result: the content of ``result.json``, empty without one.
    """

    folder: Path
    status: str
    error: str
    seed: int | None
    choices: Mapping[str, str]
    words: Sequence[str]
    overrides: Mapping[str, str]
    result: Mapping[str, Any]

    @cached_property
    def config(self) -> dict[str, Any]:
        """Resolved config, or Hydra's own if the run failed before it wrote one."""
        return read_yaml(self.folder / "config.yaml") or read_yaml(
            self.folder / ".hydra" / "config.yaml"
        )

    @cached_property
    def environment(self) -> dict[str, Any]:
        """Command, commit, packages and device."""
        return mapping(read_json(self.folder / "environment.json"))

    @cached_property
    def epochs(self) -> list[dict[str, Any]]:
        """Rows of ``metrics.jsonl`` that an epoch wrote (they carry a step)."""
        return [row for row in read_lines(self.folder / "metrics.jsonl") if "step" in row]

    def value(self, metric: str) -> float | None:
        """Number of ``result.json``, or None unless the run is done and it is defined.

        Args:
            metric: ``split.name``, a similarity measure or one of ``WHOLE_RUN``.
        """
        if self.status != "done":
            return None
        split, _, name = metric.rpartition(".")
        if not split:
            return number(self.result.get(name))
        section, *when = split.split(".")
        if section in SECTIONS:  # a similarity measure, before or after transfer
            found = self.result.get(section)
            for part in when:
                found = mapping(found).get(part)
        else:
            found = mapping(self.result.get("metrics")).get(split)
        return number(mapping(found).get(name))

    def after(self, phase: str, metric: str) -> float | None:
        """Value of ``split.name`` after the phase of that name; None where it is not known."""
        split, _, name = metric.rpartition(".")
        phases = self.result.get("phases")
        found = (
            [p for p in phases if mapping(p).get("name") == phase]
            if isinstance(phases, list)
            else []
        )
        return (
            number(mapping(mapping(found[0].get("metrics")).get(split)).get(name))
            if found
            else None
        )

    @property
    def saw_labels(self) -> bool:
        """True if the first phase, too, learned from labelled target images.

        Where there is a phase ``alone``, that one counts. Of runs that do not say what it read,
        true if any phase did.
        """
        phases = self.result.get("phases")
        named = [mapping(phase) for phase in phases] if isinstance(phases, list) else []
        first = next(
            (phase for phase in named if phase.get("name") == "alone"), named[0] if named else {}
        )
        read = first.get("reads")
        return "target_labelled" in (
            read if isinstance(read, list) else mapping(self.result.get("sizes"))
        )

    @property
    def stopped_at(self) -> int | None:
        """Epoch that early stopping took the last phase back to; None without early stopping."""
        phases = self.result.get("phases")
        found = (
            mapping(mapping(phases[-1]).get("early_stopping")).get("epoch")
            if isinstance(phases, list) and phases
            else None
        )
        return found if isinstance(found, int) else None

    def metrics(self) -> list[str]:
        """Names that :meth:`value` knows."""
        splits = mapping(self.result.get("metrics"))
        names = [f"{split}.{name}" for split, values in splits.items() for name in mapping(values)]
        similarity = [
            f"{section}.{path}"
            for section in SECTIONS
            for when, value in mapping(self.result.get(section)).items()
            for path in (
                [f"{when}.{name}" for name in value] if isinstance(value, dict) else [when]
            )
        ]
        return [*names, *similarity, *(name for name in WHOLE_RUN if name in self.result)]

    def setting(self, key: str) -> str | None:
        """Value of a key as text.

        None if this run's config has no such key; ``default`` where nothing is known.
        """
        leaf = self._leaf(key)
        if leaf is not ABSENT and not isinstance(leaf, dict):
            return normal(leaf)
        if key in self.overrides:
            return normal(self.overrides[key])
        return "default" if not self.config or "." not in key else None

    def _leaf(self, key: str) -> Any:
        node: Any = self.config
        for part in key.split("."):
            node = mapping(node).get(part, ABSENT)
        # Hydra's file is unresolved
        points_to = re.fullmatch(r"\$\{([\w.]+)\}", node) if isinstance(node, str) else None
        return self._leaf(points_to[1]) if points_to and points_to[1] != key else node


def collect(paths: Iterable[Path | str]) -> list[Run]:
    """Every run below the paths, by folder.

    The jobs that a ``sweep.json`` lists are runs even where nothing is left of them.

    Raises:
        UserError: a path does not exist, or no run was found.
    """
    roots = [Path(path) for path in paths]
    jobs: dict[Path, Mapping[str, Any]] = {}
    for path in roots:
        if not path.is_dir():
            raise UserError(
                f"{path}: there is no such folder. Give a run's or a sweep's, such as "
                "outputs/sweeps/<run id>."
            )
        for folder, below, files in os.walk(path):
            here = Path(folder)
            if "sweep.json" in files:
                jobs |= sweep_jobs(here)
            if "result.json" in files or ".hydra" in below:
                jobs.setdefault(here.resolve(), {})
            below[:] = sorted(
                name for name in below if not name.startswith(".") and name not in _NOT_RUNS
            )
    found = [run for folder in sorted(jobs) if (run := read_run(folder, jobs[folder]))]
    if not found:
        raise UserError(
            f"no run in {', '.join(map(str, roots))}. A run's folder holds result.json, a sweep's "
            "sweep.json."
        )
    return found


def sweep_jobs(folder: Path) -> dict[Path, Mapping[str, Any]]:
    """Jobs of a ``sweep.json`` by their folders."""
    jobs = mapping(read_json(folder / "sweep.json")).get("jobs")
    if not isinstance(jobs, list):
        warn(f"{folder / 'sweep.json'} lists no jobs; skipped.")
        return {}
    inside = {
        (folder / str(mapping(job).get("folder", ".."))).resolve(): mapping(job) for job in jobs
    }
    return {path: job for path, job in inside.items() if folder.resolve() in path.parents}


def read_run(folder: Path, job: Mapping[str, Any]) -> Run | None:
    """Run in a folder; None if it is none of ours.

    Args:
        job: its entry in the sweep's ``sweep.json``; empty without a sweep.
    """
    file = folder / "result.json"
    result = mapping(read_json(file))
    if file.exists() and not _is_result(result):
        warn(f"{file} is damaged or is not tl-run's; skipped.")
        result = {}
    words = job.get("overrides")
    words = (
        words if isinstance(words, list) else read_yaml_list(folder / ".hydra" / "overrides.yaml")
    )
    words = [word for word in words if isinstance(word, str) and "=" in word]
    if not result:
        hydra = mapping(read_yaml(folder / ".hydra" / "hydra.yaml").get("hydra"))
        choices = mapping(job.get("choices")) or mapping(
            mapping(hydra.get("runtime")).get("choices")
        )
        if not {"method", "data"} <= set(choices):
            return None
        result = {
            "choices": choices,
            "seed": job.get("seed", read_yaml(folder / ".hydra" / "config.yaml").get("seed")),
        }
        began = any(
            (folder / name).exists() for name in ("metrics.jsonl", "run.log", "result.json")
        )
        if is_held(folder):
            status, error = "running", "is being run at this moment"
        elif began:
            status, error = "interrupted", "no result: killed, or running on another machine"
        else:
            status, error = "missing", "never began"
    else:
        status, error = result["status"], str(result.get("error") or "")
    choices = {group: str(result["choices"].get(group, "default")) for group in CHOICES}
    set_by = dict(_override(word) for word in words)
    others = {
        key: value
        for key, value in set_by.items()
        if key not in CHOICES and key.split(".")[0].split("/")[0] not in HOW
    }
    seed = result.get("seed")
    seed = seed if isinstance(seed, int) else None
    return Run(
        folder, status, error, seed, choices, words, others, result if "status" in result else {}
    )


def _is_result(content: Mapping[str, Any]) -> bool:
    return content.get("status") in ENDED and {"method", "data"} <= set(
        mapping(content.get("choices"))
    )


def _override(word: str) -> tuple[str, str]:
    key, _, value = word.partition("=")
    return key.lstrip("+~"), value
