"""The arithmetic of a map: axes that come from blocks are those of all vectors at once."""

from __future__ import annotations

import sys
from types import ModuleType

import numpy as np
import pytest

from db.errors import UsageError
from producer.results import projection
from producer.results.projection import PACMAP_LEAST, Moments


def made(count: int = 500, dim: int = 24, *, seed: int = 3) -> np.ndarray:
    """Vectors of all lengths that lie mostly along three directions."""
    chance = np.random.default_rng(seed)
    spread = np.diag([9.0, 5.0, 2.0, *[0.3] * (dim - 3)])
    turned, _ = np.linalg.qr(chance.normal(size=(dim, dim)))
    vectors = chance.normal(size=(count, dim)) @ spread @ turned + 4 * turned[-1]
    return (vectors * chance.uniform(0.1, 30, (count, 1))).astype(np.float32)


def of_blocks(vectors: np.ndarray, size: int, most: int = 2) -> projection.Axes:
    moments = Moments(vectors.shape[1])
    for start in range(0, len(vectors), size):
        moments.add(vectors[start : start + size].copy())
    return moments.axes(most)


def test_axes_of_blocks_are_those_of_the_singular_value_decomposition() -> None:
    vectors = made()
    exact = vectors.astype(np.float64)
    exact /= np.linalg.norm(exact, axis=1, keepdims=True)
    centred = exact - exact.mean(axis=0)
    _, singular, directions = np.linalg.svd(centred, full_matrices=False)
    expected = centred @ directions[:2].T
    for size in (37, 1000):
        axes = of_blocks(vectors, size)
        places = projection.placed(vectors.copy(), axes)
        assert places.dtype == np.float32
        turned = np.sign((places * expected).sum(axis=0))
        np.testing.assert_allclose(places * turned, expected, atol=2e-5)
        share = (singular[:2] ** 2).sum() / (singular**2).sum()
        assert axes.variance_share == pytest.approx(share, abs=1e-6)


def test_a_map_made_anew_is_not_turned_over() -> None:
    vectors = made()
    one, other = of_blocks(vectors, 100), of_blocks(vectors[::-1], 77)
    np.testing.assert_allclose(one.axes, other.axes, atol=1e-4)
    for seed in range(8):
        axes = of_blocks(made(50, 9, seed=seed), 50).axes
        assert (axes.max(axis=1) >= -axes.min(axis=1)).all()


def test_one_vector_and_one_number_have_a_place() -> None:
    alone = made(1)
    assert not projection.placed(alone.copy(), of_blocks(alone, 1)).any()
    assert of_blocks(alone, 1).variance_share == 0
    narrow = np.array([[2.0], [-3.0]], np.float32)
    places = projection.placed(narrow.copy(), of_blocks(narrow, 5))
    np.testing.assert_allclose(places, [[1, 0], [-1, 0]])


def test_pacmap_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pacmap", None)
    with pytest.raises(UsageError, match=r"pip install '\.\[map\]'"):
        projection.pacmap(made(PACMAP_LEAST))
    monkeypatch.setitem(sys.modules, "pacmap", ModuleType("pacmap", "of another program"))
    with pytest.raises(UsageError, match=r"pip install '\.\[map\]'"):
        projection.pacmap(made(PACMAP_LEAST))
    monkeypatch.setattr(sys.modules["pacmap"], "PaCMAP", None, raising=False)
    with pytest.raises(UsageError, match="needs 32 videos at least, here are 31"):
        projection.pacmap(made(PACMAP_LEAST - 1))
