"""Weights of levels and of pairs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given

from equisct.discretization import LevelPair, karras_grid
from equisct.level_sampling import LogNormal
from equisct.preconditioning import EDMPreconditioning
from equisct.weighting import (
    AbstractLevelWeighting,
    ConstantWeighting,
    EDMWeighting,
    InverseGap,
    SNRWeighting,
)
from strategies import level_pairs, levels, settings, untyped
from tolerances import FLOAT32_ROUNDING, FLOAT64_ROUNDING, half_unit

CATALOGUE = {
    "inverse gap": InverseGap(),
    "constant": ConstantWeighting(3.0),
    "edm": EDMWeighting(sigma_data=0.75),
    "snr": SNRWeighting(),
}
LEVEL_CATALOGUE = {name: w for name, w in CATALOGUE.items() if isinstance(w, AbstractLevelWeighting)}


@pytest.mark.parametrize("name", CATALOGUE)
@given(levels=level_pairs())
def test_weights_are_positive_scalars(name, levels):
    weight = CATALOGUE[name](LevelPair.from_levels(*levels))
    assert weight.shape == ()
    assert weight.dtype == jnp.float32
    assert 0 < weight < jnp.inf


@pytest.mark.parametrize("name", LEVEL_CATALOGUE)
@given(levels=level_pairs())
def test_weight_of_a_pair_is_that_of_the_student(name, levels):
    t, r = levels
    weighting = LEVEL_CATALOGUE[name]
    assert weighting(LevelPair.from_levels(t, r)) == weighting.at(t)
    assert weighting.at(t) <= weighting.at(r)


@pytest.mark.parametrize("name", CATALOGUE)
def test_weights_under_jit_and_vmap(name):
    grid = jnp.asarray(karras_grid(6))
    pairs = jax.vmap(LevelPair.from_levels)(grid[1:], grid[:-1])
    found = jax.jit(jax.vmap(CATALOGUE[name]))(pairs)
    expected = [CATALOGUE[name](LevelPair.from_levels(t, r)) for t, r in zip(grid[1:], grid[:-1], strict=True)]
    np.testing.assert_allclose(found, expected, rtol=FLOAT32_ROUNDING)


def test_inverse_gap_reads_the_gap_and_not_the_levels():
    assert InverseGap()(LevelPair(2.0, 1.0, 0.25)) == 4


@given(levels(), settings(0.125, 4.0))
def test_edm_weight_makes_the_raw_error_count_alike(sigma, sigma_data):
    """Weight times the squared output scale of EDM's denoiser is one at every level."""
    out = EDMPreconditioning(sigma_data).scalings(sigma).out
    np.testing.assert_allclose(EDMWeighting(sigma_data).at(sigma) * out**2, 1.0, rtol=2 * FLOAT32_ROUNDING)


@given(levels(), settings(0.125, 4.0))
def test_edm_weight_against_numpy(sigma, sigma_data):
    expected = 1 / sigma**2 + 1 / sigma_data**2
    np.testing.assert_allclose(EDMWeighting(sigma_data).at(sigma), expected, rtol=FLOAT32_ROUNDING)


EDM_TABLE = [(0.002, "250004"), (0.01, "10004"), (0.1, "104"), (0.5, "8"), (1, "5"), (10, "4.01"), (80, "4.00016")]


@pytest.mark.parametrize(("sigma", "printed"), EDM_TABLE)
def test_printed_edm_weights(sigma, printed, x64):
    weight = float(EDMWeighting().at(sigma))
    assert abs(weight - float(printed)) <= half_unit(printed)
    np.testing.assert_allclose(weight, 1 / sigma**2 + 4, rtol=FLOAT64_ROUNDING)


@pytest.mark.parametrize(("points", "mean"), [(11, "256"), (1281, "1992")])
def test_mean_edm_weight_under_the_law_of_ict(points, mean, x64):
    grid = karras_grid(points)
    weights = jax.vmap(EDMWeighting().at)(jnp.asarray(grid[1:]))
    assert abs(float(LogNormal().probabilities(grid) @ weights) - float(mean)) <= half_unit(mean)
    if points == 1281:
        assert round(float(weights[0])) == 240_512


@pytest.mark.parametrize(("sigma", "weight"), [(0.5, 4.0), (1, 1.0), (3.0, 1.0)])
def test_snr_weight_is_truncated(sigma, weight):
    assert SNRWeighting().at(sigma) == weight


def test_constant_weight():
    assert ConstantWeighting().at(7.0) == 1
    assert ConstantWeighting(2.5)(LevelPair.from_levels(2.0, 1.0)) == 2.5


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ConstantWeighting(0.0), ValueError, r"value: expected .* > 0, found 0.0"),
        (lambda: EDMWeighting(-1.0), ValueError, r"sigma_data: expected .* > 0, found -1.0"),
        (lambda: EDMWeighting(untyped("0.5")), TypeError, "sigma_data"),
        (lambda: EDMWeighting().at(jnp.ones(3)), TypeError, "sigma"),
        (lambda: InverseGap()(untyped(jnp.ones(()))), TypeError, "pair"),
    ],
)
def test_bad_calls(call, error, message):
    with pytest.raises(error, match=message):
        call()
