"""A sweep in one process with shared phases against the same runs one by one in processes of their
own: wall time, as a ratio.

    python scripts/bench_sweep.py                                # 3 methods x 2 data x 5 seeds at
    the shipped lengths: 40 minutes python scripts/bench_sweep.py --seeds 1 train.epochs=2       #
    other lengths; the rest of the line goes to tl-run python scripts/bench_sweep.py --workers 2
                   # the sweep in two processes of one thread each

Both are measured one after the other on the same machine, the sweep first. The parts, in seconds of
the processes that spent them: ``start`` is Python, imports and composing the config, ``data``
reading and rendering, ``rest`` the phases after the first, evaluation, figures and files. The last
line is the ratio, separate over shared. Every run's score must be the same both ways, except with
several workers: sums of floats depend on the number of threads.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

METHODS, DATA = "source_only,adda,adda_paper", "fonts2digits,digits2fonts"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("overrides", nargs="*", help="as for tl-run, for every run")
    parser.add_argument("--methods", default=METHODS)
    parser.add_argument("--data", default=DATA)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument(
        "--workers", type=int, default=1, help="processes of the sweep, by hydra/launcher=processes"
    )
    asked = parser.parse_args()
    seeds = ",".join(map(str, range(asked.seeds)))
    grid = [f"method={asked.methods}", f"data={asked.data}", f"seed={seeds}", *asked.overrides]
    with tempfile.TemporaryDirectory() as scratch:
        sweep = Path(scratch, "sweep")
        workers = (
            ["hydra/launcher=processes", f"hydra.launcher.n_jobs={asked.workers}"]
            if asked.workers > 1
            else []
        )
        shared_s = timed(
            "-m", *workers, *grid, f"hydra.sweep.dir={sweep}", f"cache.dir={scratch}/cache"
        )
        jobs = json.loads((sweep / "sweep.json").read_text())["jobs"]
        shared = [json.loads((sweep / job["folder"] / "result.json").read_text()) for job in jobs]
        separate, separate_s = [], 0.0
        for job in jobs:
            folder = Path(scratch, "separate", job["folder"])
            separate_s += timed(*job["overrides"], f"hydra.run.dir={folder}", "cache.phases=false")
            separate.append(json.loads((folder / "result.json").read_text()))
    assert asked.workers > 1 or [r["score"] for r in shared] == [r["score"] for r in separate], (
        "the two ways do not agree"
    )

    print(
        f"{len(jobs)} runs: {' '.join(grid)}; {os.cpu_count()} CPUs, "
        f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'not set')}"
    )
    print(f"{'':<22} {'wall s':>8} {'start':>8} {'data':>8} {'pretrain':>9} {'rest':>8}")
    for name, wall_s, results in (
        ("separate processes", separate_s, separate),
        (
            f"{'one process' if asked.workers == 1 else f'{asked.workers} processes'}, shared",
            shared_s,
            shared,
        ),
    ):
        data = sum(r["data_s"] for r in results)
        pretrain = sum(p["wall_s"] for r in results for p in r["phases"] if p["name"] == "pretrain")
        rest = sum(r["wall_s"] for r in results) - pretrain
        # with workers, waiting for the last one counts as start
        spent_s = wall_s * (asked.workers if results is shared else 1)
        print(
            f"{name:<22} {wall_s:>8.1f} {spent_s - data - pretrain - rest:>8.1f} {data:>8.1f} "
            f"{pretrain:>9.1f} {rest:>8.1f}"
        )
    print(f"{separate_s / shared_s:.3f}")


def timed(*words: str) -> float:
    """Seconds of one tl-run command."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "tl_runner", *words], check=True, capture_output=True)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
