"""``resume=<folder>`` of a run or a sweep: the folder's own command again, without touching what it recorded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

from tl_runner.errors import CheckpointError


@dataclass
class Recorded:
    """A folder's own command.

    Attributes:
        folder: absolute.
        overrides: it was started with; of a run without Hydra's own keys.
        config_dir: the user's ``--config-dir`` at the time, or None.
        sweep: whether it is a sweep's.
    """

    folder: Path
    overrides: list[str]
    config_dir: str | None
    sweep: bool = False


def read(path: str) -> Recorded:
    """What ``sweep.json`` of a sweep's folder or ``.hydra`` of a run's says.

    Raises:
        CheckpointError: it is neither, or damaged.
    """
    folder = Path(path).expanduser().resolve()
    if not folder.is_dir():
        raise CheckpointError(f"resume={path}: there is no such folder.")
    if (folder / "sweep.json").is_file():
        from tl_runner import sweep

        whole = sweep.recorded(folder)
        return Recorded(folder, whole["overrides"], whole.get("config_dir"), sweep=True)
    try:
        overrides = yaml.safe_load((folder / ".hydra" / "overrides.yaml").read_text(encoding="utf-8"))
        hydra = yaml.safe_load((folder / ".hydra" / "hydra.yaml").read_text(encoding="utf-8"))["hydra"]
        sources = hydra["runtime"]["config_sources"]
        own = [s["path"] for s in sources if s.get("provider") == "command-line"]
    except FileNotFoundError as error:
        raise CheckpointError(f"resume={path} is no folder of a run or a sweep: {error.filename} is not there.") from error
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"resume={path}: its .hydra folder is damaged ({type(error).__name__}).") from error
    if not isinstance(overrides, list) or not all(isinstance(o, str) for o in overrides):
        raise CheckpointError(f"resume={path}: .hydra/overrides.yaml is not a list of overrides.")
    return Recorded(folder, [o for o in overrides if not o.startswith("hydra.")], own[0] if own else None)
