"""Population optima: published numbers, the solvers' orders, and what the slots must not or must change."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import equisct as sct
from equisct.oracle import Gaussian, ProductMixture
from strategies import untyped
from tolerances import FLOAT64_ROUNDING, half_unit

NODES = 801


def law(**changes):
    fields = {"means": jnp.linspace(-1, 1, 5), "std": 0.1, "rotation": jnp.eye(1)}
    return ProductMixture(**(fields | changes))


def rms(intervals, nodes=NODES, law_of=law, **slots):
    found = sct.population_optimum(law_of(), sct.karras_grid(intervals + 1), nodes=nodes, **slots)
    return float(found.rms)


def exact():
    return sct.DenoiserVelocity(law().denoise)


def mixed():
    return sct.MixedVelocity(exact(), sct.one_sample_velocity, 0.8)


PUBLISHED = {
    "Euler": (lambda: {"velocity": exact()}, {10: ".158", 20: ".085", 40: ".046"}),
    "Heun": (lambda: {"velocity": exact(), "step": sct.heun_correction}, {10: ".100", 20: ".025"}),
    "CT": (dict, {10: ".196", 20: ".115", 40: ".072"}),
    "mix": (lambda: {"velocity": mixed()}, {20: ".085"}),
    "CT, pseudo-Huber": (lambda: {"distance": sct.PseudoHuber(0.3), "nodes": 401}, {10: ".151"}),
}
"""Map errors at sigma 80 by intervals of the grid (rho 7, 0.002 to 80), of an independent program with 3001 nodes."""


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_errors_are_found(name, x64):
    """To half a unit of the last digit, and one unit where the 801 nodes here are coarse."""
    del x64
    slots, numbers = PUBLISHED[name]
    for intervals, printed in numbers.items():
        found = rms(intervals, **slots())
        assert abs(found - float(printed)) < 2 * half_unit(printed), (intervals, found)


def test_euler_halves_and_heun_quarters(x64):
    """From 20 to 40 intervals; the Heun's error is then five times the floor of the nodes."""
    del x64
    euler, heun = (
        [rms(n, nodes, velocity=exact(), step=step) for n in (20, 40)]
        for step, nodes in ((sct.straight_step, NODES), (sct.heun_correction, 1601))
    )
    assert 0.48 < euler[1] / euler[0] < 0.56, euler
    assert 0.23 < heun[1] / heun[0] < 0.28, heun


def test_a_denoiser_that_is_off_is_paid_for_on_every_grid(x64):
    """A shift by 5 % of the posterior's standard deviation at every level: Heun's error no longer falls."""
    del x64

    def off(x_t, sigma):
        posterior_std = 0.1 * sigma / jnp.sqrt(0.01 + sigma**2)
        return law().denoise(x_t, sigma) + 0.05 * posterior_std

    found = [rms(n, velocity=sct.DenoiserVelocity(off), step=sct.heun_correction) for n in (20, 40)]
    assert found[1] > 0.6 * found[0], found
    assert found[1] > 2 * rms(40, velocity=exact(), step=sct.heun_correction)


def test_one_step_is_denoising_whose_optimum_is_the_posterior_mean(x64):
    """From the lowest level to the highest in one step: with SquaredL2, `r / t x_t + (1 - r / t) E[x | x_t]`."""
    del x64
    weights = jnp.array([0.1, 0.2, 0.4, 0.2, 0.1])
    means, std = jnp.array([2.0, 3.0, 3.5, 4.0, 6.0]), jnp.array([0.1, 0.4, 0.1, 0.2, 0.3])
    lopsided = law(means=means, std=std, weights=weights, rotation=-jnp.eye(1))
    found = sct.population_optimum(lopsided, [0.002, 0.7], nodes=101)
    on_nodes = lambda function: np.asarray(jax.jit(jax.vmap(lambda x: function(x[None])))(found.x_t)).reshape(101)
    mean = on_nodes(lambda x: lopsided.denoise(x, 0.7))
    expected = 0.002 / 0.7 * found.x_t + (1 - 0.002 / 0.7) * mean
    np.testing.assert_allclose(found.endpoint, expected, atol=10 * FLOAT64_ROUNDING)
    exact_map = on_nodes(lambda x: lopsided.transport(x, 0.7, 0.002))
    np.testing.assert_allclose(found.exact, exact_map, atol=10 * FLOAT64_ROUNDING)
    density = np.exp(on_nodes(lambda x: lopsided.log_prob(x, 0.7)))
    squares = np.square(found.endpoint - found.exact)
    np.testing.assert_allclose(found.rms, np.sqrt((density * squares).sum() / density.sum()), rtol=FLOAT64_ROUNDING)


def test_two_steps_are_the_mean_of_a_chain_that_draws_the_data_anew(x64):
    """`f_2(x_t) = E f_1(x_r)`, `f_1` the posterior mean's map: by sums over a fine line in place of the quadrature."""
    del x64
    bottom, middle, top = 0.002, 0.05, 0.15
    found = sct.population_optimum(law(), [bottom, middle, top], nodes=2001, quadrature=33)
    at = np.abs(found.x_t) < 1
    x_t, x = np.asarray(found.x_t)[at][::20, None], np.linspace(-2, 2, 4001)
    prior = np.exp(-np.square(x[:, None] - np.linspace(-1, 1, 5)) / (2 * 0.1**2)).sum(1)

    def mean(of, x_t, sigma):
        weights = prior * np.exp(-np.square(x_t - x) / (2 * sigma**2))
        return (weights * of).sum(1) / weights.sum(1)

    line = np.linspace(-3, 3, 3001)
    one = bottom / middle * line + (1 - bottom / middle) * mean(x, line[:, None], middle)
    x_r = middle / top * x_t + (1 - middle / top) * x
    expected = mean(np.interp(x_r, line, one), x_t, top)
    np.testing.assert_allclose(np.asarray(found.endpoint)[at][::20], expected, atol=1e-5)


def test_a_median_is_the_optimum_of_the_absolute_distance(x64):
    """Of one mode the posterior is symmetric, so median and mean agree; of two unequal ones they do not."""
    del x64
    single = law(means=jnp.zeros(1), std=0.5)
    ends = [sct.population_optimum(single, [0.002, 0.7], nodes=21, distance=d).endpoint for d in (sct.L1(), None)]
    np.testing.assert_allclose(ends[0], ends[1], atol=1e-6)
    pair = law(means=jnp.array([-1.0, 1.0]), std=0.1, weights=jnp.array([0.3, 0.7]))
    found = sct.population_optimum(pair, [0.002, 5.0], nodes=21, distance=sct.L1())
    middle = float(found.endpoint[10])
    assert 0.8 < middle < 1.1, "beside the heavier mode, not at the mean of 0.4"


def test_the_law_decides_the_precision():
    found = sct.population_optimum(law(), [0.002, 0.7], nodes=21)
    assert {leaf.dtype.name for leaf in (found.x_t, found.endpoint, found.exact, found.rms)} == {"float32"}


REFUSED = {
    "plane": (lambda: rms(4, law_of=lambda: ProductMixture.grid(2)), "law: expected one dimension, found 2"),
    "descending": (lambda: sct.population_optimum(law(), [2.0, 1.0]), "levels: expected two or more, strictly asc"),
    "one level": (lambda: sct.population_optimum(law(), [2.0]), "levels: expected two or more, strictly asc"),
    "zero": (lambda: sct.population_optimum(law(), [0.0, 1.0]), "levels: expected finite numbers > 0, found 0.0"),
    "nodes": (lambda: rms(4, nodes=1), "nodes: expected a finite number >= 2, found 1"),
    "rule": (lambda: rms(4, quadrature=0), "quadrature: expected a finite number >= 1, found 0"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_wrong_values_are_refused(name):
    call, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        call()


def test_a_velocity_that_asks_a_model_is_refused():
    with pytest.raises(TypeError, match="model: expected a ScoreGuidedModel"):
        sct.population_optimum(law(), [1.0, 2.0], velocity=sct.head_velocity)
    with pytest.raises(TypeError, match="law: expected"):
        sct.population_optimum(untyped(Gaussian()), [1.0, 2.0])
