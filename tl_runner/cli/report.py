"""The ``tl-report`` command."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from tl_runner.cli.parser import Parser
from tl_runner.errors import EXIT_DONE, EXIT_USER, UserError, nearest
from tl_runner.report import formats, grid
from tl_runner.report.grid import Grid
from tl_runner.report.latest import ROOT, named
from tl_runner.report.listing import lay_out_list
from tl_runner.report.runs import Run, collect
from tl_runner.report.selection_cost import rule_table
from tl_runner.report.similarity import LEAST, correlations
from tl_runner.report.table import Comparison, Row, compare, rows, sort_key

# and what files of each end in
FORMATS = {
    "table": "",
    "csv": ".csv",
    "md": ".md",
    "latex": ".tex",
    "json": ".json",
    "html": ".html",
}
NUMBERS = ("mean", "std", "n", "gain")

EXAMPLES = """\
  tl-report outputs/sweeps/RUN                 the table, in the terminal
  tl-report outputs/sweeps/RUN -o report.html  one page with figures, opens from the disk
  tl-report --list                             every run under outputs, the newest first
  tl-report outputs --metric target_test.log_loss --sort mean
  tl-report outputs --pivot method data --format latex
  tl-report outputs --paired adda source_only
  tl-report outputs --similarity               does similarity tell what transfer gains?
  tl-report outputs --rules                    which rule of selection= would have lost least
"""


def parser() -> Parser:
    p = Parser(
        prog="tl-report",
        description="Tables, paired tests and one HTML page from the folders of runs and sweeps.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument(
        "paths",
        nargs="*",
        metavar="PATH",
        help="folders of runs or sweeps, searched through; last: the newest one",
    )
    p.add_argument(
        "--list",
        action="store_true",
        help="every run, the newest first, with its status and score; of outputs without PATH",
    )
    p.add_argument(
        "--format",
        metavar="FORMAT",
        help=f"{', '.join(FORMATS)}; by default as FILE ends, else table",
    )
    p.add_argument(
        "-o", dest="file", type=Path, metavar="FILE", help="write there instead of to the terminal"
    )
    p.add_argument(
        "--metric",
        metavar="SPLIT.NAME",
        help="by default target_test.accuracy, or else each run's score",
    )
    p.add_argument(
        "--pivot",
        nargs=2,
        metavar=("ROW", "COLUMN"),
        help="a matrix over two keys, such as method data",
    )
    p.add_argument(
        "--paired",
        nargs=2,
        metavar=("A", "B"),
        help="test two methods (or two values of one key) over common seeds",
    )
    p.add_argument(
        "--against",
        metavar="METHOD",
        help="what gains are over; by default source_only, else no_transfer or target_only",
    )
    p.add_argument("--runs", action="store_true", help="one row a run")
    p.add_argument(
        "--rules",
        action="store_true",
        help="what each selection rule would have lost against the best epoch",
    )
    p.add_argument(
        "--similarity",
        action="store_true",
        help="how the similarity of the domains goes with the gain, by rank correlation",
    )
    p.add_argument(  # its former name
        "--likeness", dest="similarity", action="store_true", help=argparse.SUPPRESS
    )
    p.add_argument(
        "--sort",
        metavar="KEY",
        help=f"a column's key, or {', '.join(NUMBERS)} (best or largest first)",
    )
    p.add_argument(
        "--only-changed", action="store_true", help="leave out columns that are equal in all rows"
    )
    return p


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of ``tl-report``.

    Ends the process with 0, or with 2 if the command or a path is wrong.
    """
    try:
        args = parser().parse_args(argv)
        if not args.paths and not args.list:
            raise UserError(
                "name a folder of runs, such as outputs, or last for the newest. See --help."
            )
        runs = collect([named(path) for path in args.paths or [ROOT]])
        text = report(args, runs)
        if args.file:
            write(args.file, text)
        else:
            print(text, end="", flush=True)
    except UserError as error:
        print(f"tl-report: {error}", file=sys.stderr)
        sys.exit(EXIT_USER)
    except BrokenPipeError:  # `tl-report outputs | head`
        # or Python complains of it once more at the end
        sys.stdout = None  # type: ignore[assignment]
    sys.exit(EXIT_DONE)


def write(file: Path, text: str) -> None:
    """Write the report, and say so."""
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"-o {file} cannot be written: {error.strerror}.") from error
    print(f"{file} written, {len(text.encode()) / 1e3:,.0f} kB", file=sys.stderr)


def report(args: argparse.Namespace, runs: Sequence[Run]) -> str:
    """Text that the command prints or writes.

    Raises:
        UserError: a format, metric or key that there is not, or options that exclude each other.
    """
    kind = format_of(args)
    tables = (args.pivot, args.paired, args.runs, args.rules, args.similarity, args.list)
    if sum(map(bool, tables)) > 1:
        raise UserError(
            "--pivot, --paired, --runs, --rules, --similarity and --list are different tables: "
            "ask for one at a time."
        )
    if args.list:
        if kind in ("html", "json"):
            raise UserError(f"--list is not for {kind}: leave it out, and the file has all runs.")
        return text_table(args, kind, [], [], lay_out_list(runs))
    table = in_order(rows(runs, args.metric, args.against), args.sort)
    tests = compare(table, *args.paired) if args.paired else []
    if kind == "html":
        from tl_runner.report.page import page

        if args.pivot or args.runs or args.rules or args.similarity:
            raise UserError(
                "--pivot, --runs, --rules and --similarity are not for the HTML page, which has "
                "all of it."
            )
        return page(table, runs, tests)
    regrets = rule_table(table) if args.rules else []
    if args.rules and not regrets:
        raise UserError(
            "--rules: no finished run here has recorded its target test accuracy every epoch."
        )
    similarity = correlations(table) if args.similarity else []
    if args.similarity and not similarity:
        raise UserError(
            f"--similarity: fewer than {LEAST} groups here have a gain over a baseline and a "
            "recorded similarity of their domains."
        )
    if kind == "json":
        return formats.as_json(table, tests, regrets, similarity)
    if kind == "csv" and (regrets or similarity):
        return formats.csv_rules(regrets) if regrets else formats.csv_similarity(similarity)
    special = (
        grid.lay_out_rules(regrets)
        if regrets
        else grid.lay_out_similarity(similarity)
        if similarity
        else None
    )
    return text_table(args, kind, table, tests, special)


def text_table(
    args: argparse.Namespace,
    kind: str,
    table: Sequence[Row],
    tests: Sequence[Comparison],
    special: Grid | None,
) -> str:
    """One of the text formats."""
    if args.paired:
        special = grid.lay_out_paired(tests)
    elif args.pivot:
        special = grid.lay_out_pivot(table, *args.pivot)
    elif args.runs and kind != "csv":
        special = grid.lay_out_runs(table, args.only_changed)
    if kind == "table":
        console = Console(file=io.StringIO()) if args.file else Console()
        return (
            formats.draw(special, console)
            if special
            else formats.terminal(table, console, args.only_changed)
        )
    if kind == "csv":
        return (
            formats.csv_grid(special)
            if special
            else (formats.csv_runs if args.runs else formats.csv_groups)(table)
        )
    write = {"md": formats.markdown, "latex": formats.latex}[kind]
    return write(special or grid.lay_out(table, args.only_changed))


def format_of(args: argparse.Namespace) -> str:
    """Format chosen by name or by the file's ending."""
    if args.format and args.format not in FORMATS:
        raise UserError(
            f"--format {args.format}: no such format.{nearest(args.format, FORMATS)} There is: "
            f"{', '.join(FORMATS)}."
        )
    by_ending = {ending: kind for kind, ending in FORMATS.items() if ending}
    kind = args.format or (by_ending.get(args.file.suffix, "table") if args.file else "table")
    if kind == "html" and not args.file and sys.stdout.isatty():
        raise UserError("--format html: a page is for a file. Add -o report.html.")
    return kind


def in_order(table: list[Row], key: str | None) -> list[Row]:
    """Rows by a key's value, or by a number; None keeps the order.

    Of a number the best comes first: the largest n, the smallest std.

    Raises:
        UserError: no such key.
    """
    if key is None:
        return table
    known = [*table[0].keys, *NUMBERS]
    if key not in known:
        raise UserError(
            f"--sort {key}: no such column.{nearest(key, known)} There is: {', '.join(known)}."
        )
    if key in table[0].keys:
        return sorted(table, key=lambda row: sort_key(row.keys[key]))
    numbers = {
        id(row): row.gain.mean
        if key == "gain" and row.gain
        else getattr(row, key)
        if key != "gain"
        else None
        for row in table
    }

    def better(row: Row) -> tuple[bool, float]:
        value = numbers[id(row)]
        up = key == "std" or (key != "n" and row.metric.lower_is_better)
        return (value is None, (value or 0.0) if up else -(value or 0.0))

    return sorted(table, key=better)
