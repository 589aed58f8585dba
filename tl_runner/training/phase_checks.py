"""Checks of a method's phases against the data, before any runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tl_runner.backbones._batch_norm import norms_of
from tl_runner.data.splits import Split, without
from tl_runner.metrics import selection_rules as rules
from tl_runner.training.batches import is_tokens
from tl_runner.training.early_stopping import unvalidated

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from tl_runner.data.episodes import Episodes
    from tl_runner.methods.base import Method
    from tl_runner.methods.phases import Phase

HOW = {
    "target_test": " The target has no labels to test on, and no rule can go by them. Choose one "
    "that needs none: selection=last, or a label-free score such as im.",
    "target_val": " Set data.target_labels, and data.val_fraction above 0, where the data has "
    "these keys.",
}


def unfit(
    phases: Sequence[Phase], splits: Mapping[str, Split | Episodes], selection: str
) -> list[str]:
    """Problems of a run's phases: splits that are read and not there, or not for training; a rule
    without its scores; batches that cannot be cut."""
    read = _read(phases)
    learned = {
        split
        for phase in phases
        if any(u.optimizer for u in phase.updates)
        for split in phase.reads.values()
    }
    tested = {split for split in read if "_test" in split} | {
        split for split in learned if "_val" in split
    }
    problems = [
        f"the method reads {split}: test and validation images are not for training."
        for split in sorted(tested)
    ]
    rule = rules.RULES[selection]
    for split in sorted(read - splits.keys()):
        problems.append(f"the method needs {split}, which this data has not.{HOW.get(split, '')}")
    for split in sorted({*rule.needs} - read - splits.keys()):
        how = HOW.get(split, " Choose a rule that needs none: selection=last, or im.")
        problems.append(f"selection={selection} needs {split}, which this data has not.{how}")
    if rule.features and not {"source", "target"} <= phases[-1].outputs.embed.keys():
        problems.append(
            f"selection={selection} compares features of both domains, which this method does not "
            "give (Outputs.embed)."
        )
    for phase in phases:
        tokens = [
            s
            for s in phase.reads.values()
            if isinstance(own := splits.get(s), Split) and is_tokens(own.x)
        ]
        if tokens and (phase.sampling.mixup or phase.sampling.cutmix):
            problems.append(
                f"the phase {phase.name} mixes samples (mixup, cutmix), and tokens of texts cannot "
                "be: set both to 0, or backbone.frozen=true, whose features can."
            )
        empty = [
            s
            for s in phase.reads.values()
            if isinstance(own := splits.get(s), Split)
            and not len(without(own, phase.sampling.leave_out))
        ]
        problems += [
            f"the phase {phase.name} is left no images of {split}: all are of classes that it "
            "leaves out."
            for split in empty
        ]
        if phase.length.patience is not None:
            problems += unvalidated(phase, splits.keys())
        if phase.length.accumulate > 1 and (
            coupled := ", ".join(u.name for u in phase.updates if u.couples)
        ):
            problems.append(
                f"accumulate={phase.length.accumulate}, in the phase {phase.name}: the loss of "
                f"{coupled} "
                "couples the samples of a batch, so a "
                "batch in parts would have another. Leave it at 1 there, and take a smaller "
                "batch_size."
            )
    kept = [s for s in splits.values() if isinstance(s, Split) and s.views is not None]
    if kept and not any(phase.sampling.augment and phase.updates for phase in phases):
        problems.append(
            "backbone.views: this method trains on no views, but on all features as they are. "
            "Leave it out."
        )
    checks = (single, untrainable)
    return problems + [text for phase in phases for check in checks if (text := check(phase))]


def untrainable(phase: Phase) -> str | None:
    """A problem of a phase that would train networks without weights."""
    networks = [n for update in phase.updates if update.optimizer for n in update.networks]
    if not networks or any(True for network in networks for _ in network.parameters()):
        return None
    return (
        f"the phase {phase.name} has nothing to train: no weights stand above what is frozen, or "
        "above counts of words. backbone.frozen=true takes backbone.bottleneck=256, a layer of "
        "that width; another backbone has weights of its own."
    )


def single(phase: Phase) -> str | None:
    """A problem of a phase whose batches, or parts of these, are one sample under batch norm."""
    still = {id(layer) for layer in phase.eval_layers}
    norms = (
        norm
        for update in phase.updates
        for network in update.networks
        for norm in norms_of(network)
        if id(norm) not in still
    )
    size, parts = phase.length.batch_size, phase.length.accumulate
    if size // parts > 1 or "tasks" in phase.reads or not any(True for _ in norms):
        return None
    of = f" in {parts} parts" if parts > 1 else ""
    return (
        f"the phase {phase.name} trains batch norm on one sample at a time (batch_size={size}{of}),"
        " which has no batch statistics. Set its batch_size (train.batch_size for all phases) to "
        f"at least {2 * parts}."
    )


def use_target_labels(phases: Sequence[Phase], selection: str, method: Method) -> bool:
    """True where labels of the target shape the result: those that training reads, the selection
    rule, or what the method's networks had learned before."""
    return (
        rules.RULES[selection].target_labels
        or bool({"target_labelled", "target_val"} & _read(phases))
        or method.saw_target_labels
    )


def unread_target_labels(
    phases: Sequence[Phase], splits: Collection[str], method: Method
) -> str | None:
    """A warning where the data has target labels for training, and no phase reads them."""
    if "target_labelled" not in splits or "target_labelled" in _read(phases):
        return None
    return (
        f"{type(method).__name__} does not read target labels: data.target_labels changes nothing."
    )


def unheeded_norms(phases: Sequence[Phase], method: Method) -> str | None:
    """A warning where ``backbone.bn=frozen`` changes nothing, since no phase keeps statistics."""
    frozen = method.setting.bn == "frozen" and norms_of(method)
    if not frozen or any(phase.eval_layers for phase in phases):
        return None
    return (
        "backbone.bn=frozen changes nothing here: it keeps the statistics of a network that a "
        f"phase goes on with, and {type(method).__name__} has no such phase."
    )


def _read(phases: Sequence[Phase]) -> set[str]:
    """The splits that training reads."""
    return {split for phase in phases for split in phase.reads.values()}
