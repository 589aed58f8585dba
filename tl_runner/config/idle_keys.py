"""Keys that change nothing in a run: told, where a command sets one.

The *effective plan* of a run is its config without what is only there to be referred to
(``train``, but for what code reads itself; ``data.inner``) and without what another setting makes
idle: a key whose condition under ``only_with`` is not met, the other keys of a phase without
epochs, the network and the training of a teacher that is given. A key of a command that this plan
does not depend on, in any of the command's jobs, is refused with what would make it count.

Conditions are lines such as ``gamma: kernel=rbf``, ``gate_window: gate!=0`` or ``photos:
source=mnistm or target=mnistm``; of a list one value is enough.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tl_runner.config.overrides import at, listed, text_of, walk
from tl_runner.config.shared_values import LENGTHS
from tl_runner.errors import nearest

REFERRED = ("train.", "data.inner.")  # what other keys take their defaults from
READ = ("train.limit.", "train.balance")  # and what code reads there itself
NOTHING = "nothing in this run reads it"
REFERENCE = re.compile(r"\$\{([\w.]+)\}")
TERM = re.compile(r"([\w.]+)(!?=)(.+)")
SETTINGS_OF_TASKS = {  # what labelled batches have, and few-shot tasks have not
    "train.batch_size": "method.meta.batch_size counts tasks. Leave it out.",
    "train.label_smoothing": "Leave it out.",
    "train.mixup": "Leave it out.",
    "train.cutmix": "Leave it out.",
}


@dataclass(frozen=True)
class Term:
    """``key=a,b`` or ``key!=a,b`` of a condition, the key a whole path."""

    key: str
    equal: bool
    values: tuple[Any, ...]

    def met(self, config: Mapping[str, Any]) -> bool:
        """Whether it holds, or may: a dotted name is a user's own code, which may read anything,
        and of a key that this run has not nothing is known."""
        try:
            value = at(config, self.key)
        except LookupError:
            return True
        have = value if isinstance(value, list) else [value]
        if any(isinstance(one, str) and "." in one for one in have):
            return True
        return any(one in self.values for one in have) is self.equal

    def __str__(self) -> str:
        words = [text_of(value) for value in self.values]
        if self.equal:
            return f"{self.key}={' or '.join(words)}"
        return f"{self.key} other than {' or '.join(words)}"


@dataclass(frozen=True)
class Condition:
    """What a key, or a section, needs to be read: one of several terms."""

    path: str
    terms: tuple[Term, ...]

    def met(self, config: Mapping[str, Any]) -> bool:
        return any(term.met(config) for term in self.terms)

    @property
    def cure(self) -> str:
        return f"only with {' or '.join(map(str, self.terms))}. Set that, or leave it out."


def read_only_with(
    path: str, section: Any, known: Mapping[str, Any], file: str
) -> tuple[list[Condition], list[str]]:
    """What a section ``only_with`` says, and what is wrong with it.

    Args:
        path: of the section that it stands in.
        section: its content; null for a key takes back what was inherited.
        known: every dotted path of the config.
        file: the YAML that a message names.
    """
    here = f"{path}.only_with (in {file})"
    if not isinstance(section, dict):
        return [], [f"{here} should be a section: a key and a line such as 'kernel=rbf' each."]
    found, problems = [], []
    for key, line in section.items():
        if f"{path}.{key}" not in known:
            own = [k.removeprefix(f"{path}.") for k in known if k.startswith(f"{path}.")]
            problems.append(f"{here}: there is no key {path}.{key}.{nearest(key, own)}")
        elif line is not None:
            terms = [_term(part, path, known) for part in str(line).split(" or ")]
            if whole := [term for term in terms if term is not None]:
                found.append(Condition(f"{path}.{key}", tuple(whole)))
            if None in terms:
                problems.append(
                    f"{here}: {key}: {line!r} is no condition. Write a key of the same section "
                    "and its values: kernel=rbf, learner=svm,ridge or gate!=0."
                )
    return found, problems


def _term(text: str, path: str, known: Mapping[str, Any]) -> Term | None:
    parts = TERM.fullmatch(text.strip())
    if not parts:
        return None
    group = parts[1].partition(".")[0]  # a key of another section, which this choice may lack
    keys = (f"{path}.{parts[1]}", parts[1])
    key = next((k for k in keys if k in known), parts[1] if group in known else None)
    values = tuple(yaml.safe_load(word) for word in parts[3].split(","))
    return Term(key, parts[2] == "=", values) if key else None


def idle_sections(config: Mapping[str, Any], conditions: Iterable[Condition]) -> dict[str, str]:
    """The paths of keys and sections that a run does not read, and what would make each count."""
    method = config["method"]
    why = given_teacher(method.get("teacher"))
    found = {
        c.path: why if why and "method.teacher" in {t.key for t in c.terms} else c.cure
        for c in conditions
        if not c.met(config)
    }
    for path, section in walk({"method": method}):
        if isinstance(section, dict) and section.keys() >= {*LENGTHS} and section["epochs"] == 0:
            cure = f"only with {path}.epochs above 0. Set that, or leave it out."
            found |= {f"{path}.{key}": cure for key in section if key != "epochs"}
    if config["backbone"].get("frozen") and not config["backbone"].get("views", 0):
        found["data.augment"] = (
            "only with a network that is trained, or with backbone.views above 0 beside "
            "backbone.frozen=true. Set that, or leave it out."
        )
    if why and all(is_folder(Path(str(p)).expanduser()) for p in listed(method["teacher"])):
        found["teacher"] = why
    return found


def given_teacher(named: Any) -> str:
    """What to say of a setting for training a teacher, or of its network, where one is given."""
    if not named:
        return ""
    return (
        f"method.teacher={text_of(named)} is trained and brings its network. Leave one of them out."
    )


def is_folder(path: Path) -> bool:
    """Whether there is a folder; no name is longer than a few hundred characters."""
    try:
        return path.is_dir()
    except OSError:
        return False


def effective(config: Mapping[str, Any], conditions: Iterable[Condition]) -> dict[str, Any]:
    """What a run depends on, by dotted path, of its resolved config."""
    idle = idle_sections(config, conditions)
    return {
        path: value
        for path, value in walk(config)
        if not isinstance(value, dict) and not _referred(path) and not _under(path, idle)
    }


def _referred(path: str) -> bool:
    return path.startswith(REFERRED) and not path.startswith(READ)


def _under(path: str, idle: Iterable[str]) -> str | None:
    """Which of some sections a path lies in."""
    return next((one for one in idle if path == one or path.startswith(f"{one}.")), None)


def unread(
    key: str,
    defaults: Mapping[str, Any],
    resolved: Mapping[str, Any],
    conditions: Sequence[Condition],
) -> str | None:
    """Why a run does not read a key, with what would make it count; None where it does.

    Args:
        key: a dotted path.
        defaults: the unresolved config before the command's keys: its references tell what takes a
            default from the key, also where the command then sets that itself.
        resolved: the config of the run.
        conditions: of all sections.
    """
    idle = idle_sections(resolved, conditions)
    leaves = [
        path
        for path, value in walk(resolved)
        if _under(path, [key]) and not isinstance(value, dict)
    ]
    if not leaves:  # an empty section
        return None
    if not _referred(leaves[0]):
        why = [_under(path, idle) for path in leaves]
        return None if None in why else idle[str(why[0])]
    referring = [*_referring(key, defaults)]
    effects = [path for path in referring if not _referred(path)]
    why = [_under(path, idle) for path in effects]
    if None in why or (why and not key.startswith("train.pretrain") and _are_off(why, resolved)):
        return None
    if why:
        return f"{NOTHING}. {effects[0]} counts {idle[str(why[0])]}"
    return f"{NOTHING}{_hint(key, resolved)}"


def _are_off(paths: Iterable[str | None], config: Mapping[str, Any]) -> bool:
    """Whether some keys are idle only as their phases have no epochs: a default of all phases may
    be given all the same."""
    sections = [at(config, str(path).rpartition(".")[0]) for path in paths]
    return any(section.get("epochs") == 0 for section in sections)


def _referring(key: str, unresolved: Mapping[str, Any]) -> Iterator[str]:
    """The paths whose values follow a key, directly or not."""
    references = {
        path: REFERENCE.findall(value)
        for path, value in walk(unresolved)
        if isinstance(value, str) and "${" in value
    }
    found, todo = set[str](), [key]
    while todo:
        wanted = todo.pop()
        for path, targets in references.items():
            near = any(_under(t, [wanted]) or _under(wanted, [t]) for t in targets)
            if near and path not in found:
                found.add(path)
                todo.append(path)
                yield path


def _hint(key: str, config: Mapping[str, Any]) -> str:
    """What a user may have wanted who set a key of ``train`` or ``data.inner`` that is not read."""
    method = config["method"]
    if "episodes" in method.get("needs", ()):
        if key.startswith("data.inner"):
            if "inner" in method:
                return ": this method's inner loop is another. Set method.inner.* itself."
            return ": this method has no inner loop. Leave it out."
        if key in SETTINGS_OF_TASKS:
            return f": few-shot tasks make no use of it. {SETTINGS_OF_TASKS[key]}"
    leaf = key.split(".")[-1]
    own = [path for path, _ in walk({"method": method}) if path.split(".")[-1] == leaf]
    same = [path for path in own if path.split(".")[-2:] == key.split(".")[-2:]] or own
    return f". Set {same[0]} itself, or leave it out." if same else ". Leave it out."
