"""The samplers of DDPM and DDIM, through any denoiser: they walk in VP coordinates and ask at a noise level sigma.

Notation as in `variance_preserving`: `x_vp = sqrt(alpha_bar) x_t`, and `z_hat = (x_t - denoised) / sigma` is the noise
that the denoiser implies, DDPM's eps.
"""

from collections.abc import Callable
from types import SimpleNamespace

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax import Array
from jaxtyping import Int, PyTree

from .._base.check import check_at_least, check_positive
from .._base.concrete import in_line
from .._base.dtypes import float32_or_wider
from .._base.tree import in_short
from .._base.types import Denoiser, Key, Sample
from ..variance_preserving import VPSchedule
from .interface import AbstractSampler, Walk, method_of

Table = dict[str, np.ndarray]
"""Coefficients of a walk, one row per time, ascending; in float64."""


def ancestral(
    denoise: Denoiser, z: Sample, *, key: Key, schedule: VPSchedule | None = None, clip: float | None = 1.0
) -> Sample:
    """DDPM's ancestral sampler, variance `beta_n` (Ho et al. 2020, Algorithm 2): one evaluation per time.

    Args:
        denoise: posterior mean.
        z: unit Gaussian noise, where the walk starts.
        key: for the fresh noise of every time but the last.
        schedule: by default DDPM's 1000 times.
        clip: clamps each denoised estimate to [-clip, clip], as DDPM does with images; None does not.

    Raises:
        ValueError: unless `clip` is None or a finite number > 0; if the schedule ends with more signal than noise.
    """
    return Ancestral(schedule or VPSchedule(), clip)(SimpleNamespace(denoise=denoise), z, key=key)


def _starts_from_noise(alpha_bar: float) -> None:
    """Raises `ValueError` unless unit noise can stand for a sample of this share of the signal's variance."""
    if alpha_bar > 0.5:
        raise ValueError(
            f"times: expected a walk from noise to start where there is more noise than signal, found {alpha_bar:.4g} "
            "of the signal's variance left there: add later times, take a schedule with larger variances, or "
            "continue a noisy sample with from_level"
        )


Mean = Callable[[dict[str, Array], Array, Array, Array], Array]
"""`(row, x_vp, x_t, denoised) -> x_vp` at the next time, before the fresh noise."""


def _walk(denoise: Denoiser, x_vp: Array, table: Table, mean: Mean, key: Key | None, *, keep: bool) -> Walk:
    """From the last time to the first, in the sample's precision; without a key no noise is added."""

    def one_time(x_vp: Array, inputs: tuple[dict[str, Array], Key | None]) -> tuple[Array, Array | None]:
        row, noise_key = inputs
        x_t = (row["scale"] * x_vp).astype(x_vp.dtype)
        x_next = mean(row, x_vp, x_t, denoise(x_t, row["sigma"]))
        if noise_key is not None:
            x_next += row["std"] * jr.normal(noise_key, x_vp.shape, x_vp.dtype)
        return x_next.astype(x_vp.dtype), x_t if keep else None

    dtype = float32_or_wider(x_vp.dtype)
    rows = {name: jnp.asarray(column[::-1].copy(), dtype) for name, column in table.items()}
    keys = None if key is None else jr.split(key, len(table["sigma"]))
    return jax.lax.scan(one_time, x_vp, (rows, keys))


class Ancestral(AbstractSampler):
    """`ancestral` as a module: one evaluation of `model.denoise` per time.

    Args:
        schedule: DDPM's.
        clip: clamps each denoised estimate to [-clip, clip], as DDPM does with images; None does not.
        times: how many of the schedule's times are walked, the lowest; by default all.
    """

    schedule: VPSchedule = VPSchedule()
    clip: float | None = eqx.field(static=True, default=1.0)
    times: int | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        if self.clip is not None:
            check_positive("clip", self.clip)
        if self.times is not None and not 1 <= self.times <= self.schedule.times:
            raise ValueError(f"times: expected 1 to {self.schedule.times}, found {self.times}")

    @property
    def name(self) -> str:
        """`ancestral-1000` of 1000 times."""
        return f"ancestral-{self.times or self.schedule.times}"

    def below(self, sigma: float) -> "Ancestral":
        """See `AbstractSampler`.

        Raises:
            ValueError: unless it is one of the schedule's levels, to a thousandth.
        """
        check_positive("sigma", sigma)
        sigmas = self.schedule.sigmas
        time = int(np.argmin(np.abs(np.log(sigmas / sigma))))
        if not np.isclose(sigmas[time], sigma, rtol=1e-3):
            raise ValueError(f"sigma: expected one of the schedule's levels, such as {sigmas[time]:g}, found {sigma}")
        return Ancestral(self.schedule, self.clip, time + 1)

    def begin(self, z: Sample) -> Sample:
        """See `AbstractSampler`.

        Raises:
            ValueError: if the last time has more signal than noise.
        """
        _starts_from_noise(self.schedule.alpha_bars[: self.times][-1])
        return z

    def enter(self, x_t: Sample) -> Sample:
        """See `AbstractSampler`."""
        return x_t * float(np.sqrt(self.schedule.alpha_bars[: self.times][-1]))

    def table(self) -> Table:
        """The coefficients of the walk."""
        now, betas, sigmas = (
            column[: self.times] for column in (self.schedule.alpha_bars, self.schedule.betas, self.schedule.sigmas)
        )
        before = np.append(1.0, now[:-1])
        return {
            "scale": 1 / np.sqrt(now),
            "sigma": sigmas,
            "of_denoised": np.sqrt(before) * betas / (1 - now),
            "of_x": np.sqrt(1 - betas) * (1 - before) / (1 - now),
            "std": np.sqrt(betas) * (np.arange(len(now)) > 0),
        }

    def walk(self, model: PyTree, x_t: Sample, key: Key | None, *, keep: bool) -> Walk:
        """See `AbstractSampler`.

        Raises:
            ValueError: without a key.
        """
        if key is None:
            raise ValueError("key: expected a key for the fresh noise of each time, found None")

        def mean(row: dict[str, Array], x_vp: Array, x_t: Array, denoised: Array) -> Array:
            denoised = denoised if self.clip is None else jnp.clip(denoised, -self.clip, self.clip)
            return row["of_denoised"] * denoised + row["of_x"] * x_vp

        return _walk(method_of(model, "denoise"), x_t, self.table(), mean, key, keep=keep)


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
        ValueError: `times` out of order, outside the schedule, or the last of them with more signal than noise; `eta`
            < 0; `eta` > 0 without a key.
    """
    return DDIM(times, eta, schedule or VPSchedule())(SimpleNamespace(denoise=denoise), z, key=key)


def _whole_numbers(times: Int[np.ndarray, " evaluations"] | tuple[int, ...]) -> tuple[int, ...]:
    return tuple(map(int, times))


class DDIM(AbstractSampler):
    """`ddim` as a module: one evaluation of `model.denoise` per time.

    Args:
        times: ascending indices into the schedule; by default `VPSchedule().quadratic(50)`.
        eta: share of fresh noise, >= 0; 1 is DDPM's with the small variance.
        schedule: DDPM's.
        sigma: a level above those of `times` that is evaluated first, or None.
    """

    times: tuple[int, ...] = eqx.field(
        static=True, converter=_whole_numbers, default=_whole_numbers(VPSchedule().quadratic(50))
    )
    eta: float = eqx.field(static=True, default=0.0)
    schedule: VPSchedule = VPSchedule()
    sigma: float | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        check_at_least("eta", self.eta, 0)
        times, most = np.array(self.times, int), self.schedule.times - 1
        if len(times) + (self.sigma is not None) == 0 or (
            len(times) and (np.any(np.diff(times) < 0) or times[0] < 0 or times[-1] > most)
        ):
            raise ValueError(f"times: expected ascending numbers in 0 .. {most}, found {in_line(times)}")
        self.table()

    def __pdoc__(self, **settings: object) -> object:
        """Printed in one line; the times print whole, `print(sampler.times)`."""
        ends = f", {self.times[0]} to {self.times[-1]}" if self.times else ""
        return in_short(self, f"{len(self.times)} times{ends}, eta {self.eta:g}")

    @property
    def name(self) -> str:
        """`ddim-50` of 50 evaluations."""
        return f"ddim-{len(self.times) + (self.sigma is not None)}"

    def table(self) -> Table:
        """The coefficients of the walk.

        Raises:
            ValueError: if a step would add more noise than its level has.
        """
        times = np.array(self.times, int)
        now, sigmas = self.schedule.alpha_bars[times], self.schedule.sigmas[times]
        if self.sigma is not None:
            now, sigmas = np.append(now, 1 / (1 + self.sigma**2)), np.append(sigmas, self.sigma)
        after = np.append(1.0, now[:-1])
        variance = self.eta**2 * (1 - after) / (1 - now) * (1 - now / after)
        if np.any(variance > 1 - after):
            raise ValueError(
                f"eta: expected so little that no step adds more noise than its level has, found {self.eta}"
            )
        return {
            "scale": 1 / np.sqrt(now),
            "sigma": sigmas,
            "of_denoised": np.sqrt(after),
            "of_noise": np.sqrt(1 - after - variance),
            "std": np.sqrt(variance),
        }

    def below(self, sigma: float) -> "DDIM":
        """See `AbstractSampler`."""
        check_positive("sigma", sigma)
        rest = [time for time in self.times if self.schedule.sigmas[time] < sigma]
        return DDIM(tuple(rest), self.eta, self.schedule, float(sigma))

    def begin(self, z: Sample) -> Sample:
        """See `AbstractSampler`.

        Raises:
            ValueError: if the last of `times` has more signal than noise.
        """
        _starts_from_noise(1 / self.table()["scale"][-1] ** 2)
        return z

    def enter(self, x_t: Sample) -> Sample:
        """See `AbstractSampler`."""
        return x_t / float(self.table()["scale"][-1])

    def walk(self, model: PyTree, x_t: Sample, key: Key | None, *, keep: bool) -> Walk:
        """See `AbstractSampler`.

        Raises:
            ValueError: for `eta` > 0 without a key.
        """
        if self.eta > 0 and key is None:
            raise ValueError(f"key: expected a key, because eta = {self.eta}, found None")

        def mean(row: dict[str, Array], x_vp: Array, x_t: Array, denoised: Array) -> Array:
            del x_vp
            return row["of_denoised"] * denoised + row["of_noise"] * (x_t - denoised) / row["sigma"]

        return _walk(method_of(model, "denoise"), x_t, self.table(), mean, None if self.eta == 0 else key, keep=keep)
