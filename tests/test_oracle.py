"""Oracles: laws of all of them against one naive NumPy mixture, float32 against float64, samples, bad settings."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from equisct.oracle import Empirical, Gaussian, GaussianMixture, ProductMixture
from strategies import levels
from tolerances import FLOAT32_CANCELLING, FLOAT32_NETWORK, FLOAT32_ROUNDING, FLOAT64_ROUNDING

MEANS = np.array([[0.5, -1.0], [0.25, 0.75], [-1.5, 0.0]])
LINE = np.array([-1.0, -0.25, 1.0])
STD = np.array([0.25, 0.125, 0.5])
WEIGHTS = np.array([0.5, 0.2, 0.3])
ROTATION = np.array([[0.6, -0.8], [0.8, 0.6]])
PAIRS = [(i, j) for i in range(3) for j in range(3)]
POINTS = 6

# name -> (constructor, its law as a mixture of isotropic Gaussians: weights, means, standard deviations)
CATALOGUE = {
    "gaussian": (lambda: Gaussian(jnp.array([0.5, -1.0]), 0.25), ([1.0], MEANS[:1], [0.25])),
    "mixture": (lambda: GaussianMixture(*map(jnp.asarray, (MEANS, STD, WEIGHTS))), (WEIGHTS, MEANS, STD)),
    "product": (
        lambda: ProductMixture(jnp.asarray(LINE), 0.125, jnp.asarray(ROTATION), jnp.asarray(WEIGHTS)),
        (
            [WEIGHTS[i] * WEIGHTS[j] for i, j in PAIRS],
            [ROTATION @ [LINE[i], LINE[j]] for i, j in PAIRS],
            [0.125] * 9,
        ),
    ),
    "empirical": (lambda: Empirical(jnp.asarray(MEANS)), ([1 / 3] * 3, MEANS, [0.0] * 3)),
}
with jax.enable_x64(True):
    ORACLES = {name: constructor() for name, (constructor, _) in CATALOGUE.items()}


def naive(name, x_t, sigma):
    """log p, posterior mean and posterior covariance at one point, term by term in float64."""
    weights, means, std = (np.asarray(part, float) for part in CATALOGUE[name][1])
    size = len(x_t)
    terms, inner = [], []
    for weight, mean, s in zip(weights, means, std, strict=True):
        variance = s**2 + sigma**2
        squares = np.sum((x_t - mean) ** 2)
        terms.append(np.log(weight) - squares / (2 * variance) - size / 2 * np.log(2 * np.pi * variance))
        inner.append((mean + s**2 / variance * (x_t - mean), s**2 * sigma**2 / variance))
    log_prob = np.logaddexp.reduce(terms)
    posterior = np.exp(np.array(terms) - log_prob)
    denoised = sum(p * mean for p, (mean, _) in zip(posterior, inner, strict=True))
    covariance = sum(
        p * (variance * np.eye(size) + np.outer(mean - denoised, mean - denoised))
        for p, (mean, variance) in zip(posterior, inner, strict=True)
    )
    return log_prob, denoised, covariance


def noised(name, sigma, seed, points=POINTS):
    """Points of the noised law, a few of them far outside."""
    weights, means, std = (np.asarray(part, float) for part in CATALOGUE[name][1])
    rng = np.random.default_rng(seed)
    mode = rng.choice(len(weights), points, p=weights / weights.sum())
    scale = np.sqrt(std[mode] ** 2 + sigma**2)[:, None] * np.where(np.arange(points) < points - 2, 1, 4)[:, None]
    return means[mode] + scale * rng.normal(size=(points, 2))


@eqx.filter_jit
def evaluate(oracle, x_t, sigma):
    return jax.vmap(lambda x_t: (oracle.log_prob(x_t, sigma), oracle.denoise(x_t, sigma), oracle.score(x_t, sigma)))(
        x_t
    )


@eqx.filter_jit
def evaluate_with_derivatives(oracle, x_t, sigma):
    def one(x_t):
        log_prob, score_of_density = jax.value_and_grad(oracle.log_prob)(x_t, sigma)
        denoised, jacobian = oracle.denoise(x_t, sigma), jax.jacfwd(oracle.denoise)(x_t, sigma)
        covariance = oracle.posterior_covariance(x_t, sigma)
        return log_prob, denoised, oracle.score(x_t, sigma), score_of_density, jacobian, covariance

    return jax.vmap(one)(x_t)


@pytest.mark.parametrize("name", CATALOGUE)
@given(sigma=levels(), seed=st.integers(0, 2**31))
def test_oracle_against_a_naive_mixture(name, sigma, seed):
    x_t = noised(name, sigma, seed)
    expected = [naive(name, point, sigma) for point in x_t]
    with jax.enable_x64(True):
        found = evaluate_with_derivatives(ORACLES[name], jnp.asarray(x_t), jnp.asarray(sigma))
    log_prob, denoised, score, score_of_density, jacobian, found_covariance = map(np.asarray, found)
    for i, (expected_log_prob, expected_denoised, covariance) in enumerate(expected):
        scale = max(1, sigma)
        assert log_prob[i] == pytest.approx(expected_log_prob, rel=1e-9)
        np.testing.assert_allclose(denoised[i], expected_denoised, atol=1e-9 * scale)
        np.testing.assert_allclose(score[i] * sigma, score_of_density[i] * sigma, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(x_t[i] + sigma**2 * score[i], expected_denoised, atol=1e-9 * scale)
        np.testing.assert_allclose(sigma**2 * jacobian[i], covariance, atol=1e-9 * scale**2)
        np.testing.assert_allclose(found_covariance[i], covariance, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("name", CATALOGUE)
def test_posterior_covariance_is_the_slope_of_the_denoiser(name, x64):
    """`sigma^2 dD/dx_t = C` to rounding, on points of the noised law (Tweedie's formula of second order)."""
    for sigma in (0.01, 0.3, 2.0, 80.0):
        x_t = jnp.asarray(noised(name, sigma, 0))
        *_, jacobian, covariance = map(np.asarray, evaluate_with_derivatives(ORACLES[name], x_t, jnp.asarray(sigma)))
        np.testing.assert_allclose(sigma**2 * jacobian, covariance, atol=1e-10)


@pytest.mark.parametrize("name", CATALOGUE)
def test_posterior_covariance_against_weighted_samples(name, x64):
    """Of samples of the law, weighted by how probable the noise is that leads from them to `x_t`."""
    sigma, n, x_t = 0.5, 40_000, jnp.array([0.1, 0.2])
    x = np.asarray(jax.jit(jax.vmap(lambda key: ORACLES[name].sample(key=key)))(jr.split(jr.key(1), n)))
    weights = np.exp(-np.square(np.asarray(x_t) - x).sum(1) / (2 * sigma**2))
    weights /= weights.sum()
    mean = weights @ x
    products = np.einsum("ni,nj->nij", x - mean, x - mean)
    expected = np.einsum("n,nij->ij", weights, products)
    errors = np.sqrt(np.einsum("n,nij->ij", weights**2, np.square(products - expected)))
    found = ORACLES[name].posterior_covariance(x_t, jnp.asarray(sigma))
    assert np.all(np.abs(found - expected) < 5 * errors)


def test_posterior_covariance_is_of_the_sample_as_a_vector(x64):
    x_t, std = jnp.ones((2, 3)), jnp.array([0.5, 1.0, 2.0])
    np.testing.assert_allclose(
        Gaussian(0.0, std).posterior_covariance(x_t, 2.0), np.diag(np.tile(4 * std**2 / (4 + std**2), 2))
    )
    points = jnp.asarray(np.random.default_rng(0).normal(size=(5, 2, 3)))
    flat = Empirical(points.reshape(5, 6)).posterior_covariance(x_t.reshape(-1), 2.0)
    np.testing.assert_allclose(Empirical(points).posterior_covariance(x_t, 2.0), flat, rtol=FLOAT64_ROUNDING)


def test_posterior_of_a_product_is_that_of_its_lines(x64):
    law, x_t = ORACLES["product"], jnp.array([0.3, -0.4])
    line = GaussianMixture(jnp.asarray(LINE)[:, None], 0.125, jnp.asarray(WEIGHTS))
    expected = [line.posterior(jnp.array([y]), 0.3) for y in ROTATION.T @ x_t]
    np.testing.assert_allclose(law.posterior(x_t, 0.3), expected, rtol=FLOAT64_ROUNDING)


@pytest.mark.parametrize("name", CATALOGUE)
@given(sigma=levels(), seed=st.integers(0, 2**31))
def test_float32_is_as_good_as_its_input(name, sigma, seed):
    """Against float64 on the same float32 points, in units of the noise where the rounding of the input counts."""
    x_t = noised(name, sigma, seed).astype(np.float32)
    with jax.enable_x64(True):
        exact = evaluate_with_derivatives(ORACLES[name], jnp.asarray(x_t, float), jnp.asarray(sigma))
        exact = [np.asarray(part) for part in exact]
    narrow = jax.tree.map(lambda leaf: leaf.astype(jnp.float32) if eqx.is_array(leaf) else leaf, ORACLES[name])
    found = evaluate(narrow, jnp.asarray(x_t), jnp.asarray(sigma, jnp.float32))
    assert all(part.dtype == jnp.float32 for part in found)
    scale = 1 + np.abs(exact[0])
    np.testing.assert_allclose(found[0] / scale, exact[0] / scale, atol=FLOAT32_CANCELLING)
    np.testing.assert_allclose(found[1], exact[1], rtol=FLOAT32_NETWORK, atol=FLOAT32_CANCELLING)
    np.testing.assert_allclose(found[2] * sigma, exact[2] * sigma, rtol=FLOAT32_CANCELLING, atol=FLOAT32_CANCELLING)


@pytest.mark.parametrize("name", CATALOGUE)
def test_denoiser_goes_from_the_sample_to_the_mean(name, x64):
    weights, means, _ = (np.asarray(part, float) for part in CATALOGUE[name][1])
    x_t = jnp.asarray(noised(name, 0.0, 0))
    far, near = (evaluate_with_derivatives(ORACLES[name], x_t, jnp.asarray(sigma))[1] for sigma in (1e6, 1e-6))
    np.testing.assert_allclose(far, np.broadcast_to(weights @ means, x_t.shape), atol=1e-5)
    np.testing.assert_allclose(near, x_t, atol=1e-9)


@pytest.mark.parametrize("name", CATALOGUE)
def test_samples_have_the_mean_and_covariance_of_the_law(name, x64):
    weights, means, std = (np.asarray(part, float) for part in CATALOGUE[name][1])
    n = 4000
    x = jax.jit(jax.vmap(lambda key: ORACLES[name].sample(key=key)))(jr.split(jr.key(0), n))
    mean = weights @ means
    covariance = np.einsum("k,ki,kj->ij", weights, means - mean, means - mean) + (weights @ std**2) * np.eye(2)
    assert x.shape == (n, 2)
    five_standard_errors = 5 * np.trace(covariance) / np.sqrt(n)
    np.testing.assert_allclose(np.cov(x.T), covariance, atol=2 * five_standard_errors)
    np.testing.assert_allclose(np.mean(x, axis=0), mean, atol=5 * np.sqrt(np.trace(covariance) / n))


def test_gaussian_is_elementwise_on_a_batch(x64):
    law = Gaussian(0.25, 0.5)
    x_t = jnp.asarray(noised("gaussian", 1.0, 0))
    for method, levels_ in ((law.denoise, (1.0,)), (law.score, (1.0,)), (law.transport, (1.0, 0.5))):
        expected = [method(row, *levels_) for row in x_t]
        np.testing.assert_allclose(method(x_t, *levels_), expected, rtol=FLOAT64_ROUNDING)
    assert law.sample(key=jr.key(0)).shape == ()
    assert Gaussian(jnp.zeros(3), 1.0, shape=(2, 1)).sample(key=jr.key(0)).shape == (2, 3)


def test_empirical_takes_samples_of_any_shape():
    images = jnp.asarray(np.random.default_rng(0).normal(size=(5, 2, 3)), jnp.float32)
    law, flat = Empirical(images), Empirical(images.reshape(5, 6))
    x_t = images[0] + 0.5 * images[1]

    @jax.jit
    def evaluate(key):
        expected = flat.denoise(x_t.ravel(), 0.5), flat.log_prob(x_t.ravel(), 0.5), flat.sample(key=key)
        return (law.denoise(x_t, 0.5).ravel(), law.log_prob(x_t, 0.5), law.sample(key=key).ravel()), expected

    found, expected = evaluate(jr.key(1))
    for part, reference in zip(found, expected, strict=True):
        np.testing.assert_allclose(part, reference, rtol=FLOAT32_ROUNDING)


def test_a_point_far_from_all_data_has_finite_answers():
    for name, oracle in ORACLES.items():
        narrow = jax.tree.map(lambda leaf: leaf.astype(jnp.float32) if eqx.is_array(leaf) else leaf, oracle)
        found = evaluate(narrow, jnp.full((POINTS, 2), 1e4, jnp.float32), jnp.asarray(0.002, jnp.float32))
        assert all(np.isfinite(part).all() for part in found), name


def test_ring_of_modes():
    law = GaussianMixture.ring(4, 2.0, 0.125)
    np.testing.assert_allclose(law.means, [[2, 0], [0, 2], [-2, 0], [0, -2]], atol=FLOAT32_ROUNDING)
    assert law.std == 0.125
    assert law.weights is None
    assert evaluate(law, jnp.zeros((POINTS, 2)), jnp.asarray(1.0))[0].shape == (POINTS,)


def test_grid_of_modes():
    law = ProductMixture.grid(3, 5, 0.05, key=jr.key(0))
    np.testing.assert_allclose(law.means, [-1, -0.5, 0, 0.5, 1])
    np.testing.assert_allclose(np.asarray(law.rotation) @ np.asarray(law.rotation).T, np.eye(3), atol=1e-6)
    assert np.abs(np.asarray(law.rotation) - np.eye(3)).max() > 0.1
    np.testing.assert_array_equal(ProductMixture.grid(3).rotation, np.eye(3))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Gaussian(0.0, 0.0), "std: expected finite numbers > 0, found 0.0"),
        (lambda: Gaussian(float("nan")), "mean: expected finite numbers, found nan"),
        (lambda: Gaussian(0.0, jnp.array([1.0, -2.0])), "std: .* found -2.0"),
        (lambda: GaussianMixture(jnp.zeros((0, 2)), 1.0), r"means: expected at least one number, found shape \(0, 2\)"),
        (lambda: GaussianMixture(jnp.zeros((2, 2)), jnp.inf), "std: .* found inf"),
        (
            lambda: GaussianMixture(jnp.zeros((3, 2)), 1.0, jnp.array([0.5, 0.5, 0.5])),
            "weights: expected a sum of 1, found 1.5",
        ),
        (lambda: GaussianMixture(jnp.zeros((3, 2)), 1.0, jnp.array([0.5, 0.5, 0.0])), "weights: .* > 0, found 0.0"),
        (lambda: ProductMixture(jnp.zeros(3), 1.0, 2 * jnp.eye(2)), "rotation: expected an orthogonal matrix"),
        (lambda: ProductMixture(jnp.zeros(3), 1.0, jnp.eye(2), jnp.array([0.5, 0.6, -0.1])), "weights: .* found -0.1"),
        (lambda: Empirical(jnp.array([[jnp.nan]])), "points: expected finite numbers, found nan"),
        (lambda: Empirical(jnp.zeros((0, 3))), "points: expected at least one number"),
        (lambda: Empirical(jnp.zeros((4, 2))).denoise(jnp.zeros(3), 1.0), "x_t: expected the shape of"),
    ],
)
def test_bad_values(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    "call",
    [
        lambda: GaussianMixture(jnp.zeros(3), 1.0),
        lambda: GaussianMixture(jnp.zeros((3, 2)), 1.0, jnp.ones(2)),
        lambda: ProductMixture(jnp.zeros(3), 1.0, jnp.ones((2, 3))),
        lambda: ProductMixture.grid(2).transport(jnp.zeros(3), 1.0, 0.5),
        lambda: GaussianMixture.ring().denoise(jnp.zeros((4, 2)), 1.0),
        lambda: GaussianMixture.ring().denoise(jnp.zeros(2), jnp.ones(3)),
        lambda: GaussianMixture.ring().denoise(jnp.zeros(1), 1.0),
        lambda: Gaussian(0.0, 1.0).denoise(jnp.zeros(2, int), 1.0),
    ],
)
def test_bad_shapes(call):
    with pytest.raises(TypeError):
        call()


def test_values_are_not_checked_while_tracing():
    def log_prob(std):
        return GaussianMixture(jnp.zeros((3, 2)), std).log_prob(jnp.zeros(2), 0.5)

    assert np.isfinite(jax.jit(jax.grad(log_prob))(0.5))
