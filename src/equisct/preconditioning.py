"""How a raw network becomes a function of any noise level: `skip x_t + out F(input x_t, noise)`.

Notation: `raw` is the network's output F; `Scalings(skip, out, input, noise)` are c_skip, c_out, c_in, c_noise.
"""

import abc
import warnings

import equinox as eqx
import jax
import jax.numpy as jnp

from ._base.check import check_positive
from ._base.concrete import check_array
from ._base.defaults import SIGMA_DATA, SIGMA_MIN
from ._base.types import Level, Sample, Scalar
from .variance_preserving import VPSchedule


class Scalings(eqx.Module):
    """The four coefficients at one level; `input` scales the network's input, `noise` is what its embedding reads."""

    skip: Scalar
    out: Scalar
    input: Scalar
    noise: Scalar


class AbstractPreconditioning(eqx.Module):
    """A level's scalings."""

    @abc.abstractmethod
    def scalings(self, sigma: Level) -> Scalings:
        """The coefficients at level `sigma` > 0, in the precision of `sigma`.

        Raises:
            ValueError: if `sigma` is known before tracing and not > 0.
        """


def precondition(scalings: Scalings, x_t: Sample, raw: Sample) -> Sample:
    """`c_skip x_t + c_out F`."""
    return scalings.skip * x_t + scalings.out * raw


def warn_if_loud(preconditioning: AbstractPreconditioning, sigma: float, instead: str) -> None:
    """Warns where a network's output, and its error, is multiplied by more than 10 at `sigma` on its way to a sample.

    Args:
        preconditioning: of a model that is to give samples at `sigma`.
        sigma: the level, > 0.
        instead: what the warning advises.
    """
    with jax.ensure_compile_time_eval():
        out = abs(float(preconditioning.scalings(sigma).out))
    if out > 10:
        warnings.warn(
            f"preconditioning: expected one with c_out of at most 10 at the level {sigma:g}, found "
            f"{type(preconditioning).__name__}, which multiplies the network's error by {out:.0f}; {instead}",
            stacklevel=3,
        )


def _checked(sigma: Level) -> Scalar:
    check_array("sigma", sigma, positive=True)
    return 1.0 * jnp.asarray(sigma)  # an integer becomes a float; an array keeps its precision, a number stays weak


class BoundaryPreconditioning(AbstractPreconditioning):
    """The form of consistency models: at `sigma_min` the output is `x_t` itself (Song et al. 2023).

    `c_skip = sd^2 / ((s - eps)^2 + sd^2)`, `c_out = sd (s - eps) / sqrt(s^2 + sd^2)`, `c_in = 1 / sqrt(s^2 + sd^2)`,
    `c_noise = ln(s) / 4` with s `sigma`, sd `sigma_data`, eps `sigma_min`. At s = eps, c_skip is exactly 1 and c_out
    exactly 0 in every precision, because s - eps is taken in that of `sigma`.

    Args:
        sigma_data: standard deviation of the data, > 0.
        sigma_min: the lowest level, where the PF-ODE ends; > 0.
    """

    sigma_data: float = SIGMA_DATA
    # A NumPy float64 would drag sigma - sigma_min along.
    sigma_min: float = eqx.field(default=SIGMA_MIN, converter=float)

    def __check_init__(self) -> None:
        check_positive("sigma_data", self.sigma_data)
        check_positive("sigma_min", self.sigma_min)

    def scalings(self, sigma: Level) -> Scalings:
        """See the class."""
        sigma = _checked(sigma)
        above = sigma - self.sigma_min
        norm = jnp.sqrt(sigma**2 + self.sigma_data**2)
        return Scalings(
            skip=1 / (1 + (above / self.sigma_data) ** 2),  # divides 1 by 1 at eps: exact even where division is not
            out=self.sigma_data * above / norm,
            input=1 / norm,
            noise=jnp.log(sigma) / 4,
        )


class EDMPreconditioning(AbstractPreconditioning):
    """The form of EDM's denoiser (Karras et al. 2022), which reaches `x_t` itself only as `sigma` goes to 0.

    `c_skip = sd^2 / (s^2 + sd^2)`, `c_out = sd s / sqrt(s^2 + sd^2)`, `c_in = 1 / sqrt(s^2 + sd^2)`,
    `c_noise = ln(s) / 4` with s `sigma` and sd `sigma_data`.

    Args:
        sigma_data: standard deviation of the data, > 0.
    """

    sigma_data: float = SIGMA_DATA

    def __check_init__(self) -> None:
        check_positive("sigma_data", self.sigma_data)

    def scalings(self, sigma: Level) -> Scalings:
        """See the class."""
        sigma = _checked(sigma)
        norm = jnp.sqrt(sigma**2 + self.sigma_data**2)
        return Scalings(
            skip=self.sigma_data**2 / (sigma**2 + self.sigma_data**2),
            out=self.sigma_data * sigma / norm,
            input=1 / norm,
            noise=jnp.log(sigma) / 4,
        )


class TrigFlowPreconditioning(AbstractPreconditioning):
    """TrigFlow (Lu & Song 2024) in this library's coordinates, for networks whose output is TrigFlow's velocity.

    TrigFlow's clock is an angle tau in [0, pi/2) with `tan(tau) = s / sd`, s `sigma` and sd `sigma_data`; its sample is
    `cos(tau) x + sin(tau) sd z`, which is `cos(tau) x_t`. Its consistency function at that sample,

        f = cos(tau) (cos(tau) x_t) - sin(tau) sd F(cos(tau) x_t / sd, tau),

    becomes `c_skip = cos(tau)^2 = sd^2 / (s^2 + sd^2)`, `c_out = -sd sin(tau) = -sd s / sqrt(s^2 + sd^2)`,
    `c_in = cos(tau) / sd = 1 / sqrt(s^2 + sd^2)`, `c_noise = tau = arctan(s / sd)`. So it is EDM's form with the other
    sign of F and another clock for the network. The endpoint is `x_t` itself at level 0, not at a `sigma_min`.

    Args:
        sigma_data: standard deviation of the data, > 0.
    """

    sigma_data: float = SIGMA_DATA

    def __check_init__(self) -> None:
        check_positive("sigma_data", self.sigma_data)

    def scalings(self, sigma: Level) -> Scalings:
        """See the class."""
        sigma = _checked(sigma)
        norm = jnp.sqrt(sigma**2 + self.sigma_data**2)
        return Scalings(
            skip=self.sigma_data**2 / (sigma**2 + self.sigma_data**2),
            out=-self.sigma_data * sigma / norm,
            input=1 / norm,
            noise=jnp.arctan(sigma / self.sigma_data),
        )


class VPPreconditioning(AbstractPreconditioning):
    """The form of DDPM, whose network predicts the noise of a variance-preserving sample at an integer time.

    `c_skip = 1`, `c_out = -s`, `c_in = 1 / sqrt(1 + s^2)` with s `sigma`; `c_noise` is the schedule's time at `sigma`
    (Karras et al. 2022, Table 1, with DDPM's times instead of a continuous clock).

    Args:
        schedule: relates times and levels.
    """

    schedule: VPSchedule = VPSchedule()

    def scalings(self, sigma: Level) -> Scalings:
        """See the class."""
        sigma = _checked(sigma)
        return Scalings(
            skip=jnp.ones_like(sigma), out=-sigma, input=1 / jnp.sqrt(1 + sigma**2), noise=self.schedule.time_at(sigma)
        )


class VPStudentPreconditioning(AbstractPreconditioning):
    """The form in which DDPM's network, seeing noise alone, gives a sample at once: `z - F(z, time)`, with x_t = s z.

    `c_skip = 1 / s`, `c_out = -1`, `c_in = 1 / s` with s `sigma`; `c_noise` is the schedule's time at `sigma` (Luhman &
    Luhman 2021, whose student is `z - F(z, 999)`). It is meant for that one level, the schedule's last.
    `VPPreconditioning` would multiply the network's error by s there, which is 157.

    Args:
        schedule: relates times and levels.
    """

    schedule: VPSchedule = VPSchedule()

    def scalings(self, sigma: Level) -> Scalings:
        """See the class."""
        sigma = _checked(sigma)
        return Scalings(skip=1 / sigma, out=-jnp.ones_like(sigma), input=1 / sigma, noise=self.schedule.time_at(sigma))
