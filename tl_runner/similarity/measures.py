"""The one table of similarity measures: how far two domains are apart, and how well features serve.

``tl-similarity``, the record of a run and the report all read it. NumPy and scikit-learn are
imported when a measure is computed, so that a table of names costs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

DISTANCES, TRANSFERABILITY = "distances", "transferability"  # the two kinds
# what a measure reads: features of both domains; or of the labelled target its features, or what a
# source classifier gives for it, as probabilities or as predicted classes
DOMAINS, FEATURES, PROBABILITIES, PREDICTIONS = (
    "domains",
    "features",
    "probabilities",
    "predictions",
)


@dataclass(frozen=True)
class Measure:
    """One similarity measure.

    Attributes:
        name: its key in ``result.json`` and in JSON output.
        title: its name in tables and figures.
        kind: distances, where lower is more similar, or transferability, where higher is better.
        function: ``module.function`` of this package.
        reads: its inputs: domains (source and target features), or beside the target's labels its
            features, probabilities or predictions.
        sample_limit: most samples of a domain that ``tl-similarity`` gives it; None: all. A measure
            with a limit is costly, and its interval is of fewer half-samples.
        section: the key of ``result.json`` that holds it, where that is not the kind.
    """

    name: str
    title: str
    kind: str
    function: str
    reads: str
    sample_limit: int | None = None
    section: str = ""

    @property
    def needs_labels(self) -> bool:
        """True if it reads labels of the target."""
        return self.reads != DOMAINS

    @property
    def lower_is_better(self) -> bool:
        return self.kind == DISTANCES

    @property
    def recorded_as(self) -> str:
        """Dotted name in ``result.json``, before or after transfer aside."""
        return self.section or f"{self.kind}.{self.name}"

    def compute(self, *inputs: Any) -> float:
        """Value of the measure, of what it reads and, if it needs them, labels (N,)."""
        module, _, function = self.function.partition(".")
        return float(getattr(import_module(f"tl_runner.similarity.{module}"), function)(*inputs))


MEASURES = (
    Measure(
        "a_distance",
        "proxy A-distance, 0 to 2",
        DISTANCES,
        "a_distance.proxy_a_distance",
        DOMAINS,
        sample_limit=2000,
        section="a_distance",
    ),
    Measure("mmd", "MMD²", DISTANCES, "distances.squared_mmd", DOMAINS, sample_limit=1000),
    Measure("coral", "CORAL", DISTANCES, "distances.coral_distance", DOMAINS),
    Measure("wasserstein", "Wasserstein, by feature", DISTANCES, "distances.wasserstein", DOMAINS),
    Measure(
        "sliced_wasserstein",
        "Wasserstein, sliced",
        DISTANCES,
        "distances.sliced_wasserstein",
        DOMAINS,
    ),
    Measure("logme", "LogME", TRANSFERABILITY, "transferability.logme", FEATURES),
    Measure("h_score", "H-score", TRANSFERABILITY, "transferability.h_score", FEATURES),
    Measure(
        "linear_probe",
        "linear probe, accuracy",
        TRANSFERABILITY,
        "transferability.linear_probe",
        FEATURES,
        sample_limit=2000,
    ),
    Measure("leep", "LEEP", TRANSFERABILITY, "transferability.leep", PROBABILITIES),
    Measure("nce", "NCE", TRANSFERABILITY, "transferability.nce", PREDICTIONS),
)
BY_NAME = {measure.name: measure for measure in MEASURES}
# keys of result.json that hold measures, each ``before`` and ``after`` transfer
SECTIONS = tuple(dict.fromkeys(measure.section or measure.kind for measure in MEASURES))
MMD_P = "mmd_p"  # p of the permutation test that goes with mmd, in the record


def inputs(measure: Measure, features: Any, probabilities: Any) -> Any:
    """Input that a measure with labels reads of the target, (N, ...).

    Args:
        features: (N, d).
        probabilities: of a source classifier's classes, (N, K).
    """
    return {
        FEATURES: lambda: features,
        PROBABILITIES: lambda: probabilities,
        PREDICTIONS: lambda: probabilities.argmax(1),
    }[measure.reads]()


def lower_is_better(name: str) -> bool:
    """True if less of a measure, or of ``mmd_p``, is better.

    Raises:
        KeyError: there is no such measure.
    """
    return False if name == MMD_P else BY_NAME[name].lower_is_better
