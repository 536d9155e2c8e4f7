"""The two interfaces of an oracle, and the checks their constructors share.

Notation: p_sigma is the law of `x + sigma z` with `x` from the oracle and `z` unit Gaussian noise.
"""

import abc
from typing import TYPE_CHECKING, TypeAlias

import equinox as eqx
import numpy as np
from jax import Array
from jaxtyping import Float

from .._base.concrete import check_array, concrete
from .._base.types import Key, Level, Sample, Scalar

if TYPE_CHECKING:
    Std: TypeAlias = float | Array
else:
    Std: TypeAlias = Level | Float[Array, "modes"]
"""One standard deviation for every mode of a mixture, or one each."""


class AbstractOracle(eqx.Module):
    """A distribution whose noised versions are known in closed form; one sample, `jax.vmap` for many."""

    @abc.abstractmethod
    def denoise(self, x_t: Sample, sigma: Level) -> Sample:
        """The posterior mean E[x | x_t]."""

    @abc.abstractmethod
    def posterior_covariance(self, x_t: Sample, sigma: Level) -> Float[Array, "size size"]:
        """The posterior covariance Cov[x | x_t] of the sample as a vector, `sigma^2 dD/dx_t` with `D = E[x | x_t]`."""

    @abc.abstractmethod
    def score(self, x_t: Sample, sigma: Level) -> Sample:
        """`grad log p_sigma(x_t)`."""

    @abc.abstractmethod
    def log_prob(self, x_t: Sample, sigma: Level) -> Scalar:
        """`log p_sigma(x_t)`, the density of the noised law."""

    @abc.abstractmethod
    def sample(self, *, key: Key) -> Float[Array, "..."]:
        """One clean sample `x`."""


class AbstractTransportOracle(AbstractOracle):
    """An oracle that also knows where the paths of the probability-flow ODE go."""

    @abc.abstractmethod
    def transport(self, x_t: Sample, t: Level, r: Level) -> Sample:
        """The point at level `r` (above or below `t`, 0 allowed) of the PF-ODE path through `x_t` at level `t`."""


def check_modes(means: object, std: object, weights: object) -> None:
    """Raises `ValueError` unless the parameters of a mixture are finite, `std` > 0, `weights` > 0 with sum 1."""
    check_array("means", means)
    check_array("std", std, positive=True)
    if weights is None:
        return
    check_array("weights", weights, positive=True)
    found = concrete(weights)
    if found is not None and abs(found.sum(dtype=np.float64) - 1) > 1e-5:
        raise ValueError(f"weights: expected a sum of 1, found {found.sum(dtype=np.float64)}")
