"""The samplers of DDPM and DDIM, through any denoiser: they walk in VP coordinates and ask at a noise level sigma.

Notation as in `variance_preserving`: `x_vp = sqrt(alpha_bar) x_t`, and `z_hat = (x_t - denoised) / sigma` is the noise
that the denoiser implies, DDPM's eps.
"""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax import Array
from jaxtyping import Int

from .._base.check import check_at_least, check_positive
from .._base.types import Denoiser, Key, Sample
from ..variance_preserving import VPSchedule


def ancestral(
    denoise: Denoiser,
    z: Sample,
    *,
    key: Key,
    schedule: VPSchedule | None = None,
    clip: float | None = 1.0,
) -> Sample:
    """DDPM's ancestral sampler, variance `beta_n` (Ho et al. 2020, Algorithm 2): one evaluation per time.

    Args:
        denoise: posterior mean.
        z: unit Gaussian noise, where the walk starts.
        key: for the fresh noise of every time but the last.
        schedule: by default DDPM's 1000 times.
        clip: clamps each denoised estimate to [-clip, clip], as DDPM does with images; None does not.

    Raises:
        ValueError: unless `clip` is None or a finite number > 0.
    """
    if clip is not None:
        check_positive("clip", clip)
    schedule = schedule or VPSchedule()
    now, betas = schedule.alpha_bars, schedule.betas
    before = np.append(1.0, now[:-1])
    table = {
        "scale": 1 / np.sqrt(now),
        "sigma": schedule.sigmas,
        "of_denoised": np.sqrt(before) * betas / (1 - now),
        "of_x": np.sqrt(1 - betas) * (1 - before) / (1 - now),
        "std": np.sqrt(betas) * (np.arange(len(now)) > 0),
    }

    def one_time(x_vp: Array, inputs: tuple[dict[str, Array], Key]) -> tuple[Array, None]:
        row, noise_key = inputs
        denoised = denoise(row["scale"] * x_vp, row["sigma"])
        denoised = denoised if clip is None else jnp.clip(denoised, -clip, clip)
        mean = row["of_denoised"] * denoised + row["of_x"] * x_vp
        return mean + row["std"] * jr.normal(noise_key, x_vp.shape, x_vp.dtype), None

    return jax.lax.scan(one_time, z, (_descending(table, z), jr.split(key, len(now))))[0]


def ddim(
    denoise: Denoiser,
    z: Sample,
    *,
    times: Int[np.ndarray, " evaluations"],
    eta: float = 0.0,
    key: Key | None = None,
    schedule: VPSchedule | None = None,
) -> Sample:
    """DDIM (Song et al. 2021, eq. 12 and 16): one evaluation per entry of `times`; deterministic at `eta` 0.

    At `eta` 0 each step is an Euler step of the PF-ODE in sigma; the last returns the denoised estimate. Nothing is
    clamped.

    Args:
        denoise: posterior mean.
        z: unit Gaussian noise, where the walk starts, at the last of `times`.
        times: ascending indices into the schedule, such as `VPSchedule().quadratic(50)`; equal neighbours are allowed.
        eta: share of fresh noise, >= 0; 1 is DDPM's with the small variance.
        key: for the fresh noise.
        schedule: by default DDPM's 1000 times.

    Raises:
        ValueError: `times` out of order or outside the schedule; `eta` < 0; `eta` > 0 without a key.
    """
    schedule = schedule or VPSchedule()
    check_at_least("eta", eta, 0)
    if len(times) == 0 or np.any(np.diff(times) < 0) or times[0] < 0 or times[-1] >= schedule.times:
        raise ValueError(f"times: expected ascending numbers in 0 .. {schedule.times - 1}, found {times}")
    if eta > 0 and key is None:
        raise ValueError(f"key: expected a key, because eta = {eta}, found None")
    now = schedule.alpha_bars[times]
    after = np.append(1.0, now[:-1])
    variance = eta**2 * (1 - after) / (1 - now) * (1 - now / after)
    if np.any(variance > 1 - after):
        raise ValueError(f"eta: expected so little that no step adds more noise than its level has, found {eta}")
    table = {
        "scale": 1 / np.sqrt(now),
        "sigma": schedule.sigmas[times],
        "of_denoised": np.sqrt(after),
        "of_noise": np.sqrt(1 - after - variance),
        "std": np.sqrt(variance),
    }

    def one_time(x_vp: Array, inputs: tuple[dict[str, Array], Key | None]) -> tuple[Array, None]:
        row, noise_key = inputs
        x_t = row["scale"] * x_vp
        denoised = denoise(x_t, row["sigma"])
        x_vp = row["of_denoised"] * denoised + row["of_noise"] * (x_t - denoised) / row["sigma"]
        if noise_key is not None:
            x_vp += row["std"] * jr.normal(noise_key, x_vp.shape, x_vp.dtype)
        return x_vp, None

    keys = None if eta == 0 or key is None else jr.split(key, len(times))
    return jax.lax.scan(one_time, z, (_descending(table, z), keys))[0]


def _descending(table: dict[str, np.ndarray], z: Array) -> dict[str, Array]:
    """The rows from the last time to the first, in the sample's precision."""
    dtype = jnp.promote_types(z.dtype, jnp.float32)
    return {name: jnp.asarray(column[::-1].copy(), dtype) for name, column in table.items()}
