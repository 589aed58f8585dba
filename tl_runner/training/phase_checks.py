"""Whether a method's phases can run on the data that there is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tl_runner.data.episodes import Episodes
from tl_runner.data.splits import Split, without
from tl_runner.methods.phases import Phase
from tl_runner.metrics import selection_rules as rules
from tl_runner.training.early_stopping import unvalidated

HOW = {
    "target_val": " Set data.target_labels, and data.val_fraction above 0, where the data has "
    "these keys."
}


def unfit(
    phases: Sequence[Phase], splits: Mapping[str, Split | Episodes], selection: str
) -> list[str]:
    """What is wrong: splits that are read and not there, or not for training; a rule without its
    scores; batches that cannot be cut."""
    read = {split for phase in phases for split in phase.reads.values()}
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
    for split in sorted({*read, *rule.needs} - splits.keys()):
        problems.append(
            f"this data has no {split} images, which the method or selection={selection} "
            f"needs.{HOW.get(split, '')}"
        )
    if rule.features and not {"source", "target"} <= phases[-1].outputs.embed.keys():
        problems.append(
            f"selection={selection} compares features of both domains, which this method does not "
            "give (Outputs.embed)."
        )
    for phase in phases:
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
    return problems
