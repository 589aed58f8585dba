"""What a value may be: rules, and the small language that YAMLs say them in.

A YAML's section ``allowed`` names, by key, what each may be:

    allowed:
      weighting: [equal, gate]           # one of these; null may be among them
      hidden: whole >= 1
      adapt.gate: number 0..1            # a nested key
      gamma: number > 0 or null

The phrases are in :data:`PHRASES`. A key without a rule keeps the type of its default.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tl_runner.errors import nearest

INF = float("inf")
Rule = Callable[[Any], str | None]  # a value -> what it should have been, or None when it is fine


def number(
    low: float = -INF, high: float = INF, *, whole: bool = False, open_low: bool = False
) -> Rule:
    """A number in [low, high], or (low, high] with ``open_low``."""
    above = f" {'above' if open_low else 'of at least'} {low:g}" if low > -INF else ""
    below = f" of at most {high:g}" if high < INF else ""
    span = above + (below.replace("of", "and", 1) if above else below)
    message = f"a whole number{span}" if whole else f"a number{span}"

    def check(value: Any) -> str | None:
        right = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
        return (
            None
            if right and (low < value if open_low else low <= value) and value <= high
            else message
        )

    return check


def one_of(*options: Any) -> Rule:
    """One of a few values; names get the nearest."""

    def check(value: Any) -> str | None:
        if any(value == o and type(value) is type(o) for o in options):
            return None
        shown = ", ".join(
            "true" if o is True else "false" if o is False else str(o) for o in options
        )
        return f"one of {shown}." + nearest(value, [str(o) for o in options])

    return check


def either(*rules: Rule) -> Rule:
    """Any of several rules."""

    def check(value: Any) -> str | None:
        message = [rule(value) for rule in rules]
        if None in message:
            return None
        parts = [str(s).partition(" Did you mean") for s in message]  # what was meant comes last
        hints = [mark + word for _, mark, word in parts if mark]
        return " or ".join(text.rstrip(".") for text, _, _ in parts) + (
            "." + hints[0] if hints else ""
        )

    return check


def null(value: Any) -> str | None:
    """YAML's null."""
    return None if value is None else "null"


def pair(rule: Rule) -> Rule:
    """A list of two values that each keep ``rule``."""

    def check(value: Any) -> str | None:
        fine = isinstance(value, list) and len(value) == 2 and all(rule(v) is None for v in value)
        return None if fine else f"a list of two: {rule(object())} each"

    return check


def all_in(rule: Rule, least: int = 0) -> Rule:
    """A list of values that each keep ``rule``, ``least`` of them or more."""

    def check(value: Any) -> str | None:
        fine = isinstance(value, list) and len(value) >= least
        message = f"a list{' of one or more' if least else ''}: {rule(object())} each"
        return None if fine and all(rule(v) is None for v in value) else message

    return check


def some_of(*options: str) -> Rule:
    """A list of one or more of a few names, each once."""

    def check(value: Any) -> str | None:
        fine = (
            isinstance(value, list)
            and value
            and all(v in options for v in value)
            and len({*value}) == len(value)
        )
        return None if fine else f"a list of one or more of {', '.join(options)}, each once"

    return check


def device(value: Any) -> str | None:
    """A device name, with or without an index."""
    kind, _, index = str(value).partition(":")
    fine = kind in ("auto", "cpu", "cuda", "mps") and (
        not index or (kind == "cuda" and index.isdigit())
    )
    return (
        None
        if fine
        else "one of auto, cpu, cuda, cuda:N, mps." + nearest(value, ["auto", "cpu", "cuda", "mps"])
    )


def folder(value: Any) -> str | None:
    """A path."""
    return None if isinstance(value, str) and value else "a path"


def text(value: Any) -> str | None:
    """Any text."""
    return None if isinstance(value, str) else "text"


def frozen(value: Any) -> str | None:
    """How many blocks, the names of some, or all."""
    named = isinstance(value, str) or (
        isinstance(value, list) and all(isinstance(v, str | int) for v in value)
    )
    return (
        None
        if named or number(0, whole=True)(value) is None
        else "a number of blocks, a list of their names, or all"
    )


def words(value: Any) -> str | None:
    """Names, each once."""
    fine = (
        isinstance(value, list)
        and value
        and all(isinstance(v, str) for v in value)
        and len({*value}) == len(value)
    )
    return None if fine else "a list of names, each once"


def names(value: Any) -> str | None:
    """Two or more different names."""
    fine = isinstance(value, list) and len({str(v) for v in value}) == len(value) >= 2
    return None if fine else "a list of two or more different names"


def domains(value: Any) -> str | None:
    """The name of a domain, or a list of different ones; a dotted name is a user's own module."""
    known = sorted(
        file.stem for file in (Path(__file__).parent.parent / "data" / "domains").glob("[!_]*.py")
    )
    listed = value if isinstance(value, list) else [value]
    kind = f"a domain or a list of different ones, of {', '.join(known)}"
    if (
        not listed
        or not all(isinstance(name, str) for name in listed)
        or len({*listed}) < len(listed)
    ):
        return kind
    unknown = [name for name in listed if name not in known and "." not in name]
    return kind + "." + "".join(nearest(name, known) for name in unknown) if unknown else None


WORDS: dict[str, Rule] = {
    "null": null,
    "text": text,
    "path": folder,
    "names": words,
    "several names": names,
    "domains": domains,
    "blocks": frozen,
}
# what a line of `allowed` may be, for messages
PHRASES = (
    "a list of the values, or a line such as 'whole >= 1', 'number 0..1', 'number > 0 or null', "
    "'list of number > 0', 'non-empty list of whole >= 1', 'pair of number', 'some of a, b', "
    f"{', '.join(repr(word) for word in WORDS)}"
)
RANGE = re.compile(r"(?P<kind>whole|number)(?: (?P<bounds>.+))?")
BOUND = re.compile(r"(>=|>|<=) (\S+)")


def rule_of(given: Any) -> Rule:
    """The rule that a line of ``allowed`` says.

    Raises:
        ValueError: it says none.
    """
    if isinstance(given, list):
        if not given or any(isinstance(option, dict | list) for option in given):
            raise ValueError(given)
        options = [option for option in given if option is not None]
        rules = [one_of(*options)] if options else []
        return _any_of([*rules, *([null] if None in given else [])])
    if not isinstance(given, str):
        raise ValueError(given)
    return _any_of([_phrase(part.strip()) for part in given.split(" or ")])


def _any_of(rules: list[Rule]) -> Rule:
    """One of several rules, null first in what is said of them."""
    rules = sorted(rules, key=lambda rule: rule is not null)
    return rules[0] if len(rules) == 1 else either(*rules)


def _phrase(given: str) -> Rule:
    if given in WORDS:
        return WORDS[given]
    for start, least in (("list of ", 0), ("non-empty list of ", 1)):
        if given.startswith(start):
            return all_in(_phrase(given.removeprefix(start)), least)
    if given.startswith("pair of "):
        return pair(_phrase(given.removeprefix("pair of ")))
    if given.startswith("some of "):
        return some_of(*(word.strip() for word in given.removeprefix("some of ").split(",")))
    if found := RANGE.fullmatch(given):
        return _range(found["bounds"] or "", found["kind"] == "whole")
    raise ValueError(given)


def _range(bounds: str, whole: bool) -> Rule:
    """``0..1``, ``>= 1``, ``> 0 and <= 1``; nothing is any number."""
    low, high, open_low = -INF, INF, False
    if ".." in bounds:
        low, high = (float(end) for end in bounds.split(".."))
    elif bounds:
        for part in bounds.split(" and "):
            if not (found := BOUND.fullmatch(part.strip())):
                raise ValueError(bounds)
            if found[1] == "<=":
                high = float(found[2])
            else:
                low, open_low = float(found[2]), found[1] == ">"
    return number(low, high, whole=whole, open_low=open_low)


def wrong_type(value: Any, default: Any) -> str | None:
    """What ``value`` should have been to match the YAML's ``default``, or None. A null default
    takes anything."""
    if default is None or (value is None and default is None):
        return None
    kinds = {
        bool: "true or false",
        int: "a whole number",
        float: "a number",
        str: "text",
        list: "a list",
        dict: "a group",
    }
    want = type(default)
    if want is float and type(value) is int:
        return None
    return None if type(value) is want else kinds.get(want, want.__name__)


def problem(path: str, value: Any, default: Any, rule: Rule | None = None) -> str | None:
    """One line that says what is wrong with ``value`` at ``path`` and what would be right, or None.

    Without a rule it is to have the type of its default.
    """
    message = rule(value) if rule else wrong_type(value, default)
    if message is None:
        return None
    shown = "null" if value is None else repr(value)
    return f"{path}={shown} should be {message}" + ("" if message.endswith(("?", ".")) else ".")
