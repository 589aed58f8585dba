"""``resume=<run folder>``: the folder's own command again, without touching what it recorded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

from tl_runner.errors import CheckpointError


@dataclass
class Recorded:
    """A run folder's own command.

    Attributes:
        folder: absolute.
        overrides: the task overrides it was started with.
        config_dir: the user's ``--config-dir`` at the time, or None.
    """

    folder: Path
    overrides: list[str]
    config_dir: str | None


def read(path: str) -> Recorded:
    """What ``.hydra`` of a run folder says.

    Raises:
        CheckpointError: this is no run folder, or one of a sweep as a whole.
    """
    folder = Path(path).expanduser().resolve()
    if not folder.is_dir():
        raise CheckpointError(f"resume={path}: there is no such folder.")
    if (folder / "multirun.yaml").is_file():
        runs = sorted(p.parent.name for p in folder.glob("*/.hydra"))
        shown = "\n".join(f"  tl-run resume={folder / r}" for r in runs[:5])
        raise CheckpointError(f"resume={path} is the folder of a sweep. Resume one of its {len(runs)} runs:\n{shown}")
    try:
        overrides = yaml.safe_load((folder / ".hydra" / "overrides.yaml").read_text(encoding="utf-8"))
        hydra = yaml.safe_load((folder / ".hydra" / "hydra.yaml").read_text(encoding="utf-8"))["hydra"]
        sources = hydra["runtime"]["config_sources"]
        own = [s["path"] for s in sources if s.get("provider") == "command-line"]
    except FileNotFoundError as error:
        raise CheckpointError(f"resume={path} is not a run folder: {error.filename} is not there.") from error
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"resume={path}: its .hydra folder is damaged ({type(error).__name__}).") from error
    if not isinstance(overrides, list) or not all(isinstance(o, str) for o in overrides):
        raise CheckpointError(f"resume={path}: .hydra/overrides.yaml is not a list of overrides.")
    return Recorded(folder, overrides, own[0] if own else None)
