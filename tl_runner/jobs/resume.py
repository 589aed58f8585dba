"""``resume=<folder>`` of a run or a sweep: the folder's own command again, without touching what it
recorded."""

from __future__ import annotations

import os
import re
import secrets
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import yaml

from tl_runner.errors import CheckpointError, ConfigError


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
        from tl_runner.jobs.sweep_file import recorded

        whole = recorded(folder)
        refuse_searchpath(whole["overrides"], path)
        return Recorded(
            folder,
            whole["overrides"],
            own_configs(whole.get("config_dir"), folder, path),
            sweep=True,
        )
    try:
        overrides = yaml.safe_load(
            (folder / ".hydra" / "overrides.yaml").read_text(encoding="utf-8")
        )
        hydra = yaml.safe_load((folder / ".hydra" / "hydra.yaml").read_text(encoding="utf-8"))[
            "hydra"
        ]
        sources = hydra["runtime"]["config_sources"]
        own = [s["path"] for s in sources if s.get("provider") == "command-line"]
    except FileNotFoundError as error:
        raise CheckpointError(
            f"resume={path} is no folder of a run or a sweep: {error.filename} is not there. "
            "Name the folder that a run or a sweep left: outputs/..., as its last line says."
        ) from error
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"resume={path}: its .hydra folder is damaged ({type(error).__name__})."
        ) from error
    if not isinstance(overrides, list) or not all(isinstance(o, str) for o in overrides):
        raise CheckpointError(f"resume={path}: .hydra/overrides.yaml is not a list of overrides.")
    mine = [o for o in overrides if not o.startswith("hydra.")]
    return Recorded(folder, mine, own_configs(own[0] if own else None, folder, path))


def own_configs(configs: object, folder: Path, path: str) -> str | None:
    """The user's config folder of the time, which must still be there: Hydra would do without it in
    silence.

    Raises:
        CheckpointError: it is gone, or lies in the run's or sweep's folder: configs that came with
            a folder are not composed.
    """
    if configs is None:
        return None
    if not isinstance(configs, str) or not Path(configs).is_dir():
        raise CheckpointError(
            f"resume={path} was started with --config-dir {configs}, which is not there any more. "
            "Put it back."
        )
    if Path(configs).resolve().is_relative_to(folder):
        raise CheckpointError(
            f"resume={path} asks for the configs in {configs}, inside that folder, and what came "
            "with a folder is not composed. "
            "Copy the ones that you trust elsewhere, and start the command anew with --config-dir."
        )
    return configs


def refuse_searchpath(overrides: Sequence[str], path: str) -> None:
    """A recorded command may not bring other places of configs than ``--config-dir``, which is
    checked.

    Raises:
        CheckpointError: it does.
    """
    if found := [o for o in overrides if o.lstrip("+~").startswith("hydra.searchpath")]:
        raise CheckpointError(
            f"resume={path} would compose configs of {found[0]}. Start the command anew, with "
            "--config-dir."
        )


def run_id(words: Sequence[str], environ: Mapping[str, str] = os.environ) -> tuple[str, bool]:
    """(the command's id, whether a scheduler that starts the command anew gets the same one).

    ``TL_RUN_ID``, where it is set, else the number of a SLURM batch job with a digest of the
    command, else the time.
    """
    if environ.get("TL_RUN_ID"):
        if not re.fullmatch(r"[\w.-]*\w[\w.-]*", environ["TL_RUN_ID"]):
            raise ConfigError(
                [
                    f"TL_RUN_ID={environ['TL_RUN_ID']} names folders: use letters, digits, '_', "
                    "'-' and '.'."
                ]
            )
        return environ["TL_RUN_ID"], True
    number = environ.get("SLURM_ARRAY_JOB_ID", environ.get("SLURM_JOB_ID"))
    # at a terminal inside an allocation, the same line twice is two runs
    if number and not (sys.stdin and sys.stdin.isatty()):
        task = f"_{environ['SLURM_ARRAY_TASK_ID']}" if "SLURM_ARRAY_TASK_ID" in environ else ""
        digest = blake2b(repr(list(words)).encode(), digest_size=2).hexdigest()
        return f"slurm-{number}{task}-{digest}", True
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}", False


def begun(folder: Path, overrides: Sequence[str]) -> bool:
    """Whether ``folder`` holds what this very command began."""
    try:
        recorded = read(str(folder))
    except CheckpointError:
        return False
    return recorded.overrides == [
        o for o in overrides if recorded.sweep or not o.startswith("hydra.")
    ]
