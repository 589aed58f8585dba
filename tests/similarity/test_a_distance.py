"""The distance and the picture of two domains, on made-up features."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tl_runner.record import embeddings, figures
from tl_runner.record.run_folder import RunFolder
from tl_runner.similarity import tsne
from tl_runner.similarity.a_distance import halves, proxy_a_distance


def clouds(n: int, d: int, shift: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    return draw.normal(size=(n, d)), draw.normal(size=(n, d)) + shift


@pytest.mark.parametrize("d", [1, 10, 500])
def test_domains_of_one_distribution_are_near_and_separated_ones_2_apart(d):
    same = [proxy_a_distance(*clouds(300, d, 0.0, seed), seed) for seed in range(5)]
    # where 500 features could tell any 300 fitted samples from any others
    assert np.mean(same) < 0.12
    assert proxy_a_distance(*clouds(300, d, 10.0)) == 2
    assert proxy_a_distance(*clouds(300, d, 0.0)) == proxy_a_distance(*clouds(300, d, 0.0))


def test_the_distance_is_2_minus_4_errors_of_the_held_out_halves():
    """Points on a line: a threshold errs on the known share of each domain, whichever half was
    fitted."""
    source, target = np.tile([[0.0], [0.0], [0.0], [1.0]], (100, 1)), np.ones((400, 1))
    draw = np.random.default_rng(0)
    held = halves(source, draw)[1]
    assert proxy_a_distance(source, target) == pytest.approx(2 * (1 - 2 * held.mean() / 2))
    one, other = halves(np.arange(7.0)[:, None], np.random.default_rng(1))
    assert sorted([*one[:, 0], *other[:, 0]]) == list(range(7))


def test_no_sample_is_measured_that_was_fitted(monkeypatch):
    from sklearn.linear_model import LogisticRegression

    fitted, measured = [], []
    fit, predict = LogisticRegression.fit, LogisticRegression.predict
    monkeypatch.setattr(
        LogisticRegression, "fit", lambda self, x, y: (fitted.append(x), fit(self, x, y))[1]
    )
    monkeypatch.setattr(
        LogisticRegression, "predict", lambda self, x: (measured.append(x), predict(self, x))[1]
    )
    proxy_a_distance(*clouds(50, 3, 1.0))
    seen = {tuple(row) for row in np.concatenate(fitted)}
    held = {tuple(row) for row in np.concatenate(measured)}
    assert (len(seen), len(held), seen & held) == (50, 50, set())


def test_a_larger_domain_weighs_no_more_and_equal_features_are_0_apart():
    source, target = clouds(2000, 2, 1.0)
    balanced = proxy_a_distance(source, target)
    assert proxy_a_distance(source, target[:300]) == pytest.approx(balanced, abs=0.15)
    assert proxy_a_distance(np.full((9, 3), 0.1), np.full((5, 3), 0.1)) == 0
    assert proxy_a_distance(np.zeros((2, 3)), np.ones((2, 3)), 1) == 2


def kept(tmp_path, **arrays) -> dict[str, np.ndarray]:
    folder = RunFolder(tmp_path)
    for when in embeddings.WHEN:
        own = {
            name.removeprefix(f"{when}_"): array
            for name, array in arrays.items()
            if name.startswith(when)
        }
        labels = {f"{domain}/labels": np.arange(len(array)) % 3 for domain, array in own.items()}
        embeddings.keep(folder, when, {**own, **labels} if own else {})
    return embeddings.load(folder)


def test_distances_and_figure_of_what_a_run_kept(tmp_path):
    (source, near), (_, far) = clouds(40, 6, 0.0), clouds(40, 6, 9.0)
    stored = kept(
        tmp_path, before_source=source, before_target=far, after_source=source, after_target=near
    )
    found = embeddings.a_distances(stored)
    assert found["before"] == 2
    assert found["after"] < 1
    tsne.tsne.cache_clear()
    for _ in range(2):
        figures.embedding(stored, "abc", tmp_path / "embedding.png", "made up")
    assert tsne.tsne.cache_info().misses == 2  # once for each set of features
    with Image.open(tmp_path / "embedding.png") as image:
        wide, high = image.size
    assert wide > 1.5 * high
    figures.embedding(
        {k: v for k, v in stored.items() if not k.startswith("before")},
        "abc",
        tmp_path / "after.png",
        "made up",
    )
    with Image.open(tmp_path / "after.png") as image:
        assert image.size[0] < image.size[1] * 1.1


@pytest.mark.parametrize(
    "arrays",
    [
        {},
        {"after_source": np.zeros((20, 3))},
        {"after_source": np.zeros((20, 3)), "after_target": np.zeros((20, 4))},
        {"after_source": np.zeros((20, 3)), "after_target": np.full((20, 3), np.inf)},
        {"after_source": np.zeros((1, 3)), "after_target": np.zeros((20, 3))},
    ],
)
def test_features_that_cannot_be_compared_have_neither(tmp_path, arrays):
    stored = kept(tmp_path, **arrays)
    assert embeddings.a_distances(stored) == {}
    figures.embedding(stored, "abc", tmp_path / "embedding.png", "made up")
    assert not (tmp_path / "embedding.png").exists()


def test_features_that_are_all_equal_have_a_distance_and_no_figure(tmp_path):
    stored = kept(tmp_path, after_source=np.zeros((20, 3)), after_target=np.zeros((20, 3)))
    assert embeddings.a_distances(stored) == {"after": 0.0}
    figures.embedding(stored, "abc", tmp_path / "embedding.png", "made up")
    assert not (tmp_path / "embedding.png").exists()
