"""What is said of a folder of pictures that was read: in the protocol, in notes, in errors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tl_runner.data.folder_names import NAMED
from tl_runner.data.listing import Listing
from tl_runner.data.pictures import Pictures
from tl_runner.data.splits import Split


def notes(listing: Listing) -> list[str]:
    """What the user should know of how a folder was read."""
    return [f"{listing.root}: {note}." for note in listing.notes]


def said(domain: str, listing: Listing, decoded: Pictures, splits: Mapping[str, Split]) -> str:
    """A domain in the protocol: its pictures to train and to test on, and what was left out."""
    counts = [f"{len(splits[f'{domain}_train']):,}"]
    if (tested := splits.get(f"{domain}_test")) is not None:
        counts.append(f"{len(tested):,}")
    text = f"{domain} {listing.root.name}: {' / '.join(counts)} pictures"
    if domain == "target":
        if tested is None:
            text += " without labels, and none to test on"
        elif len({*splits["target_train"].ids.tolist()} & {*tested.ids.tolist()}):
            text += ", tested on those that it adapts to, without their labels"
    if decoded.unreadable:
        text += f", {len(decoded.unreadable):,} unreadable ones skipped"
    if listing.ignored:
        text += f", {listing.ignored:,} other files ignored"
    if decoded.scale:
        low, high = decoded.scale
        text += f", {decoded.wide:,} of more than 8 bits from {low:g} to {high:g}"
    return text


def also_trained_on(
    domain: str, listing: Listing, decoded: Pictures, splits: Mapping[str, Split]
) -> Iterator[str]:
    """A note on test pictures that are also in the training part, as copies or by links.

    Where a target is tested on the very pictures that it adapts to, which is meant, only those
    count that training sees with a label.
    """
    if (test := splits.get(f"{domain}_test")) is None:
        return
    tested = {*test.ids.tolist()}
    labelled = {
        i
        for name in (f"{domain}_labelled", f"{domain}_val", f"{domain}_train")
        if (split := splits.get(name)) is not None and split.y is not None
        for i in split.ids.tolist()
    }
    parts = listing.parts or ("train",) * len(listing.files)
    trained = {i for i, part in enumerate(parts) if part == "train"} - tested
    if tested & {*splits[f"{domain}_train"].ids.tolist()}:
        trained &= labelled
    held, held_with_labels = (
        {decoded.contents[i] for i in rows} for rows in (trained, trained & labelled)
    )
    there, seen = (
        sum(decoded.contents[i] in some for i in tested) for some in (held, held_with_labels)
    )
    if there:
        some = f"{seen:,} of them with their labels" if seen else "without their labels"
        yield (
            f"{there:,} of {len(tested):,} test pictures of the {domain} are also in its training "
            f"part, {'with their labels' if seen == there else some}: they count in its accuracy "
            "as if they were new."
        )


def cannot_be_read(listing: Listing, unreadable: Mapping[int, str]) -> str:
    """Message for files that PIL cannot read."""
    some = [f"  {listing.files[i]}: {why}" for i, why in sorted(unreadable.items())]
    more = [f"  ... and {len(some) - NAMED:,} more"] if len(some) > NAMED else []
    head = f"{len(some):,} of {len(listing.files):,} pictures cannot be read:"
    return "\n".join(
        [
            head,
            *some[:NAMED],
            *more,
            "  Mend or remove them, or leave them out with data.unreadable=skip.",
        ]
    )
