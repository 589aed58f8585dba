"""``--cfg``, ``--info``, ``--hydra-help`` and ``--shell-completion``, which Hydra answers itself.

What it prints is composed as for a run: without the sections that say what keys may be.
"""

from __future__ import annotations

import logging
import sys

from hydra._internal.hydra import Hydra
from hydra._internal.utils import get_args_parser
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf.errors import OmegaConfBaseException

from tl_runner.cli.command import Command
from tl_runner.cli.complaints import hydras
from tl_runner.config.loader import composer
from tl_runner.errors import EXIT_DONE, ConfigError


def answer(command: Command) -> int:
    """Print what a flag of Hydra's asks for: the exit code.

    Raises:
        ConfigError: the overrides beside it do not compose.
    """
    logging.raiseExceptions = False  # `tl-run --info | head` closes the pipe on Hydra's logger
    sys.argv = ["tl-run", *command.overrides]  # completion is installed for that name
    try:
        with composer(command.config_dir) as hydra:
            _show(hydra, command)
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise ConfigError([hydras(error)]) from error
    except BrokenPipeError:  # `tl-run --cfg job | head`
        sys.stderr.close()
    return EXIT_DONE


def _show(hydra: Hydra, command: Command) -> None:
    flags, words = command.flags, command.overrides
    if kind := flags.get("--cfg"):
        hydra.show_cfg("config", words, kind, flags.get("--package"), "--resolve" in flags)
    elif kind := flags.get("--info"):
        hydra.show_info(kind, config_name="config", overrides=words, run_mode=RunMode.RUN)
    elif "--shell-completion" in flags:
        hydra.shell_completion("config", words)
    else:
        parser = get_args_parser()
        hydra.hydra_help("config", parser, parser.parse_args(["--hydra-help", *words]))
