"""The weight (lambda) of a level or of a pair of levels in a loss.

A weighting of a single level is also one of a pair, by the student's level `t`; only the former suits the denoising
loss, hence two interfaces.
"""

import abc

import equinox as eqx
import jax.numpy as jnp

from ._base.check import check_positive
from ._base.defaults import SIGMA_DATA
from ._base.types import Level, Scalar
from .discretization import LevelPair


class AbstractWeighting(eqx.Module):
    """The weight of a pair of levels."""

    @abc.abstractmethod
    def __call__(self, pair: LevelPair) -> Scalar:
        """The weight of the consistency loss between `pair.t` and `pair.r`."""


class AbstractLevelWeighting(AbstractWeighting):
    """The weight of a single level; that of a pair is the weight at `pair.t`."""

    @abc.abstractmethod
    def at(self, sigma: Level) -> Scalar:
        """The weight at level `sigma`."""

    def __call__(self, pair: LevelPair) -> Scalar:
        return self.at(pair.t)


class InverseGap(AbstractWeighting):
    """`1 / (t - r)`: iCT's weight (Song & Dhariwal 2024), from the pair's exact gap."""

    def __call__(self, pair: LevelPair) -> Scalar:
        return 1 / jnp.asarray(pair.gap)


class ConstantWeighting(AbstractLevelWeighting):
    """One weight for all levels: the first consistency training (Song et al. 2023), by default with 1.

    Args:
        value: the weight, > 0.
    """

    value: float = 1.0

    def __check_init__(self) -> None:
        check_positive("value", self.value)

    def at(self, sigma: Level) -> Scalar:
        """`value`."""
        return jnp.asarray(self.value)


class EDMWeighting(AbstractLevelWeighting):
    """`(sigma^2 + sigma_data^2) / (sigma sigma_data)^2` (Karras et al. 2022): 1 / c_out^2 of EDM's denoiser.

    It is the weight of the head's loss in the seed authors' code; the paper prints only "weighting function" (eq. 11).

    Args:
        sigma_data: standard deviation of the data, > 0.
    """

    sigma_data: float = SIGMA_DATA

    def __check_init__(self) -> None:
        check_positive("sigma_data", self.sigma_data)

    def at(self, sigma: Level) -> Scalar:
        """About `1 / sigma^2` at low levels, `1 / sigma_data^2` at high ones."""
        return (jnp.square(sigma) + self.sigma_data**2) / jnp.square(sigma * self.sigma_data)


class SNRWeighting(AbstractLevelWeighting):
    """`max(1 / sigma^2, 1)`: the signal-to-noise ratio, truncated at 1, of progressive distillation."""

    def at(self, sigma: Level) -> Scalar:
        """`max(1 / sigma^2, 1)`."""
        return jnp.maximum(1 / jnp.square(sigma), 1.0)


class NoiseWeighting(AbstractLevelWeighting):
    """`1 / sigma^2`: turns the error of the denoised estimate into that of the noise, as DDPM weighs it."""

    def at(self, sigma: Level) -> Scalar:
        """`1 / sigma^2`."""
        return 1 / jnp.square(jnp.asarray(sigma))
