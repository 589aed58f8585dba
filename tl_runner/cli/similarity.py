"""Command line of ``tl-similarity``. No torch here: --help and complaints are instant."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tl_runner.cli.parser import Parser
from tl_runner.config.compose import Job, check
from tl_runner.errors import (
    EXIT_DONE,
    EXIT_FAILED,
    EXIT_USER,
    ConfigError,
    DivergedError,
    UserError,
    nearest,
)

FORMATS = {"table": "", "json": ".json", "png": ".png"}  # and what files of each end in
METHOD = "no_transfer"  # whose config says what is needed: two domains and a network
# the network; and what fits classes and numbers
AS_IT_IS = ("method.features.epochs=0", "method.learner=ridge")
OURS = ("data", "backbone", "device", "seed")  # what a word may set

EXAMPLES = """\
  tl-similarity data=fonts2digits backbone=raw              two embedded domains, by their pixels
  tl-similarity data=mnist2usps backbone=raw,small_cnn      several features side by side
  tl-similarity data=mnist2usps --run outputs/source_only/RUN   a finished run's features
  tl-similarity data=mnist2usps data.target_labels=all --run A --run B   which serves it best?
  tl-similarity data=folder data.source_dir=a data.target_dir=b -o similarity.png
"""


def parser() -> Parser:
    p = Parser(
        prog="tl-similarity",
        description="Similarity of two domains, and with target labels how well features would "
        "transfer: scores that train nothing.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument(
        "words",
        nargs="*",
        metavar="KEY=VALUE",
        help="as for tl-run: data=..., backbone=A,B, data.root=..., seed=...",
    )
    p.add_argument(
        "--run",
        dest="runs",
        action="append",
        default=[],
        type=Path,
        metavar="RUN",
        help="a finished run to compare; repeat",
    )
    p.add_argument(
        "--recorded",
        action="append",
        type=Path,
        metavar="PATH",
        help="runs to learn from what transfer gained (./outputs)",
    )
    p.add_argument(
        "--samples",
        type=int,
        default=10_000,
        metavar="N",
        help="of each domain at most (default 10000)",
    )
    p.add_argument(
        "--format", metavar="FORMAT", help="table or json; by default as FILE ends, else table"
    )
    p.add_argument(
        "-o", dest="file", type=Path, metavar="FILE", help="write there: .json, or a figure, .png"
    )
    return p


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of ``tl-similarity``.

    Ends the process with 0; with 2 if the command, the data or a run is wrong; 1 if features are
    not finite.
    """
    try:
        args = parser().parse_intermixed_args(argv)
        kind = check_options(args)
        jobs = candidates(args)
        from tl_runner.similarity import compare as run
        from tl_runner.similarity import table as formats

        began = time.perf_counter()
        found = run.compare(jobs, args.runs, args.samples)
        suggestion = run.suggestion(found, recorded(args))
        took = f"{time.perf_counter() - began:.0f} s"
        if args.file:
            formats.write(args.file, kind, found, suggestion)
            print(f"{args.file} written, {took}", file=sys.stderr)
        elif kind == "json":
            print(formats.as_json(found, suggestion))
        else:
            formats.show(found, suggestion, took)
    except UserError as error:
        print(f"tl-similarity: {error}", file=sys.stderr)
        sys.exit(EXIT_USER)
    except DivergedError as error:
        print(f"tl-similarity: {error}", file=sys.stderr)
        sys.exit(EXIT_FAILED)
    except BrokenPipeError:
        # or Python complains of it once more at the end
        sys.stdout = None  # type: ignore[assignment]
    sys.exit(EXIT_DONE)


def check_options(args: argparse.Namespace) -> str:
    """Format of the output, once the options are checked.

    Raises:
        UserError: there is no such format, or the file cannot be written.
    """
    if args.samples < 20:
        raise UserError(f"--samples {args.samples}: at least 20 of each domain.")
    if args.format and args.format not in FORMATS:
        raise UserError(
            f"--format {args.format}: no such format.{nearest(args.format, FORMATS)} There is: "
            f"{', '.join(FORMATS)}."
        )
    for path in args.recorded or ():
        if not path.is_dir():
            raise UserError(f"--recorded {path}: there is no such folder.")
    if not args.file:
        if args.format == "png":
            raise UserError("--format png is for a file. Add -o similarity.png.")
        return args.format or "table"
    if not args.file.parent.is_dir():
        raise UserError(f"-o {args.file}: there is no folder {args.file.parent}.")
    if args.file.is_dir():
        raise UserError(f"-o {args.file} is a folder: name a file.")
    kinds = {ending: kind for kind, ending in FORMATS.items() if ending}
    if not args.format and args.file.suffix not in kinds:
        raise UserError(f"-o {args.file}: the file should end in {' or '.join(kinds)}.")
    kind = args.format or kinds[args.file.suffix]
    if kind == "table":
        raise UserError(
            "--format table is for the terminal: leave out -o, or name a .json or .png file."
        )
    return kind


def candidates(args: argparse.Namespace) -> list[Job]:
    """One job for each backbone; of none, and with runs, the one that says which data.

    Raises:
        ConfigError: whatever tl-run would say of the same words.
    """
    words, backbones = [], [""]
    for word in args.words:
        key, _, value = word.partition("=")
        if not value:
            raise ConfigError(
                [f"{word}: write KEY=VALUE, as for tl-run. A finished run goes after --run."]
            )
        if key.split(".")[0] not in OURS:
            raise ConfigError(
                [
                    f"{word}: this command takes settings of {', '.join(OURS)}; nothing is "
                    f"trained.{nearest(key, OURS)}"
                ]
            )
        if key == "backbone":
            backbones = value.split(",")
        else:
            words.append(word)
    named = any(word.startswith("backbone=") for word in args.words)
    try:
        jobs = [
            job
            for name in backbones
            for job in check(
                [f"method={METHOD}", *AS_IT_IS, *words, *([f"backbone={name}"] if name else [])],
                sweep=False,
            )
        ]
    except ConfigError as error:
        raise ConfigError(
            [problem.replace(f"method={METHOD}", "tl-similarity") for problem in error.problems]
        ) from error
    return [job if named or not args.runs else _without_features(job) for job in jobs]


def _without_features(job: Job) -> Job:
    """Job whose data is read and whose network is not built.

    There are runs to compare, and no backbone was named.
    """
    job.config["backbone"] = None
    return job


def recorded(args: argparse.Namespace) -> list[Path]:
    """Folders to search for runs that tell what transfer gained.

    ./outputs, which nobody named, may hold none.
    """
    return args.recorded or [
        Path(p) for p in ["outputs"] if next(Path(p).rglob("result.json"), None)
    ]
