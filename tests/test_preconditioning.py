"""Scalings: the boundary form of consistency models, EDM's, and those of DDPM's network and of its student."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given

from equisct.model import DenoisingModel
from equisct.nn import TorsoMLP
from equisct.preconditioning import (
    BoundaryPreconditioning,
    EDMPreconditioning,
    Scalings,
    TrigFlowPreconditioning,
    VPPreconditioning,
    VPStudentPreconditioning,
    precondition,
    warn_if_loud,
)
from equisct.variance_preserving import VPSchedule
from strategies import levels, samples, settings, untyped
from tolerances import FLOAT32_ROUNDING, FLOAT64_ROUNDING, PRINTED_DIGITS, half_unit

CATALOGUE = {
    "boundary": BoundaryPreconditioning(),
    "boundary, odd settings": BoundaryPreconditioning(sigma_data=0.3, sigma_min=0.0017),
    "edm": EDMPreconditioning(),
    "edm, odd settings": EDMPreconditioning(sigma_data=0.7),
    "trigflow": TrigFlowPreconditioning(),
    "trigflow, odd settings": TrigFlowPreconditioning(sigma_data=0.7),
}
JITTED = {name: jax.jit(preconditioning.scalings) for name, preconditioning in CATALOGUE.items()}


def reference(name, sigma):
    """The formulas of method 2.1 in NumPy float64: skip, out, input, noise."""
    preconditioning = CATALOGUE[name]
    sd = preconditioning.sigma_data
    above = sigma - (preconditioning.sigma_min if isinstance(preconditioning, BoundaryPreconditioning) else 0.0)
    norm = np.sqrt(sigma**2 + sd**2)
    if isinstance(preconditioning, TrigFlowPreconditioning):
        angle = np.arctan(sigma / sd)
        return [np.cos(angle) ** 2, -sd * np.sin(angle), np.cos(angle) / sd, angle]
    return [sd**2 / (above**2 + sd**2), sd * above / norm, 1 / norm, np.log(sigma) / 4]


def as_list(scalings):
    return [scalings.skip, scalings.out, scalings.input, scalings.noise]


@pytest.mark.parametrize("name", CATALOGUE)
@given(sigma=levels(least=0.0078125))
def test_scalings_in_float32(name, sigma):
    scalings = JITTED[name](sigma)
    assert all(value.shape == () and value.dtype == jnp.float32 for value in as_list(scalings))
    np.testing.assert_allclose(as_list(scalings), reference(name, sigma), rtol=FLOAT32_ROUNDING, atol=1e-7)


@pytest.mark.parametrize("name", CATALOGUE)
@given(sigma=levels())
def test_scalings_in_float64(name, sigma):
    with jax.enable_x64(True):
        scalings = JITTED[name](sigma)
        np.testing.assert_allclose(as_list(scalings), reference(name, sigma), rtol=FLOAT64_ROUNDING, atol=1e-15)


@given(settings(2**-10, 0.25), settings(0.125, 4.0))
def test_boundary_is_exact_at_any_lowest_level(sigma_min, sigma_data):
    scalings = BoundaryPreconditioning(sigma_data, sigma_min).scalings(sigma_min)
    assert (scalings.skip, scalings.out) == (1, 0)


LEVELS_AT_THE_BOUNDARY = {
    "number": lambda: 0.002,
    "float32 array": lambda: jnp.asarray(0.002, jnp.float32),
    "float32 NumPy": lambda: np.float32(0.002),
    "default array": lambda: jnp.asarray(0.002),
    "bfloat16 array": lambda: jnp.asarray(0.002, jnp.bfloat16),
}


@pytest.mark.parametrize(
    ("wide", "sigma_min"),
    [(False, 0.002), (True, 0.002), (True, np.float64(0.002))],
    ids=["32-bit", "64-bit", "64-bit, NumPy setting"],
)
@pytest.mark.parametrize("kind", LEVELS_AT_THE_BOUNDARY)
def test_boundary_is_exact_in_every_precision(kind, wide, sigma_min):
    with jax.enable_x64(wide):
        preconditioning = BoundaryPreconditioning(sigma_data=0.3, sigma_min=sigma_min)
        x_t, raw = np.asarray([0.3, -7.0], np.float32), np.asarray([1e3, -1e3], np.float32)

        @jax.jit
        def at_level(sigma, x_t, raw):
            scalings = preconditioning.scalings(sigma)
            return scalings.skip, scalings.out, precondition(scalings, x_t, raw)

        skip, out, denoised = at_level(LEVELS_AT_THE_BOUNDARY[kind](), x_t, raw)
        assert (skip, out) == (1, 0)
        np.testing.assert_array_equal(denoised, x_t)


def test_boundary_in_float64_is_a_float64_level():
    with jax.enable_x64(True):
        scalings = BoundaryPreconditioning().scalings(jnp.asarray(0.002, jnp.float64))
        assert scalings.skip.dtype == jnp.float64
        assert (scalings.skip, scalings.out) == (1, 0)


def test_number_as_level_does_not_widen_the_sample():
    with jax.enable_x64(True):
        x_t = jnp.ones(2, jnp.float32)
        for sigma in (2.0, 2):
            assert precondition(BoundaryPreconditioning().scalings(sigma), x_t, x_t).dtype == jnp.float32


@pytest.mark.parametrize("name", CATALOGUE)
@given(sigma=levels())
def test_network_input_has_unit_variance(name, sigma):
    sd = CATALOGUE[name].sigma_data
    scale = JITTED[name](sigma).input
    np.testing.assert_allclose(scale**2 * (sigma**2 + sd**2), 1.0, rtol=FLOAT32_ROUNDING)


@given(levels(), settings(0.125, 4.0))
def test_edm_target_has_unit_variance(sigma, sigma_data):
    """Var(x - skip x_t) = out^2 for data of standard deviation sigma_data."""
    with jax.enable_x64(True):
        scalings = EDMPreconditioning(sigma_data).scalings(sigma)
        variance = (1 - scalings.skip) ** 2 * sigma_data**2 + scalings.skip**2 * sigma**2
        np.testing.assert_allclose(variance, scalings.out**2, rtol=1e-9)


SCHEDULE = VPSchedule()
TOP = float(SCHEDULE.sigmas[-1])


def test_a_ddpms_student_is_its_authors_formula():
    """`z - net(z, 999)` (Luhman & Luhman 2021) of the noise z = x_t / sigma, whatever the network gives."""
    network = TorsoMLP(2, 8, depth=1, key=jax.random.key(0))
    model, z = DenoisingModel(network, VPStudentPreconditioning()), jnp.asarray([0.3, -1.7])
    np.testing.assert_allclose(model(TOP * z, TOP), z - network(z, 999.0).raw, rtol=FLOAT32_ROUNDING)


# At which levels each form is asked for samples that count: the natural size of its target there is 1 or less.
LOUD = [
    (BoundaryPreconditioning(), 0.002, 0.0),
    (BoundaryPreconditioning(), 80.0, 0.5),
    (EDMPreconditioning(), 0.002, 0.002),
    (EDMPreconditioning(), 80.0, 0.5),
    (TrigFlowPreconditioning(), 80.0, 0.5),
    (VPPreconditioning(), float(SCHEDULE.sigmas[0]), 0.01),
    (VPPreconditioning(), TOP, 157.4),
    (VPStudentPreconditioning(), TOP, 1.0),
]


@pytest.mark.parametrize(("form", "sigma", "factor"), LOUD, ids=lambda case: getattr(type(case), "__name__", ""))
def test_the_factor_of_a_networks_error_in_the_sample_at_both_ends(form, sigma, factor, recwarn):
    """`|c_out|` at the lowest and highest level; where it is more than 10, training for samples there warns."""
    np.testing.assert_allclose(abs(form.scalings(sigma).out), factor, rtol=1e-3, atol=1e-6)
    warn_if_loud(form, sigma, "do otherwise")
    wanted = f"multiplies the network's error by {factor:.0f}; do otherwise"
    assert [wanted in str(warning.message) for warning in recwarn] == [True] * (factor > 10)


@given(samples(), samples(), samples(), levels())
def test_precondition_is_linear(x_t, raw, other, sigma):
    scalings = BoundaryPreconditioning().scalings(sigma)
    np.testing.assert_allclose(
        precondition(scalings, x_t, raw + other) - precondition(scalings, x_t, raw),
        scalings.out * other,
        atol=16 * FLOAT32_ROUNDING,
    )
    np.testing.assert_array_equal(precondition(scalings, x_t, jnp.zeros(3)), scalings.skip * x_t)


TABLE = """
0.002 1 0 0.99998400 0.00199998 1.99998400 -1.553652
0.01 0.99974407 0.00799840 0.99960016 0.00999800 1.99960012 -1.151293
0.1 0.96300519 0.09609691 0.96153846 0.09805807 1.96116135 -0.575646
0.5 0.50200400 0.35213918 0.5 0.35355339 1.41421356 -0.173287
1 0.20064141 0.44631917 0.2 0.44721360 0.89442719 0
10 0.00249476 0.49927629 0.00249377 0.49937617 0.09987523 0.575646
80 0.00003906 0.49997773 0.00003906 0.49999023 0.01249976 1.095507
"""


@pytest.mark.parametrize("row", [line.split() for line in TABLE.strip().splitlines()], ids=lambda row: row[0])
def test_printed_scalings(row, x64):
    sigma = float(row[0])
    boundary, edm = BoundaryPreconditioning().scalings(sigma), EDMPreconditioning().scalings(sigma)
    for value, text in zip([boundary.skip, boundary.out, edm.skip, edm.out, edm.input], row[1:6], strict=True):
        assert abs(float(value) - float(text)) <= PRINTED_DIGITS
    assert (boundary.input, boundary.noise) == (edm.input, edm.noise)
    assert abs(float(edm.noise) - float(row[6])) <= half_unit("0.000000")


@pytest.mark.parametrize("name", CATALOGUE)
def test_jit_vmap_and_grad(name):
    sigma = jnp.asarray([0.002, 0.661, 80.0])
    batch = jax.jit(jax.vmap(CATALOGUE[name].scalings))(sigma)
    assert isinstance(batch, Scalings)
    for i in range(3):
        single = as_list(JITTED[name](sigma[i]))
        np.testing.assert_allclose([value[i] for value in as_list(batch)], single, rtol=FLOAT32_ROUNDING)
    slopes = jax.jit(jax.vmap(jax.jacfwd(CATALOGUE[name].scalings)))(sigma)
    assert all(np.all(np.isfinite(value)) for value in as_list(slopes))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: BoundaryPreconditioning(sigma_data=0.0), ValueError, r"sigma_data: expected .* > 0, found 0.0"),
        (lambda: BoundaryPreconditioning(sigma_min=-1.0), ValueError, r"sigma_min: expected .* > 0, found -1.0"),
        (lambda: EDMPreconditioning(sigma_data=float("nan")), ValueError, r"sigma_data: expected .* found nan"),
        (lambda: EDMPreconditioning().scalings(jnp.ones(2)), TypeError, "sigma"),
        (lambda: EDMPreconditioning().scalings(untyped("2")), TypeError, "sigma"),
        (
            lambda: precondition(EDMPreconditioning().scalings(1.0), jnp.ones(2), jnp.ones(3)),
            TypeError,
            "raw",
        ),
    ],
)
def test_bad_calls(call, error, message):
    with pytest.raises(error, match=message):
        call()
