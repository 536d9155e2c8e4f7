"""The variance-preserving (VP) diffusion of DDPM, told in the clock of this library: the noise level sigma.

Notation: at DDPM's time `n` (0 .. times - 1) a sample is `x_vp = sqrt(alpha_bar_n) x + sqrt(1 - alpha_bar_n) z`;
divided by `sqrt(alpha_bar_n)` it is `x_t = x + sigma_n z` with `sigma_n = sqrt(1 / alpha_bar_n - 1)`. Tables are NumPy
float64.
"""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float64, Int

from ._base.check import check_at_least, check_fraction, check_positive
from ._base.types import Level, Scalar


class VPSchedule(eqx.Module):
    """DDPM's linear schedule (Ho et al. 2020): `beta_n` from `first` to `last`, `alpha_bar` its cumulative product.

    Args:
        times: number of times, >= 2.
        first: variance added at time 0, in (0, 1).
        last: variance added at the last time, in [`first`, 1).
    """

    times: int = eqx.field(default=1000, static=True)
    first: float = eqx.field(default=1e-4, static=True)
    last: float = eqx.field(default=0.02, static=True)

    def __check_init__(self) -> None:
        check_at_least("times", self.times, 2)
        check_positive("first", self.first)
        check_at_least("last", self.last, self.first)
        check_fraction("last", self.last)

    @property
    def betas(self) -> Float64[np.ndarray, " times"]:
        """The variance that each time adds, ascending."""
        return np.linspace(self.first, self.last, self.times)

    @property
    def alpha_bars(self) -> Float64[np.ndarray, " times"]:
        """The share of the signal's variance that is left at each time, descending."""
        return np.cumprod(1 - self.betas)

    @property
    def sigmas(self) -> Float64[np.ndarray, " times"]:
        """The noise level of each time, ascending; of the standard schedule from 0.01 to 157."""
        return np.sqrt(1 / self.alpha_bars - 1)

    def time_at(self, sigma: Level) -> Scalar:
        """The time whose level is `sigma`, between times in proportion to `ln sigma`; the ends hold beyond them."""
        levels = jnp.log(jnp.asarray(self.sigmas, jnp.float32))
        return jnp.interp(jnp.log(jnp.asarray(sigma, jnp.float32)), levels, jnp.arange(self.times, dtype=jnp.float32))

    def quadratic(self, count: int) -> Int[np.ndarray, " count"]:
        """DDIM's times for CIFAR-10: `floor(linspace(0, sqrt(0.8 times), count)^2)` (Song et al. 2021, appendix D).

        As in the authors' code they end at 0.8 of the times (of 1000: level 25), and time 0 comes twice when there are
        many (50 of 1000 are 49 distinct times). That code gives time 0 for a count of 1, the least noisy one, from
        which a walk that starts from noise ends in noise; here it is the last of the others, 0.8 of the times.

        Raises:
            ValueError: unless 1 <= `count` <= `times`.
        """
        self._check(count)
        low = 0.0 if count > 1 else np.sqrt(0.8 * self.times)
        return np.floor(np.linspace(low, np.sqrt(0.8 * self.times), count) ** 2).astype(int)

    def uniform(self, count: int) -> Int[np.ndarray, " count"]:
        """Times at equal strides that end at the last: `floor(times i / count) - 1` for i = 1 ... count.

        Song et al. 2021 (appendix D) ask for `floor(c i)` with the last close to the end. Their code takes
        `0, s, 2 s, ...`, which leaves out the noisy end: of 1000, two times would start at level 3.4 and one at 0.01.
        These are the "trailing" times of Lin et al. 2024.

        Raises:
            ValueError: unless 1 <= `count` <= `times`.
        """
        self._check(count)
        return self.times * np.arange(1, count + 1) // count - 1

    def _check(self, count: int) -> None:
        if not 1 <= count <= self.times:
            raise ValueError(f"count: expected 1 to {self.times}, found {count}")
