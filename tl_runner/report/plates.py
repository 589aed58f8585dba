"""Figures of the page: for each kind, the panels of all groups that left the evidence for it."""

from __future__ import annotations

from collections.abc import Sequence

from numpy.typing import NDArray

from tl_runner.report import evidence, markup
from tl_runner.report.figures import Panels
from tl_runner.report.remarks import shown_keys
from tl_runner.report.runs import Run
from tl_runner.report.similarity import correlations, points
from tl_runner.report.statistics import deviation, mean
from tl_runner.report.table import Row
from tl_runner.similarity import tsne

MOST = 12  # groups that get panels of their own
MOST_EMBEDDED = 6
_SCORES = (("accuracy", "accuracy, %"), ("mse", "mean squared error"))
# split, its title, metric, its title
_CURVES = (
    ("target_test", "target test", *_SCORES[0]),
    ("source_val", "source validation", *_SCORES[0]),
    ("target_val", "target validation", *_SCORES[0]),
    *(("meta_val", "validation tasks", *score) for score in _SCORES),
)


class Plates:
    """Builds plates for ``rows``; a group keeps its colour in all of them."""

    def __init__(self, rows: Sequence[Row]):
        self.table = rows
        self.rows = [row for row in rows if row.runs]
        self.panels = Panels()
        self._keys = [
            k
            for k in dict.fromkeys(["method", *shown_keys(rows, only_changed=True)])
            if k != "data"
        ]
        self._names = list(dict.fromkeys(self.name(row) for row in self.rows))
        self.split = rows[0].metric.name.rpartition(".")[0] or "target_test"
        self._found = {
            id(row): [f for run in row.runs if (f := evidence.predictions(run, self.split))]
            for row in self.rows
        }

    def _ranked(self, row: Row) -> list[tuple[NDArray, NDArray]]:
        """What each run of a group ranks the split's samples by, and their labels."""
        found = (evidence.predictions(run, self.split, ranked=True) for run in row.runs)
        return [one for one in found if one]

    def name(self, row: Row) -> str:
        """A group by what tells it from others of its data set: ``adda, gate 0.3``."""
        method, *others = (
            row.keys[k] if k == "method" else f"{k.rpartition('.')[2]} {row.keys[k]}"
            for k in self._keys
            if row.keys[k]
        )
        return ", ".join([str(method), *map(str, others)])

    def colour(self, row: Row) -> int:
        """The number of a group's colour."""
        return self._names.index(self.name(row))

    def _by_data(self) -> dict[str, list[Row]]:
        data = dict.fromkeys(str(row.keys["data"]) for row in self.rows)
        return {name: [row for row in self.rows if row.keys["data"] == name] for name in data}

    def learning_curves(self) -> str:
        """Accuracy, or the error of validation tasks, by epoch.

        A panel for each data set, phase and split.
        """
        panels, splits = [], set()
        for data, rows in self._by_data().items():
            for phase in evidence.phases(run for row in rows for run in row.runs):
                for split, of, metric, unit in _CURVES:
                    bands = {
                        self.colour(row): found
                        for row in rows
                        if (found := evidence.curve(row.runs, phase, split, metric))
                    }
                    if bands:
                        splits.add(split)
                        title = f"{of} {metric} by epoch, {data}, {phase}"
                        svg = self.panels.curves(
                            bands, "epoch", unit, title, percent=metric == "accuracy"
                        )
                        panels.append(markup.panel(data, svg, f"{phase}, {of}"))
        caption = (
            "After each epoch: mean over seeds, the band is one standard deviation to each side."
        )
        if "target_test" in splits:
            caption += (
                " Target test accuracy is recorded for this figure; only selection=oracle "
                "chooses by it."
            )
        return (
            markup.plate(panels, caption, markup.legend(dict(enumerate(self._names))))
            if panels
            else ""
        )

    def inner_steps(self) -> str:
        """Scores of few-shot test tasks by inner steps: a panel for each data set and metric."""
        panels = []
        for data, rows in self._by_data().items():
            for metric, unit in _SCORES:
                bands = {
                    self.colour(row): found
                    for row in rows
                    if (found := evidence.inner_steps(row.runs, metric))
                }
                if bands:
                    svg = self.panels.curves(
                        bands,
                        "inner steps",
                        unit,
                        f"{metric} by inner steps, {data}",
                        percent=metric == "accuracy",
                    )
                    panels.append(markup.panel(data, svg, "test tasks"))
        caption = (
            "Test tasks after each step of the inner loop: mean over seeds, the band is one "
            "standard deviation to each side."
        )
        return (
            markup.plate(panels, caption, markup.legend(dict(enumerate(self._names))))
            if panels
            else ""
        )

    def similarity(self) -> str:
        """Gains against the similarity of the domains: a panel for each measure."""
        panels = []
        for found in correlations(self.table):
            dots = [
                (self.colour(point.row), point.score, point.gain)
                for point in points(self.table, found.score)
            ]
            percent = self.rows[0].metric.percent
            dots = [(i, x, 100 * y) for i, x, y in dots] if percent else dots
            name = found.score.replace(".", ": ").replace("_", " ")
            svg = self.panels.scatter(
                dots, name, "gain, points" if percent else "gain", f"gain against {name}"
            )
            panels.append(
                markup.panel(name, svg, f"tau {found.tau:+.2f}, p {found.p:.3f}, {found.n} groups")
            )
        caption = (
            "Gain over the baseline against a score of the domains' similarity before transfer; a "
            "dot is a group's mean over seeds, tau "
            "Kendall's rank correlation. Transferability scores read target test labels, for the "
            "record alone."
        )
        return (
            markup.plate(panels, caption, markup.legend(dict(enumerate(self._names))))
            if panels
            else ""
        )

    def losses(self) -> str:
        """Values that the updates reported: a panel for each group and phase."""
        panels = []
        for row in self.rows[:MOST]:
            for phase in evidence.phases(row.runs):
                bands = evidence.losses(row.runs, phase)
                if bands:
                    numbered = dict(enumerate(bands.values()))
                    svg = self.panels.curves(
                        numbered,
                        "epoch",
                        "mean of the epoch",
                        f"losses, {self.name(row)}, {phase}",
                        percent=False,
                    )
                    title = f"{row.keys['data']}, {phase}"
                    panels.append(
                        markup.panel(
                            self.name(row), svg, title, markup.legend(dict(enumerate(bands)))
                        )
                    )
        return (
            markup.plate(
                panels, f"What each phase's updates reported, by epoch.{self._left_out(MOST)}"
            )
            if panels
            else ""
        )

    def confusions(self) -> str:
        """Confusion matrices, pooled over seeds."""
        panels = []
        for row in self._shown():
            counts = evidence.confusion(self._found[id(row)])
            classes = next(
                (names for run in row.runs if (names := class_names(run, len(counts)))),
                [str(i) for i in range(len(counts))],
            )
            svg = self.panels.confusion(
                counts, classes, f"confusion matrix, {self.name(row)}, {row.keys['data']}"
            )
            panels.append(markup.panel(self.name(row), svg, str(row.keys["data"])))
        caption = (
            f"Confusion on {self.split}, all seeds together: of each true class, the "
            "percentage predicted as each class."
        )
        return markup.plate(panels, caption + self._left_out(MOST)) if panels else ""

    def rocs(self) -> str:
        """ROC curves: a panel for each data set."""
        panels = []
        for data, rows in self._by_data().items():
            found = [(row, *curve) for row in rows if (curve := evidence.roc(self._ranked(row)))]
            if found:
                svg = self.panels.roc(
                    {self.colour(row): band for row, band, _ in found}, f"ROC, {data}"
                )
                areas = {
                    self.colour(row): f"{self.name(row)} {_plus_minus(each)}"
                    for row, _, each in found
                }
                panels.append(markup.panel(data, svg, "", markup.legend(areas)))
        caption = (
            f"ROC on {self.split}: each class against the rest, averaged over classes and seeds; "
            "the band is one standard "
            "deviation over seeds. Numbers are mean areas under the curve ± standard deviation."
        )
        return markup.plate(panels, caption) if panels else ""

    def reliabilities(self) -> str:
        """Reliability diagrams."""
        panels = []
        for row in self._shown():
            found = evidence.reliability(self._found[id(row)])
            svg = self.panels.reliability(
                found, f"reliability diagram, {self.name(row)}, {row.keys['data']}"
            )
            panels.append(
                markup.panel(
                    self.name(row),
                    svg,
                    f"{row.keys['data']}, ECE {_plus_minus(found.ece, percent=True)} %",
                )
            )
        caption = (
            f"Reliability on {self.split}: accuracy against mean confidence in {evidence.BINS} "
            "bins, all seeds together. Below the "
            "diagonal the network is surer than it is right. Bars: share of the images. ECE: "
            "expected calibration error."
        )
        return markup.plate(panels, caption + self._left_out(MOST)) if panels else ""

    def embeddings(self) -> str:
        """Source and target features before and after adaptation, one run a group."""
        panels = []
        runs = [(row, run) for row in self.rows for run in self._embedded(row)[:1]][:MOST_EMBEDDED]
        for row, run in runs:
            found = {when: evidence.embedding(run, when) for when in ("before", "after")}
            for when, clouds in found.items():
                if clouds:
                    svg = self.panels.points(
                        *clouds,
                        f"t-SNE of features {when} adaptation, {self.name(row)}, "
                        f"{row.keys['data']}",
                    )
                    panels.append(
                        markup.panel(
                            self.name(row), svg, f"{row.keys['data']}, {when}, seed {run.seed}"
                        )
                    )
        caption = (
            f"Features before and after adaptation by t-SNE, up to {tsne.POINTS} images of each "
            "domain: circles are source, "
            "triangles target. Each panel is an embedding of its own, so distances do not compare "
            "between panels."
        )
        return (
            markup.plate(
                panels, caption + self._left_out(MOST_EMBEDDED), markup.domains(), pairs=True
            )
            if panels
            else ""
        )

    def _embedded(self, row: Row) -> list[Run]:
        return [
            run
            for run in row.runs
            if run.status == "done" and (run.folder / "embeddings.npz").is_file()
        ]

    def _shown(self) -> list[Row]:
        return [row for row in self.rows if self._found[id(row)]][:MOST]

    def _left_out(self, most: int) -> str:
        return f" The first {most} of {len(self.rows)} groups." if len(self.rows) > most else ""


def class_names(run: Run, k: int) -> list[str]:
    """The names of ``k`` classes, if the run kept them."""
    names = run.result.get("classes")
    return [str(name) for name in names] if isinstance(names, list) and len(names) == k else []


def _plus_minus(values: Sequence[float], percent: bool = False) -> str:
    centre, spread = mean(values) or 0.0, deviation(values)
    form = (lambda v: f"{100 * v:.1f}") if percent else (lambda v: f"{v:.3f}")
    return form(centre) + ("" if spread is None else f" ± {form(spread)}")
