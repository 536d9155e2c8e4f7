"""Curricula: integers in, integers out."""

import math
from fractions import Fraction

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from equisct.curriculum import Constant, Doubling, SquareRoot
from strategies import untyped
from tolerances import FLOAT32_ROUNDING, FLOAT64_ROUNDING, half_unit

STEPS = jnp.arange(64)
LAST_STEP = 2**31 - 1

CATALOGUE = {
    "constant": lambda: Constant(17),
    "doubling": lambda: Doubling(first=3, last=20, period=7),
    "doubling, one stage": lambda: Doubling(first=5, last=5, period=7),
    "ict": lambda: Doubling.from_total(60),
    "square root": lambda: SquareRoot(last=12, total_steps=50),
    "square root, counts skipped": lambda: SquareRoot(last=40, total_steps=11),
}


def points_at(curriculum, steps):
    return np.asarray(curriculum.points)[np.asarray(jax.vmap(curriculum.stage)(steps))]


def square_root_intervals(step, first, last, total_steps):
    """The formula of the paper in exact arithmetic: the least m >= 1 with (m + 1)^2 >= the square root's argument."""
    square = Fraction(step, total_steps) * ((last + 1) ** 2 - first**2) + first**2
    return next(m for m in range(1, 10_000) if (m + 1) ** 2 >= square)


@pytest.mark.parametrize("name", CATALOGUE)
def test_laws_of_every_curriculum(name):
    curriculum = CATALOGUE[name]()
    points = curriculum.points
    assert all(isinstance(n, int) and n >= 2 for n in points)
    assert list(points) == sorted(set(points))
    stages = np.asarray(jax.vmap(curriculum.stage)(STEPS))
    assert stages[0] == 0
    assert set(np.diff(stages)) <= {0, 1} or "skipped" in name
    assert np.all(np.diff(stages) >= 0)
    assert curriculum.stage(LAST_STEP) == len(points) - 1
    assert curriculum.stage(0).shape == ()
    assert jnp.issubdtype(curriculum.stage(0).dtype, jnp.integer)


@pytest.mark.parametrize("name", CATALOGUE)
def test_stage_is_traced_once_for_all_steps(name):
    curriculum, traces = CATALOGUE[name](), []

    @eqx.filter_jit
    def stage(curriculum, step):
        traces.append(step)
        return curriculum.stage(step)

    found = [int(stage(curriculum, jnp.asarray(step))) for step in (0, 1, 20, 63)]
    assert found == [int(curriculum.stage(step)) for step in (0, 1, 20, 63)]
    assert len(traces) == 1


@given(st.integers(1, 12), st.integers(0, 60), st.integers(1, 20))
def test_doubling_is_the_formula(first, more, period):
    last = first + more
    expected = [min(first * 2 ** (int(k) // period), last) + 1 for k in STEPS]
    np.testing.assert_array_equal(points_at(Doubling(first, last, period=period), STEPS), expected)


def test_doubling_of_the_paper():
    curriculum = Doubling.from_total(400_000)
    assert curriculum == Doubling(first=10, last=1280, period=50_000)
    assert curriculum.points == (11, 21, 41, 81, 161, 321, 641, 1281)
    steps = jnp.asarray([0, 49_999, 50_000, 99_999, 350_000, 399_999, 400_000, LAST_STEP])
    np.testing.assert_array_equal(points_at(curriculum, steps), [11, 11, 21, 21, 1281, 1281, 1281, 1281])


@given(st.integers(1, 20), st.integers(0, 2000), st.integers(12, 10**7))
def test_doubling_from_total_reaches_its_last_stage_in_training(first, more, total_steps):
    last = first + more
    curriculum = Doubling.from_total(total_steps, first, last)
    assert curriculum.period == math.floor(total_steps / (math.log2(last // first) + 1))
    assert points_at(curriculum, jnp.asarray([total_steps]))[0] in curriculum.points[-2:]


@given(st.integers(1, 4), st.sampled_from([1, 10]), st.sampled_from([1, 13, 37, 60]))
def test_square_root_is_the_formula_at_every_step(first, more, total_steps):
    curriculum = SquareRoot(first, first + more, total_steps=total_steps)
    expected = [square_root_intervals(min(int(k), total_steps), first, first + more, total_steps) + 1 for k in STEPS]
    np.testing.assert_array_equal(points_at(curriculum, STEPS), expected)
    assert set(curriculum.points) == set(expected) | {first + more + 1}


TABLE = [
    (0, 2, "0.81"),
    (1, 3, "0.9"),
    (1000, 6, "0.958732"),
    (10_000, 17, "0.986916"),
    (100_000, 54, "0.996032"),
    (400_000, 107, "0.998014"),
    (799_999, 151, "0.998596"),
]


@pytest.mark.parametrize(("step", "points", "decay"), TABLE)
def test_square_root_of_the_first_consistency_training(step, points, decay, x64):
    curriculum = SquareRoot(total_steps=800_000)
    assert points_at(curriculum, jnp.asarray([step]))[0] == points
    assert abs(float(curriculum.decay(step)) - float(decay)) <= half_unit(decay)
    exact = math.exp(2 * math.log(0.9) / (points - 1))
    assert math.isclose(float(curriculum.decay(step)), exact, rel_tol=FLOAT64_ROUNDING)


def test_square_root_decay_in_float32():
    curriculum = SquareRoot(total_steps=800_000, initial_decay=0.95)
    assert curriculum.decay(400_000).dtype == jnp.float32
    assert math.isclose(float(curriculum.decay(400_000)), math.exp(2 * math.log(0.95) / 106), rel_tol=FLOAT32_ROUNDING)


def test_square_root_has_every_count_once():
    curriculum = SquareRoot(total_steps=800_000)
    assert curriculum.points == tuple(range(2, 152))
    before = jnp.asarray(curriculum.starts[1:]) - 1
    np.testing.assert_array_equal(jax.vmap(curriculum.stage)(before), np.arange(149))
    np.testing.assert_array_equal(jax.vmap(curriculum.stage)(before + 1), np.arange(1, 150))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Constant(1), ValueError, r"points: expected .* >= 2, found 1"),
        (lambda: Constant(untyped(3.5)), TypeError, "points"),
        (lambda: Doubling(first=0, period=5), ValueError, r"first: expected .* >= 1, found 0"),
        (lambda: Doubling(first=10, last=9, period=5), ValueError, r"last: expected .* >= 10, found 9"),
        (lambda: Doubling(period=0), ValueError, r"period: expected .* >= 1, found 0"),
        (lambda: Doubling.from_total(7), ValueError, r"total_steps: expected .* >= 8.0, found 7"),
        (lambda: Doubling.from_total(7, first=0), ValueError, r"first: expected"),
        (lambda: SquareRoot(first=0, total_steps=5), ValueError, r"first: expected"),
        (lambda: SquareRoot(last=1, total_steps=5), ValueError, r"last: expected .* >= 2, found 1"),
        (lambda: SquareRoot(total_steps=0), ValueError, r"total_steps: expected"),
        (lambda: SquareRoot(total_steps=5, initial_decay=1.0), ValueError, r"initial_decay: expected"),
        (lambda: SquareRoot(total_steps=5, initial_decay=0.0), ValueError, r"initial_decay: expected"),
        (lambda: Doubling(period=5).stage(untyped(0.5)), TypeError, "step"),
        (lambda: Doubling(period=5).stage(jnp.arange(3)), TypeError, "step"),
    ],
)
def test_bad_calls(call, error, message):
    with pytest.raises(error, match=message):
        call()
