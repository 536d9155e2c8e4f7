"""The noise law against the variance that it foretells, a closed form, published values, and its own random form."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import equisct as sct
from catalogue import function_cm
from equisct.objectives.slots import Draw, Keys
from equisct.oracle import Gaussian, ProductMixture
from tolerances import FLOAT64_ROUNDING, half_unit

KEY = jr.key(0)
SIGMA_MIN = 0.002


def line(modes=5, std=0.1):
    return ProductMixture(jnp.linspace(-1, 1, modes), std, jnp.eye(1))


def endpoint_of(law):
    return lambda x_t, sigma: law.transport(x_t, sigma, SIGMA_MIN)


@eqx.filter_jit
def on_a_line(law, sigma):
    """Points of the noised law, their shares of it, and the noise law at each.

    The points are where evenly spaced endpoints come from: the law is large where the flow is steep, at the boundaries
    between modes, and there an endpoint's density is still smooth.
    """
    end = jnp.linspace(-1.5, 1.5, 81)[:, None]
    share = jax.nn.softmax(jax.vmap(lambda x: law.log_prob(x, SIGMA_MIN))(end))
    x_t = jax.vmap(lambda x: law.transport(x, SIGMA_MIN, sigma))(end)
    return x_t, share, jax.vmap(lambda x_t: sct.noise_law(endpoint_of(law), law.denoise, x_t, sigma))(x_t)


@eqx.filter_jit
def residuals(law, x, x_t, t, r):
    """`f(x_t, t) - f(x_t - (t - r) z, r)` with the exact flow map, for samples `x` that may be behind each `x_t`."""
    f = endpoint_of(law)

    def of(x, x_t):
        teacher = jax.vmap(lambda x: f(x_t - (t - r) * (x_t - x) / t, r))(x)
        return f(x_t, t)[None] - teacher

    return jax.vmap(of)(x, x_t)


def behind(law, x_t, sigma):
    """Samples that may be behind each `x_t` on the line, and their weights: as many draws as there could be.

    Gauss-Hermite in each mode of NumPy's own posterior, exact for polynomials up to degree 13.
    """
    means, std = np.asarray(law.means), float(law.std)
    variance = std**2 + sigma**2
    logits = -np.square(x_t - means) / (2 * variance)
    posterior = np.exp(logits - logits.max(1, keepdims=True))
    posterior /= posterior.sum(1, keepdims=True)
    nodes, rule = np.polynomial.hermite_e.hermegauss(7)
    centre = means + std**2 / variance * (x_t - means)
    x = centre[..., None] + std * sigma / np.sqrt(variance) * nodes
    return x.reshape(len(x_t), -1), (posterior[..., None] * rule / rule.sum()).reshape(len(x_t), -1)


@pytest.mark.parametrize("t", [0.05, 0.2, 8.0])
def test_the_measured_variance_of_the_residual_is_the_laws(t, x64):
    """At gap / t = 1 / 80, over all `x_t` and all data behind each: within 3 %."""
    del x64
    law = line()
    x_t, share, expected = on_a_line(law, t)
    x, weights = behind(law, np.asarray(x_t), t)

    gap = t / 80
    found = residuals(law, jnp.asarray(x)[..., None], x_t, t, t - gap)[..., 0] / gap
    mean = (weights * found).sum(1, keepdims=True)
    ratio = float(share @ (weights * jnp.square(found - mean)).sum(1)) / float(share @ expected)
    assert abs(ratio - 1) < 0.03, ratio


@pytest.mark.parametrize(
    ("t", "published"), [(0.1, "1.16"), (0.2, "1.68"), (0.4, "1.13"), (0.8, ".45"), (2.0, ".028"), (8.0, ".0001")]
)
def test_the_noise_lives_where_modes_separate(t, published, x64):
    """Numbers of an independent program, on five modes of width 0.1."""
    del x64
    _, share, found = on_a_line(line(), t)
    assert abs(float(share @ found) - float(published)) < 1.01 * half_unit(published)


@pytest.mark.parametrize("sigma", [0.01, 0.5, 20.0])
def test_a_gaussians_law_is_in_closed_form(sigma, x64):
    """`J = sqrt((s^2 + eps^2) / (s^2 + t^2))` and `C / t^2 = s^2 / (s^2 + t^2)` in each direction."""
    del x64
    std = np.array([0.25, 2.0])
    law = Gaussian(jnp.array([0.5, -1.0]), jnp.asarray(std))
    x_t = jnp.array([0.3, 1.0])
    expected = ((std**2 + SIGMA_MIN**2) * std**2 / (std**2 + sigma**2) ** 2).sum()
    found = sct.noise_law(endpoint_of(law), law.denoise, x_t, sigma)
    np.testing.assert_allclose(found, expected, rtol=10 * FLOAT64_ROUNDING)


def test_random_signs_give_the_trace_without_bias(x64):
    """Of functions whose Jacobians do not commute: against the matrices, and within five standard errors of it."""
    del x64
    a, c = (jnp.asarray(np.random.default_rng(seed).normal(size=(3, 3))) for seed in (0, 1))
    c = c @ c.T
    f, mean = (lambda x_t, sigma: jnp.sin(a @ x_t) * sigma), (lambda x_t, sigma: c @ x_t / 10)
    x_t = jnp.array([0.1, -0.2, 0.3])
    j = jax.jacfwd(lambda x_t: f(x_t, 2.0))(x_t)
    expected = float(jnp.trace(j @ (c / 10) @ j.T))
    np.testing.assert_allclose(sct.noise_law(f, mean, x_t, 2.0), expected, rtol=10 * FLOAT64_ROUNDING)
    one = jax.jit(jax.vmap(lambda key: sct.noise_law(f, mean, x_t, 2.0, probes=2, key=key)))
    found = np.asarray(one(jr.split(KEY, 4000)))
    error = found.std(ddof=1) / np.sqrt(len(found))
    assert 0 < error < 0.05 * expected
    assert abs(found.mean() - expected) < 5 * error


def test_images_keep_their_shape(x64):
    del x64
    x_t = jnp.ones((1, 2, 2))
    for options in ({}, {"probes": 1, "key": KEY}):
        found = sct.noise_law(lambda x_t, sigma: 3 * x_t, lambda x_t, sigma: x_t / 2, x_t, 1.0, **options)
        np.testing.assert_allclose(found, 4 * 9 / 2, rtol=FLOAT64_ROUNDING)


def test_an_exact_velocity_has_no_noise(x64):
    """Through the objective itself: one and the same `x_t`, several samples that may be behind it."""
    del x64
    law = line(2, 0.25)
    model = function_cm(lambda x_t, sigma, key: law.transport(x_t, sigma, SIGMA_MIN))
    objective = sct.ConsistencyTraining(curriculum=sct.Constant(2), distance=sct.SquaredL2())
    x_t, pair = jnp.array([0.1]), sct.LevelPair(*map(jnp.asarray, (0.5, 0.45, 0.05)))
    draws = lambda x: Draw(x[None], (x_t - x) / 0.5, pair, Keys.from_key(KEY, share_dropout=True))
    one = lambda objective, x: objective.sample_loss(model, draws(x))[0]["consistency"].value
    losses = eqx.filter_jit(lambda objective: jax.vmap(lambda x: one(objective, x))(jnp.array([-1.0, 0.0, 1.0])))
    exact = losses(dataclasses.replace(objective, velocity=sct.DenoiserVelocity(law.denoise)))
    np.testing.assert_array_equal(exact, exact[0])
    assert float(losses(objective).max()) > 20 * float(exact[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"probes": 0, "key": KEY}, "probes: expected a finite number >= 1, found 0"),
        ({"probes": 2}, "key: expected one for the probes, found None"),
    ],
)
def test_probes_that_cannot_be_are_refused(options, message):
    same = lambda x_t, sigma: x_t
    with pytest.raises(ValueError, match=message):
        sct.noise_law(same, same, jnp.ones(2), 1.0, **options)
