"""The errors a user can mend, and the exit code each ends with. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

EXIT_DONE, EXIT_FAILED, EXIT_USER, EXIT_INTERRUPTED = 0, 1, 2, 130


class UserError(Exception):
    """Something that the user can mend is wrong: command, config, data or checkpoint.

    The message says what to change (exit code 2).
    """


class ConfigError(UserError):
    """One or more wrong settings, shown together."""

    def __init__(self, problems: Iterable[str]):
        self.problems = list(problems)
        super().__init__("\n".join(self.problems))


class DataError(UserError):
    """A data file is missing, damaged or not what its name says."""


class CheckpointError(UserError):
    """A checkpoint cannot be read or belongs to another run."""


class BusyError(UserError):
    """Another process is at work in the folder."""


class DivergedError(Exception):
    """Training produced NaN or infinity: the run failed (exit code 1).

    The message says what to try.
    """


class LostError(Exception):
    """Another process of the run ended before this one (exit code 1)."""


def human_list(words: Iterable[object], most: int | None = None) -> str:
    """Words as a sentence has them: ``a, b and c``; empty of none.

    Args:
        most: names at most so many, of what may be a long list: ``a, b and 3 more``, or all with
            commas alone where there are no more.
    """
    names = [str(word) for word in words]
    if most is not None:
        more = f" and {len(names) - most:,} more" if len(names) > most else ""
        return ", ".join(names[:most]) + more
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


SYNONYMS = {"gpu": "cuda"}  # what people say for a choice that is spelt otherwise


def nearest(word: str, known: Iterable[str]) -> str:
    """``' Did you mean 'x'?'`` for the closest of ``known``, else an empty string."""
    spelt = {str(k).lower(): str(k) for k in known}
    said = str(word).lower()
    meant = [name for name in [SYNONYMS.get(said)] if name in spelt]
    close = meant or get_close_matches(said, spelt, n=1, cutoff=0.51)
    return f" Did you mean '{spelt[close[0]]}'?" if close else ""


def one_of(key: str, word: str, known: Iterable[str]) -> None:
    """Refuse a word that is none of a table of choices.

    ``key`` is the setting that it is of.

    Raises:
        ConfigError: it is none of them: nothing may fall through to a default.
    """
    if word not in (choices := [*known]):
        raise ConfigError(
            [f"{key}={word} should be one of {', '.join(choices)}.{nearest(word, choices)}"]
        )
