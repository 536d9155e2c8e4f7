"""Distances: laws of all, the pseudo-Huber forms, and the head's weight that belongs to each."""

import math
from statistics import NormalDist

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given

from equisct.distance import (
    L1,
    Perceptual,
    PseudoHuber,
    PseudoHuberNorm,
    PseudoHuberRMS,
    SquaredL2,
)
from strategies import host_samples, samples, settings, untyped
from tolerances import FLOAT32_ROUNDING, half_unit

SHAPE = (2, 3)


def features(x):
    return {"coarse": x[:, 0], "fine": [2 * x, jnp.maximum(x, x / 4)]}


CATALOGUE = {
    "pseudo-huber": PseudoHuber(),
    "pseudo-huber, large c": PseudoHuber(2.0),
    "pseudo-huber rms": PseudoHuberRMS(),
    "pseudo-huber norm": PseudoHuberNorm(),
    "squared l2": SquaredL2(),
    "l1": L1(),
    "perceptual": Perceptual(features, PseudoHuber(0.1)),
}
VALUE = {name: jax.jit(distance) for name, distance in CATALOGUE.items()}
VALUE_AND_GRADIENT = {name: jax.jit(jax.value_and_grad(distance)) for name, distance in CATALOGUE.items()}


@pytest.mark.parametrize("name", CATALOGUE)
@given(a=samples(SHAPE), b=samples(SHAPE))
def test_distance_is_symmetric_and_positive(name, a, b):
    distance = VALUE[name]
    found = distance(a, b)
    assert found.shape == ()
    assert found.dtype == jnp.float32
    assert found == distance(b, a)
    assert found >= 0
    if np.abs(a - b).max() > 1e-6:
        assert found > 0


@pytest.mark.parametrize("name", CATALOGUE)
@given(a=samples(SHAPE))
def test_distance_to_itself_and_its_gradient_are_zero(name, a):
    value, gradient = VALUE_AND_GRADIENT[name](a, a)
    assert value == 0
    np.testing.assert_array_equal(gradient, np.zeros(SHAPE))


@pytest.mark.parametrize("name", CATALOGUE)
def test_jit_vmap_and_float64(name):
    a, b = np.random.default_rng(0).normal(size=(2, 4, *SHAPE)).astype(np.float32)
    single = [VALUE[name](x, y) for x, y in zip(a, b, strict=True)]
    with jax.enable_x64(True):
        batch = jax.jit(jax.vmap(CATALOGUE[name]))(a.astype(float), b.astype(float))
        assert batch.dtype == jnp.float64
        np.testing.assert_allclose(single, batch, rtol=2 * FLOAT32_ROUNDING)


@pytest.mark.parametrize("name", CATALOGUE)
def test_gradient_points_away_from_the_other_sample(name):
    a, b = np.random.default_rng(0).normal(size=(2, *SHAPE)).astype(np.float32)
    value, gradient = VALUE_AND_GRADIENT[name](a, b)
    assert VALUE[name](a - np.float32(1e-3) * np.asarray(gradient), b) < value


C = settings(2**-10, 4.0)


@given(host_samples(SHAPE), host_samples(SHAPE), C)
def test_pseudo_hubers_are_their_formulas(a, b, c):
    """The printed formulas in NumPy float64, where their cancellation does not matter."""
    square, root_d = (a.astype(float) - b.astype(float)) ** 2, math.sqrt(a.size)
    norm = np.sqrt(square.sum() + (c * root_d) ** 2) - c * root_d
    expected = {PseudoHuber: np.mean(np.sqrt(square + c**2) - c), PseudoHuberRMS: norm / root_d, PseudoHuberNorm: norm}
    for form, value in expected.items():
        found = form(c)(jnp.asarray(a), jnp.asarray(b))
        np.testing.assert_allclose(found, value, rtol=4 * FLOAT32_ROUNDING, atol=1e-12)


@given(samples(SHAPE), samples(SHAPE), C)
def test_pseudo_hubers_stay_below_the_distances_they_smooth(a, b, c):
    slack = 1 + FLOAT32_ROUNDING
    rms = jnp.sqrt(SquaredL2()(a, b))
    assert PseudoHuber(c)(a, b) <= L1()(a, b) * slack
    assert PseudoHuber(c)(a, b) <= SquaredL2()(a, b) / (2 * c) * slack
    assert PseudoHuberRMS(c)(a, b) <= rms * slack
    assert PseudoHuberNorm(c)(a, b) <= rms * math.sqrt(a.size) * slack
    assert L1()(a, b) <= rms * slack


@given(samples(SHAPE), samples(SHAPE), C)
def test_pseudo_hubers_scale_with_their_constant(a, b, c):
    for form in (PseudoHuber, PseudoHuberRMS, PseudoHuberNorm):
        np.testing.assert_allclose(form(4 * c)(4 * a, 4 * b), 4 * form(c)(a, b), rtol=4 * FLOAT32_ROUNDING)


CEILINGS = {"pseudo-huber": 1.0, "pseudo-huber, large c": 1.0, "pseudo-huber rms": 1.0, "l1": 1.0}
CEILINGS |= {"pseudo-huber norm": math.sqrt(6)}


@pytest.mark.parametrize("name", CEILINGS)
@given(a=host_samples(SHAPE), b=host_samples(SHAPE))
def test_gradient_ceilings(name, a, b):
    """In units of 1 / sqrt(d)."""
    gradient = np.asarray(VALUE_AND_GRADIENT[name](a, b)[1])
    assert np.linalg.norm(gradient) * math.sqrt(a.size) <= CEILINGS[name] * (1 + 2 * FLOAT32_ROUNDING)


def test_small_residuals_do_not_cancel():
    a, b = jnp.full(SHAPE, 2.0**-20), jnp.zeros(SHAPE)
    exact = 2.0**-40 / (math.sqrt(2.0**-40 + 0.003**2) + 0.003)
    for form in (PseudoHuber(0.003), PseudoHuberRMS(0.003)):
        np.testing.assert_allclose(form(a, b), exact, rtol=FLOAT32_ROUNDING)


def test_plain_distances_by_hand():
    a, b = jnp.asarray([1.0, -2.0, 0.0, 4.0]), jnp.asarray([1.0, 1.0, -1.0, 2.0])
    assert SquaredL2()(a, b) == 14 / 4
    assert L1()(a, b) == 6 / 4


GRADIENT_SCALES = """
1e-4 6.01e-5 6.00e-4 3.19e-3 0.182
5.4e-4 3.25e-4 3.11e-3 1.06e-2 0.707
1e-3 6.00e-4 5.30e-3 1.32e-2 0.880
1e-2 5.30e-3 1.51e-2 1.745e-2 0.9985
1e-1 1.51e-2 1.77e-2 1.80e-2 1.000
"""


def test_printed_gradient_scales(x64):
    """The norm of the gradient for a Gaussian residual, taken at its 3072 quantiles."""
    z = np.asarray([NormalDist().inv_cdf((i + 0.5) / 3072) for i in range(3072)])
    z /= np.sqrt(np.mean(z**2))
    forms = [PseudoHuber(0.03), PseudoHuber(0.003), PseudoHuber(0.00054), PseudoHuberNorm()]
    gradients = [jax.jit(jax.grad(form)) for form in forms]
    for rms, *row in (line.split() for line in GRADIENT_SCALES.strip().splitlines()):
        for gradient, text in zip(gradients, row, strict=True):
            found = np.linalg.norm(np.asarray(gradient(float(rms) * z, np.zeros(3072))))
            assert abs(found - float(text)) <= half_unit(text)


def test_constant_of_ict(x64):
    """At the residual norm C = 0.0299298 the norm form is (sqrt(2) - 1) C."""
    residual = np.zeros(3072)
    residual[7] = 0.0299298
    value = float(jax.jit(PseudoHuberNorm())(residual, np.zeros(3072)))
    np.testing.assert_allclose(value, (math.sqrt(2) - 1) * 0.0299298, rtol=1e-5)


def test_perceptual_is_the_mean_over_the_features():
    a, b = jnp.asarray(np.random.default_rng(1).normal(size=(2, *SHAPE)), jnp.float32)
    inner = PseudoHuber(0.1)
    of_a, of_b = features(a), features(b)
    parts = [
        inner(of_a["coarse"], of_b["coarse"]),
        *(inner(x, y) for x, y in zip(of_a["fine"], of_b["fine"], strict=True)),
    ]
    np.testing.assert_allclose(Perceptual(features, inner)(a, b), sum(parts) / 3, rtol=FLOAT32_ROUNDING)
    np.testing.assert_allclose(Perceptual(lambda x: x, inner)(a, b), inner(a, b), rtol=FLOAT32_ROUNDING)


def test_balanced_head_weight():
    assert PseudoHuber().balanced_head_weight(3072) == 0.3
    assert PseudoHuberRMS().balanced_head_weight(3072) == 0.3
    norm = PseudoHuberNorm().balanced_head_weight(3072)
    assert norm is not None
    assert abs(norm - 16.6) <= half_unit("16.6")
    for other in (SquaredL2(), L1(), Perceptual(features, PseudoHuber())):
        assert other.balanced_head_weight(3072) is None


@given(samples(SHAPE), samples(SHAPE))
def test_balanced_weights_keep_the_ratio_of_the_gradients(a, b):
    """Norm and root-mean-square form are one distance up to sqrt(d), and so are their head weights."""
    root_d = math.sqrt(a.size)
    np.testing.assert_allclose(PseudoHuberNorm()(a, b), root_d * PseudoHuberRMS()(a, b), rtol=4 * FLOAT32_ROUNDING)
    assert PseudoHuberNorm().balanced_head_weight(a.size) == root_d * 0.3


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: PseudoHuber().balanced_head_weight(untyped(2.5)), TypeError, "size"),
        (lambda: PseudoHuber(0.0), ValueError, r"c: expected .* > 0, found 0.0"),
        (lambda: PseudoHuberRMS(-1.0), ValueError, r"c_per_root_dim: expected .* > 0, found -1.0"),
        (lambda: PseudoHuberNorm(math.inf), ValueError, r"c_per_root_dim: expected .* found inf"),
        (
            lambda: Perceptual(lambda x: [], L1())(jnp.ones(2), jnp.ones(2)),
            ValueError,
            "features: expected at least one",
        ),
        (lambda: L1()(jnp.ones(2), jnp.ones(3)), TypeError, "b"),
        (lambda: L1()(jnp.ones(2, int), jnp.ones(2, int)), TypeError, "a"),
        (lambda: Perceptual(untyped(L1()), untyped(3)), TypeError, "distance"),
    ],
)
def test_bad_calls(call, error, message):
    with pytest.raises(error, match=message):
        call()
