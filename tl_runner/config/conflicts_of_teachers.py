"""What is checked of a command about a teacher, before anything heavy is imported. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

TEACHER = "backbone@teacher"


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
