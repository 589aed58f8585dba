"""argparse for the commands beside tl-run, with its complaints in our words. No torch."""

from __future__ import annotations

import argparse
from typing import NoReturn

from tl_runner.errors import UserError


class Parser(argparse.ArgumentParser):
    """One that raises what the user can mend.

    Raises:
        UserError: an argument is wrong.
    """

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}. See {self.prog} --help.")
