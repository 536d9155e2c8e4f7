"""Averages: shares in (0, 1], profiles that say the same, the exponents of EDM2."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalogue import mlp_pair
from equisct import Constant, ScoreGuidedTraining
from equisct.train import Recipe, init_state, train_step
from equisct.train.averages import AbstractAverage, ConstantDecay, PowerFunction, RampedDecay, update_average
from strategies import untyped
from tolerances import FLOAT32_ROUNDING, FLOAT64_ROUNDING, LONG_RUN, half_unit

LAST_STEP = 2**31 - 2

CATALOGUE = {
    "constant": lambda: ConstantDecay(0.9),
    "constant, nothing kept": lambda: ConstantDecay(0),
    "ramped": lambda: RampedDecay(0.9, 0.3),
    "ramped, nothing kept": lambda: RampedDecay(0),
    "power": lambda: PowerFunction(6.94),
    "power, plain mean": lambda: PowerFunction(0),
}

each = pytest.mark.parametrize("name", CATALOGUE)
averages = st.one_of(
    st.floats(0, 1, exclude_max=True).map(ConstantDecay),
    st.builds(RampedDecay, st.floats(0, 1, exclude_max=True), st.floats(1e-3, 10)),
    st.floats(0, 1000).map(PowerFunction),
)


@given(averages, st.integers(0, LAST_STEP))
def test_share_of_the_new_weights_is_above_0_and_at_most_1(average, step):
    assert 0 < float(average.share(step)) <= 1
    assert average.share(step).shape == ()
    assert average.share(0) == 1


@given(averages, st.integers(1, 40))
def test_cumulative_goes_from_0_to_1(average, steps):
    found = average.cumulative(np.arange(steps + 3), steps)
    assert found[0] == 0
    assert np.all(np.diff(found) >= 0)
    np.testing.assert_array_equal(found[steps:], np.ones(3))


@each
@pytest.mark.parametrize("steps", [1, 2, 3, 30])
def test_cumulative_is_the_product_of_what_is_kept(name, steps, x64):
    average = CATALOGUE[name]()
    kept = [1 - float(average.share(step)) for step in range(steps)]
    expected = [math.prod(kept[i:]) for i in range(steps + 1)]
    np.testing.assert_allclose(
        average.cumulative(np.arange(steps + 1), steps), expected, rtol=FLOAT64_ROUNDING, atol=FLOAT64_ROUNDING
    )


@each
def test_share_is_traced_once_for_all_steps(name):
    average, traces = CATALOGUE[name](), []

    @eqx.filter_jit
    def share(average, step):
        traces.append(step)
        return average.share(step)

    found = [float(share(average, jnp.asarray(step))) for step in (0, 1, 2, 1000)]
    np.testing.assert_allclose(found, [float(average.share(s)) for s in (0, 1, 2, 1000)], rtol=FLOAT32_ROUNDING)
    assert len(traces) == 1


@pytest.mark.parametrize("exponent", [0, 6.94, 16.97])
@pytest.mark.parametrize("step", [1, 1000, 399_999, 10_000_000])
def test_share_of_a_power_function_in_float32(exponent, step):
    exact = -math.expm1((exponent + 1) * math.log1p(-1 / (step + 1)))
    found = PowerFunction(exponent).share(step)
    assert found.dtype == jnp.float32
    assert math.isclose(float(found), exact, rel_tol=FLOAT32_ROUNDING)


def test_share_of_a_constant_decay():
    average = ConstantDecay(0.99993)
    assert [float(average.share(step)) for step in (0, 1)] == [1, 1]
    assert math.isclose(float(average.share(2)), 7e-5, rel_tol=FLOAT32_ROUNDING)
    assert average.share(2) == average.share(LAST_STEP)


def test_a_ramped_average_halves_over_its_share_of_the_run_until_it_is_as_long_as_asked_for(x64):
    """EDM's formula: a half-life of min(H, 0.05 n) after n images; here in updates of one image."""
    average = RampedDecay(0.5 ** (1 / 40), 0.05)
    for step in (1, 10, 100, 799, 800, 801, 10_000):
        kept = 0.5 ** (1 / min(40, 0.05 * step))
        np.testing.assert_allclose(float(average.share(step)), 1 - kept, rtol=FLOAT64_ROUNDING)


@pytest.mark.parametrize("average", [ConstantDecay(0.75), RampedDecay(0.75, 2.0), PowerFunction(6.94)], ids=repr)
def test_sampling_uses_the_average_that_the_recipe_names(average):
    recipe = Recipe(ScoreGuidedTraining(curriculum=Constant(10)), optax.sgd(0.1), average, averages=(average,))
    state = init_state(recipe, mlp_pair())
    for step in range(4):
        state, _ = train_step(recipe, state, jnp.ones((2, 2)), jr.fold_in(jr.key(0), step))
    kept, beside = (jax.tree.leaves(eqx.filter(tree, eqx.is_array)) for tree in (state.ema, state.averages[0]))
    assert all(jax.tree.map(lambda a, b: bool((a == b).all()), kept, beside))
    assert any(bool((a != b).any()) for a, b in zip(kept, jax.tree.leaves(state.model), strict=False))


def test_average_against_plain_loops(x64):
    weights = np.random.default_rng(0).normal(size=(9, 3))
    decayed, mean = ConstantDecay(0.75), PowerFunction(0)
    ema, total = jnp.zeros(3), jnp.zeros(3)
    expected = weights[1]
    for step in range(9):
        ema = update_average(decayed, ema, jnp.asarray(weights[step]), step)
        total = update_average(mean, total, jnp.asarray(weights[step]), jnp.asarray(step))
        expected = weights[step] if step < 2 else 0.75 * expected + 0.25 * weights[step]
        np.testing.assert_allclose(ema, expected, rtol=FLOAT64_ROUNDING)
        np.testing.assert_allclose(total, weights[: step + 1].mean(0), rtol=FLOAT64_ROUNDING)


def test_only_floating_point_arrays_are_averaged():
    old = {"weight": jnp.zeros(2), "count": jnp.asarray(1), "name": "old"}
    new = {"weight": jnp.ones(2), "count": jnp.asarray(5), "name": "new"}
    found = update_average(ConstantDecay(0.75), old, new, 2)
    assert (found["weight"] == 0.25).all()
    assert (found["count"], found["name"]) == (5, "new")


# --- relative standard deviations ---


@given(st.floats(1e-4, 1 / math.sqrt(12)))
def test_exponent_and_std_are_inverse(std):
    average = PowerFunction.from_std(std)
    assert average.exponent >= 0
    assert math.isclose(average.std, std, rel_tol=FLOAT64_ROUNDING)


@pytest.mark.parametrize(("std", "exponent"), [(0.05, "16.97"), (0.10, "6.94")])
def test_exponents_of_edm2(std, exponent):
    assert abs(PowerFunction.from_std(std).exponent - float(exponent)) <= half_unit(exponent)


def test_plain_mean_has_the_largest_std():
    assert math.isclose(PowerFunction(0).std, 1 / math.sqrt(12), rel_tol=FLOAT64_ROUNDING)
    assert abs(PowerFunction.from_std(1 / math.sqrt(12)).exponent) < FLOAT64_ROUNDING


@pytest.mark.parametrize("std", [0.02, 0.1, 0.25])
def test_std_is_that_of_the_profile(std):
    steps = 10_000
    weights = np.diff(PowerFunction.from_std(std).cumulative(np.arange(steps + 1), steps))
    times = (np.arange(steps) + 0.5) / steps
    mean = weights @ times
    assert math.isclose(math.sqrt(weights @ (times - mean) ** 2), std, rel_tol=LONG_RUN)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ConstantDecay(1.0), ValueError, r"decay: expected a number in \[0, 1\), found 1.0"),
        (lambda: ConstantDecay(-0.1), ValueError, r"decay: expected"),
        (lambda: ConstantDecay(float("nan")), ValueError, r"decay: expected"),
        (lambda: RampedDecay(1.0), ValueError, r"decay: expected a number in \[0, 1\), found 1.0"),
        (lambda: RampedDecay(0.9, 0.0), ValueError, r"ramp: expected a finite number > 0, found 0.0"),
        (lambda: ConstantDecay(untyped("0.9")), TypeError, r"decay"),
        (lambda: PowerFunction(-1), ValueError, r"exponent: expected .* >= 0, found -1"),
        (lambda: PowerFunction(float("inf")), ValueError, r"exponent: expected"),
        (lambda: PowerFunction.from_std(0), ValueError, r"std: expected .* > 0, found 0"),
        (lambda: PowerFunction.from_std(0.3), ValueError, r"std: expected at most .*0.2886.*, found 0.3"),
        (lambda: ConstantDecay().share(untyped(0.5)), TypeError, "step"),
        (lambda: update_average(untyped(0.9), 0, 0, 0), TypeError, "average"),
        (lambda: untyped(AbstractAverage)(), TypeError, "abstract"),
    ],
)
def test_bad_calls(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_settings_are_constants_under_jit():
    assert jax.tree.leaves(eqx.filter(PowerFunction(2.0), eqx.is_array)) == []
