"""The grid of levels and the pair of levels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from equisct.discretization import LevelPair, karras_grid
from strategies import level_pairs, settings, untyped
from tolerances import FLOAT64_ROUNDING, half_unit

POINTS = st.integers(2, 200)
LOW, HIGH, RHO = settings(2**-10, 0.25), settings(1.0, 128.0), settings(1.0, 16.0)


@given(POINTS, LOW, HIGH, RHO)
def test_grid_ascends_between_exact_ends(points, sigma_min, sigma_max, rho):
    grid = karras_grid(points, sigma_min=sigma_min, sigma_max=sigma_max, rho=rho)
    assert grid.shape == (points,)
    assert grid.dtype == np.float64
    assert (grid[0], grid[-1]) == (sigma_min, sigma_max)
    assert np.all(np.diff(grid) > 0)


@given(POINTS, LOW, HIGH, RHO)
def test_grid_is_even_in_the_root(points, sigma_min, sigma_max, rho):
    root = karras_grid(points, sigma_min=sigma_min, sigma_max=sigma_max, rho=rho) ** (1 / rho)
    np.testing.assert_allclose(np.diff(root), (root[-1] - root[0]) / (points - 1), rtol=1e3 * FLOAT64_ROUNDING)


@given(POINTS)
def test_halving_the_intervals_keeps_the_points(points):
    np.testing.assert_allclose(karras_grid(2 * points - 1)[::2], karras_grid(points), rtol=FLOAT64_ROUNDING)


GRID_11 = """
0.002 0.0167207532 0.0850872027 0.318283289 0.965416926 2.51521898 5.83894763 12.3815761 24.4083418 45.3137341 80
"""
HEUN_LEVELS = """
80 57.5860 40.7856 28.3746 19.3525 12.9101 8.40094 5.31519 3.25682 1.92334 1.08817 0.585348 0.296442 0.139516 0.0599473
0.0229345 0.00752802 0.002
"""


@pytest.mark.parametrize(("levels", "printed"), [(karras_grid(11), GRID_11), (karras_grid(18)[::-1], HEUN_LEVELS)])
def test_printed_grids(levels, printed):
    for level, text in zip(levels, printed.split(), strict=True):
        assert abs(level - float(text)) <= half_unit(text)


@pytest.mark.parametrize(("index", "printed"), [(466, "0.660979"), (492, "0.820867"), (571, "1.525766")])
def test_levels_of_the_two_step_samplers(index, printed):
    assert abs(karras_grid(1281)[index] - float(printed)) <= half_unit(printed)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: karras_grid(1), ValueError, r"points: expected .* >= 2, found 1"),
        (lambda: karras_grid(9, sigma_min=0.0), ValueError, r"sigma_min: expected .* > 0, found 0"),
        (lambda: karras_grid(9, sigma_min=3.0, sigma_max=2.0), ValueError, r"sigma_min: expected less than sigma_max"),
        (lambda: karras_grid(9, rho=-1.0), ValueError, r"rho: expected .* > 0, found -1"),
        (lambda: karras_grid(untyped(9.0)), TypeError, "points"),
        (lambda: LevelPair.from_levels(1.0, 2.0), ValueError, r"expected t > r >= 0, found t = 1.0, r = 2.0"),
        (lambda: LevelPair(1.0, 1.0, 0.0), ValueError, "expected t > r"),
        (lambda: LevelPair.from_levels(1.0, -0.5), ValueError, "expected t > r >= 0"),
        (lambda: LevelPair(jnp.ones(2), 0.5, 0.5), TypeError, "t"),
    ],
)
def test_bad_calls(call, error, message):
    with pytest.raises(error, match=message):
        call()


@given(level_pairs())
def test_plain_pair_subtracts(levels):
    t, r = levels
    pair = LevelPair.from_levels(t, r)
    assert (pair.t, pair.r, pair.gap) == (t, r, t - r)


def test_pairs_to_zero_exist():
    assert LevelPair.from_levels(2, 0).gap == 2


def test_many_pairs_by_vmap():
    grid = jnp.asarray(karras_grid(5))
    pairs = jax.vmap(LevelPair)(grid[1:], grid[:-1], jnp.diff(grid))
    assert jnp.shape(pairs.t) == jnp.shape(pairs.r) == jnp.shape(pairs.gap) == (4,)
    np.testing.assert_array_equal(jax.vmap(LevelPair.from_levels)(grid[1:], grid[:-1]).gap, pairs.gap)
