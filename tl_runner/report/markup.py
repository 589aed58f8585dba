"""Pieces of the HTML page. Whatever comes from a run is escaped here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape

from tl_runner.record.curves import colour, dashes
from tl_runner.report.formats import one_line_of
from tl_runner.report.grid import Grid
from tl_runner.report.metric import Metric
from tl_runner.report.table import Row


def text(content: object) -> str:
    """Escaped, on one line."""
    return escape(one_line_of(str(content)))


def section(ident: str, title: str, *content: str) -> str:
    """A section with its heading."""
    return f'<section id="{ident}">\n<h2>{text(title)}</h2>\n' + "\n".join(content) + "\n</section>"


def table(
    grid: Grid,
    caption: str,
    extra: Mapping[int, Sequence[str]] | None = None,
    words: Iterable[int] = (),
) -> str:
    """Table in a box that scrolls by itself, its caption above and its notes below.

    Narrow screens fold a row into a card.

    Args:
        extra: ready cells of a column, by its number, in place of the grid's.
        words: columns whose cells may wrap.
    """
    wrap = set(words)
    keys = grid.numeric.index(True) if True in grid.numeric else 1  # the columns that name a row
    sides = [
        "number" if numeric else "words" if j in wrap else "key" if j < keys else ""
        for j, numeric in enumerate(grid.numeric)
    ]
    head = "".join(
        f"<th{_class(side)}>{text(name)}</th>"
        for name, side in zip(grid.columns, sides, strict=True)
    )
    lines = []
    for i, cells in enumerate(grid.body):
        row = []
        for j, cell in enumerate(cells):
            best = " best" if (i, j) in grid.best else ""
            content = (
                extra[j][i]
                if extra and j in extra
                else _minus(text(cell))
                if grid.numeric[j]
                else text(cell)
            )
            row.append(
                f'<td{_class(sides[j] + best)} data-label="{text(grid.columns[j])}">{content}</td>'
            )
        first = (
            "first"
            if i
            and "data" in grid.columns
            and cells[j := grid.columns.index("data")] != grid.body[i - 1][j]
            else ""
        )
        lines.append(f"<tr{_class(first)}>{''.join(row)}</tr>")
    notes = "".join(f"<li>{text(note.replace('* best', 'Bold: best'))}</li>" for note in grid.notes)
    return (
        f'<p class="caption">{text(caption)}</p>\n<div class="scroll" tabindex="0" role="region" '
        f'aria-label="{text(caption)}">'
        f"<table><thead><tr>{head}</tr></thead>\n<tbody>{''.join(lines)}</tbody></table></div>\n"
        + (f'<ul class="notes">{notes}</ul>' if notes else "")
    )


def _minus(number: str) -> str:
    return re.sub(r"(?<!\S)-|(?<=\[)-", "−", number)


def _class(names: str) -> str:
    return f' class="{names.strip()}"' if names.strip() else ""


def strips(rows: Sequence[Row]) -> list[str]:
    """Strip of each row: a dot for each seed and a tick at the mean.

    On one scale for all rows of a metric.
    """
    every = {
        row.metric: [
            value for other in rows if other.metric == row.metric for value in other.values.values()
        ]
        for row in rows
    }

    def at(value: float, of: Metric) -> str:
        low, high = min(every[of]), max(every[of])
        return f"{6 + 128 * (value - low) / (high - low or 1):.1f}"

    drawn = []
    for row in rows:
        dots = "".join(
            f'<circle cx="{at(v, row.metric)}" cy="9" r="3" fill="{colour(0)}" fill-opacity=".65"/>'
            for v in row.values.values()
        )
        tick = (
            ""
            if row.mean is None
            else f'<path d="M{at(row.mean, row.metric)} 2V16" stroke="currentColor" '
            'stroke-width="1.5"/>'
        )
        axis = '<path d="M2 9H138" stroke="currentColor" stroke-opacity=".3"/>'
        drawn.append(
            '<svg class="strip" width="140" height="18" viewBox="0 0 140 18" '
            f'aria-hidden="true">{axis}{dots}{tick}</svg>'
        )
    return drawn


def legend(labels: Mapping[int, str]) -> str:
    """Names beside their lines, by the number of the curve."""
    return (
        '<ul class="legend">'
        + "".join(f"<li>{_swatch(i)}{text(label)}</li>" for i, label in labels.items())
        + "</ul>"
    )


def _swatch(i: int) -> str:
    dash = f' stroke-dasharray="{dashes(i)}"' if dashes(i) else ""
    return (
        f'<svg viewBox="0 0 27 10" aria-hidden="true"><path d="M1 5H26" stroke="{colour(i)}" '
        f'stroke-width="2.4"{dash}/></svg>'
    )


def domains() -> str:
    """The signs of an embedding's points."""
    circle = f'<circle cx="5" cy="5" r="3.4" fill="none" stroke="{colour(0)}" stroke-width="1.6"/>'
    triangle = f'<path d="M5 1L9 8.5H1Z" fill="{colour(1)}"/>'
    signs = {"source": circle, "target": triangle}
    return f"""<ul class="legend signs">{
        "".join(
            f'<li><svg viewBox="0 0 10 10" aria-hidden="true">{sign}</svg>{name}</li>'
            for name, sign in signs.items()
        )
    }</ul>"""


def panel(title: str, svg: str, quiet: str = "", below: str = "") -> str:
    """One small figure of a plate; ``quiet`` stands lighter behind its title."""
    return f'<div class="panel"><p>{text(title)} <span>{text(quiet)}</span></p>{svg}{below}</div>'


def plate(panels: Sequence[str], caption: str, above: str = "", pairs: bool = False) -> str:
    """Several panels with one caption; ``pairs`` keeps each two side by side."""
    kind = "panels pairs" if pairs else "panels"
    return (
        f"<figure>{above}<div "
        f'class="{kind}">{"".join(panels)}</div><figcaption>{text(caption)}</figcaption></figure>'
    )


def entries(pairs: Iterable[tuple[str, str]]) -> str:
    """A list of names and ready contents; what is empty is left out."""
    return (
        "<dl>"
        + "".join(f"<dt>{text(name)}</dt><dd>{content}</dd>" for name, content in pairs if content)
        + "</dl>"
    )


def code(content: str) -> str:
    """Something typed or logged, over as many lines as it has."""
    return (
        "<pre>" + "\n".join(text(line) for line in content.splitlines()) + "</pre>"
        if content
        else ""
    )
