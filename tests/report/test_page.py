"""The HTML page: complete, escaped, self-contained, small, and whole in a browser at both widths
and in both schemes.

Its runs are made up, thirty of them.
"""

from __future__ import annotations

import json
import re
import shutil
import time
from html.parser import HTMLParser

import numpy as np
import pytest

from support.reports import made_up_run, with_evidence
from tl_runner.report import evidence
from tl_runner.report.page import page
from tl_runner.report.runs import collect
from tl_runner.report.selection_cost import regrets
from tl_runner.report.table import rows

HOSTILE = "<script>alert(1)</script> & \"quoted\" 'too' \x1b[31m"
METHODS = {"source_only": 0.43, "dan": 0.78, "adda": 0.93}
# what Chromium must not do in a test: fetch, update, sync
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def thirty(tmp_path_factory):
    """Three methods on two data sets, five seeds each; one failed, one never began, one is
    hostile."""
    root = tmp_path_factory.mktemp("runs")
    draw, jobs = np.random.default_rng(0), []
    for method, base in METHODS.items():
        for data in ("fonts2digits", "mnist2usps"):
            for seed in range(5):
                name = f"{len(jobs)}-{method}-{data}-s{seed}"
                choices = {"method": method, "data": data, "backbone": "lenet", "device": "cpu"}
                jobs.append(
                    {
                        "folder": name,
                        "overrides": [f"method={method}", f"seed={seed}"],
                        "choices": choices,
                        "seed": seed,
                    }
                )
                accuracy = base + draw.uniform(-0.04, 0.04)
                if (method, data, seed) == ("dan", "mnist2usps", 4):
                    continue
                if (method, data, seed) == ("adda", "fonts2digits", 3):
                    made_up_run(
                        root / name,
                        method,
                        seed,
                        None,
                        data=data,
                        error=HOSTILE + "\n" + "/no/space" * 60,
                    )
                    continue
                with_evidence(
                    made_up_run(
                        root / name,
                        method,
                        seed,
                        accuracy,
                        data=data,
                        warnings=[HOSTILE],
                        protocol=HOSTILE,
                        selection="last",
                        classes=[HOSTILE + "$x$", *"123456789"],
                        notes={"target_test": {"auc_macro": "no image of class 3"}},
                    ),
                    accuracy,
                    seed,
                    images=200,
                )
    (root / "sweep.json").write_text(json.dumps({"jobs": jobs}))
    return root


@pytest.fixture(scope="module")
def written(thirty, tmp_path_factory):
    """The page on the disk."""
    runs = collect([thirty])
    started = time.perf_counter()
    text = page(rows(runs), runs)
    print(f"{time.perf_counter() - started:.1f} s, {len(text) / 1e6:.2f} MB")
    file = tmp_path_factory.mktemp("page") / "report.html"
    file.write_text(text, encoding="utf-8")
    return file


class Outline(HTMLParser):
    """Ids, links, and whether every tag is closed."""

    def __init__(self, text: str):
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.sections: list[str] = []
        self.tags: set[str] = set()
        self._open: list[str] = []
        self.feed(text)
        assert not self._open

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.tags.add(tag)
        self.ids += [found["id"]] if "id" in found else []
        self.sections += [found["id"]] if tag == "section" else []
        self.links += [
            value for key, value in found.items() if key in ("href", "xlink:href", "src")
        ]
        if tag not in ("meta", "link", "br"):
            self._open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in ("meta", "link", "br"):
            self._open.pop()

    def handle_endtag(self, tag):
        assert self._open.pop() == tag


def test_the_page_is_whole_small_and_escaped(written):
    text = written.read_text()
    assert len(text.encode()) < 5e6
    outline = Outline(text)
    assert outline.sections == [
        "results",
        "absent",
        "tests",
        "curves",
        "regret",
        "confusion",
        "roc",
        "reliability",
        "embeddings",
        "runs",
    ]
    assert len(outline.ids) == len(set(outline.ids))
    assert "script" not in outline.tags
    assert text.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 28
    assert "\x1b" not in text
    assert all(link.startswith(("#", "data:")) for link in outline.links)
    assert {link[1:] for link in outline.links if link.startswith("#")} <= set(outline.ids)
    assert not re.search(r"url\((?!#)|@import|DejaVu Sans'", text)
    assert text.count('<details class="run">') == 30
    assert "30 runs: 28 done, 1 failed, 1 missing" in text


def test_the_same_runs_give_the_same_page(tmp_path):
    for i, (method, seed) in enumerate([("adda", 0), ("adda", 1), ("dan", 1)]):
        with_evidence(made_up_run(tmp_path / str(i), method, seed, 0.9), 0.9, seed, images=40)
    runs = collect([tmp_path])
    assert page(rows(runs), runs) == page(rows(runs[::-1]), runs[::-1])


@pytest.mark.parametrize(
    "name", ["predictions.npz", "embeddings.npz", "metrics.jsonl", "environment.json"]
)
def test_the_page_does_without_what_a_run_did_not_leave(tmp_path, capsys, name):
    for seed in (0, 1):
        folder = with_evidence(
            made_up_run(tmp_path / str(seed), "adda", seed, 0.9), 0.9, seed, epochs=3, images=40
        )
        (folder / name).unlink()
    runs = collect([tmp_path])
    Outline(page(rows(runs), runs))
    assert not capsys.readouterr().err
    (folder / name).write_bytes(b"PK\x03\x04 damaged")
    runs = collect([tmp_path])
    Outline(page(rows(runs), runs))
    assert name in capsys.readouterr().err


def test_a_pickle_in_an_archive_is_not_opened(tmp_path, capsys):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("unpickled",))

    folder = made_up_run(tmp_path / "0", "adda", 0, 0.9)
    trap = np.array([Trap()], dtype=object)
    np.savez(
        folder / "predictions.npz",
        **{"target_test/probabilities": trap, "target_test/labels": trap},
        allow_pickle=True,
    )
    (run,) = collect([tmp_path])
    assert evidence.predictions(run, "target_test") is None
    assert "predictions.npz cannot be read" in capsys.readouterr().err


def test_predictions_that_do_not_fit_are_left_out(tmp_path):
    folder = made_up_run(tmp_path / "0", "adda", 0, 0.9)
    p = np.full((4, 3), 1 / 3)
    for probabilities, labels in (
        (p, [0, 1, 2, 3]),
        (p, [0, 1]),
        (p * np.nan, [0, 1, 2, 0]),
        (p[0], [0, 1, 2]),
        (p, [0.0, 1, 2, 0]),
    ):
        np.savez(
            folder / "predictions.npz",
            **{"target_test/probabilities": probabilities, "target_test/labels": np.array(labels)},
        )
        assert evidence.predictions(collect([tmp_path])[0], "target_test") is None


def test_roc_and_calibration_equal_a_count_by_hand():
    draw = np.random.default_rng(0)
    y = draw.integers(0, 4, 200)
    p = draw.dirichlet(np.ones(4), 200)
    found = evidence.reliability([(p, y)])
    top, hit, ece = p.max(1), p.argmax(1) == y, 0.0
    for i in range(15):
        inside = (top > i / 15) & (top <= (i + 1) / 15)
        if inside.any():
            ece += inside.mean() * abs(hit[inside].mean() - top[inside].mean())
    assert found.ece == [pytest.approx(ece)]
    curve, areas = evidence.roc([(p, y)])
    assert np.trapezoid(curve.mean, curve.x) == pytest.approx(areas[0], abs=0.01)
    counts = evidence.confusion([(p, y), (p, y)])
    assert counts.sum() == 400
    assert counts[2, 3] == 2 * ((y == 2) & (p.argmax(1) == 3)).sum()


def test_bands_are_means_and_deviations_over_seeds():
    found = evidence.band(
        [(np.array([1, 2, 3]), np.array([1.0, 2.0, 3.0])), (np.array([1, 2]), np.array([3.0, 2.0]))]
    )
    assert found.mean.tolist() == [2, 2, 3]
    assert found.std.tolist() == [pytest.approx(2**0.5), 0, 0]


def test_regret_by_hand(tmp_path):
    folder = made_up_run(tmp_path / "0", "adda", 0, 0.7)
    epochs = []
    for epoch, truth, val, im in ((1, 0.6, 0.9, 1.0), (2, 0.9, 0.95, 1.0), (3, 0.7, 0.95, 0.5)):
        row = {"phase": "adapt", "epoch": epoch, "step": epoch}
        epochs += [
            {**row, "split": "target_test", "accuracy": truth},
            {**row, "split": "source_val", "accuracy": val},
        ]
        epochs += [
            {**row, "split": "target_train", "im": im, **({"bnm": 1.0} if epoch > 1 else {})}
        ]
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, epochs)))
    (run,) = collect([tmp_path])
    # ties go to the first epoch; bnm was not recorded at every epoch, so it has no say
    assert regrets(run) == {
        "best": 0.9,
        "last": pytest.approx(0.2),
        "source_val": 0.0,
        "im": pytest.approx(0.3),
    }
    (folder / "metrics.jsonl").write_text(
        "\n".join(json.dumps(e) for e in epochs if e["split"] != "target_test")
    )
    assert regrets(collect([tmp_path])[0]) == {}


# ---- in a browser

LAYOUT = """() => {
  const wrong = [];
  const wide = document.documentElement.clientWidth;
  const name = (e) => `${e.tagName} "${e.textContent.trim().slice(0, 30)}"`;
  const whole = document.documentElement.scrollWidth;
  if (whole > wide) wrong.push(`page is ${whole} wide`);
  const readable = "td, th, p, h1, h2, li, dd, pre, summary, figcaption";
  for (const e of document.querySelectorAll(readable)) {
    const box = e.getBoundingClientRect();
    if (!box.width) continue;
    if (e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).display !== "inline")
      wrong.push(`cut: ${name(e)}`);
    if (!e.closest(".scroll") && (box.right > wide + 1 || box.left < -1))
      wrong.push(`outside: ${name(e)}`);
  }
  for (const svg of document.querySelectorAll(".panel > svg")) {
    const frame = svg.getBoundingClientRect();
    const texts = [...svg.querySelectorAll("text")].map((t) => [t, t.getBoundingClientRect()]);
    for (const [t, b] of texts) {
      const scale = frame.width / svg.viewBox.baseVal.width;
      const size = parseFloat(getComputedStyle(t).fontSize) * scale;
      if (size < 11) wrong.push(`small: ${name(t)} ${size}`);
      if (b.left < frame.left - 2 || b.right > frame.right + 2
          || b.top < frame.top - 2 || b.bottom > frame.bottom + 2)
        wrong.push(`clipped: ${name(t)} in ${svg.getAttribute("aria-label")}`);
      for (const [u, c] of texts)
        if (u !== t && Math.min(b.right, c.right) - Math.max(b.left, c.left) > 2
            && Math.min(b.bottom, c.bottom) - Math.max(b.top, c.top) > 4)
          wrong.push(`overlap: ${name(t)}, ${name(u)}`);
    }
  }
  return wrong;
}"""


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if not chromium:
        pytest.skip("there is no chromium on PATH")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield opened
        opened.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 768, 420])
def test_nothing_is_cut_or_overlaps_in_a_browser(browser, written, width, scheme):
    view = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    said: list[str] = []
    view.on("console", lambda message: said.append(message.text))
    view.on("pageerror", lambda error: said.append(str(error)))
    view.on(
        "request",
        lambda request: (
            said.append(request.url) if not request.url.startswith(("file:", "data:")) else None
        ),
    )
    view.goto(written.as_uri())
    assert view.locator(".panel > svg").count() >= 30
    view.evaluate("document.querySelectorAll('details').forEach((d) => (d.open = true))")
    assert view.evaluate(LAYOUT) == []
    paper, ink = view.evaluate(
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
    )
    light = [sum(map(int, re.findall(r"\d+", value)[:3])) > 380 for value in (paper, ink)]
    assert light == ([True, False] if scheme == "light" else [False, True])
    assert (
        view.evaluate("getComputedStyle(document.querySelector('.panel > svg text')).fill") == ink
    )
    assert said == []
    view.close()


def test_few_shot_runs_show_their_scores_by_inner_steps(tmp_path):
    """Made-up runs: two methods, one of which left a curve that cannot be read."""
    from tl_runner.report.evidence import inner_steps
    from tl_runner.report.plates import Plates
    from tl_runner.report.runs import collect
    from tl_runner.report.table import rows

    for method, seed, curve in (
        ("maml", 0, [3.0, 1.0]),
        ("maml", 1, [5.0, 2.0]),
        ("anil", 0, "no numbers"),
    ):
        folder = tmp_path / f"{method}{seed}"
        folder.mkdir()
        content = {
            "status": "done",
            "seed": seed,
            "score": 1.0,
            "metric": "mse",
            "choices": {"method": method, "data": "sinusoid"},
        }
        content |= {
            "curve": {"meta_test": {"steps": [0, 1], "mse": curve, "ci95": [0, 0]}},
            "metrics": {"meta_test": {"mse": 1.0}},
        }
        (folder / "result.json").write_text(json.dumps(content))
    runs = collect([tmp_path])
    found = inner_steps([run for run in runs if run.choices["method"] == "maml"], "mse")
    assert found.mean.tolist() == [4.0, 1.5]
    assert found.n == 2
    assert inner_steps([run for run in runs if run.choices["method"] == "anil"], "mse") is None
    assert inner_steps(runs, "accuracy") is None
    plate = Plates(rows(runs)).inner_steps()
    assert "mean squared error" in plate
    assert plate.count("mse by inner steps, sinusoid") >= 1
