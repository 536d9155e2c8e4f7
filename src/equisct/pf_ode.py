"""Adaptive, high-order solution of the probability-flow ODE: the reference that samplers and endpoints are held to.

In the clock s = log sigma the ODE (paper eq. 1) reads `dx_t / ds = x_t - denoised`: no division, and a relative
tolerance that means the same at every level.
"""

from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import ArrayLike, Float

from ._base.check import check_levels
from ._base.concrete import as_array, check_array, concrete, in_line
from ._base.defaults import SIGMA_MAX, SIGMA_MIN
from ._base.types import Denoiser, Level, Levels, Sample

_TOLERANCE = {"float32": 1e-6, "float64": 1e-9}


def solve_pf_ode(
    denoise: Denoiser,
    x_t: Sample,
    t: Level,
    r: Level,
    *,
    rtol: float | None = None,
    atol: float | None = None,
    max_steps: int = 4096,
    throw: bool = True,
) -> Sample:
    """The point at level `r` of the PF-ODE path through `x_t` at level `t`.

    Works under `jit`, `vmap` and both modes of differentiation (through the solver's steps).

    Args:
        denoise: posterior mean; it sees one sample and a scalar level of the sample's dtype, and its matrix products
            are computed to the full precision of their dtype.
        x_t: where the path starts; float32 or float64, and the solve runs in its dtype.
        t: level of `x_t`, > 0.
        r: level to go to, > 0, below `t` (towards data) or above it (towards noise).
        rtol: relative tolerance of one step; by default 1e-6 in float32 and 1e-9 in float64.
        atol: absolute tolerance of one step, in units of `x_t`; by default as `rtol`.
        max_steps: most steps to take, rejected ones included; each costs 13 evaluations of `denoise`.
        throw: whether a solve that gives up raises; if not, its result is NaN.

    Raises:
        ValueError: a level known before tracing is not a finite number > 0, or the dtype is not supported.
        RuntimeError: the solver gave up (raised at run time, from inside `jit` too).
    """
    x_t = jnp.asarray(x_t)
    check_array("t", t, positive=True)
    check_array("r", r, positive=True)
    levels = jnp.stack([jnp.asarray(t, x_t.dtype), jnp.asarray(r, x_t.dtype)])
    where = f"solve_pf_ode: from t = {_show(t)} to r = {_show(r)}"
    return _solve(denoise, x_t, levels, diffrax.SaveAt(t1=True), where, rtol, atol, max_steps, throw=throw)[-1]


def pf_ode_path(
    denoise: Denoiser,
    x_t: Sample,
    levels: Levels,
    *,
    rtol: float | None = None,
    atol: float | None = None,
    max_steps: int = 4096,
    throw: bool = True,
) -> Float[Array, "points *shape"]:
    """One PF-ODE path at many levels, from one solve (8th-order interpolation between its steps).

    Args:
        denoise: as in `solve_pf_ode`.
        x_t: where the path starts, at level `levels[0]`.
        levels: strictly descending (towards data) or strictly ascending (towards noise), two or more, > 0.
        rtol: as in `solve_pf_ode`.
        atol: as in `solve_pf_ode`.
        max_steps: as in `solve_pf_ode`.
        throw: as in `solve_pf_ode`.

    Raises:
        ValueError: as in `solve_pf_ode`, or levels known before tracing are out of order.
        RuntimeError: the solver gave up (raised at run time, from inside `jit` too).
    """
    x_t, levels = jnp.asarray(x_t), as_array(levels)
    check_array("levels", levels, positive=True)
    found = concrete(levels)
    if found is not None and not (found.size > 1 and (np.all(np.diff(found) < 0) or np.all(np.diff(found) > 0))):
        raise ValueError(f"levels: expected two or more, strictly descending or ascending, found {in_line(found)}")
    levels = jnp.asarray(levels, x_t.dtype)
    where = f"pf_ode_path: from and to levels = {_show(None if found is None else found[[0, -1]])}"
    save = diffrax.SaveAt(ts=jnp.log(levels))
    return _solve(denoise, x_t, levels, save, where, rtol, atol, max_steps, throw=throw)


def encode(
    denoise: Denoiser,
    x: Sample,
    *,
    sigma_min: float = SIGMA_MIN,
    sigma_max: float = SIGMA_MAX,
    rtol: float | None = None,
    max_steps: int = 4096,
) -> Sample:
    """The unit noise that `one_step` of an exact consistency function turns into `x`: its PF-ODE path, upwards.

    Args:
        denoise: as in `solve_pf_ode`.
        x: one sample at level `sigma_min`.
        sigma_min: its level, > 0.
        sigma_max: level at which the path ends; what is there is divided by it.
        rtol: as in `solve_pf_ode`.
        max_steps: as in `solve_pf_ode`.

    Raises:
        ValueError: as in `solve_pf_ode`, or levels out of order.
        RuntimeError: the solver gave up.
    """
    check_levels(sigma_min, sigma_max)
    return solve_pf_ode(denoise, x, sigma_min, sigma_max, rtol=rtol, max_steps=max_steps) / sigma_max


def _velocity(s: ArrayLike, x_t: Array, denoise: Denoiser) -> Array:
    """`dx_t / dlog sigma`. At module level, and `denoise` an argument: equal solves share one compilation."""
    with jax.default_matmul_precision("highest"):  # products of fewer digits would look rough to the step control
        return (x_t - denoise(x_t, jnp.exp(s).astype(x_t.dtype))).astype(x_t.dtype)


def _solve(
    denoise: Denoiser,
    x_t: Array,
    levels: Array,
    save: diffrax.SaveAt,
    where: str,
    rtol: float | None,
    atol: float | None,
    max_steps: int,
    *,
    throw: bool,
) -> Array:
    """The states that `save` asks for; after a failure NaN, or an error at run time that says `where`."""
    dtype = x_t.dtype.name
    if dtype not in _TOLERANCE:
        raise ValueError(f"x_t: expected dtype float32 or float64, found {dtype}")
    rtol = _TOLERANCE[dtype] if rtol is None else rtol
    atol = rtol if atol is None else atol
    # A number that is not finite would cost max_steps rejected steps: dtmin stops it when it comes from denoise.
    dtmin = 10 * float(jnp.finfo(dtype).eps)
    is_finite = jnp.all(jnp.isfinite(x_t))
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(_velocity),
        diffrax.Dopri8(),
        jnp.log(levels[0]),
        jnp.log(levels[-1]),
        None,
        jnp.where(is_finite, x_t, 0),
        args=denoise,
        saveat=save,
        stepsize_controller=diffrax.PIDController(rtol=rtol, atol=atol, dtmin=dtmin, force_dtmin=False),
        adjoint=diffrax.DirectAdjoint(),
        max_steps=max_steps,
        throw=False,
    )
    states: Any = solution.ys
    failed = (solution.result != diffrax.RESULTS.successful) | ~is_finite | ~jnp.all(jnp.isfinite(states))
    states = jnp.where(failed, jnp.nan, states)
    if not throw:
        return states
    advice = "(throw=False gives NaN instead of this error)"
    return eqx.branched_error_if(
        states,
        failed,
        jnp.where(solution.result == diffrax.RESULTS.max_steps_reached, 0, 1),
        [
            f"{where} the solver used up max_steps = {max_steps}; raise max_steps, or rtol and atol {advice}",
            f"{where} the solver met a number that is not finite: check x_t, and denoise at these levels {advice}",
        ],
    )


def _show(value: object) -> str:
    found = None if value is None else concrete(value)
    return "(traced)" if found is None else str(found)
