"""A sweep's table in Markdown: target accuracy by method and data, and the gain over source_only paired by seed.

    python scripts/gains.py outputs/sweeps/RUN [more folders]

A method that pretrains as source_only does brings its own baseline: its ``pretrain`` phase is source_only's to the bit, so a
sweep without source_only gets that row all the same.
``±`` is the standard deviation over seeds; the interval is Student's 95 % for the mean of the paired differences; ``s.e.``
is the test set's own standard error, sqrt(p (1 - p) / n).
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

from scipy.stats import t as student


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("paths", nargs="+", type=Path)
    runs = [json.loads(file.read_text()) for path in parser.parse_args().paths for file in sorted(path.rglob("result.json"))]
    done = [r for r in runs if r["status"] == "done"]
    scores: dict[tuple[str, str], dict[int, float]] = {}
    tests: dict[str, int] = {}
    for r in done:
        cell = scores.setdefault((r["choices"]["method"], r["choices"]["data"]), {})
        if r["seed"] in cell and cell[r["seed"]] != 100 * r["score"]:
            raise SystemExit(f"two runs of {r['choices']} with seed {r['seed']}: give the folders of one experiment at a time.")
        cell[r["seed"]] = 100 * r["score"]
        pretrained = next((p["metrics"] for p in r["phases"] if p["name"] == "pretrain" and "metrics" in p), None)
        if pretrained:
            base = scores.setdefault(("source_only", r["choices"]["data"]), {})
            base.setdefault(r["seed"], 100 * pretrained["target_test"]["accuracy"])
        tests[r["choices"]["data"]] = r["sizes"]["target_test"]

    print("| method | data | target test, % (seeds) | each seed | gain over source_only, 95 % interval | s.e. of the test set |")
    print("| --- | --- | --- | --- | --- | --- |")
    for (method, data), by_seed in sorted(scores.items(), key=lambda item: (item[0][1], item[0][0] != "source_only")):
        values = [by_seed[s] for s in sorted(by_seed)]
        mean = statistics.mean(values)
        error = 100 * (mean / 100 * (1 - mean / 100) / tests[data]) ** 0.5
        each = ", ".join(f"{v:.1f}" for v in values)
        base = scores.get(("source_only", data), {})
        pairs = [by_seed[s] - base[s] for s in sorted(by_seed) if s in base] if method != "source_only" else []
        print(f"| {method} | {data} | {mean:.1f} ± {spread(values):.1f} ({len(values)}) | {each} | {interval(pairs)} | {error:.1f} |")
    others = [r for r in runs if r["status"] != "done"]
    for r in others:
        print(f"not in the table: {r['choices']['method']} on {r['choices']['data']}, seed {r['seed']}: {r['status']}: {r['error']}")


def spread(values: list[float]) -> float:
    """Standard deviation, 0 for one value."""
    return statistics.stdev(values) if len(values) > 1 else 0.0


def interval(differences: list[float]) -> str:
    """Mean of paired differences with Student's 95 % interval."""
    n = len(differences)
    if n < 2:
        return f"{differences[0]:+.1f}" if differences else ""
    mean, half = statistics.mean(differences), student.ppf(0.975, n - 1) * statistics.stdev(differences) / n**0.5
    return f"{mean:+.1f} [{mean - half:+.1f}, {mean + half:+.1f}]"


if __name__ == "__main__":
    main()
