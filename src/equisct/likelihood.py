"""Log densities by the probability-flow ODE: instantaneous change of variables (Chen et al. 2018; Song et al. 2021).

In the clock s = log sigma the ODE reads `dx_t / ds = x_t - denoised`, so that along a path `d log p / ds` is minus the
trace of `I - d denoised / d x_t`. At the highest level the law is Gaussian to what little it still shows of the data.
"""

import math
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jax import Array
from jaxtyping import Float

from ._base.check import check_at_least, check_levels
from ._base.concrete import check_answer, check_array
from ._base.defaults import SIGMA_MAX, SIGMA_MIN
from ._base.types import Denoiser, Key, Level, Sample, Scalar

_TOLERANCE = {"float32": 1e-5, "float64": 1e-9}


def log_likelihood(
    denoise: Denoiser,
    x: Sample,
    *,
    sigma_min: float = SIGMA_MIN,
    sigma_max: float = SIGMA_MAX,
    probes: int | None = None,
    key: Key | None = None,
    rtol: float | None = None,
    max_steps: int = 4096,
) -> Scalar:
    """`log p(x)` of the data noised by `sigma_min`, in nats, under the diffusion model of a posterior mean.

    The law at `sigma_max` is taken as the Gaussian whose mean and mean variance `denoise` says there; what that leaves
    out falls with `sigma_max^-2`. Equal shapes share one compilation; `jax.vmap` for many.

    Args:
        denoise: posterior mean of one sample and a level, such as `model.denoise` or `Conditioned(model, 7).denoise`.
        x: one sample, float32 or float64; images with dequantisation noise, if they are of 8 bits.
        sigma_min: level of the sample, > 0.
        sigma_max: level at which the path ends.
        probes: random signs by which the trace is estimated, without bias (Hutchinson), the same all along the path;
            None: the exact trace, by as many derivatives as the sample has numbers.
        key: of the probes.
        rtol: relative and absolute tolerance of one step; by default 1e-5 in float32 and 1e-9 in float64.
        max_steps: most steps to take.

    Raises:
        ValueError: for levels out of order, probes without a key, a sample that is not finite or of another dtype.
        RuntimeError: the solver gave up, raised at run time.
    """
    x = jnp.asarray(x)
    check_levels(sigma_min, sigma_max)
    check_array("x", x)
    if x.dtype.name not in _TOLERANCE:
        raise ValueError(f"x: expected dtype float32 or float64, found {x.dtype}")
    if probes is not None:
        check_at_least("probes", probes, 1)
    if (probes is None) != (key is None):
        raise ValueError(f"key: expected one with probes and none without, found {key} with probes {probes}")
    signs = None if key is None else jr.rademacher(key, (probes or 1, *x.shape), x.dtype)
    return _log_likelihood(denoise, x, signs, sigma_min, sigma_max, rtol or _TOLERANCE[x.dtype.name], max_steps)


def bits_per_dimension(log_prob: Scalar | Float[Array, "..."], size: int, *, scale: float = 127.5) -> Array:
    """Bits that one pixel takes: `log2(scale) - log_prob / (size ln 2)`, for images of 8 bits at `pixel / scale - 1`.

    Args:
        log_prob: log densities of images in [-1, 1] with uniform dequantisation noise, in nats.
        size: numbers in an image.
        scale: levels of a pixel per unit of the image.
    """
    check_at_least("size", size, 1)
    return math.log2(scale) - jnp.asarray(log_prob) / (size * math.log(2))


@eqx.filter_jit
def _log_likelihood(
    denoise: Denoiser, x: Array, signs: Array | None, low: Level, high: Level, rtol: float, max_steps: int
) -> Array:
    ends = jnp.log(jnp.stack([jnp.asarray(low, x.dtype), jnp.asarray(high, x.dtype)]))
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(_slope), diffrax.Dopri8(), ends[0], ends[1], None, (x, jnp.zeros((), x.dtype)),
        args=(denoise, signs), saveat=diffrax.SaveAt(t1=True),
        stepsize_controller=diffrax.PIDController(rtol=rtol, atol=rtol), adjoint=diffrax.DirectAdjoint(),
        max_steps=max_steps,
    )  # fmt: skip
    states: Any = solution.ys
    x_t, gained = (state[-1] for state in states)
    top = jnp.asarray(high, x.dtype)
    mean, trace = _mean_and_trace(denoise, jnp.zeros_like(x), top, signs)
    variance = jnp.square(top) * (1 + trace / x.size)
    spread = jnp.sum(jnp.square(x_t - mean)) / variance
    return gained - (spread + x.size * jnp.log(2 * math.pi * variance)) / 2


def _slope(s: Any, state: tuple[Array, Array], told: tuple[Denoiser, Array | None]) -> tuple[Array, Array]:
    """`dx_t / ds`, and the trace of its derivative by `x_t`: what the log density loses on the way up."""
    x_t, _ = state
    denoised, trace = _mean_and_trace(told[0], x_t, jnp.exp(s).astype(x_t.dtype), told[1])
    return x_t - denoised, x_t.size - trace


def _mean_and_trace(denoise: Denoiser, x_t: Array, sigma: Array, signs: Array | None) -> tuple[Array, Array]:
    """The posterior mean, and the trace of its derivative: exactly, or by probes."""

    def mean(x_t: Array) -> Array:
        with jax.default_matmul_precision("highest"):
            return check_answer("denoise", denoise(x_t, sigma), x_t).astype(x_t.dtype)

    directions = jnp.eye(x_t.size, dtype=x_t.dtype).reshape(-1, *x_t.shape) if signs is None else signs
    denoised, along = jax.linearize(mean, x_t)
    products = jax.vmap(lambda direction: jnp.sum(direction * along(direction)))(directions)
    return denoised, products.sum() if signs is None else products.mean()
