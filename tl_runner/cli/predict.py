"""Command line of ``tl-predict``. No torch here: --help is instant."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tl_runner.cli.parser import Parser
from tl_runner.config import values as schema
from tl_runner.errors import EXIT_DONE, EXIT_FAILED, EXIT_USER, DivergedError, UserError, nearest
from tl_runner.report.latest import named

if TYPE_CHECKING:
    from tl_runner.predict.run import Found, Trained

# and what files of each end in
FORMATS = {"table": "", "csv": ".csv", "json": ".json", "npz": ".npz"}
EXPORTS = (".onnx", ".pt2")
SHOWN = 5  # unreadable files that are named

EXAMPLES = """\
  tl-predict outputs/finetune/folder/RUN new_pictures      a table in the terminal
  tl-predict RUN a.jpg b.png --top 3                       the three likeliest classes
  tl-predict RUN new_pictures -o labels.csv                or .json, with all probabilities
  tl-predict RUN new_pictures --features -o features.npz   the features that the head sees
  tl-predict RUN labelled_pictures --evaluate              accuracy, classes, confusions
  tl-predict RUN labelled_pictures --errors wrong          and the wrong ones, by confusion
  tl-predict RUN --calibrate                               probabilities that mean what they say
  tl-predict RUN --export model.onnx                       or .pt2, for torch.export.load
"""


def parser() -> Parser:
    p = Parser(
        prog="tl-predict",
        description="Label pictures, or feature vectors, with a finished run: its weights, its "
        "preprocessing, its classes.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument(
        "run",
        metavar="RUN",
        type=Path,
        help="the folder of a finished run; last: the one under outputs that ended last",
    )
    p.add_argument(
        "paths",
        nargs="*",
        metavar="PATH",
        type=Path,
        help="pictures, .npz files of vectors, tables or lines of texts, or folders of them",
    )
    p.add_argument(
        "--format",
        metavar="FORMAT",
        help="table, csv or json; with --features csv or npz; by default as FILE ends",
    )
    p.add_argument(
        "-o", dest="file", type=Path, metavar="FILE", help="write there instead of to the terminal"
    )
    p.add_argument(
        "--top", type=int, default=1, metavar="K", help="show the K likeliest classes (default 1)"
    )
    p.add_argument(
        "--unsure",
        type=float,
        metavar="P",
        help="mark what is predicted with a probability below P, such as 0.6",
    )
    p.add_argument(
        "--evaluate",
        action="store_true",
        help="compare with the labels beside the files: folders named as classes, y in .npz, the "
        "label column of tables; with --format json the report as JSON",
    )
    p.add_argument(
        "--errors",
        type=Path,
        metavar="FOLDER",
        help="evaluate, and write what was wrong there: a table, and copies of pictures by cell of "
        "the confusion matrix",
    )
    p.add_argument(
        "--calibrate",
        action="store_true",
        help="fit one temperature on the run's own validation samples; the run keeps it",
    )
    p.add_argument("--features", action="store_true", help="embeddings instead of classes")
    p.add_argument(
        "--export",
        type=Path,
        metavar="FILE",
        help="write the network as FILE.onnx or FILE.pt2 instead",
    )
    p.add_argument(
        "--device",
        default=None,
        metavar="DEVICE",
        help="auto, cpu, cuda, mps; by default as the run was trained",
    )
    p.add_argument(
        "--workers",
        type=int,
        default=4,
        metavar="N",
        help="processes that decode pictures (default 4)",
    )
    return p


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of ``tl-predict``.

    Ends the process with 0; with 2 if the command, a path or the run is wrong, 1 if outputs are not
    finite.
    """
    try:
        args = parser().parse_intermixed_args(argv)
        check(args)
        from tl_runner.predict.run import Trained

        trained = Trained(named(args.run, done=True), args.device)
        if args.export:
            from tl_runner.predict.export import export

            say(export(trained, args.export))
        elif args.calibrate:
            from tl_runner.predict.calibration import calibrate

            say(calibrate(trained))
        else:
            predict(args, trained)
    except UserError as error:
        print(f"tl-predict: {error}", file=sys.stderr)
        sys.exit(EXIT_USER)
    except DivergedError as error:
        print(f"tl-predict: {error}", file=sys.stderr)
        sys.exit(EXIT_FAILED)
    except BrokenPipeError:  # `tl-predict RUN folder | head`
        # or Python complains of it once more at the end
        sys.stdout = None  # type: ignore[assignment]
    sys.exit(EXIT_DONE)


def check(args: argparse.Namespace) -> None:
    """Check the options before torch is imported, and fill in the format.

    Raises:
        UserError: options that exclude each other, an unknown format, no picture to label.
    """
    for option, file in (("--export", args.export), ("-o", args.file)):
        if file and not file.parent.is_dir():
            raise UserError(f"{option} {file}: there is no folder {file.parent}.")
    if args.device and (wrong := schema.device(args.device)):
        raise UserError(f"--device {args.device} should be {wrong}")
    if args.file and args.file.is_dir():
        raise UserError(f"-o {args.file} is a folder: name a file.")
    if args.export:
        others = (args.features, args.file, args.evaluate, args.errors, args.unsure, args.calibrate)
        if args.paths or any(others):
            raise UserError(
                "--export writes the network and labels nothing: leave out files and other options."
            )
        if args.export.suffix not in EXPORTS:
            raise UserError(
                f"--export {args.export}: the file should end in {' or '.join(EXPORTS)}."
            )
        return
    if args.calibrate:
        if args.paths or args.features or args.file or args.errors or args.evaluate:
            raise UserError(
                "--calibrate goes by the run's own validation samples and labels nothing: leave "
                "out files and other options."
            )
        return
    if args.unsure is not None and not 0 < args.unsure < 1:
        raise UserError(f"--unsure {args.unsure}: a probability between 0 and 1, such as 0.6.")
    args.evaluate = args.evaluate or args.errors is not None
    if args.features and (args.evaluate or args.unsure):
        raise UserError("--features are no classes: leave out --evaluate, --errors and --unsure.")
    if args.errors and args.errors.exists():
        if not args.errors.is_dir():
            raise UserError(f"--errors {args.errors} is a file: name a new folder.")
        if any(args.errors.iterdir()):
            raise UserError(f"--errors {args.errors} is not empty: name a new folder.")
    if not args.paths:
        raise UserError(
            f"nothing to {'evaluate' if args.evaluate else 'label'}: name pictures, .npz files for "
            "a run on vectors, tables for one on texts, or a folder of them. See tl-predict --help."
        )
    if args.workers < 0:
        raise UserError(f"--workers {args.workers}: at least 0, which decodes in this process.")
    if args.top < 1:
        raise UserError(f"--top {args.top}: at least 1.")
    if args.format and args.format not in FORMATS:
        raise UserError(
            f"--format {args.format}: no such format.{nearest(args.format, FORMATS)} There is: "
            f"{', '.join(FORMATS)}."
        )
    endings = {ending: kind for kind, ending in FORMATS.items() if ending}
    if args.file and not args.format and args.file.suffix not in endings:
        raise UserError(
            f"-o {args.file}: the file should end in {', '.join(endings)}, or name a --format."
        )
    args.format = args.format or (
        endings[args.file.suffix] if args.file else "csv" if args.features else "table"
    )
    if args.file and args.format == "table":
        raise UserError(
            "--format table is for the terminal: leave out -o, or name a .csv or .json file."
        )
    if args.features and args.format not in ("csv", "npz"):
        raise UserError(
            f"--features are numbers for another program: --format csv or npz, not {args.format}."
        )
    if not args.features and args.format == "npz":
        raise UserError("--format npz is for --features; classes go into csv or json.")
    if args.format == "npz" and not args.file:
        raise UserError("--format npz is for a file. Add -o features.npz.")


def predict(args: argparse.Namespace, trained: Trained) -> None:
    """Label the pictures and write what was found."""
    from tl_runner.predict import formats

    files = trained.named(args.paths)
    began = time.perf_counter()
    found = (
        trained.features(files, args.workers)
        if args.features
        else trained.predict(files, args.workers)
    )
    took = time.perf_counter() - began
    shown = formats.Shown(trained.classes, args.top, args.unsure)
    if args.evaluate:
        found = evaluated(args, trained, files, found)
    if args.file:
        try:
            args.file.write_bytes(formats.written(args.format, found, shown))
        except OSError as error:
            raise UserError(f"-o {args.file} cannot be written: {error.strerror}.") from error
    elif args.evaluate:
        pass  # the report stands in the place of the list
    elif args.format == "table":
        formats.show(found, shown)
    else:
        sys.stdout.write(formats.written(args.format, found, shown).decode(errors="replace"))
        sys.stdout.flush()
    if args.unsure and trained.classes:
        n = int((found.values.max(1) < args.unsure).sum())
        say(f"{n:,} of {len(found.files):,} below {args.unsure:g}: unsure")
    for file, why in [*found.unreadable.items()][:SHOWN]:
        say(f"not read: {file}: {why}")
    if len(found.unreadable) > SHOWN:
        say(f"not read: {len(found.unreadable) - SHOWN:,} more")
    for note in found.notes:
        say(note)
    where = f"{args.file} written: " if args.file else ""
    say(f"{where}{len(found.files):,} {trained.kind} in {took:.1f} s by {trained.describe()}")


def evaluated(
    args: argparse.Namespace, trained: Trained, files: Sequence[Path], found: Found
) -> Found:
    """Compare with the labels beside the files, print the report and write the errors; returns the
    predictions with these labels."""
    from dataclasses import replace

    from tl_runner.predict import evaluation
    from tl_runner.predict.inputs import Pictures

    data, classes = trained.config["data"], trained.classes
    if args.errors and not classes:
        raise UserError("--errors: this run predicts numbers, which are wrong by degrees.")
    labels = evaluation.labels_of(trained.inputs, files, args.paths, data, classes)
    result = evaluation.evaluate(found, labels, classes, trained.kind)
    if args.format == "json" and not args.file:
        print(evaluation.as_json(result, classes), end="")
    else:
        evaluation.show(result, classes, trained.kind)
    for note in result.notes:
        say(note)
    for key in evaluation.learned_from(args.paths, data):
        say(
            f"this is data.{key} of the run itself, which learned from a part of it: its own test "
            f"images alone are in {trained.folder / 'result.json'}"
        )
    if args.errors:
        copy = isinstance(trained.inputs, Pictures)
        wrong = evaluation.write_errors(args.errors, found, result, classes, copy)
        say(f"{args.errors} written: {wrong:,} wrong of {len(result.rows):,}")
    return replace(found, labels=tuple(labels.get(file, "") for file in found.files))


def say(text: str) -> None:
    print(text, file=sys.stderr)
