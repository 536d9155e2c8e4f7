"""The pytree verbs, and the checks of settings."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from equisct._base.check import check_at_least, check_finite, check_fraction, check_levels, check_positive
from equisct._base.tree import Frozen, count, cut, global_norm, lerp, path_name, trainable
from strategies import samples
from tolerances import FLOAT32_ROUNDING


class Network(eqx.Module):
    """A module with every kind of leaf: trained, frozen, whole numbers, a function, a setting."""

    weight: jax.Array
    frequencies: Frozen
    updates: jax.Array
    activation: object = jnp.tanh
    scale: float = 2.0


def network(weight, updates=0):
    return Network(weight, Frozen(jnp.asarray([3.0, 4.0])), jnp.asarray(updates))


@given(samples())
def test_cut_keeps_values_and_stops_gradients(weight):
    tree = network(weight)
    assert eqx.tree_equal(cut(tree), tree)

    def loss(tree):
        return jnp.sum((tree.weight + cut(tree).weight) ** 2)

    np.testing.assert_allclose(eqx.filter_grad(loss)(tree).weight, 4 * weight, rtol=FLOAT32_ROUNDING)
    zero = eqx.filter_grad(lambda tree: jnp.sum(cut(tree).weight ** 2))(tree)
    np.testing.assert_array_equal(zero.weight, np.zeros(3))


def test_cut_stops_frozen_arrays_too():
    gradient = eqx.filter_grad(lambda tree: jnp.sum(cut(tree).frequencies.value))(network(jnp.ones(3)))
    np.testing.assert_array_equal(gradient.frequencies.value, np.zeros(2))


@given(samples(), samples())
def test_lerp_between_its_ends(a, b):
    x, y = network(a, 1), network(b, 2)
    assert eqx.tree_equal(lerp(x, y, 0.0), network(a, 2))
    np.testing.assert_allclose(lerp(x, y, 1.0).weight, b, atol=16 * FLOAT32_ROUNDING)
    middle = lerp(x, y, jnp.asarray(0.25))
    np.testing.assert_allclose(middle.weight, 0.75 * a + 0.25 * b, atol=16 * FLOAT32_ROUNDING)
    assert middle.updates == 2
    assert middle.activation is y.activation


def test_trainable_selects_the_trained_arrays_only():
    tree = network(jnp.ones(3))
    mask = trainable(tree)
    assert mask.weight is True
    assert mask.frequencies.value is False
    assert mask.updates is False
    assert mask.activation is False
    assert mask.scale is False
    trained, rest = eqx.partition(tree, mask)
    assert len(jax.tree.leaves(trained)) == 1
    assert eqx.tree_equal(eqx.combine(trained, rest), tree)


def test_a_leaf_is_named_by_attributes_keys_and_places():
    tree = {"cm": [network(jnp.ones(3)), {3: jnp.zeros(())}]}
    names = [path_name(path) for path, leaf in jax.tree_util.tree_leaves_with_path(tree) if eqx.is_array(leaf)]
    assert names == ["cm/0/weight", "cm/0/frequencies/value", "cm/0/updates", "cm/1/3"]


@given(st.integers(0, 5), st.integers(1, 5))
def test_count_of_arrays_and_of_their_shapes(rows, columns):
    tree = network(np.ones((rows, columns), np.float32))
    shapes = eqx.filter_eval_shape(lambda: network(jnp.ones((rows, columns))))
    assert count(tree) == count(shapes) == rows * columns
    assert count([tree, tree, 3.0, None]) == 2 * rows * columns


def test_count_of_a_linear_layer():
    assert count(eqx.nn.Linear(3, 4, key=jax.random.key(0))) == 16


@given(samples(), samples((2, 2)))
def test_global_norm_is_that_of_all_numbers(a, b):
    expected = math.sqrt(np.sum(np.asarray(a, float) ** 2) + np.sum(np.asarray(b, float) ** 2))
    found = global_norm({"a": a, "b": [b, jnp.asarray(7), jnp.tanh, None]})
    np.testing.assert_allclose(found, expected, rtol=2 * FLOAT32_ROUNDING)


def test_global_norm_of_nothing_is_zero():
    assert global_norm([None, jnp.arange(3)]) == 0


@pytest.mark.parametrize("value", [0.0, -1.0, math.inf, math.nan])
def test_check_positive(value):
    check_positive("c", 1e-300)
    with pytest.raises(ValueError, match=rf"c: expected a finite number > 0, found {value}"):
        check_positive("c", value)


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_check_finite(value):
    check_finite("mean", -3.5)
    with pytest.raises(ValueError, match=rf"mean: expected a finite number, found {value}"):
        check_finite("mean", value)


@pytest.mark.parametrize("value", [1, 1.999, math.inf, math.nan])
def test_check_at_least(value):
    check_at_least("points", 2, 2)
    with pytest.raises(ValueError, match=rf"points: expected a finite number >= 2, found {value}"):
        check_at_least("points", value, 2)


@pytest.mark.parametrize("value", [-0.1, 1.0, math.nan])
def test_check_fraction(value):
    check_fraction("decay", 0.0)
    check_fraction("decay", 0.9999)
    with pytest.raises(ValueError, match=rf"decay: expected a number in \[0, 1\), found {value}"):
        check_fraction("decay", value)


@pytest.mark.parametrize(
    ("sigma_min", "sigma_max", "message"),
    [
        (0.0, 1.0, "sigma_min: expected a finite number > 0, found 0.0"),
        (1.0, math.inf, "sigma_max: expected a finite number > 0, found inf"),
        (2.0, 2.0, "sigma_min: expected less than sigma_max = 2.0, found 2.0"),
        (3.0, 2.0, "sigma_min: expected less than sigma_max = 2.0, found 3.0"),
    ],
)
def test_check_levels(sigma_min, sigma_max, message):
    check_levels(0.002, 80.0)
    with pytest.raises(ValueError, match=message):
        check_levels(sigma_min, sigma_max)
