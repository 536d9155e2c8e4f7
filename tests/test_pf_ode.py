"""The PF-ODE solver against closed-form flow maps, its derivatives, and what it says when it gives up.

Solving is compiled once per law and dtype: every number that varies is an argument of a module-level function.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from equisct.discretization import karras_grid
from equisct.oracle import Gaussian, ProductMixture
from equisct.pf_ode import pf_ode_path, solve_pf_ode
from strategies import levels
from tolerances import SOLVER_FLOAT32, SOLVER_FLOAT64

POINTS = 4
with jax.enable_x64(True):
    PRODUCT = ProductMixture(
        jnp.array([-1.0, -0.25, 1.0]),
        jnp.array([0.25, 0.125, 0.125]),
        jnp.array([[0.6, -0.8], [0.8, 0.6]]),
        jnp.array([0.2, 0.3, 0.5]),
    )
GAUSSIAN = Gaussian(0.25, 0.5)


@eqx.filter_jit
def solve(oracle, x_t, t, r):
    return jax.vmap(lambda x_t: solve_pf_ode(oracle.denoise, x_t, t, r))(x_t)


@eqx.filter_jit
def transport(oracle, x_t, t, r):
    return jax.vmap(oracle.transport, (0, None, None))(x_t, t, r)


def noised(seed, sigma):
    """Points of the product's law, noised."""
    rng = np.random.default_rng(seed)
    mode = rng.choice(3, (POINTS, 2), p=[0.2, 0.3, 0.5])
    y = np.array([-1.0, -0.25, 1.0])[mode] + np.array([0.25, 0.125, 0.125])[mode] * rng.normal(size=(POINTS, 2))
    return y @ np.array([[0.6, 0.8], [-0.8, 0.6]]) + sigma * rng.normal(size=(POINTS, 2))


@pytest.mark.parametrize(("dtype", "limit"), [(jnp.float64, SOLVER_FLOAT64), (jnp.float32, SOLVER_FLOAT32)])
@given(t=levels(), r=levels(), seed=st.integers(0, 2**31))
def test_solver_against_the_exact_flow_map(dtype, limit, t, r, seed):
    with jax.enable_x64(True):
        x_t = jnp.asarray(noised(seed, t), dtype)
        expected = transport(PRODUCT, x_t.astype(jnp.float64), jnp.asarray(t), jnp.asarray(r))
        oracle = jax.tree.map(lambda leaf: leaf.astype(dtype), PRODUCT)
        found = solve(oracle, x_t, jnp.asarray(t), jnp.asarray(r))
    assert found.dtype == dtype
    np.testing.assert_allclose(found, expected, atol=limit * max(1, r))


@given(t=levels(), s=levels(), r=levels(), seed=st.integers(0, 2**31))
def test_there_and_back_and_by_way_of_a_third_level(t, s, r, seed):
    with jax.enable_x64(True):
        x_t, t, s, r = jnp.asarray(noised(seed, t)), jnp.asarray(t), jnp.asarray(s), jnp.asarray(r)
        x_s, x_r = solve(PRODUCT, x_t, t, s), solve(PRODUCT, x_t, t, r)
        np.testing.assert_allclose(solve(PRODUCT, x_s, s, r), x_r, atol=10 * SOLVER_FLOAT64 * max(1, float(r)))
        np.testing.assert_allclose(solve(PRODUCT, x_s, s, t), x_t, atol=10 * SOLVER_FLOAT64 * max(1, float(t)))


def test_from_pure_noise_to_data_and_back(x64):
    z, high, low = jnp.asarray(np.random.default_rng(0).normal(size=(POINTS, 2))), jnp.asarray(80.0), jnp.asarray(0.002)
    x = solve(PRODUCT, 80 * z, high, low)
    np.testing.assert_allclose(x, transport(PRODUCT, 80 * z, high, low), atol=SOLVER_FLOAT64)
    np.testing.assert_allclose(solve(PRODUCT, x, low, high) / 80, z, atol=SOLVER_FLOAT64)


def test_a_path_agrees_with_the_flow_map_at_every_level(x64):
    descending = karras_grid(12)[::-1].copy()
    path = eqx.filter_jit(lambda x_t, levels: jax.vmap(lambda x_t: pf_ode_path(PRODUCT.denoise, x_t, levels))(x_t))
    start = jnp.asarray(noised(1, 80.0))
    for nodes in (descending, descending[::-1].copy()):
        states = path(start, jnp.asarray(nodes))
        np.testing.assert_allclose(states[:, 0], start, rtol=1e-15)
        for i, level in enumerate(nodes):
            expected = transport(PRODUCT, start, jnp.asarray(nodes[0]), jnp.asarray(level))
            np.testing.assert_allclose(states[:, i], expected, atol=SOLVER_FLOAT64 * max(1, level))
        start = states[:, -1]


def test_both_modes_of_differentiation_against_the_closed_form(x64):
    x_t = jnp.array([3.0, -1.0])

    def solved(x_t, t, r, std):
        return solve_pf_ode(Gaussian(0.25, std).denoise, x_t, t, r)

    def exact(x_t, t, r, std):
        return Gaussian(0.25, std).transport(x_t, t, r)

    arguments = (x_t, jnp.asarray(5.0), jnp.asarray(0.5), jnp.asarray(0.5))
    reverse = jax.jit(jax.grad(lambda *arguments: solved(*arguments)[0] ** 2, argnums=(0, 1, 2, 3)))(*arguments)
    expected = jax.jit(jax.grad(lambda *arguments: exact(*arguments)[0] ** 2, argnums=(0, 1, 2, 3)))(*arguments)
    for found, reference in zip(reverse, expected, strict=True):
        np.testing.assert_allclose(found, reference, atol=10 * SOLVER_FLOAT64)
    tangents = (jnp.array([1.0, 2.0]), jnp.asarray(1.0), jnp.asarray(-1.0), jnp.asarray(1.0))
    forward = jax.jit(lambda: jax.jvp(solved, arguments, tangents))()
    np.testing.assert_allclose(forward, jax.jvp(exact, arguments, tangents), atol=10 * SOLVER_FLOAT64)


def test_the_denoiser_sees_one_sample_and_a_scalar_level_of_its_dtype(x64):
    seen = set()

    def denoise(x_t, sigma):
        seen.add((x_t.shape, str(x_t.dtype), jnp.shape(sigma), str(sigma.dtype)))
        return jnp.zeros(x_t.shape)  # float64: the state's dtype must not change

    found = jax.eval_shape(lambda x_t: solve_pf_ode(denoise, x_t, 80, 0.002), jnp.ones((2, 3), jnp.float32))
    assert seen == {((2, 3), "float32", (), "float32")}
    assert (found.shape, found.dtype) == ((2, 3), jnp.float32)


def test_equal_levels_leave_the_sample_alone(x64):
    x_t = jnp.asarray(noised(2, 2.0))
    np.testing.assert_array_equal(solve(PRODUCT, x_t, jnp.asarray(2.0), jnp.asarray(2.0)), x_t)


def nan_below_one(x_t, sigma):
    return jnp.where(sigma < 1, jnp.nan, GAUSSIAN.denoise(x_t, sigma))


def test_giving_up_is_an_error_inside_jit_and_vmap():
    @eqx.filter_jit
    def run(x_t, r):
        return jax.vmap(lambda x_t: solve_pf_ode(nan_below_one, x_t, 80.0, r, max_steps=9))(x_t)

    x_t = jnp.ones((3, 2))
    assert run(x_t, jnp.asarray(70.0)).shape == x_t.shape
    with pytest.raises(RuntimeError, match=r"from t = 80.0 to r = \(traced\) .* max_steps = 9; raise max_steps"):
        run(x_t, jnp.asarray(1.5))
    with pytest.raises(RuntimeError, match=r"solve_pf_ode: from t = .* not finite: check x_t, and denoise"):
        run(x_t * jnp.inf, jnp.asarray(70.0))


def test_without_an_error_only_the_failed_samples_are_nan():
    @jax.jit
    def run(x_t, t, r):
        return jax.vmap(lambda x_t, r: solve_pf_ode(nan_below_one, x_t, t, r, throw=False))(x_t, r)

    x_t = jnp.array([[3.0, -1.0], [jnp.nan, 0.0], [3.0, -1.0]])
    found = run(x_t, jnp.asarray(80.0), jnp.array([2.0, 2.0, 0.5]))
    np.testing.assert_allclose(found[0], GAUSSIAN.transport(x_t[0], 80.0, 2.0), rtol=SOLVER_FLOAT32)
    assert np.isnan(found[1:]).all()


X = jnp.zeros(2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: solve_pf_ode(GAUSSIAN.denoise, X, 0.0, 1.0), "t: expected finite numbers > 0, found 0.0"),
        (lambda: solve_pf_ode(GAUSSIAN.denoise, X, 1.0, -1), "r: expected finite numbers > 0, found -1"),
        (lambda: solve_pf_ode(GAUSSIAN.denoise, X, jnp.inf, 1.0), "t: .* found inf"),
        (lambda: solve_pf_ode(GAUSSIAN.denoise, X.astype(jnp.bfloat16), 1.0, 0.5), "x_t: .* found bfloat16"),
        (lambda: pf_ode_path(GAUSSIAN.denoise, X, jnp.array([1.0, 0.0])), "levels: .* > 0, found 0.0"),
        (lambda: pf_ode_path(GAUSSIAN.denoise, X, jnp.array([1.0, 0.5, 0.7])), "levels: .* strictly descending"),
        (lambda: pf_ode_path(GAUSSIAN.denoise, X, jnp.array([1.0])), "levels: expected two or more"),
    ],
)
def test_bad_values(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    "call",
    [
        lambda: solve_pf_ode(GAUSSIAN.denoise, X, jnp.ones(2), 1.0),
        lambda: solve_pf_ode(GAUSSIAN.denoise, jnp.zeros(2, int), 1.0, 0.5),
        lambda: pf_ode_path(GAUSSIAN.denoise, X, jnp.ones((2, 2))),
    ],
)
def test_bad_shapes(call):
    with pytest.raises(TypeError):
        call()
