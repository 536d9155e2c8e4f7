"""DDPM and DDIM against their printed formulas and exact laws; the VP schedule; counted evaluations; level search."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from equisct import VPPreconditioning, VPSchedule, karras_grid, perturb
from equisct.oracle import Gaussian
from equisct.samplers import (
    DDIM,
    Ancestral,
    ancestral,
    count_evaluations,
    ddim,
    euler,
    heun,
    multistep,
    one_step,
    search_levels,
)
from strategies import untyped
from tolerances import FLOAT32_CANCELLING

DDPM = VPSchedule()
LAW = Gaussian(jnp.array([0.3, -0.2]), jnp.array([0.5, 0.1]))
KEY = jr.key(0)


def gaussian(second=0.1):
    """The same law in the precision of the moment."""
    return Gaussian(jnp.array([0.3, -0.2]), jnp.array([0.5, second]))


# --- the schedule ---


def test_numbers_of_the_linear_schedule():
    """The ends and `alpha_bar` of Ho et al. (2020), computed anew in float64 by a plain loop."""
    left, found = 1.0, DDPM
    for n in range(1000):
        left *= 1 - (1e-4 + (0.02 - 1e-4) * n / 999)
    assert found.alpha_bars[-1] == pytest.approx(left, rel=1e-12)
    assert found.alpha_bars[-1] == pytest.approx(4.0358e-5, rel=1e-4)
    assert found.sigmas[0] == pytest.approx(0.0100005, rel=1e-5)
    assert found.sigmas[-1] == pytest.approx(157.407, rel=1e-5)


def test_subsequences():
    assert DDPM.quadratic(50)[:4].tolist() == [0, 0, 1, 2]
    assert DDPM.quadratic(50)[-1] == 800
    np.testing.assert_array_equal(DDPM.uniform(4), [249, 499, 749, 999])
    np.testing.assert_array_equal(DDPM.uniform(3), [332, 665, 999])
    np.testing.assert_array_equal(DDPM.uniform(1000), np.arange(1000))
    np.testing.assert_array_equal(DDPM.quadratic(10), np.floor(np.linspace(0, np.sqrt(800), 10) ** 2))


@given(st.integers(0, 999))
def test_time_and_level_are_inverse(n):
    np.testing.assert_allclose(DDPM.time_at(float(DDPM.sigmas[n])), n, atol=2e-2 if n < 10 else 1e-2)


def test_preconditioning_is_the_noise_prediction_of_ddpm():
    """With the true noise as the network's output, the denoised estimate is the clean sample."""
    x, z = jnp.array([0.4, -0.7]), jnp.array([1.3, 0.2])
    for n in (0, 10, 500, 999):
        sigma = float(DDPM.sigmas[n])
        scalings = VPPreconditioning().scalings(sigma)
        x_t = perturb(x, z, sigma)
        np.testing.assert_allclose(scalings.skip * x_t + scalings.out * z, x, atol=1e-5 * max(1, sigma))
        x_vp = np.sqrt(DDPM.alpha_bars[n]) * x + np.sqrt(1 - DDPM.alpha_bars[n]) * z
        np.testing.assert_allclose(scalings.input * x_t, x_vp, rtol=FLOAT32_CANCELLING)


@pytest.mark.parametrize("schedule", [DDPM, VPSchedule(2, 0.5, 0.9), VPSchedule(3, 0.5, 0.9)], ids=["1000", "2", "3"])
def test_every_subsequence_reaches_the_noisy_end(schedule):
    """From the smallest count on: in order, inside the schedule, and of two or more the first is still the lowest."""
    for count in {1, 2, 3, min(50, schedule.times), schedule.times} & set(range(1, schedule.times + 1)):
        for found, end in (
            (schedule.quadratic(count), int(0.8 * schedule.times)),
            (schedule.uniform(count), schedule.times - 1),
        ):
            assert len(found) == count
            assert found[-1] == end
            assert 0 <= found[0] <= (end if count == 1 else end / count)
            assert np.all(np.diff(found) >= 0)


# --- the samplers ---


def naive_ancestral(denoise, z, noises, clip):
    """Algorithm 2 of Ho et al. (2020) through the noise prediction, in NumPy float64, times from 999 to 0."""
    betas, bars = DDPM.betas, DDPM.alpha_bars
    x = z
    for n, noise in zip(range(999, -1, -1), noises, strict=True):
        sigma = np.sqrt(1 / bars[n] - 1)
        x_t = jnp.asarray(x / np.sqrt(bars[n]))
        eps = np.asarray(x_t - denoise(x_t, sigma)) / sigma
        x0 = (x - np.sqrt(1 - bars[n]) * eps) / np.sqrt(bars[n])
        x0 = x0 if clip is None else np.clip(x0, -clip, clip)
        before = bars[n - 1] if n else 1.0
        mean = (np.sqrt(before) * betas[n] * x0 + np.sqrt(1 - betas[n]) * (1 - before) * x) / (1 - bars[n])
        x = mean + (np.sqrt(betas[n]) * noise if n else 0)
    return x


@pytest.mark.parametrize("clip", [None, 0.5])
def test_ancestral_against_the_printed_algorithm(x64, clip):
    z = jr.normal(KEY, (2,), jnp.float64)
    noises = [jr.normal(key, (2,), jnp.float64) for key in jr.split(jr.key(1), 1000)]
    law = gaussian()
    found = ancestral(law.denoise, z, key=jr.key(1), clip=clip)
    np.testing.assert_allclose(found, naive_ancestral(law.denoise, np.asarray(z), noises, clip), rtol=1e-10)


def affine_std(rows):
    """The standard deviation that `x <- slope x + offset + spread noise` gives a unit Gaussian, row after row."""
    variance = 1.0
    for slope, spread in rows:
        variance = slope**2 * variance + spread**2
    return np.sqrt(variance)


def ancestral_rows(std, schedule):
    """Of a Gaussian law, the walk is affine: its slopes and spreads, from the last time to the first."""
    bars, betas = schedule.alpha_bars, schedule.betas
    for n in range(schedule.times - 1, -1, -1):
        shrink = std**2 / (std**2 + schedule.sigmas[n] ** 2) / np.sqrt(bars[n])  # denoised = shrink x_vp
        before = bars[n - 1] if n else 1.0
        slope = (np.sqrt(before) * betas[n] * shrink + np.sqrt(1 - betas[n]) * (1 - before)) / (1 - bars[n])
        yield slope, np.sqrt(betas[n]) if n else 0.0


def ddim_rows(std, schedule, times, eta):
    """The same for DDIM."""
    bars = schedule.alpha_bars[times]
    for n in range(len(times) - 1, -1, -1):
        after, sigma = (bars[n - 1] if n else 1.0), schedule.sigmas[times[n]]
        scale = 1 / np.sqrt(bars[n])
        shrink = std**2 / (std**2 + sigma**2) * scale
        variance = eta**2 * (1 - after) / (1 - bars[n]) * (1 - bars[n] / after)
        slope = np.sqrt(after) * shrink + np.sqrt(1 - after - variance) * (scale - shrink) / sigma
        yield slope, np.sqrt(variance)


WALKS = {
    "ancestral": (
        lambda denoise, z, key: ancestral(denoise, z, key=key, clip=None),
        lambda std: ancestral_rows(std, DDPM),
    ),
    "ddim with noise": (
        lambda denoise, z, key: ddim(denoise, z, times=DDPM.uniform(500), eta=1.0, key=key),
        lambda std: ddim_rows(std, DDPM, DDPM.uniform(500), 1.0),
    ),
}


@pytest.mark.parametrize("name", WALKS)
def test_random_walks_reproduce_mean_and_covariance(name, x64):
    """To what the affine recursion says exactly; and that is the data's spread up to the error of the step."""
    walk, rows = WALKS[name]
    law, count = gaussian(), 10_000
    run = lambda z, key: walk(law.denoise, z, key)
    samples = jax.jit(jax.vmap(run))(jr.normal(KEY, (count, 2), jnp.float64), jr.split(jr.key(2), count))
    exact = np.array([affine_std(rows(std)) for std in np.asarray(law.std)])
    np.testing.assert_allclose(samples.std(0), exact, rtol=4 / np.sqrt(2 * count))
    np.testing.assert_allclose(samples.mean(0), law.mean, atol=4 * 0.5 / np.sqrt(count))
    assert abs(np.corrcoef(samples.T)[0, 1]) < 4 / np.sqrt(count)
    np.testing.assert_allclose(exact, law.std, rtol=0.08)


def test_spread_of_the_random_walks_converges():
    """Half the step, half the error, of either variance."""

    def error(times, rows):
        return abs(affine_std(rows(VPSchedule(times=times, first=0.1 / times, last=20 / times))) / 0.1 - 1)

    for rows in (
        lambda schedule: ancestral_rows(0.1, schedule),
        lambda schedule: ddim_rows(0.1, schedule, np.arange(schedule.times), 1.0),
    ):
        assert error(4000, rows) / error(8000, rows) == pytest.approx(2, abs=0.2)


def test_deterministic_ddim_is_eulers_solver(x64):
    """DDIM at eta 0 is Euler in sigma (Song et al. 2021, eq. 14), from the same start."""
    times = DDPM.uniform(20)
    z = jr.normal(KEY, (2,), jnp.float64)
    law = gaussian()
    levels = DDPM.sigmas[times][::-1].copy()
    start = np.sqrt(1 / DDPM.alpha_bars[times[-1]]) / levels[0]  # x_vp = z is x_t = z / sqrt(alpha_bar)
    found = ddim(law.denoise, z, times=times)
    np.testing.assert_allclose(found, euler(law.denoise, start * z, levels=levels), rtol=1e-9)


def euler_rows(std, levels):
    """Of deterministic Euler steps down these levels and to 0: each takes `x_t` to `D + (x_t - D) r / t`."""
    for t, r in itertools.pairwise((*levels, 0.0)):
        shrink = std**2 / (std**2 + t**2)
        yield shrink + (1 - shrink) * r / t, 0.0


FEW = VPSchedule(times=2, first=0.5, last=0.9)
SMALLEST = {
    "ddim, quadratic(1)": (
        lambda law, z, key: ddim(law.denoise, z, times=DDPM.quadratic(1)),
        lambda std: ddim_rows(std, DDPM, DDPM.quadratic(1), 0.0),
    ),
    "ddim, uniform(1)": (
        lambda law, z, key: ddim(law.denoise, z, times=DDPM.uniform(1)),
        lambda std: ddim_rows(std, DDPM, DDPM.uniform(1), 0.0),
    ),
    "ddim, uniform(2)": (
        lambda law, z, key: ddim(law.denoise, z, times=DDPM.uniform(2)),
        lambda std: ddim_rows(std, DDPM, DDPM.uniform(2), 0.0),
    ),
    "ancestral, two times": (
        lambda law, z, key: ancestral(law.denoise, z, key=key, schedule=FEW, clip=None),
        lambda std: ancestral_rows(std, FEW),
    ),
    "ddim, two times": (
        lambda law, z, key: ddim(law.denoise, z, times=FEW.quadratic(1), schedule=FEW),
        lambda std: ddim_rows(std, FEW, np.array([1]), 0.0),
    ),
    "euler, one level": (
        lambda law, z, key: euler(law.denoise, z, levels=[80.0]),
        lambda std: [(80.0, 0.0), *euler_rows(std, [80.0])],
    ),
    "euler, two levels": (
        lambda law, z, key: euler(law.denoise, z, levels=karras_grid(2)[::-1]),
        lambda std: [(80.0, 0.0), *euler_rows(std, [80.0, 0.002])],
    ),
    "heun, one level": (
        lambda law, z, key: heun(law.denoise, z, levels=[80.0]),
        lambda std: [(80.0, 0.0), *euler_rows(std, [80.0])],
    ),
    "one step": (
        lambda law, z, key: one_step(lambda x_t, t: law.transport(x_t, t, 0.002), z),
        lambda std: [(80 * np.hypot(std, 0.002) / np.hypot(std, 80), 0.0)],
    ),
    "multistep, one level found by a search": (
        lambda law, z, key: multistep(
            lambda x_t, t: law.transport(x_t, t, 0.002), z, search_levels(sum, karras_grid(2), 1), key=key
        ),
        lambda std: [(80 * np.hypot(std, 0.002) / np.hypot(std, 80), 0.0)],
    ),
}


@pytest.mark.parametrize("name", SMALLEST)
def test_the_smallest_count_of_every_sampler_is_exact(name, x64):
    """A Gaussian's walk is affine, and its spread at the end is that of the printed formula: never the noise itself."""
    walk, rows = SMALLEST[name]
    law, count = Gaussian(jnp.zeros(2), jnp.array([0.5, 0.1])), 4000
    z = jr.normal(KEY, (count, 2), jnp.float64)
    samples = jax.vmap(lambda z, key: walk(law, z, key))(z, jr.split(jr.key(2), count))
    exact = np.array([affine_std(rows(std)) for std in np.asarray(law.std)])
    np.testing.assert_allclose(samples.std(0), exact, rtol=4 / np.sqrt(2 * count))
    assert (exact < 0.6).all()


SIGNAL = {
    "ddim at the lowest time": lambda: ddim(LAW.denoise, jnp.zeros(2), times=np.array([0])),
    "a schedule that ends early": lambda: ancestral(LAW.denoise, jnp.zeros(2), key=KEY, schedule=VPSchedule(2)),
    "the lowest times": lambda: Ancestral(times=1)(untyped(LAW), jnp.zeros(2), key=KEY),
    "a trajectory": lambda: DDIM((3,)).trajectory(LAW, jnp.zeros(2)),
}


@pytest.mark.parametrize("name", SIGNAL)
def test_noise_does_not_stand_for_a_sample_of_mostly_signal(name):
    """Such a walk would return its noise; from a noisy sample of that level it is right."""
    with pytest.raises(ValueError, match="times: expected a walk from noise .* found 0.9.* from_level"):
        SIGNAL[name]()


def test_the_lowest_times_continue_a_noisy_sample():
    x_t = jnp.array([0.3, -0.1])
    found = Ancestral(clip=None).from_level(LAW, x_t, float(DDPM.sigmas[0]), key=KEY)
    np.testing.assert_allclose(found, LAW.denoise(x_t, float(DDPM.sigmas[0])), rtol=FLOAT32_CANCELLING)


ORDERS = {"ddim": 1, "euler": 1, "heun": 2}


@pytest.mark.parametrize("name", ORDERS)
def test_order_of_convergence_to_the_exact_flow(name, x64):
    """The error falls like a power of the step: the slope between 256 and 1024 steps is the textbook order."""
    law = gaussian(0.3)
    z = jr.normal(KEY, (2,), jnp.float64)

    def error(count):
        if name == "ddim":
            schedule = VPSchedule(times=count, first=0.1 / count, last=20 / count)  # one law of time, refined
            found = ddim(law.denoise, z, times=np.arange(count), schedule=schedule)
            top = float(schedule.sigmas[-1])
            return float(jnp.abs(found - law.transport(z * np.sqrt(1 + top**2), top, 0.0)).max())
        levels = karras_grid(count)[::-1].copy()
        found = {"euler": euler, "heun": heun}[name](law.denoise, z, levels=levels)
        end = law.denoise(law.transport(80 * z, 80.0, 0.002), 0.002)  # the last step, to 0, is the same for all
        return float(jnp.abs(found - end).max())

    counts = np.array([256, 512, 1024])
    slope = -np.polyfit(np.log(counts), np.log([error(int(count)) for count in counts]), 1)[0]
    assert slope == pytest.approx(ORDERS[name], abs=0.1)


# --- evaluations ---

COUNTS = {
    "one step": (lambda model: one_step(model, jnp.zeros(2)), 1),
    "two steps": (lambda model: multistep(model, jnp.zeros(2), jnp.array([80.0, 0.6]), key=KEY), 2),
    "heun": (lambda model: heun(model, jnp.zeros(2)), 35),
    "euler": (lambda model: euler(model, jnp.zeros(2)), 18),
    "ancestral": (lambda model: ancestral(model, jnp.zeros(2), key=KEY), 1000),
    "ddim": (lambda model: ddim(model, jnp.zeros(2), times=DDPM.quadratic(50)), 50),
    "a batch": (lambda model: jax.vmap(lambda z: heun(model, z))(jnp.zeros((7, 2))), 35),
    "under jit": (lambda model: eqx.filter_jit(heun)(model, jnp.zeros(2)), 35),
    "none": (lambda model: jnp.zeros(2), 0),
}


@pytest.mark.parametrize("name", COUNTS)
def test_evaluations_are_counted(name):
    sampler, expected = COUNTS[name]
    assert count_evaluations(sampler) == expected


def test_evaluations_in_a_loop_of_unknown_length_are_refused():
    with pytest.raises(ValueError, match="while"):
        count_evaluations(lambda model: jax.lax.while_loop(lambda x: x[0] < 1, lambda x: model(x, 1.0), jnp.zeros(2)))


# --- level search ---

GRID = karras_grid(60)


@given(st.integers(1, 58), st.sampled_from([1.0, 2.0, 0.5]))
def test_search_finds_the_minimum_wherever_it_is(best, power):
    def objective(levels):
        return 0.0 if len(levels) == 1 else abs(np.log(levels[-1] / GRID[best])) ** power

    assert search_levels(objective, GRID, 2) == (GRID[-1], GRID[best])


@given(st.integers(2, 12))
def test_search_reaches_both_ends_of_small_grids(points):
    grid = karras_grid(points + 1)
    assert search_levels(lambda levels: levels[-1], grid, 2) == (grid[-1], grid[1])
    assert search_levels(lambda levels: -levels[-1], grid, 2) == (grid[-1], grid[-2])


def test_search_is_greedy_and_evaluates_no_list_twice():
    asked = []

    def objective(levels):
        asked.append(tuple(levels))
        return sum(abs(np.log(level / want)) for level, want in zip(levels, [80, 5, 0.5, 0.05], strict=False))

    found = search_levels(objective, karras_grid(200), 4)
    np.testing.assert_allclose(found, [80, 5, 0.5, 0.05], rtol=0.05)
    assert len(asked) == len(set(asked)) < 60
    assert all(a > b for levels in asked for a, b in itertools.pairwise(levels))


BAD = {
    "times": (lambda: ddim(LAW.denoise, jnp.zeros(2), times=np.array([5, 3])), "times: expected ascending.*found"),
    "late": (lambda: ddim(LAW.denoise, jnp.zeros(2), times=np.array([5, 1000])), "0 .. 999, found"),
    "eta": (lambda: ddim(LAW.denoise, jnp.zeros(2), times=np.arange(3), eta=-1.0), "eta: expected.*found -1.0"),
    "key": (lambda: ddim(LAW.denoise, jnp.zeros(2), times=DDPM.uniform(3), eta=1.0), "key: expected a key"),
    "clip": (lambda: ancestral(LAW.denoise, jnp.zeros(2), key=KEY, clip=0.0), "clip: expected.*found 0.0"),
    "betas": (lambda: VPSchedule(last=1.0), "last: expected.*found 1.0"),
    "order": (lambda: VPSchedule(first=0.5, last=0.1), "last: expected.*0.5, found 0.1"),
    "quadratic": (lambda: DDPM.quadratic(1001), "count: expected 1 to 1000, found 1001"),
    "count": (lambda: search_levels(sum, karras_grid(4), 5), "count: expected at most 3.*found 5"),
    "grid": (lambda: search_levels(sum, karras_grid(4)[::-1], 2), "grid: expected.*ascending"),
    "nan": (lambda: search_levels(lambda levels: float("nan"), karras_grid(4), 2), "objective: expected a number"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name):
    call, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        call()
