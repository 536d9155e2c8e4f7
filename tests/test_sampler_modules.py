"""Samplers as modules: each equals its function, names are stable, and a walk can begin anywhere and be looked at."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import equisct as sct
from strategies import untyped
from tolerances import FLOAT32_ROUNDING

TRUTH = sct.oracle.Gaussian(mean=0.3, std=0.5, shape=(3,))
KEY = jr.key(0)
Z = jr.normal(jr.key(1), (3,))
SCHEDULE = sct.VPSchedule(times=20, first=0.005, last=0.5)
LEVELS = (80.0, 5.0, 0.6, 0.01)
ARRAY = np.array(LEVELS)


class Model:
    """An exact model: both what a consistency model and what a denoiser can be asked."""

    def endpoint(self, x_t, sigma):
        return TRUTH.transport(x_t, sigma, 0.002)

    def denoise(self, x_t, sigma):
        return TRUTH.denoise(x_t, sigma)


MODEL = Model()
CHURN = sct.Churn(amount=2.0)
CASES = {
    "one-step": (sct.Multistep(), lambda key: sct.one_step(MODEL.endpoint, Z)),
    "two-step": (
        sct.Multistep(np.array([80.0, 0.661])),
        lambda key: sct.multistep(MODEL.endpoint, Z, jnp.array([80.0, 0.661]), key=key),
    ),
    "multistep-4": (
        sct.Multistep(jnp.array(LEVELS), clip=1.0),
        lambda key: sct.multistep(MODEL.endpoint, Z, jnp.array(LEVELS), key=key, clip=1.0),
    ),
    "heun-18": (sct.Heun(), lambda key: sct.heun(MODEL.denoise, Z)),
    "heun-4": (
        sct.Heun(np.array(LEVELS), churn=CHURN),
        lambda key: sct.heun(MODEL.denoise, Z, levels=ARRAY, churn=CHURN, key=key),
    ),
    "euler-4": (sct.Euler(LEVELS), lambda key: sct.euler(MODEL.denoise, Z, levels=ARRAY)),
    "ddim-50": (sct.DDIM(), lambda key: sct.ddim(MODEL.denoise, Z, times=sct.VPSchedule().quadratic(50))),
    "ddim-5": (
        sct.DDIM(SCHEDULE.uniform(5), eta=1.0, schedule=SCHEDULE),
        lambda key: sct.ddim(MODEL.denoise, Z, times=SCHEDULE.uniform(5), eta=1.0, key=key, schedule=SCHEDULE),
    ),
    "ancestral-20": (
        sct.Ancestral(SCHEDULE, clip=None),
        lambda key: sct.ancestral(MODEL.denoise, Z, key=key, schedule=SCHEDULE, clip=None),
    ),
}
each = pytest.mark.parametrize(("name", "sampler", "function"), [(n, *c) for n, c in CASES.items()], ids=CASES)


@each
def test_a_module_is_its_function_and_has_its_name(name, sampler, function):
    assert sampler.name == name
    np.testing.assert_array_equal(sampler(MODEL, Z, key=KEY), function(KEY))
    many = jax.jit(jax.vmap(lambda z, key: sampler(MODEL, z, key=key)))(jnp.stack([Z, Z]), jr.split(KEY, 2))
    np.testing.assert_allclose(many[0], sampler(MODEL, Z, key=jr.split(KEY, 2)[0]), rtol=1e-4, atol=1e-5)


@each
def test_a_trajectory_ends_in_the_sample_and_counts_the_levels(name, sampler, function):
    path = sampler.trajectory(MODEL, Z, key=KEY)
    assert path.shape == (int(name.split("-")[1]) + 1 if name[-1].isdigit() else 1 + ["one", "two"].index(
        name.split("-")[0]) + 1, 3)  # fmt: skip
    np.testing.assert_array_equal(path[-1], sampler(MODEL, Z, key=KEY))


@each
def test_a_walk_begun_at_its_own_first_level_is_the_whole_walk(name, sampler, function):
    path = sampler.trajectory(MODEL, Z, key=KEY)
    first = SCHEDULE.sigmas[-1] if name == "ancestral-20" else None
    if name.startswith("ddim"):
        first = sampler.schedule.sigmas[sampler.times[-1]]
    first = float(first if first is not None else sampler.levels[0])
    found = sampler.from_level(MODEL, path[0], first, key=KEY)
    np.testing.assert_allclose(found, path[-1], rtol=20 * FLOAT32_ROUNDING, atol=1e-5)


@pytest.mark.parametrize("solver", [sct.Euler(LEVELS), sct.Heun(LEVELS)], ids=["euler", "heun"])
def test_every_point_of_a_trajectory_leads_to_its_end(solver):
    path = solver.trajectory(MODEL, Z)
    for x_t, level in zip(path, LEVELS, strict=False):
        np.testing.assert_allclose(
            solver.from_level(MODEL, x_t, level), path[-1], rtol=20 * FLOAT32_ROUNDING, atol=1e-5
        )


@given(sigma=st.floats(0.05, 70.0))
def test_a_walk_begun_between_its_levels_leads_to_the_same_end(sigma):
    """Of an exact endpoint exactly; of a solver, as nearly as its steps are fine."""
    x_t = TRUTH.transport(80.0 * Z, 80.0, sigma)
    end = TRUTH.transport(80.0 * Z, 80.0, 0.002)
    np.testing.assert_allclose(sct.Multistep().from_level(MODEL, x_t, sigma), end, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("solver", [sct.Heun(), sct.DDIM(np.arange(1000))], ids=["heun", "ddim"])
def test_a_solver_begun_between_its_levels_leads_to_the_same_end(solver):
    x_t, end = TRUTH.transport(80.0 * Z, 80.0, 1.7), TRUTH.transport(80.0 * Z, 80.0, 0.002)
    np.testing.assert_allclose(solver.from_level(MODEL, x_t, 1.7), end, atol=5e-3)
    assert np.abs(solver.from_level(MODEL, x_t, 3.0) - end).max() > 0.02, "the level is not looked at"


WRONG = {
    "levels out of order": (lambda: sct.Heun((1.0, 2.0)), "strictly descending"),
    "a level of 0": (lambda: sct.Euler((1.0, 0.0)), "levels: expected finite numbers > 0, found 0.0"),
    "below sigma_min": (lambda: sct.Multistep((80.0, 0.001)), "levels >= sigma_min"),
    "no key for fresh noise": (lambda: sct.Multistep((80.0, 1.0))(MODEL, Z), "key: expected a key"),
    "no key for churn": (lambda: sct.Heun(churn=CHURN)(MODEL, Z), "key: expected a key"),
    "no key for eta": (lambda: sct.DDIM(eta=1.0)(MODEL, Z), "key: expected a key"),
    "no key for ancestral": (lambda: sct.Ancestral()(MODEL, Z), "key: expected a key"),
    "times out of order": (lambda: sct.DDIM((3, 1)), "times: expected ascending numbers"),
    "too many times": (lambda: sct.Ancestral(SCHEDULE, times=21), "times: expected 1 to 20, found 21"),
    "no level of the schedule": (
        lambda: sct.Ancestral(SCHEDULE).from_level(MODEL, Z, 500.0, key=KEY), "one of the schedule's levels"
    ),
    "a level of 0 to begin at": (
        lambda: sct.Ancestral(SCHEDULE).from_level(MODEL, Z, 0.0, key=KEY), "sigma: expected a finite number > 0"
    ),
    "clip": (lambda: sct.Ancestral(clip=0.0), "clip: expected"),
}  # fmt: skip


@pytest.mark.parametrize(("call", "message"), WRONG.values(), ids=WRONG)
def test_wrong_settings_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_one_program_serves_equal_samplers():
    """Equal settings are one static argument: nothing is compiled twice."""
    traced = []

    @jax.jit
    def once(z):
        traced.append(1)
        return z

    run = untyped(jax.jit(lambda sampler, z: once(sampler(MODEL, z)), static_argnums=0))
    for levels in (LEVELS, np.array(LEVELS)):
        run(sct.Euler(levels), Z)
    assert len(traced) == 1
