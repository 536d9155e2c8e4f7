"""Distances of sets of features: closed forms, and what must change nothing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from equisct.evaluation import (
    FeatureMoments,
    bootstrap,
    check_comparable,
    density_coverage,
    energy_distance,
    frechet_at_infinity,
    frechet_distance,
    inception_score,
    kernel_distance,
    memorised_share,
    nearest,
    precision_recall,
    sliced_wasserstein,
    spread,
)
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


# --- moments ---


@given(st.integers(0, 10**6), st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_moments_of_parts_add_up_in_any_order_and_give_the_same_distance(seed, sizes):
    whole = points(seed, n=sum(sizes) + 2) + 1e3
    parts = [FeatureMoments.from_features(part) for part in np.split(whole, np.cumsum(sizes))]
    for order in (parts, parts[::-1]):
        total = sum(order[1:], start=order[0])
        assert total.count == len(whole)
        np.testing.assert_allclose(total.mean, whole.mean(0), rtol=FLOAT64_ROUNDING)
        np.testing.assert_allclose(total.covariance, np.cov(whole, rowvar=False), rtol=1e-7, atol=1e-8)
        other = points(seed + 1)
        np.testing.assert_allclose(frechet_distance(total, other), frechet_distance(whole, other), rtol=1e-7)


def test_moments_are_taken_in_float64():
    rows = (points(1, n=1000) + 4096).astype(np.float32)
    exact = rows.astype(np.float64)
    np.testing.assert_allclose(FeatureMoments.from_features(rows).covariance, np.cov(exact, rowvar=False), rtol=1e-9)


def test_fewer_samples_than_features():
    """Covariances of rank 3 in 50 dimensions, that of one law: still near the closed form of their parts."""
    a, b = points(0, n=4, d=50), points(1, n=4, d=50)
    assert frechet_distance(a, a) <= 1e-7 * np.trace(np.cov(a, rowvar=False))
    ca, cb = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    singular = np.linalg.svd((a - a.mean(0)) @ (b - b.mean(0)).T / 3, compute_uv=False)  # of C_a^1/2 C_b^1/2
    expected = np.square(a.mean(0) - b.mean(0)).sum() + np.trace(ca) + np.trace(cb) - 2 * singular.sum()
    np.testing.assert_allclose(frechet_distance(a, b), expected, rtol=1e-7)


def test_the_distance_at_infinity_takes_the_bias_of_size_away():
    """1,000 samples of the law itself: the plain distance to its exact moments is all bias."""
    d, n = 20, 1000
    law = FeatureMoments(10**12, np.zeros(d), np.eye(d) * (10**12 - 1))
    found = [np.random.default_rng(seed).normal(size=(n, d)) for seed in range(5)]
    plain = np.mean([frechet_distance(law, samples) for samples in found])
    beyond = np.mean([frechet_at_infinity(law, samples) for samples in found])
    assert plain > d / n
    assert abs(beyond) < 0.15 * plain


# --- the kernel distance ---


def naive_kernel_distance(a, b):
    """Pair by pair."""

    def k(x, y):
        return (x @ y / len(x) + 1) ** 3

    own = [np.mean([k(x, y) for i, x in enumerate(s) for j, y in enumerate(s) if i != j]) for s in (a, b)]
    return own[0] + own[1] - 2 * np.mean([k(x, y) for x in a for y in b])


@given(st.integers(0, 10**6))
def test_kernel_distance_is_its_definition_symmetric_and_blind_to_order(seed):
    a, b = points(seed, n=7, d=3), points(seed + 1, n=5, d=3)
    found = kernel_distance(a, b)
    scale = max(np.abs(naive_kernel_distance(a, b)), 1.0)
    np.testing.assert_allclose(found.value, naive_kernel_distance(a, b), atol=1e-9 * scale)
    np.testing.assert_allclose(kernel_distance(b, a), found, rtol=1e-6, atol=1e-9 * scale)
    np.testing.assert_allclose(kernel_distance(a[::-1], b), found, rtol=1e-6, atol=1e-9 * scale)


def test_kernel_distance_is_unbiased_and_its_error_is_that_over_new_samples():
    """Over 200 pairs of sets: of one law the mean is 0; of two, the error foretold is the spread found.

    Of one law it is larger than the spread, as its docstring says.
    """
    draw = np.random.default_rng(0)
    same, error = np.array(
        [kernel_distance(draw.normal(size=(40, 3)), draw.normal(size=(30, 3))) for _ in range(200)]
    ).T
    assert abs(np.mean(same)) < 4 * np.std(same) / np.sqrt(200)
    assert 1.25 < error.mean() / same.std(ddof=1) < 1.65
    apart = [kernel_distance(draw.normal(size=(80, 3)), 1 + draw.normal(size=(80, 3))) for _ in range(200)]
    found = np.array(apart)
    np.testing.assert_allclose(found[:, 1].mean(), found[:, 0].std(ddof=1), rtol=0.15)


def test_blocks_change_nothing(monkeypatch):
    a, b = points(0, n=50), points(1, n=45)

    def measured():
        neighbours = np.stack(nearest(a, b)).ravel()
        return [*kernel_distance(a, b), *density_coverage(a, b), energy_distance(a, b), *neighbours]

    whole = measured()
    for module in ("kernel", "neighbours", "vectors"):
        monkeypatch.setattr(f"equisct.evaluation.{module}.BLOCK", 16)
    np.testing.assert_allclose(measured(), whole, rtol=1e-9)


# --- the Inception score ---


def test_inception_score_at_the_ends_of_its_scale():
    sure = np.tile(np.eye(4), (25, 1))
    assert inception_score(sure, splits=5) == pytest.approx((4.0, 0.0, 5))
    assert inception_score(np.full((100, 4), 0.25), splits=5) == pytest.approx((1.0, 0.0, 5))


def test_inception_score_is_its_definition():
    raw = np.random.default_rng(0).uniform(0.1, 1, (30, 5))
    p = raw / raw.sum(1, keepdims=True)
    scores = []
    for part in np.split(p, 3):
        entropy = [np.sum(row * np.log(row / part.mean(0))) for row in part]
        scores.append(np.exp(np.mean(entropy)))
    assert inception_score(p, splits=3) == pytest.approx((np.mean(scores), np.std(scores, ddof=1), 3))


# --- density and coverage, copies ---


@given(st.integers(0, 10**6), st.integers(1, 4))
def test_density_and_coverage_are_their_definition(seed, k):
    data, samples = points(seed, n=12, d=2), points(seed + 1, n=9, d=2)
    radius = [sorted(np.linalg.norm(data - x, axis=1))[k] for x in data]
    inside = np.array([[np.linalg.norm(y - x) < r for x, r in zip(data, radius, strict=True)] for y in samples])
    found = density_coverage(data, samples, k=k)
    assert found == pytest.approx((inside.sum() / (k * len(samples)), inside.any(0).mean()))


def test_one_far_datum_moves_precision_but_not_density():
    """What density is for: the far datum's ball holds every sample."""
    data = np.concatenate([points(0, n=200, d=2), [[1e4, 1e4]]])
    samples = np.full((50, 2), 2_000.0)
    assert precision_recall(data, samples).precision == 1.0
    assert density_coverage(data, samples).density <= 1 / 5


@given(st.integers(0, 10**6))
def test_nearest_are_those_found_one_by_one(seed):
    data, samples = points(seed, n=20, d=3), points(seed + 1, n=8, d=3)
    found = nearest(data, samples)
    for i, y in enumerate(samples):
        distances = np.linalg.norm(data - y, axis=1)
        assert found.datum[i] == np.argmin(distances)
        np.testing.assert_allclose((found.distance[i], found.next_distance[i]), np.sort(distances)[:2], rtol=1e-9)


def test_copies_are_found_and_new_samples_are_not():
    data = points(0, n=300, d=8)
    copies = data[:40] + 1e-3
    fresh = np.random.default_rng(7).permutation(data, axis=0)[:60] + np.random.default_rng(8).normal(size=(60, 8)) * 5
    assert memorised_share(nearest(data, copies)) == 1.0
    assert memorised_share(nearest(data, fresh)) < 0.1
    np.testing.assert_array_equal(nearest(data, copies).datum, np.arange(40))


# --- vectors ---


@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 12))
def test_sliced_wasserstein_in_one_dimension_is_the_transport_of_sorted_values(seed, n, m):
    """Of each number as many copies as the other set has numbers: then both have `n m`, matched in order."""
    a, b = points(seed, n=n, d=1), points(seed + 1, n=m, d=1)
    matched = np.sort(np.repeat(a[:, 0], m)) - np.sort(np.repeat(b[:, 0], n))
    np.testing.assert_allclose(sliced_wasserstein(a, b), np.sqrt(np.mean(matched**2)), rtol=1e-9, atol=1e-12)


def test_sliced_wasserstein_of_a_shift():
    """A projection onto a random direction sees the shift's square by `1 / d` on average."""
    a, shift = points(0, n=100, d=3), np.array([3.0, 0.0, 4.0])
    found = sliced_wasserstein(a, a + shift, directions=20_000)
    np.testing.assert_allclose(found, np.sqrt(25 / 3), rtol=0.02)
    assert sliced_wasserstein(a, a) == 0.0
    assert sliced_wasserstein(a, a + shift, seed=1) == sliced_wasserstein(a + shift, a, seed=1)


def test_energy_distance_is_its_definition_and_unbiased():
    a, b = points(0, n=6, d=2), points(1, n=5, d=2)

    def mean(x, y, pairs):
        return sum(np.linalg.norm(p - q) for p in x for q in y) / pairs

    expected = 2 * mean(a, b, 30) - mean(a, a, 30) - mean(b, b, 20)
    np.testing.assert_allclose(energy_distance(a, b), expected, rtol=1e-12)
    draw = np.random.default_rng(0)
    same = [energy_distance(draw.normal(size=(20, 2)), draw.normal(size=(15, 2))) for _ in range(300)]
    assert abs(np.mean(same)) < 4 * np.std(same) / np.sqrt(300)


# --- how sure ---


def test_spread_is_mean_and_deviation_and_of_one_run_says_that_there_is_none():
    assert spread([1.0, 2.0, 6.0]) == pytest.approx((3.0, np.sqrt(7.0), 3))
    assert np.isnan(spread([1.0]).std)


def test_bootstrap_intervals_hold_the_truth_as_often_as_they_say():
    """Of the mean of 40 numbers, over 200 sets: 90 % give or take three standard errors (and the small set's)."""
    draw, held = np.random.default_rng(0), 0
    for trial in range(200):
        rows = draw.normal(size=(40, 1))
        found = bootstrap(lambda x: x.mean(), rows, level=0.9, seed=trial)
        held += found.low <= 0 <= found.high
        assert found.low <= found.value <= found.high
    assert 0.82 <= held / 200 <= 0.96


def test_the_interval_reflects_the_resamples_about_the_value():
    """Of a statistic that resampling biases upwards, the interval reaches further down."""
    rows = points(0, n=30, d=1)
    statistic = lambda x: 1 / len(np.unique(x))
    found = bootstrap(statistic, rows, resamples=50, level=0.8, seed=3)
    draw = np.random.default_rng(3)
    again = [statistic(rows[draw.integers(30, size=30)]) for _ in range(50)]
    low, high = np.quantile(again, [0.1, 0.9])
    np.testing.assert_allclose(found, (1 / 30, 2 / 30 - high, 2 / 30 - low), rtol=1e-12)
    assert found.high < found.value


BAD = {
    "one row": (lambda: frechet_distance(np.zeros((1, 2)), np.zeros((3, 2))), "a: moments: expected two or more rows"),
    "nan": (lambda: frechet_distance(np.zeros((3, 2)), np.full((3, 2), np.nan)), "b: features: .* 3 not finite"),
    "columns": (
        lambda: frechet_distance(
            FeatureMoments.from_features(np.ones((3, 2))), FeatureMoments.from_features(np.ones((3, 4)))
        ),
        "b: expected 2 features, found 4",
    ),
    "moments": (
        lambda: FeatureMoments.from_features(np.ones((2, 3))) + FeatureMoments.from_features(np.ones((2, 4))),
        "expected 3 features, found 4",
    ),
    "no rows": (lambda: FeatureMoments.from_features(np.zeros((0, 3))), "features: expected one or more rows"),
    "sizes": (lambda: frechet_at_infinity(points(0), points(1), sizes=[60, 60]), "sizes: expected different numbers"),
    "size": (lambda: frechet_at_infinity(points(0), points(1), sizes=[10, 61]), "sizes: expected .* 2 to the 60"),
    "few rows": (lambda: precision_recall(np.zeros((4, 2)), np.zeros((3, 2))), "samples: expected more than 3 rows"),
    "no neighbour": (lambda: precision_recall(np.zeros((4, 2)), np.zeros((4, 2)), k=0), "data: .* k >= 1, found"),
    "few data": (lambda: density_coverage(np.zeros((5, 2)), np.zeros((1, 2))), "data: expected more than 5 rows"),
    "no samples": (lambda: nearest(np.zeros((5, 2)), np.zeros((0, 2))), "samples: expected more than 0 rows"),
    "ratio": (lambda: memorised_share(nearest(points(0), points(1)), ratio=0.0), r"ratio: expected .* \(0, 1\]"),
    "kernel": (lambda: kernel_distance(np.zeros((3, 2)), np.zeros((1, 2))), "b: expected two or more rows of 2"),
    "no probabilities": (lambda: inception_score(np.ones((4, 3))), "probabilities: expected rows >= 0 that add up"),
    "splits": (lambda: inception_score(np.full((4, 2), 0.5), splits=5), "splits: expected 1 to the 4 rows, found 5"),
    "vectors": (lambda: sliced_wasserstein(np.zeros((2, 2)), np.zeros((0, 2))), "b: expected 1 or more rows of 2"),
    "directions": (lambda: sliced_wasserstein(points(0), points(1), directions=0), "directions: expected one or more"),
    "energy": (lambda: energy_distance(np.zeros((1, 2)), np.zeros((2, 2))), "a: expected 2 or more rows of 2"),
    "values": (lambda: spread([1.0, float("nan")]), "values: expected one or more finite numbers"),
    "level": (lambda: bootstrap(lambda x: 0.0, points(0), level=1.0), "resamples, level: expected"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_call_is_named(name):
    call, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        call()


def test_fewer_than_two_records_have_nothing_to_differ_in():
    """A report may be of runs without evaluations."""
    check_comparable({})
    check_comparable({"one": {"pipeline": {}}})
