"""What is checked of a command about a teacher, before anything heavy is imported. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override

from tl_runner.config.overrides import listed, place, text_of

TEACHER = "backbone@teacher"


def idle_beside_a_teacher(override: Override, parsed: Sequence[Override]) -> str | None:
    """What to say of a setting for training a teacher, or of a run's network, where
    ``method.teacher`` names one that is trained."""
    named = next(
        (
            o.value()
            for o in parsed
            if o.key_or_group == "method.teacher" and not o.is_sweep_override()
        ),
        None,
    )
    paths = [Path(str(path)).expanduser() for path in listed(named)]
    idle = ["method.teach.", "method.teachers", "method.teacher_seed"] if paths else []
    if paths and all(is_folder(path) for path in paths):
        idle += ["teacher.", TEACHER]
    if place(override).startswith(tuple(idle)):
        return (
            f"{override.input_line}: method.teacher={text_of(named)} is trained and "
            "brings its network. Leave one of them out."
        )
    return None


def is_folder(path: Path) -> bool:
    """Whether there is a folder; no name is longer than a few hundred characters."""
    try:
        return path.is_dir()
    except OSError:
        return False


def used(config: dict[str, Any]) -> dict[str, Any]:
    """The config without the teacher's network, where the method has no teacher."""
    return (
        config
        if "teacher" in config["method"]
        else {key: value for key, value in config.items() if key != "teacher"}
    )


def impossible_teaching(config: Mapping[str, Any]) -> Iterator[str]:
    """The same of settings of distillation."""
    method, teacher = (
        config["method"],
        config.get("teacher") if "teacher" in config["method"] else None,
    )
    if isinstance(teacher, dict):
        if teacher.get("bn", "separate") not in ("separate", "concat"):
            yield (
                f"teacher.bn={teacher['bn']}: a teacher is trained on labelled images alone. "
                "Choose separate or concat."
            )
        if (
            teacher.get("batch_norm")
            and method["teach"]["batch_size"] == 1
            and not method["teacher"]
        ):
            yield (
                "method.teach.batch_size=1 and batch norm: one image has no statistics. Use at "
                "least 2, or teacher.batch_norm=false."
            )
    if method.get("match_prior") and config["selection"] != "last":
        yield (
            f"method.match_prior moves biases at the end, where selection={config['selection']} "
            "has nothing to choose. Leave one out."
        )
