"""Log densities and codes by the PF-ODE, against laws known in closed form."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import equisct as sct
from strategies import untyped

KEY = jr.key(0)
MIXTURE = sct.oracle.GaussianMixture(jnp.array([[1.0, 0.3], [-0.6, -0.5], [0.2, 1.0]]), 0.25)


def points(n):
    return jax.vmap(lambda key: MIXTURE.sample(key=key))(jr.split(KEY, n))


@eqx.filter_jit
def both(x):
    """Found and exact."""
    return sct.log_likelihood(MIXTURE.denoise, x), MIXTURE.log_prob(x, 0.002)


def test_the_exact_trace_gives_the_mixtures_log_density(x64):
    del x64
    found, exact = jax.vmap(both)(points(40).astype(jnp.float64))
    np.testing.assert_allclose(found, exact, rtol=2e-4)
    assert np.sqrt(np.mean(np.square(found / exact - 1))) < 1e-4


def test_in_float32_it_is_as_near_as_rounding_lets_it(x64):
    del x64
    x = points(20).astype(jnp.float32)
    np.testing.assert_allclose(*jax.vmap(both)(x), atol=1e-3)


def test_probes_estimate_the_trace_without_bias(x64):
    """Of a rotated mixture, whose derivative is not diagonal: many single probes, against their own spread."""
    del x64
    x = points(1)[0].astype(jnp.float64)
    one = lambda key: sct.log_likelihood(MIXTURE.denoise, x, probes=1, key=key)
    found = np.asarray(jax.jit(jax.vmap(one))(jr.split(KEY, 400)))
    assert found.std() > 0.01
    assert abs(found.mean() - MIXTURE.log_prob(x, 0.002)) < 4 * found.std() / math.sqrt(400)


def test_a_model_under_a_condition_has_a_likelihood_of_its_own(x64):
    """Two classes at two places, as a model that takes a condition."""
    del x64

    class Model:
        def denoise(self, x_t, sigma, *, condition=None):
            return sct.oracle.Gaussian(mean=float(untyped(condition)), std=0.5).denoise(x_t, sigma)

    x = jnp.array([0.9, 1.2])
    for c in (0, 1):
        found = sct.log_likelihood(sct.Conditioned(Model(), c).denoise, x)
        exact = -np.sum(np.square(x - c)) / 0.5 - math.log(2 * math.pi * 0.25)
        np.testing.assert_allclose(found, exact, atol=1e-3)


def test_a_code_is_the_noise_that_the_sample_is_made_of(x64):
    del x64
    law = sct.oracle.ProductMixture(jnp.array([-1.0, 0.5]), 0.3, jnp.eye(2))
    z = jr.normal(KEY, (8, 2), jnp.float64)
    ends = jax.vmap(lambda z: law.transport(80 * z, 80.0, 0.002))(z)
    np.testing.assert_allclose(jax.vmap(lambda x: sct.encode(law.denoise, x))(ends), z, atol=1e-6)


def test_bits_of_uniform_pixels_are_eight():
    """A density of 1/2 on [-1, 1]: 255 of 256 levels apart."""
    size = 12
    bits = sct.bits_per_dimension(jnp.asarray(-size * math.log(2.0)), size)
    np.testing.assert_allclose(bits, math.log2(255), rtol=1e-6)


BAD = {
    "levels": (lambda x: sct.log_likelihood(MIXTURE.denoise, x, sigma_min=2.0, sigma_max=1.0), "sigma_min: expected"),
    "not finite": (lambda x: sct.log_likelihood(MIXTURE.denoise, x * jnp.nan), "x: expected finite numbers"),
    "dtype": (lambda x: sct.log_likelihood(MIXTURE.denoise, x.astype(jnp.float16)), "x: expected dtype float32 or"),
    "probes alone": (lambda x: sct.log_likelihood(MIXTURE.denoise, x, probes=2), "key: expected one with probes"),
    "a key alone": (lambda x: sct.log_likelihood(MIXTURE.denoise, x, key=KEY), "key: expected one with probes"),
    "no probes": (lambda x: sct.log_likelihood(MIXTURE.denoise, x, probes=0, key=KEY), "probes: expected a finite"),
    "no size": (lambda x: sct.bits_per_dimension(x, 0), "size: expected a finite number >= 1"),
    "another shape": (lambda x: sct.log_likelihood(lambda x_t, _: untyped(x_t[0]), x), "denoise: expected to return"),
    "codes": (lambda x: sct.encode(MIXTURE.denoise, x, sigma_min=2.0, sigma_max=1.0), "sigma_min: expected"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_has_no_likelihood_is_refused(name):
    call, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        call(jnp.ones(2))
