"""Samplers against the algorithms as printed, exact laws and orders of convergence; evaluations are counted."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from hypothesis import given

from equisct.discretization import karras_grid
from equisct.oracle import Gaussian
from equisct.samplers import Churn, euler, heun, multistep, one_step, renoise_full, renoise_to_level
from strategies import levels, samples
from tolerances import FLOAT32_ROUNDING, FLOAT64_ROUNDING, half_unit

LAW = Gaussian(0.25, 0.5)
TWO_STEPS = jnp.array([80.0, 0.661])
EDM_LEVELS = """80 57.5860 40.7856 28.3746 19.3525 12.9101 8.40094 5.31519 3.25682 1.92334 1.08817 0.585348 0.296442
0.139516 0.0599473 0.0229345 0.00752802 0.002"""
SIX = karras_grid(6)[::-1].copy()


class Model(eqx.Module):
    """Like a trained model: `endpoint` is a bound method."""

    law: Gaussian = LAW

    def endpoint(self, x_t, sigma):
        return self.law.transport(x_t, sigma, 0.002)


def recorded(function):
    """The function, and the list of its calls; needs concrete values, so `jax.disable_jit` where there is a scan."""
    calls = []

    def record(x_t, sigma):
        calls.append((x_t, float(sigma)))
        return function(x_t, sigma)

    return record, calls


# --- consistency ---


@given(z=samples(), sigma_max=levels(1.0))
def test_one_step_is_one_evaluation_from_the_top(z, sigma_max):
    endpoint, calls = recorded(Model().endpoint)
    x = one_step(endpoint, z, sigma_max=sigma_max)
    ((x_t, sigma),) = calls
    assert sigma == sigma_max
    np.testing.assert_array_equal(x_t, sigma_max * z)
    np.testing.assert_array_equal(x, Model().endpoint(x_t, sigma))


@pytest.mark.parametrize("renoise", [renoise_to_level, renoise_full])
def test_multistep_against_algorithm_1(renoise):
    z, key = jnp.array([0.5, -1.5, 3.0]), jr.key(2)
    endpoint, calls = recorded(Model().endpoint)
    nodes = jnp.array([80.0, 5.0, 0.5])
    x = multistep(endpoint, z, nodes, key=key, renoise=renoise)
    assert [sigma for _, sigma in calls] == [80.0, 5.0, 0.5]
    np.testing.assert_array_equal(calls[0][0], 80 * z)
    expected = Model().endpoint(80 * z, 80.0)
    for (x_t, tau), noise_key in zip(calls[1:], jr.split(key, 2), strict=True):
        scale = np.sqrt(tau**2 - 0.002**2) if renoise is renoise_to_level else tau
        np.testing.assert_allclose(x_t, expected + scale * jr.normal(noise_key, z.shape), atol=5 * FLOAT32_ROUNDING)
        expected = Model().endpoint(x_t, tau)
    np.testing.assert_array_equal(x, expected)


@given(tau=levels())
def test_renoising_scales(tau):
    """`renoise_to_level` adds the missing variance: sigma_min^2 + scale^2 = tau^2."""
    with jax.enable_x64(True):
        assert float(renoise_to_level(tau, 0.001)) ** 2 + 0.001**2 == pytest.approx(tau**2, rel=FLOAT64_ROUNDING)
    assert float(renoise_to_level(jnp.float32(tau), tau)) == 0
    assert float(renoise_full(tau, 0.002)) == tau


def test_an_exact_endpoint_keeps_its_law_however_many_steps(x64):
    z = jr.normal(jr.key(0), (4000,))
    nodes = jnp.array([80.0, 2.0, 0.661])
    run = jax.jit(jax.vmap(lambda z, key: multistep(Model().endpoint, z, nodes, key=key)))
    x = run(z, jr.split(jr.key(1), z.size))
    assert np.mean(x) == pytest.approx(0.25, abs=4 * 0.5 / np.sqrt(z.size))
    assert np.std(x) == pytest.approx(0.5, abs=3 * 0.5 / np.sqrt(z.size))
    assert abs(np.corrcoef(x, z)[0, 1]) < 0.8  # two renoisings have forgotten much of where it started


def test_clip_applies_between_steps_only():
    endpoint, calls = recorded(lambda x_t, sigma: jnp.full_like(x_t, 3.0))
    x = multistep(endpoint, jnp.zeros(2), jnp.array([80.0, 0.002]), key=jr.key(0), clip=1.0)
    np.testing.assert_array_equal(calls[1][0], [1.0, 1.0])
    np.testing.assert_array_equal(x, [3.0, 3.0])


def test_one_level_needs_no_noise():
    z = jnp.array([0.5, -1.0])
    x = multistep(Model().endpoint, z, jnp.array([80.0]), key=jr.key(0))
    np.testing.assert_allclose(x, one_step(Model().endpoint, z), atol=FLOAT32_ROUNDING)


# --- probability flow ---


def test_default_levels_and_evaluations_are_those_of_edm():
    """35 evaluations for Heun, 18 for Euler, at the printed levels."""
    denoise, calls = recorded(LAW.denoise)
    with jax.disable_jit():
        euler(denoise, jnp.ones(1))
        seen_by_euler = [sigma for _, sigma in calls]
        calls.clear()
        heun(denoise, jnp.ones(1))
    seen_by_heun = [sigma for _, sigma in calls]
    assert len(seen_by_euler) == 18
    for found, printed in zip(seen_by_euler, EDM_LEVELS.split(), strict=True):
        assert found == pytest.approx(float(printed), abs=half_unit(printed), rel=FLOAT32_ROUNDING)
    assert seen_by_heun == [seen_by_euler[0], *(level for level in seen_by_euler[1:] for _ in (0, 1))]
    assert len(seen_by_heun) == 35


def algorithm_2(denoise, z, nodes, noise, gammas, *, second_order):
    """Karras et al. 2022, Algorithm 2, as printed, in NumPy."""
    x = nodes[0] * jnp.asarray(z)
    for i, t in enumerate(nodes):
        t_next = nodes[i + 1] if i + 1 < len(nodes) else 0.0
        t_hat = t + gammas[i] * t
        x_hat = x + np.sqrt(t_hat**2 - t**2) * noise[i]
        d = (x_hat - denoise(x_hat, t_hat)) / t_hat
        x = x_hat + (t_next - t_hat) * d
        if t_next != 0 and second_order:
            d_prime = (x - denoise(x, t_next)) / t_next
            x = x_hat + (t_next - t_hat) * (d + d_prime) / 2
    return x


@pytest.mark.parametrize(
    ("second_order", "churn"), [(True, None), (True, Churn(1.5, 0.01, 50.0, 1.1)), (False, Churn(100.0))]
)
def test_samplers_against_algorithm_2(second_order, churn, x64):
    z, key = jnp.array([0.5, -1.5, 3.0]), jr.key(3)
    gammas = np.zeros(6)
    noise = np.zeros((6, 3))
    if churn is not None:
        is_inside = (churn.sigma_low <= SIX) & (churn.sigma_high >= SIX)
        gammas = np.where(is_inside, min(churn.amount / 6, np.sqrt(2) - 1), 0)
        noise = churn.noise * np.stack([jr.normal(k, (3,)) for k in jr.split(key, 6)])
    expected = algorithm_2(LAW.denoise, np.asarray(z), SIX, noise, gammas, second_order=second_order)
    found = (heun if second_order else euler)(LAW.denoise, z, levels=SIX, churn=churn, key=key)
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("sampler", "order"), [(euler, 1), (heun, 2)])
def test_order_of_convergence(sampler, order, x64):
    """The error against the exact path falls as points^-order."""
    z = jnp.array([0.5, -1.5, 3.0])
    exact = LAW.denoise(LAW.transport(80 * z, 80.0, 0.002), 0.002)
    points = (64, 128)
    errors = [np.abs(sampler(LAW.denoise, z, levels=karras_grid(n)[::-1]) - exact).max() for n in points]
    assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.1)
    assert errors[1] < {1: 0.05, 2: 2e-3}[order]


def test_the_last_step_returns_what_the_denoiser_says():
    """With a boundary-preconditioned denoiser that is the identity."""
    z = jnp.array([0.5, -1.5])
    for sampler in (heun, euler):
        np.testing.assert_array_equal(sampler(lambda x_t, sigma: x_t, z, levels=jnp.array([0.002])), 0.002 * z)
        np.testing.assert_array_equal(sampler(LAW.denoise, z, levels=jnp.array([2.0])), LAW.denoise(2.0 * z, 2.0))


def test_churn_keeps_the_law_and_forgets_the_start(x64):
    n = 4000
    z = jr.normal(jr.key(0), (n,))
    run = jax.jit(
        jax.vmap(lambda z, key: heun(LAW.denoise, z, levels=karras_grid(40)[::-1], churn=Churn(20.0), key=key))
    )
    x = run(z, jr.split(jr.key(1), n))
    assert np.mean(x) == pytest.approx(0.25, abs=4 * 0.5 / np.sqrt(n))
    assert np.std(x) == pytest.approx(0.5, rel=0.05)
    assert abs(np.corrcoef(x, z)[0, 1]) < 0.5


def test_without_churn_there_is_no_randomness():
    z = jnp.array([0.5, -1.5])
    plain = heun(LAW.denoise, z, levels=SIX)
    for churn in (Churn(), Churn(1.0, sigma_low=100.0)):
        found = heun(LAW.denoise, z, levels=SIX, churn=churn, key=jr.key(0))
        np.testing.assert_allclose(found, plain, rtol=FLOAT32_ROUNDING)
    assert plain.dtype == jnp.float32


# --- bad calls ---

Z = jnp.zeros(2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: multistep(LAW.denoise, Z, jnp.array([1.0, 2.0]), key=jr.key(0)), "levels: .* strictly descending"),
        (lambda: multistep(LAW.denoise, Z, jnp.array([1.0, 1.0]), key=jr.key(0)), "levels: .* strictly descending"),
        (lambda: multistep(LAW.denoise, Z, jnp.array([1.0, 0.001]), key=jr.key(0)), "levels: .* sigma_min = 0.002"),
        (lambda: multistep(LAW.denoise, Z, jnp.array([1.0, -1.0]), key=jr.key(0)), "levels: .* > 0, found -1.0"),
        (lambda: multistep(LAW.denoise, Z, TWO_STEPS, key=jr.key(0), clip=0.0), "clip: expected a finite number > 0"),
        (lambda: multistep(LAW.denoise, Z, jnp.zeros(0), key=jr.key(0)), "levels: expected at least one number"),
        (lambda: heun(LAW.denoise, Z, levels=jnp.array([1.0, 2.0])), "levels: .* strictly descending"),
        (lambda: euler(LAW.denoise, Z, levels=jnp.array([1.0, 0.0])), "levels: .* > 0, found 0.0"),
        (lambda: heun(LAW.denoise, Z, churn=Churn(1.0)), "key: expected a key, because churn.amount = 1.0"),
        (lambda: Churn(-1.0), "amount: .* found -1.0"),
        (lambda: Churn(1.0, noise=-1.0), "noise: .* found -1.0"),
        (lambda: Churn(1.0, 2.0, 1.0), "sigma_high: expected >= sigma_low = 2.0, found 1.0"),
    ],
)
def test_bad_values(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    "call",
    [
        lambda: heun(LAW.denoise, Z, levels=jnp.ones((2, 2))),
        lambda: multistep(LAW.denoise, Z, jnp.ones(()), key=jr.key(0)),
        lambda: multistep(LAW.denoise, jnp.zeros(2, int), TWO_STEPS, key=jr.key(0)),
    ],
)
def test_bad_types(call):
    with pytest.raises(TypeError):
        call()
