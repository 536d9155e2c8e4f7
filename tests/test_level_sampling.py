"""Laws of the noise level and their tables."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from equisct.curriculum import Constant, Doubling, SquareRoot
from equisct.discretization import LevelPair, karras_grid
from equisct.level_sampling import AbstractLevelLaw, LevelTable, LogNormal, Uniform, independent, stratified
from strategies import keys, settings, untyped
from tolerances import FLOAT32_ROUNDING, FLOAT64_ROUNDING, half_unit

ICT = Doubling(period=1)
TABLE = LevelTable.from_curriculum(ICT, LogNormal())
BELOW_ONE = float(np.nextafter(np.float32(1), np.float32(0)))
LAWS = {"ict": LogNormal(), "edm": LogNormal(mean=-1.2, std=1.2), "uniform": Uniform()}


@eqx.filter_jit
def draw(table: LevelTable, stage, u) -> LevelPair:
    return jax.vmap(table.draw, in_axes=(None, 0))(stage, u)


def quadrature(grid, mean, std):
    """The law by the trapezium rule on the density, scaled by its largest value so that no tail underflows."""
    edges = (np.log(grid) - mean) / std
    z = np.linspace(edges[:-1], edges[1:], 4001)
    log_density = -(z**2) / 2
    mass = np.trapezoid(np.exp(log_density - log_density.max()), z, axis=0)
    return mass / mass.sum()


MEAN, STD = settings(-16.0, 16.0), settings(0.5, 4.0)


@given(st.integers(2, 40), MEAN, STD)
def test_log_normal_is_its_density(points, mean, std):
    grid = karras_grid(points)
    found = LogNormal(mean, std).probabilities(grid)
    assert np.all(found >= 0)
    assert abs(found.sum() - 1) < FLOAT64_ROUNDING
    np.testing.assert_allclose(found, quadrature(grid, mean, std), rtol=1e-3, atol=1e-6)


@given(st.integers(2, 40), settings(-300.0, 300.0), settings(2**-6, 8.0))
def test_log_normal_adds_up_on_finer_grids_in_any_tail(points, mean, std):
    law = LogNormal(mean, std)
    coarse = law.probabilities(karras_grid(points))
    fine = law.probabilities(karras_grid(2 * points - 1))
    np.testing.assert_allclose(fine.reshape(-1, 2).sum(axis=1), coarse, rtol=1e-6, atol=1e-6)


@given(MEAN, STD, settings(2**-6, 64.0))
def test_log_normal_moves_with_its_grid(mean, std, factor):
    grid = karras_grid(12)
    moved = LogNormal(float(mean + np.log(factor)), std).probabilities(factor * grid)
    np.testing.assert_allclose(moved, LogNormal(mean, std).probabilities(grid), rtol=1e-9, atol=1e-12)


def test_log_normal_is_a_mirror_image_of_itself():
    grid = np.exp(np.linspace(-3.0, 3.0, 8))
    for mean in (0.0, 2.0, 70.0):
        mirrored = LogNormal(-mean, 0.7).probabilities(grid)[::-1]
        np.testing.assert_allclose(LogNormal(mean, 0.7).probabilities(grid), mirrored, rtol=1e-9)


def test_uniform_is_even():
    np.testing.assert_array_equal(Uniform().probabilities(karras_grid(5)), np.full(4, 0.25))


P_11 = ".06263299 .18173698 .24550142 .21349445 .14244606 .08060462 .04107991 .01958009 .00894387 .00397961"

SANITY = """
11 1.472075e-2 34.6863 67.9313 0.028830 8.420 0.9654 6.263e-2 3.980e-3
21 4.265853e-3 19.4429 234.420 0.05143 17.453 0.5666 1.838e-2 1.588e-3
41 1.623326e-3 10.3007 616.019 0.09708 35.192 0.4272 6.686e-3 7.124e-4
81 7.089843e-4 5.3024 1410.47 0.18859 70.525 0.3693 2.822e-3 3.379e-4
161 3.314827e-4 2.6902 3016.75 0.37173 141.119 0.3430 1.294e-3 1.646e-4
321 1.602971e-4 1.3549 6238.42 0.73804 282.273 0.3430 6.193e-4 8.122e-5
641 7.882456e-5 0.6799 12686.4 1.47070 564.563 0.3367 3.030e-4 4.035e-5
1281 3.908582e-5 0.3406 25584.7 2.93603 1129.14 0.3367 1.498e-4 2.011e-5
"""


@pytest.mark.parametrize("row", [line.split() for line in SANITY.strip().splitlines()], ids=lambda row: row[0])
def test_sanity_table(row):
    grid = karras_grid(int(row[0]))
    p, gap = LogNormal().probabilities(grid), np.diff(grid)
    median = grid[1:][np.searchsorted(np.cumsum(p), 0.5)]
    found = [gap[0], gap[-1], 1 / gap[0], 1 / gap[-1], p @ (1 / gap), median, p[0], p[-1]]
    for value, text in zip(found, row[1:], strict=True):
        assert abs(value - float(text)) <= half_unit(text)


def test_printed_law():
    for value, text in zip(LogNormal().probabilities(karras_grid(11)), P_11.split(), strict=True):
        assert abs(value - float(text)) <= half_unit(text)


@pytest.mark.parametrize("name", LAWS)
def test_draws_follow_the_law_at_every_stage(name):
    """One draw from the middle of each of 2^14 slices: every interval gets its share to within two draws."""
    law, count = LAWS[name], 2**14
    table = LevelTable.from_curriculum(ICT, law)
    u = (jnp.arange(count) + 0.5) / count
    for stage, points in enumerate(ICT.points):
        grid = karras_grid(points)
        pair = draw(table, jnp.asarray(stage), u)
        drawn = np.bincount(np.searchsorted(grid, pair.r * 1.00001, side="right") - 1, minlength=points - 1)
        np.testing.assert_allclose(drawn, count * law.probabilities(grid), atol=2)


@given(st.integers(0, 7), keys())
def test_draw_is_the_inverse_of_the_cumulative_sum(stage, key):
    u = jr.uniform(key, (64,))
    grid = karras_grid(ICT.points[stage])
    cumulative = np.cumsum(LogNormal().probabilities(grid)).astype(np.float32)
    interval = np.searchsorted(cumulative, u, side="right")
    pair = draw(TABLE, jnp.asarray(stage), u)
    np.testing.assert_array_equal(pair.r, grid.astype(np.float32)[interval])
    np.testing.assert_array_equal(pair.t, grid.astype(np.float32)[interval + 1])
    np.testing.assert_array_equal(pair.gap, np.diff(grid).astype(np.float32)[interval])


@pytest.mark.parametrize("law", [LogNormal(), Uniform(), LogNormal(-50.0, 0.1), LogNormal(50.0, 0.1)], ids=repr)
@pytest.mark.parametrize(
    "curriculum", [ICT, SquareRoot(last=9, total_steps=40), Constant(2)], ids=lambda c: type(c).__name__
)
def test_no_draw_from_the_padding(law, curriculum):
    table = LevelTable.from_curriculum(curriculum, law)
    for stage, points in enumerate(curriculum.points):
        grid = karras_grid(points).astype(np.float32)
        pair = draw(table, jnp.asarray(stage), jnp.asarray([0.0, 0.5, BELOW_ONE, 1.0]))
        assert np.all(np.isin(pair.r, grid[:-1]))
        np.testing.assert_array_equal(pair.t, grid[np.searchsorted(grid, pair.r) + 1])
        assert np.all(np.asarray(pair.gap) > 0)


def test_intervals_of_probability_zero_are_never_drawn():
    table = LevelTable.from_curriculum(Constant(11), LogNormal(float(np.log(0.2)), 0.01))
    pair = draw(table, 0, jnp.asarray([0.0, 0.5, BELOW_ONE]))
    np.testing.assert_array_equal(pair.r, karras_grid(11).astype(np.float32)[[2, 2, 2]])


def test_gap_is_rounded_once():
    exact = np.diff(karras_grid(1281))
    np.testing.assert_array_equal(TABLE.gap[-1], exact.astype(np.float32))
    rounded = np.abs(np.diff(TABLE.grid[-1]) / exact - 1).max()
    assert rounded > 10 * FLOAT32_ROUNDING  # why it is not recomputed from the levels


def test_one_compilation_for_all_stages_and_tables_of_a_shape():
    traces = []

    @eqx.filter_jit
    def draw_counted(table, step, u):
        traces.append(step)
        return table.draw(ICT.stage(step), u)

    for table in (TABLE, LevelTable.from_curriculum(ICT, Uniform())):
        for step in range(10):
            pair = draw_counted(table, jnp.asarray(step), jnp.asarray(0.3))
            assert pair.t > pair.r
    assert len(traces) == 1


def test_draw_without_jit_and_in_float64(x64):
    pair = TABLE.draw(3, jnp.asarray(0.5))
    assert [leaf.dtype for leaf in jax.tree.leaves(pair)] == [jnp.float32] * 3
    assert pair.t > pair.r


@given(st.sampled_from([1, 5, 64]), keys())
def test_stratified_puts_one_number_in_each_slice(count, key):
    u = np.asarray(stratified(count, key=key))
    assert np.all((u >= 0) & (u < 1))
    np.testing.assert_allclose(u * count, np.arange(count) + 0.5, atol=0.5 + count * FLOAT32_ROUNDING)


def test_stratified_fills_its_slices():
    u = jax.vmap(lambda key: stratified(4, key=key))(jr.split(jr.key(0), 4096))
    np.testing.assert_allclose(jnp.mean(u, axis=0), (np.arange(4) + 0.5) / 4, atol=0.25 / 64 * 4 / np.sqrt(12))
    np.testing.assert_allclose(jnp.std(u, axis=0), 0.25 / np.sqrt(12), rtol=0.05)
    assert abs(np.corrcoef(np.asarray(u).T)[0, 1]) < 4 / 64


def test_stratified_stays_below_one(monkeypatch):
    monkeypatch.setattr("equisct.level_sampling.jr.uniform", lambda _, shape, *dtype: jnp.full(shape, BELOW_ONE))
    assert float(stratified(1000, key=jr.key(0)).max()) == BELOW_ONE


def test_independent_is_uniform():
    u = np.sort(np.asarray(independent(4096, key=jr.key(1))))
    assert np.all((u >= 0) & (u < 1))
    assert np.abs(u - (np.arange(4096) + 0.5) / 4096).max() < 2 / 64  # Kolmogorov-Smirnov: exceeded with p = 0.0007


class WrongLaw(AbstractLevelLaw):
    factor: float = 1.0
    extra: int = 0

    def probabilities(self, grid):
        return self.factor * np.full(len(grid) - 1 + self.extra, 1 / (len(grid) - 1))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: LogNormal(std=0.0), ValueError, r"std: expected .* > 0, found 0.0"),
        (lambda: LogNormal(mean=float("inf")), ValueError, r"mean: expected a finite number, found inf"),
        (
            lambda: LevelTable.from_curriculum(ICT, WrongLaw(extra=1)),
            ValueError,
            r"law: expected 10 probabilities, found shape \(11,\)",
        ),
        (
            lambda: LevelTable.from_curriculum(ICT, WrongLaw(factor=1.1)),
            ValueError,
            r"law: expected probabilities >= 0 of sum 1, found",
        ),
        (
            lambda: LevelTable.from_curriculum(ICT, WrongLaw(factor=-1.0)),
            ValueError,
            r"law: expected probabilities >= 0",
        ),
        (
            lambda: LevelTable.from_curriculum(ICT, Uniform(), sigma_min=90.0),
            ValueError,
            r"sigma_min: expected less than",
        ),
        (lambda: TABLE.draw(0, jnp.zeros(3)), TypeError, "u"),
        (lambda: TABLE.draw(untyped(0.5), jnp.zeros(())), TypeError, "stage"),
        (lambda: stratified(2, key=untyped(0)), TypeError, "key"),
    ],
)
def test_bad_calls(call, error, message):
    with pytest.raises(error, match=message):
        call()
