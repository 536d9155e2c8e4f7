"""Exact flow maps: the laws of a flow, the ODE they solve, the mass they conserve, tails, and derivatives."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.stats import norm

from equisct.diffusion import pf_drift
from equisct.oracle import Gaussian, ProductMixture
from equisct.oracle.monotone import monotone_map
from strategies import levels, settings
from tolerances import FLOAT32_NETWORK, FLOAT32_ROUNDING, FLOAT64_ROUNDING

POINTS = 6
ROTATION = np.array([[0.6, -0.8], [0.8, 0.6]])
LINE, STD, WEIGHTS = np.array([1.0, -1.0, -0.25]), np.array([0.125, 0.25, 0.125]), np.array([0.5, 0.2, 0.3])


def product(
    means: ArrayLike = LINE,
    std: ArrayLike = STD,
    rotation: ArrayLike = ROTATION,
    weights: ArrayLike = WEIGHTS,
    dtype: type = jnp.float64,
):
    """Always three modes in the plane and all arrays, so that every test shares one compilation per dtype."""
    return ProductMixture(*(jnp.asarray(part, dtype) for part in (means, std, rotation, weights)))


with jax.enable_x64(True):
    ORACLES = {
        "gaussian": Gaussian(jnp.array([0.25, -0.5]), jnp.array([0.5, 0.125])),
        "equal modes": product([-1, 0, 1], [0.125] * 3, np.eye(2), np.full(3, 1 / 3)),
        "product": product(),
    }


@eqx.filter_jit
def transport(oracle, x_t, t, r):
    return jax.vmap(oracle.transport, (0, None, None))(x_t, t, r)


@eqx.filter_jit
def transport_with_derivatives(oracle, x_t, t, r):
    def one(x_t):
        x_r, from_r = jax.jvp(lambda r: oracle.transport(x_t, t, r), (r,), (1.0,))
        from_t = jax.jvp(lambda t: oracle.transport(x_t, t, r), (t,), (1.0,))[1]
        jacobian = jax.jacrev(oracle.transport)(x_t, t, r)
        velocity_t = pf_drift(oracle.denoise(x_t, t), x_t, t)
        velocity_r = pf_drift(oracle.denoise(x_r, r), x_r, r)
        density_ratio = oracle.log_prob(x_t, t) - oracle.log_prob(x_r, r)
        return from_r, from_t, jacobian, velocity_t, velocity_r, density_ratio

    return jax.vmap(one)(x_t)


def noised(seed, sigma):
    """Points near the data's modes, noised."""
    rng = np.random.default_rng(seed)
    return rng.uniform(-1.25, 1.25, (POINTS, 2)) + sigma * rng.normal(size=(POINTS, 2))


def steepness(oracle, x_t, t, r):
    """What an error of the input, in units of the law at `t`, grows to at `r`."""
    jacobian = transport_with_derivatives(oracle, x_t, t, r)[2]
    return np.maximum(1, np.abs(jacobian).max() * max(1, float(t)))


def naive_map(y, t, r):
    """F_r^{-1}(F_t(y)), as it stands."""

    def cdf(y, sigma):
        return WEIGHTS @ norm.cdf((y - LINE) / np.sqrt(STD**2 + sigma**2))

    mass = cdf(y, t)
    return brentq(lambda y: cdf(y, r) - mass, -1000, 1000, xtol=1e-14)


@pytest.mark.parametrize("name", ORACLES)
@given(t=levels(), s=levels(), r=levels(), seed=st.integers(0, 2**31))
def test_transport_is_a_flow(name, t, s, r, seed):
    oracle = ORACLES[name]
    with jax.enable_x64(True):
        x_t, t, s, r = jnp.asarray(noised(seed, t)), jnp.asarray(t), jnp.asarray(s), jnp.asarray(r)
        x_s, x_r = transport(oracle, x_t, t, s), transport(oracle, x_t, t, r)
        limit = FLOAT64_ROUNDING * steepness(oracle, x_t, t, s) * steepness(oracle, x_s, s, r)
        np.testing.assert_allclose(transport(oracle, x_s, s, r), x_r, rtol=limit, atol=10 * limit)
        back = transport(oracle, x_s, s, t)
        limit = FLOAT64_ROUNDING * steepness(oracle, x_t, t, s) * steepness(oracle, x_s, s, t)
        np.testing.assert_allclose(back, x_t, rtol=limit, atol=10 * limit)
        limit = FLOAT64_ROUNDING
        np.testing.assert_allclose(transport(oracle, x_t, t, t), x_t, rtol=limit, atol=limit)


@pytest.mark.parametrize("name", ORACLES)
@given(t=levels(), r=levels(), seed=st.integers(0, 2**31))
def test_transport_solves_the_ode_and_conserves_mass(name, t, r, seed):
    with jax.enable_x64(True):
        x_t = jnp.asarray(noised(seed, t))
        found = transport_with_derivatives(ORACLES[name], x_t, jnp.asarray(t), jnp.asarray(r))
    from_r, from_t, jacobian, velocity_t, velocity_r, density_ratio = map(np.asarray, found)
    np.testing.assert_allclose(from_r, velocity_r, rtol=1e-9, atol=1e-9)
    along_path = from_t + np.einsum("nij,nj->ni", jacobian, velocity_t)
    np.testing.assert_allclose(along_path, 0, atol=1e-9 * max(1, np.abs(from_t).max()))
    np.testing.assert_allclose(np.linalg.slogdet(jacobian)[1], density_ratio, atol=1e-9)


@given(y=st.floats(-2, 2, width=32), t=levels(), r=levels())
def test_product_against_the_definition(y, t, r):
    """Where the distribution function is neither flat nor near 0 or 1, its inverse can be taken as it stands."""
    y = 0.5 + max(1, t) * (y - 0.5)
    expected = naive_map(y, t, r)
    slope = WEIGHTS @ norm.pdf(expected, LINE, np.sqrt(STD**2 + r**2))
    with jax.enable_x64(True):
        law = product(rotation=np.eye(2))
        found = transport(law, jnp.full((POINTS, 2), y), jnp.asarray(t), jnp.asarray(r))
    assert float(found[0, 0]) == pytest.approx(expected, rel=1e-12, abs=float(1e-13 + 1e-15 / slope))


@given(y=st.floats(-64, 64, width=32), t=levels(), r=levels(), mean=settings(0.125, 2.0), std=settings(0.125, 2.0))
def test_one_mode_is_a_gaussian_in_both_tails(y, t, r, mean, std):
    """Up to 500 standard deviations out: far beyond where the distribution function or its complement underflow."""
    for dtype, limit in ((jnp.float64, FLOAT64_ROUNDING), (jnp.float32, FLOAT32_ROUNDING)):
        with jax.enable_x64(dtype == jnp.float64):
            law = product([mean] * 3, [std] * 3, np.eye(2), dtype=dtype)
            x_t = jnp.full((POINTS, 2), y, dtype)
            found = transport(law, x_t, jnp.asarray(t, dtype), jnp.asarray(r, dtype))
        assert found.dtype == dtype
        expected = mean + np.sqrt((std**2 + r**2) / (std**2 + t**2)) * (y - mean)
        np.testing.assert_allclose(found, expected, rtol=4 * limit, atol=4 * limit * (1 + abs(expected - mean)))


@given(seed=st.integers(0, 2**31), far=st.sampled_from([1, 10, 50]))
def test_tails_come_back(seed, far):
    oracle = ORACLES["product"]
    with jax.enable_x64(True):
        x_t = far * jnp.asarray(noised(seed, 1.0))
        there = transport(oracle, x_t, jnp.asarray(0.002), jnp.asarray(0.01))
        np.testing.assert_allclose(transport(oracle, there, jnp.asarray(0.01), jnp.asarray(0.002)), x_t, rtol=1e-9)


@given(seed=st.integers(0, 2**31))
def test_between_modes_no_digits_are_lost(seed):
    """Modes 16 standard deviations apart: between them F is flat to 1e-15, the map at one small level is not."""
    y = np.random.default_rng(seed).uniform(-1, 1, (POINTS, 2))
    for dtype, limit in ((jnp.float64, FLOAT64_ROUNDING), (jnp.float32, FLOAT32_NETWORK)):
        with jax.enable_x64(dtype == jnp.float64):
            law = product([1, -1, 3], [0.125] * 3, np.eye(2), dtype=dtype)
            x_t = jnp.asarray(y, dtype)
            same = transport(law, x_t, jnp.asarray(0.002, dtype), jnp.asarray(0.002, dtype))
        np.testing.assert_allclose(same, x_t, atol=limit)


@given(seed=st.integers(0, 2**31), t=levels(), r=levels())
def test_float32_is_as_good_as_its_input(seed, t, r):
    oracle = ORACLES["product"]
    x_t = noised(seed, t).astype(np.float32)
    with jax.enable_x64(True):
        exact = jnp.asarray(x_t, float), jnp.asarray(t), jnp.asarray(r)
        expected, steep = np.asarray(transport(oracle, *exact)), steepness(oracle, *exact)
    narrow = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), oracle)
    found = transport(narrow, jnp.asarray(x_t), jnp.asarray(t, jnp.float32), jnp.asarray(r, jnp.float32))
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, rtol=FLOAT32_NETWORK, atol=FLOAT32_NETWORK * steep)


@given(seed=st.integers(0, 2**31), t=levels(), r=levels())
def test_transport_keeps_the_order_on_the_line(seed, t, r):
    y = np.sort(noised(seed, t), axis=0)
    with jax.enable_x64(True):
        found = transport(ORACLES["equal modes"], jnp.asarray(y), jnp.asarray(t), jnp.asarray(r))
    assert np.all(np.diff(found, axis=0) >= 0)


def test_derivatives_in_all_parameters_against_finite_differences(x64):
    packed = jnp.concatenate([jnp.array([0.3, 0.5, 0.2]), LINE, STD, WEIGHTS])

    @jax.jit
    def evaluate(packed):
        def unpacked_map(packed):
            return monotone_map(packed[0], packed[1], packed[2], packed[3:6], packed[6:9], packed[9:])

        steps = 1e-6 * jnp.eye(packed.size)
        high, low = (jax.vmap(unpacked_map)(packed + sign * steps) for sign in (1, -1))
        return jax.grad(unpacked_map)(packed), (high - low) / 2e-6

    gradient, differences = evaluate(packed)
    np.testing.assert_allclose(gradient, differences, rtol=1e-7, atol=1e-8)


def test_level_zero_is_the_clean_law(x64):
    x_t = jnp.asarray(noised(0, 1.0))
    for oracle in ORACLES.values():
        near, at = (transport(oracle, x_t, jnp.asarray(1.0), jnp.asarray(r)) for r in (1e-9, 0.0))
        np.testing.assert_allclose(near, at, rtol=1e-9)
