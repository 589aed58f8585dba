"""Files and values that may be damaged or somebody else's, read without raising.

What cannot be read is left out with a warning on stderr, what has another type counts as absent.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import yaml

# both are safe; libyaml's is ten times faster
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def warn(text: str) -> None:
    """Print one line to stderr."""
    print(f"tl-report: {text}", file=sys.stderr)


def mapping(content: Any) -> dict[str, Any]:
    """The value itself if it is a dictionary, else an empty one."""
    return content if isinstance(content, dict) else {}


def as_list(content: Any) -> list[Any]:
    """The value itself if it is a list, else an empty one."""
    return content if isinstance(content, list) else []


def number(content: Any) -> float | None:
    """The value itself if it is a finite number, else None."""
    return (
        float(content)
        if isinstance(content, int | float)
        and not isinstance(content, bool)
        and math.isfinite(content)
        else None
    )


def normal(value: Any) -> str:
    """Text of a setting, the same for ``1e-4`` as typed and ``0.0001`` as stored."""
    if isinstance(value, str):
        try:
            value = yaml.load(value, _LOADER)
            value = float(value) if isinstance(value, str) else value
        except (yaml.YAMLError, ValueError):
            return str(value)
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return f"{value:.12g}" if isinstance(value, int | float) else str(value)


def read_json(file: Path) -> Any:
    """Content of a JSON file; None with a warning if it is damaged, None if there is none."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        warn(f"{file} cannot be read ({type(error).__name__}).")
        return None


def read_lines(file: Path) -> list[dict[str, Any]]:
    """Objects of a JSON-lines file; half a line, which a killed run may leave, is left out."""
    rows = []
    try:
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                rows.append(mapping(json.loads(line)))
            except (ValueError, RecursionError):
                warn(f"{file}: a damaged line was left out.")
    except FileNotFoundError:
        pass
    except OSError as error:
        warn(f"{file} cannot be read ({type(error).__name__}).")
    return rows


def read_yaml(file: Path) -> dict[str, Any]:
    """Mapping in a YAML file; empty if there is none."""
    return mapping(_yaml(file))


def read_yaml_list(file: Path) -> list[Any]:
    """List in a YAML file; empty if there is none."""
    return as_list(_yaml(file))


def _yaml(file: Path) -> Any:
    try:
        return yaml.load(file.read_text(encoding="utf-8"), _LOADER)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        warn(f"{file} cannot be read ({type(error).__name__}).")
        return None
