"""The variance-exploding diffusion against its definitions and a Gaussian's closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given

from equisct.diffusion import (
    denoised_from_score,
    euler_step,
    heun_step,
    perturb,
    pf_drift,
    score_from_denoised,
)
from strategies import host_samples, level_pairs, levels, samples, settings, untyped
from tolerances import FLOAT32_ROUNDING, FLOAT64_ROUNDING

STD = 0.5


def gaussian_denoise(x_t, sigma):
    """E[x | x_t] for x ~ Normal(0, STD^2)."""
    return STD**2 / (STD**2 + sigma**2) * x_t


def gaussian_transport(x_t, t, r):
    """The PF-ODE of the same law, solved."""
    return np.sqrt((STD**2 + r**2) / (STD**2 + t**2)) * x_t


@given(host_samples(), host_samples(), levels())
def test_perturb_and_drift_against_numpy(x, z, sigma):
    x_t = perturb(jnp.asarray(x), jnp.asarray(z), sigma)
    assert x_t.dtype == jnp.float32
    np.testing.assert_allclose(x_t, x.astype(float) + sigma * z.astype(float), rtol=FLOAT32_ROUNDING, atol=1e-4)
    drift = pf_drift(jnp.asarray(x), x_t, sigma)
    np.testing.assert_allclose(drift, (np.asarray(x_t, float) - x) / sigma, rtol=2 * FLOAT32_ROUNDING)


@given(samples(), samples(), levels())
def test_the_drift_of_a_perturbed_sample_is_its_noise(x, z, sigma):
    """With the sample itself as its denoised estimate the PF-ODE runs along the noise ray."""
    with jax.enable_x64(True):
        x, z = x.astype(float), z.astype(float)
        np.testing.assert_allclose(pf_drift(x, perturb(x, z, sigma), sigma), z, rtol=1e-9, atol=1e-9)


@given(samples(), samples(), levels())
def test_score_and_denoised_are_inverses(denoised, x_t, sigma):
    with jax.enable_x64(True):
        denoised, x_t = denoised.astype(float), x_t.astype(float)
        score = score_from_denoised(denoised, x_t, sigma)
        np.testing.assert_allclose(denoised_from_score(score, x_t, sigma), denoised, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(pf_drift(denoised, x_t, sigma), -sigma * score, rtol=1e-9)


@given(samples(), levels())
def test_score_of_a_gaussian(x_t, sigma):
    with jax.enable_x64(True):
        x_t = x_t.astype(float)
        score = score_from_denoised(gaussian_denoise(x_t, sigma), x_t, sigma)
        np.testing.assert_allclose(score, -x_t / (STD**2 + sigma**2), rtol=1e-9)


@given(samples(), samples(), level_pairs())
def test_euler_along_the_noise_stays_on_the_ray(x, z, pair):
    t, r = pair
    with jax.enable_x64(True):
        x, z = x.astype(float), z.astype(float)
        np.testing.assert_allclose(euler_step(perturb(x, z, t), z, t, r), perturb(x, z, r), rtol=1e-9, atol=1e-9)


@given(samples(), samples(), levels())
def test_euler_step_of_no_length_does_not_move(x_t, velocity, sigma):
    np.testing.assert_array_equal(euler_step(x_t, velocity, sigma, sigma), x_t)


@given(host_samples(), level_pairs())
def test_heun_step_against_numpy(x_t, pair):
    t, r = pair
    with jax.enable_x64(True):
        x_t = x_t.astype(np.float64)
        d_t = (x_t - gaussian_denoise(x_t, t)) / t
        x_r = x_t + (r - t) * d_t
        d_r = (x_r - gaussian_denoise(x_r, r)) / r
        expected = x_t + (r - t) * (d_t + d_r) / 2
        found = heun_step(gaussian_denoise, jnp.asarray(x_t), t, r)
        np.testing.assert_allclose(found, expected, rtol=FLOAT64_ROUNDING, atol=1e-9)


@given(samples(), level_pairs())
def test_heun_is_exact_where_the_drift_is_constant(x, pair):
    """A point mass at `x`: every path is a straight line to it."""
    t, r = pair
    with jax.enable_x64(True):
        x = x.astype(float)
        found = heun_step(lambda x_t, sigma: x, x + t, t, r)
        np.testing.assert_allclose(found, x + r, rtol=1e-9, atol=1e-9)


@given(settings(0.125, 8.0))
def test_orders_of_the_two_steps(t):
    """The error of one step falls by 2^2 (Euler) and 2^3 (Heun) when it is halved."""
    with jax.enable_x64(True):
        x_t = jnp.asarray([1.0, -0.5])

        def errors(length):
            r = t * (1 - length)
            velocity = pf_drift(gaussian_denoise(x_t, t), x_t, t)
            exact = gaussian_transport(x_t, t, r)
            euler = euler_step(x_t, velocity, t, r) - exact
            return jnp.stack([euler, heun_step(gaussian_denoise, x_t, t, r) - exact])

        ratio = np.asarray(errors(2**-8) / errors(2**-9))
    np.testing.assert_allclose(ratio[0], 4, rtol=0.05)
    np.testing.assert_allclose(ratio[1], 8, rtol=0.05)


def test_everything_maps_over_a_batch():
    x, z = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 3)), jnp.float32)
    t, r = jnp.asarray([80.0, 2.0, 0.5, 0.01]), jnp.asarray([10.0, 1.0, 0.4, 0.002])
    x_t = jax.jit(jax.vmap(perturb))(x, z, t)
    steps = jax.jit(jax.vmap(lambda x_t, t, r: heun_step(gaussian_denoise, x_t, t, r)))(x_t, t, r)
    for i in range(4):
        np.testing.assert_allclose(x_t[i], perturb(x[i], z[i], t[i]), rtol=FLOAT32_ROUNDING)
        single = heun_step(gaussian_denoise, x_t[i], t[i], r[i])
        np.testing.assert_allclose(steps[i], single, rtol=10 * FLOAT32_ROUNDING)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: perturb(jnp.ones(2), jnp.ones(3), 1.0), "z"),
        (lambda: perturb(jnp.ones(2, int), jnp.ones(2), 1.0), "x"),
        (lambda: perturb(jnp.ones(2), jnp.ones(2), jnp.ones(2)), "sigma"),
        (lambda: score_from_denoised(jnp.ones(2), jnp.ones((2, 1)), 1.0), "x_t"),
        (lambda: denoised_from_score(jnp.ones(2), jnp.ones(3), 1.0), "x_t"),
        (lambda: pf_drift(jnp.ones(2), jnp.ones(3), 1.0), "x_t"),
        (lambda: euler_step(jnp.ones(2), jnp.ones(2), 1.0, jnp.ones(2)), "r"),
        (lambda: heun_step(untyped(3.0), jnp.ones(2), 1.0, 0.5), "denoise"),
    ],
)
def test_bad_calls(call, message):
    with pytest.raises(TypeError, match=message):
        call()
