"""Diagnostics of maps and denoisers: wrong ones by closed forms on a Gaussian, zero of the exact ones on a mixture.

The Gaussian's samples have shape (2, 2), its noised law at level t is N(MEAN, S^2 + t^2) in every coordinate, its flow
map to EPS scales `x - MEAN` by `sqrt((S^2 + EPS^2) / (S^2 + t^2))`. That transport agrees with diffrax is tested beside
the oracles (`test_oracle_transport.py`, `test_pf_ode.py`).
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy.stats import chi

import equisct as sct
from equisct.diagnostics._points import draw_points
from equisct.oracle import Gaussian, GaussianMixture, ProductMixture
from strategies import untyped
from tolerances import FLOAT64_ROUNDING, SOLVER_FLOAT64

EPS, S, SIZE, SAMPLES = 0.002, 0.5, 4, 2_000
MEAN = np.array([[0.25, -0.5], [1.0, 0.0]])
LEVELS = np.array([0.01, 0.3, 2.0, 80.0])
KEY = jr.key(3)
FIVE_ERRORS = 5 / np.sqrt(2 * SIZE * SAMPLES)
"""Five standard errors of a root mean square over Gaussian numbers, relative."""

pytestmark = pytest.mark.usefixtures("x64")


def gaussian() -> Gaussian:
    return Gaussian(jnp.asarray(MEAN), S)


def end(x_t, t):
    """The Gaussian's flow map to EPS, not by the oracle."""
    return MEAN + jnp.sqrt((S**2 + EPS**2) / (S**2 + t**2)) * (x_t - MEAN)


def denoised(x_t, t):
    return MEAN + S**2 / (S**2 + t**2) * (x_t - MEAN)


def identity(x_t, t):
    return x_t


def product() -> ProductMixture:
    """Four modes in the plane, rotated, unequal."""
    rotation = jnp.array([[0.6, -0.8], [0.8, 0.6]])
    return ProductMixture(jnp.array([-1.0, 1.0]), jnp.array([0.25, 0.125]), rotation, jnp.array([0.3, 0.7]))


def product_end(x_t, t):
    return product().transport(x_t, t, EPS)


def measured(measure, *arguments, law=None, samples=SAMPLES, **options):
    return measure(*arguments, law or gaussian(), jnp.asarray(LEVELS), samples=samples, key=KEY, **options)


def points(law=None, samples=SAMPLES, key=KEY):
    """`(x_t, z)` of the measurements, per level."""
    x, z = (np.asarray(part) for part in draw_points(law or gaussian(), samples=samples, key=key))
    return [(x + sigma * z, z) for sigma in LEVELS]


def lengths(rows):
    return np.linalg.norm(np.reshape(rows, (len(rows), -1)), axis=1)


def rms(values):
    return np.sqrt(np.mean(np.square(values)))


def close(found, expected, rtol=FLOAT64_ROUNDING, atol=FLOAT64_ROUNDING):
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=atol)


# --- the flow map's error ---


def test_a_map_that_is_off_by_a_vector_is_off_by_its_length():
    shift = np.array([[0.3, 0.0], [0.0, -0.4]])
    found = measured(sct.measure_flow_map, lambda x_t, t: end(x_t, t) + shift, sigma_min=EPS)
    assert (found.levels.shape, found.quantiles.shape, found.basin_accuracy) == ((4,), (4, 2), None)
    for value in (found.rms, found.median, found.quantiles):
        close(value, 0.5)


def test_a_scaled_map_is_off_by_a_share_of_a_gaussians_length():
    asked = {"sigma_min": EPS, "quantiles": (0.25, 0.99)}
    found = measured(sct.measure_flow_map, lambda x_t, t: MEAN + 1.1 * (end(x_t, t) - MEAN), **asked)
    scale = 0.1 * np.sqrt(S**2 + EPS**2)
    close(found.rms, scale * np.sqrt(SIZE), rtol=FIVE_ERRORS)
    close(found.median, scale * chi(SIZE).median(), rtol=2 * FIVE_ERRORS)
    close(found.quantiles, np.tile(scale * chi(SIZE).ppf([0.25, 0.99]), (4, 1)), rtol=4 * FIVE_ERRORS)
    core = measured(sct.measure_flow_map, lambda x_t, t: MEAN + 1.1 * (end(x_t, t) - MEAN), core=0.3, **asked)
    for k, (x_t, _) in enumerate(points()):
        distances = np.sort(0.1 * lengths(np.asarray(end(x_t, LEVELS[k])) - MEAN))
        close(found.quantiles[k], np.quantile(distances, [0.25, 0.99]))
        close(found.median[k], np.median(distances))
        close(core.rms[k], rms(distances[:600]))  # the densest points of a Gaussian are the nearest to its mean


def test_basin_accuracy_is_the_share_of_ends_in_the_right_mode():
    """Two basins a coordinate, left and right of the mean; one coordinate is turned around where another is high."""

    def turned(x_t, t):
        sign = jnp.where(x_t[1, 1] > 0.2 * t, jnp.array([[1.0, -1.0], [1.0, 1.0]]), 1.0)
        return MEAN + sign * (end(x_t, t) - MEAN)

    found = measured(sct.measure_flow_map, turned, sigma_min=EPS, basin=lambda x: (x > MEAN).astype(int))
    assert found.basin_accuracy is not None
    share = [np.mean(x_t[:, 1, 1] <= 0.2 * t) for (x_t, _), t in zip(points(), LEVELS, strict=True)]
    close(found.basin_accuracy, share)
    assert np.all((np.array(share) > 0.2) & (np.array(share) < 0.8))


def test_a_law_without_a_closed_form_is_solved():
    """One mode of a mixture is a Gaussian, and a mixture does not know its flow map."""
    law = GaussianMixture(jnp.asarray(MEAN[:1]), S)
    map_of = lambda x_t, t: MEAN[0] + jnp.sqrt((S**2 + EPS**2) / (S**2 + t**2)) * (x_t - MEAN[0])
    found = measured(sct.measure_flow_map, map_of, law=law, samples=8, sigma_min=EPS)
    close(found.quantiles, 0, atol=SOLVER_FLOAT64)


# --- self-consistency ---


@pytest.mark.parametrize("ratio", [0.5, 0.0])
def test_self_consistency_of_the_identity_is_what_its_points_move(ratio):
    found = measured(sct.measure_self_consistency, identity, sigma_min=EPS, ratio=ratio)
    r = np.maximum(ratio * LEVELS, EPS)
    shrink = 1 - np.sqrt((S**2 + r**2) / (S**2 + LEVELS**2))
    moved = [share * lengths(x_t - MEAN) for share, (x_t, _) in zip(shrink, points(), strict=True)]
    close(found.rms, [rms(each) for each in moved], rtol=1e-9)  # at the lowest level the points hardly move
    close(found.median, [np.median(each) for each in moved], rtol=1e-9)
    close(found.rms, shrink * np.sqrt(SIZE * (S**2 + LEVELS**2)), rtol=FIVE_ERRORS)
    close(found.boundary_rms, 0)


def test_a_constant_map_is_self_consistent_and_fails_at_the_boundary():
    found = measured(sct.measure_self_consistency, lambda x_t, t: MEAN + 0 * x_t, sigma_min=EPS)
    close([found.rms, found.median], 0)
    close(found.boundary_rms, np.sqrt(SIZE * (S**2 + EPS**2)), rtol=FIVE_ERRORS)
    exact = measured(sct.measure_self_consistency, end, sigma_min=EPS)
    close([exact.rms, exact.boundary_rms], 0)


def test_with_all_of_the_path_self_consistency_and_boundary_bound_the_error():
    bent = lambda x_t, t: end(x_t, t) + 0.1 * jnp.sin(3 * x_t + t)
    parts = measured(sct.measure_self_consistency, bent, sigma_min=EPS, ratio=0.0)
    whole = measured(sct.measure_flow_map, bent, sigma_min=EPS)
    assert np.all(whole.rms <= (parts.rms + parts.boundary_rms) * (1 + FLOAT64_ROUNDING))
    assert np.all(parts.boundary_rms > 0.01)


# --- equations (5) and (6) ---


def test_the_exact_map_solves_equations_5_and_6():
    """Of a law whose paths part; every point, not only most."""
    law = product()
    found = measured(sct.measure_residual, product_end, law=law, denoise=law.denoise, samples=40)
    assert np.max(found.rms) < 1e-8
    score = measured(sct.measure_endpoint_score, product_end, law=law, head=law.denoise, samples=40)
    assert np.max([score.truth_rms, score.head_rms]) < 1e-8


def test_the_residual_of_the_identity_is_the_velocity():
    """Exact: |x_t - MEAN| t / (S^2 + t^2); of any other denoiser: (x_t - denoised) / t; of one sample: its noise."""
    scale = S * np.sqrt(SIZE)
    exact = measured(sct.measure_residual, identity, denoise=denoised, sigma_data=S)
    close(exact.rms, LEVELS**2 / np.sqrt(S**2 + LEVELS**2) / S, rtol=FIVE_ERRORS)
    other = measured(sct.measure_residual, identity, denoise=lambda x_t, t: 0.9 * x_t, sigma_data=2 * S)
    noise = measured(sct.measure_residual, identity, denoise=None)
    for k, (x_t, z) in enumerate(points()):
        t = LEVELS[k]
        close(exact.rms[k], t**2 / (S**2 + t**2) * rms(lengths(x_t - MEAN)) / scale)
        close(exact.median[k], t**2 / (S**2 + t**2) * np.median(lengths(x_t - MEAN)) / scale)
        close(other.rms[k], rms(lengths(0.1 * x_t)) / (2 * scale))
        close(noise.rms[k], t * rms(lengths(z)) / scale)


def test_the_residual_has_the_part_in_time():
    """The exact map times t^g: d_t adds g f / t, and nothing else."""
    found = measured(sct.measure_residual, lambda x_t, t: t**0.3 * (end(x_t, t) - MEAN), denoise=denoised)
    close(found.rms, 0.3 * LEVELS**0.3 * np.sqrt(S**2 + EPS**2) / S, rtol=FIVE_ERRORS)


def test_the_residual_along_a_wrong_denoiser_is_the_jacobian_on_its_error():
    """`d_t f + J (x_t - h) / t = J (D - h) / t` for the exact map."""
    shift = np.array([[0.3, 0.0], [0.0, -0.4]])
    found = measured(sct.measure_residual, end, denoise=lambda x_t, t: denoised(x_t, t) + shift, sigma_data=S)
    expected = np.sqrt((S**2 + EPS**2) / (S**2 + LEVELS**2)) * 0.5 / (S * np.sqrt(SIZE))
    close([found.rms, found.median], [expected, expected], rtol=1e-9)


def test_the_pseudo_inverse_gives_the_score_that_the_map_still_knows():
    """A map that forgets one coordinate of an isotropic Gaussian: that part of the score is 0, the others exact."""
    keeps = jnp.array([[1.0, 0.0], [1.0, 1.0]])
    x_t, t = jnp.asarray(MEAN + [[1.0, 2.0], [3.0, -4.0]]), 0.7
    found = sct.score_from_endpoint(lambda x_t, t: keeps * end(x_t, t), x_t, t)
    close(found, keeps * (MEAN - x_t) / (S**2 + t**2))
    nearly = jnp.where(keeps == 0, 1e-4, 1.0)
    close(sct.score_from_endpoint(lambda x_t, t: nearly * end(x_t, t), x_t, t), (MEAN - x_t) / (S**2 + t**2), rtol=1e-9)
    dropped = sct.score_from_endpoint(lambda x_t, t: nearly * end(x_t, t), x_t, t, rtol=1e-3)
    close(dropped, keeps * (MEAN - x_t) / (S**2 + t**2))


def test_a_sheared_exact_map_implies_the_exact_score():
    """Its Jacobian is not symmetric, as those of the exact maps here are: a transposed one would be seen."""
    shear = jnp.asarray(np.eye(SIZE) + np.triu(np.ones((SIZE, SIZE)), 1))
    x_t, t = jnp.asarray(MEAN + [[1.0, 2.0], [3.0, -4.0]]), 0.7
    found = sct.score_from_endpoint(lambda x_t, t: (shear @ end(x_t, t).reshape(-1)).reshape(2, 2), x_t, t)
    close(found, (MEAN - x_t) / (S**2 + t**2), rtol=1e-9)


def test_the_implied_score_is_measured_in_units_of_the_noise():
    """The exact map of another Gaussian, of std 2 S: its score is known, and so are both differences."""
    other = Gaussian(jnp.asarray(MEAN), 2 * S)
    head = lambda x_t, t: denoised(x_t, t) + 0.1
    found = measured(sct.measure_endpoint_score, lambda x_t, t: other.transport(x_t, t, EPS), head=head)
    for k, (x_t, _) in enumerate(points()):
        t = LEVELS[k]
        implied, true = -(x_t - MEAN) / (4 * S**2 + t**2), -(x_t - MEAN) / (S**2 + t**2)
        difference = t * lengths(implied - true) / np.sqrt(SIZE)
        close([found.truth_rms[k], found.truth_median[k]], [rms(difference), np.median(difference)], rtol=1e-9)
        close(found.head_rms[k], rms(t * lengths(implied - true - 0.1 / t**2) / np.sqrt(SIZE)), rtol=1e-9)
    alone = measured(sct.measure_endpoint_score, end)
    assert (alone.head_rms, alone.head_median) == (None, None)
    close(alone.truth_rms, 0)


# --- the denoiser ---


def test_the_excess_risk_of_a_shifted_and_of_a_scaled_denoiser():
    variance = SIZE * S**2 * LEVELS**2 / (S**2 + LEVELS**2)
    shifted = measured(sct.measure_denoiser, lambda x_t, t: denoised(x_t, t) + 0.1)
    close(shifted.variance, variance)
    close(shifted.error, 0.1**2 * SIZE)
    close(shifted.excess_risk, 0.1**2 * SIZE / variance)
    close([shifted.calibration, shifted.miscalibration], [np.ones(4), np.zeros(4)])
    scaled = measured(sct.measure_denoiser, lambda x_t, t: MEAN + 1.2 * (denoised(x_t, t) - MEAN))
    close(scaled.excess_risk, 0.2**2 * S**2 / LEVELS**2, rtol=2 * FIVE_ERRORS)
    close([scaled.calibration, scaled.miscalibration], [1.2 * np.ones(4), 0.2 * np.ones(4)])


def test_the_variance_is_the_mean_trace_of_the_posterior_covariance():
    """And the denoising loss of any denoiser is error + variance; the levels are those where something is left open."""
    law = GaussianMixture(jnp.array([[0.0, 1.0], [1.0, 0.5], [2.0, -1.0]]), 0.1)
    h = lambda x_t, t: 0.5 * jnp.tanh(x_t)
    levels = jnp.array([0.3, 2.0])
    found = sct.measure_denoiser(h, law, levels, samples=SAMPLES, key=KEY)
    x, z = draw_points(law, samples=SAMPLES, key=jr.split(KEY)[0])

    @jax.jit
    def expected(t):
        x_t = x + t * z
        traces = jax.vmap(lambda x_t: jnp.trace(law.posterior_covariance(x_t, t)))(x_t)
        slopes = t**2 * jnp.sum(0.5 / jnp.cosh(x_t) ** 2, axis=1)
        return traces, slopes, jnp.sum((h(x_t, t) - x) ** 2, axis=1)

    for k, t in enumerate(levels):
        traces, slopes, losses = map(np.asarray, expected(t))
        close(found.variance[k], traces.mean(), rtol=1e-9)
        close(found.calibration[k], slopes.mean() / traces.mean(), rtol=1e-9)
        close(found.miscalibration[k], rms(slopes - traces) / traces.mean(), rtol=1e-9)
        close(found.error[k] + found.variance[k], losses.mean(), atol=5 * losses.std() / np.sqrt(SAMPLES))


def test_probes_estimate_the_divergence():
    """Without error for a diagonal Jacobian, whose signs square to 1; else right in the mean, the same for both."""
    mixed = jnp.asarray(np.random.default_rng(0).normal(size=(SIZE, SIZE)))
    h = lambda x_t, t: denoised(x_t, t) + (mixed @ x_t.reshape(-1)).reshape(2, 2)
    exact = measured(sct.measure_denoiser, h)
    estimates = [measured(sct.measure_denoiser, h, probes=probes) for probes in (1, 8)]
    for found, probes in zip(estimates, (1, 8), strict=True):
        close(found.variance, exact.variance)
        # Var v^T A v = 2 sum of the squares of the symmetric part off its diagonal
        off = np.asarray((mixed + mixed.T) / 2) * (1 - np.eye(SIZE))
        scatter = LEVELS**2 * np.sqrt(2 * np.square(off).sum() / probes) / np.asarray(exact.variance)
        assert np.all(np.abs(found.calibration - exact.calibration) < 5 * scatter / np.sqrt(SAMPLES))
        between = np.sqrt(np.square(found.miscalibration) - np.square(exact.miscalibration))
        close(between, scatter, rtol=0.2)


# --- alignment ---


def test_the_exact_pair_has_no_excess_alignment():
    for value in jax.tree.leaves(measured(sct.measure_excess_alignment, denoised, end, sigma_min=EPS))[1:]:
        close(value, 0)


def test_the_excess_is_what_a_wrong_pair_adds():
    """An endpoint on the other side of the mean; and one that is the denoiser: nearer to it than the truth is."""
    turned = measured(sct.measure_excess_alignment, denoised, lambda x_t, t: 2 * MEAN - end(x_t, t), sigma_min=EPS)
    close(turned.centred, -2)
    spread, gain = np.sqrt(SIZE * (S**2 + LEVELS**2)), S**2 / (S**2 + LEVELS**2)
    shrink = np.sqrt((S**2 + EPS**2) / (S**2 + LEVELS**2))
    close(turned.gap, spread * (shrink + gain - np.abs(shrink - gain)), rtol=FIVE_ERRORS)
    same = measured(sct.measure_excess_alignment, denoised, denoised, sigma_min=EPS)
    close(same.gap, -spread * np.abs(shrink - gain), rtol=FIVE_ERRORS)


# --- all of them ---


def test_agreement_says_the_same():
    class Pair(eqx.Module):
        def endpoint(self, x_t, t):
            return MEAN + 1.1 * (end(x_t, t) - MEAN)

        def denoise(self, x_t, t):
            return denoised(x_t, t) + 0.1

    found = measured(lambda *given, **named: sct.measure_agreement(Pair(), *given, **named), sigma_min=EPS)
    alone = measured(sct.measure_flow_map, Pair().endpoint, sigma_min=EPS)
    close([found.endpoint_rms, found.endpoint_median], [alone.rms, alone.median])
    close([found.denoised_rms, found.denoised_median], 0.2)


class Scaled(eqx.Module):
    factor: jax.Array

    def endpoint(self, x_t, t):
        TRACES.append(t)
        return self.factor * x_t


TRACES = []


def test_another_model_of_the_same_kind_is_measured_without_compiling_anew():
    for factor in (1.0, 2.0):
        measured(sct.measure_flow_map, Scaled(jnp.array(factor)).endpoint, sigma_min=EPS)
        assert len(TRACES) == 1


ASKED = {"samples": 2, "key": KEY}
BAD = {
    "level": (lambda law, one: sct.measure_flow_map(identity, law, 0 * one, sigma_min=EPS, **ASKED), "levels: .* > 0"),
    "samples": (
        lambda law, one: sct.measure_residual(identity, law, one, denoise=None, samples=0, key=KEY),
        "samples: expected .* >= 1, found 0",
    ),
    "quantiles": (
        lambda law, one: sct.measure_flow_map(identity, law, one, sigma_min=EPS, quantiles=(90.0,), **ASKED),
        "quantiles: expected numbers from 0 to 1, found 90.0",
    ),
    "core": (
        lambda law, one: sct.measure_flow_map(identity, law, one, sigma_min=EPS, core=0.0, **ASKED),
        r"core: expected a share in \(0, 1\], found 0.0",
    ),
    "sigma_min": (
        lambda law, one: sct.measure_self_consistency(identity, law, one, sigma_min=0.0, **ASKED),
        "sigma_min: expected .* > 0, found 0.0",
    ),
    "ratio": (
        lambda law, one: sct.measure_self_consistency(identity, law, one, sigma_min=EPS, ratio=1.0, **ASKED),
        r"ratio: expected a number in \[0, 1\), found 1.0",
    ),
    "sigma_data": (
        lambda law, one: sct.measure_residual(identity, law, one, denoise=None, sigma_data=0.0, **ASKED),
        "sigma_data: expected .* > 0, found 0.0",
    ),
    "probes": (
        lambda law, one: sct.measure_denoiser(identity, law, one, probes=0, **ASKED),
        "probes: expected .* >= 1, found 0",
    ),
    "excess": (
        lambda law, one: sct.measure_excess_alignment(identity, identity, law, -one, sigma_min=EPS, **ASKED),
        "levels: .* > 0",
    ),
    "large": (
        lambda law, one: sct.measure_endpoint_score(identity, Gaussian(shape=(257,)), one, **ASKED),
        "x_t: expected at most 256 numbers, found 257",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("call", "message"), BAD.values(), ids=BAD)
def test_bad_values(call, message):
    with pytest.raises(ValueError, match=message):
        untyped(call)(gaussian(), jnp.ones(1))
