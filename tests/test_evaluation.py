"""Distances of sets of features: closed forms, and what must change nothing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from equisct.evaluation import frechet_distance, precision_recall
from tolerances import FLOAT64_ROUNDING


def points(seed: int, n: int = 60, d: int = 4) -> np.ndarray:
    """Features of a law of full rank."""
    generator = np.random.default_rng(seed)
    return generator.normal(size=(n, d)) @ generator.normal(size=(d, d)) + generator.normal(size=d)


def whitened(n: int, d: int) -> np.ndarray:
    """Points whose sample mean is 0 and whose sample covariance is the identity."""
    raw = points(0, n, d) - points(0, n, d).mean(0)
    return raw @ np.linalg.inv(np.linalg.cholesky(np.cov(raw, rowvar=False))).T


# --- the Fréchet distance ---


@given(st.integers(0, 10**6), st.integers(1, 5))
def test_is_zero_on_equal_sets_symmetric_and_blind_to_order(seed, d):
    a, b = points(seed, d=d), points(seed + 1, n=80, d=d)
    scale = np.abs(a).max() ** 2
    assert frechet_distance(a, a) <= 1e-9 * scale
    np.testing.assert_allclose(frechet_distance(a, b), frechet_distance(b, a), rtol=1e-7, atol=1e-9 * scale)
    shuffled = np.random.default_rng(seed).permutation(a)
    np.testing.assert_allclose(frechet_distance(shuffled, b), frechet_distance(a, b), rtol=1e-9, atol=1e-9 * scale)


@given(st.floats(-3, 3), st.lists(st.floats(0.1, 5), min_size=3, max_size=3))
def test_is_the_closed_form_of_gaussians_along_the_axes(shift, stds):
    a = whitened(50, 3)
    b = a * np.array(stds) + shift
    expected = 3 * shift**2 + np.square(1 - np.array(stds)).sum()
    np.testing.assert_allclose(frechet_distance(a, b), expected, rtol=1e-9, atol=1e-9)


def test_covariances_that_do_not_commute():
    """The trace of the root of `C_a C_b` by its own eigenvalues, which are real though it is not symmetric."""
    a, b = points(3), points(4)
    ca, cb = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    cross = np.sqrt(np.linalg.eigvals(ca @ cb).real).sum()
    expected = np.square(a.mean(0) - b.mean(0)).sum() + np.trace(ca) + np.trace(cb) - 2 * cross
    np.testing.assert_allclose(frechet_distance(a, b), expected, rtol=1e-9)


def test_features_without_spread():
    a = np.tile([[1.0, 2.0]], (5, 1))
    np.testing.assert_allclose(frechet_distance(a, a + [3.0, 4.0]), 25.0, rtol=FLOAT64_ROUNDING)


# --- precision and recall ---


def naive(data, samples, k):
    """Ball by ball."""

    def inside(points, centres):
        def radius(i):
            return sorted(np.linalg.norm(centres - centres[i], axis=1))[k]

        return [any(np.linalg.norm(p - c) <= radius(i) for i, c in enumerate(centres)) for p in points]

    return np.mean(inside(samples, data)), np.mean(inside(data, samples))


@given(st.integers(0, 10**6), st.integers(1, 4))
def test_agrees_with_the_definition_and_swaps_with_its_arguments(seed, k):
    data, samples = points(seed, n=12, d=2), points(seed + 1, n=9, d=2)
    found = precision_recall(data, samples, k=k)
    assert found == naive(data, samples, k)
    assert precision_recall(samples, data, k=k) == found[::-1]


def test_ends_of_the_scale():
    data = points(0)
    assert precision_recall(data, data) == (1.0, 1.0)
    assert precision_recall(data, data + 1e6) == (0.0, 0.0)
    one_place = np.tile(data[:1], (20, 1))
    found = precision_recall(data, one_place)
    assert found.precision == 1.0
    assert found.recall == 1 / len(data)


def test_large_sets_agree_with_small_ones():
    data, samples = points(5, n=1_500, d=8), points(6, n=1_500, d=8)
    whole = precision_recall(data, samples)
    shown = [np.square(data - row).sum(1) for row in samples[:20]]
    own = np.array([np.sort(np.square(data - row).sum(1))[3] for row in data])
    assert 0 < whole.precision < 1
    first = precision_recall(data, samples[:20], k=3)
    assert first.precision == np.mean([(distances <= own).any() for distances in shown])


BAD = {
    "one row": (lambda: frechet_distance(np.zeros((1, 2)), np.zeros((3, 2))), "a: expected two or more rows of 2"),
    "nan": (lambda: frechet_distance(np.zeros((3, 2)), np.full((3, 2), np.nan)), "b: expected .* finite"),
    "few rows": (lambda: precision_recall(np.zeros((4, 2)), np.zeros((3, 2))), "samples: expected more than k = 3"),
    "no neighbour": (lambda: precision_recall(np.zeros((4, 2)), np.zeros((4, 2)), k=0), "data: expected more than k"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_call_is_named(name):
    call, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        call()
