"""What every sampler is: a module with a name, called with a model and noise, or with a noisy sample and its level."""

import abc
from collections.abc import Sequence
from typing import TypeAlias

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, PyTree

from .._base.check import check_positive
from .._base.concrete import check_array
from .._base.types import Key, Sample

Walk: TypeAlias = tuple[Array, list[Array] | None]
"""The sample, and the noisy samples that were evaluated on the way, in stacks or alone, if they are kept."""


class AbstractSampler(eqx.Module):
    """A way to draw samples, one at a time; `jax.vmap` makes a batch.

    `sampler(model, z, key=key)` begins with unit Gaussian noise `z`; `from_level` with any `x_t` at any level. The
    model has a method `endpoint` for `Multistep`, `denoise` for the others.
    """

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """A word for files and metrics that holds no level, such as `heun-18`."""

    @abc.abstractmethod
    def below(self, sigma: float) -> "AbstractSampler":
        """The same sampler begun at level `sigma`, > 0: that level first, then its own below it."""

    @abc.abstractmethod
    def begin(self, z: Sample) -> Sample:
        """The noisy sample that unit noise stands for, in the sampler's own coordinates."""

    @abc.abstractmethod
    def enter(self, x_t: Sample) -> Sample:
        """A noisy sample at the first level, `x + sigma z`, in the sampler's own coordinates."""

    @abc.abstractmethod
    def walk(self, model: PyTree, x_t: Sample, key: Key | None, *, keep: bool) -> Walk:
        """From the first level to the sample."""

    def __call__(self, model: PyTree, z: Sample, *, key: Key | None = None) -> Sample:
        return self.walk(model, self.begin(z), key, keep=False)[0]

    def from_level(self, model: PyTree, x_t: Sample, sigma: float, *, key: Key | None = None) -> Sample:
        """The sample to which the walk leads from `x_t` at level `sigma`, known before tracing."""
        rest = self.below(sigma)
        return rest.walk(model, rest.enter(x_t), key, keep=False)[0]

    def trajectory(self, model: PyTree, z: Sample, *, key: Key | None = None) -> Float[Array, "points *shape"]:
        """The noisy sample `x_t` at each level, then the sample."""
        x, path = self.walk(model, self.begin(z), key, keep=True)
        assert path is not None
        stacks = [step if step.ndim > x.ndim else step[None] for step in path]
        return jnp.concatenate([*stacks, x[None]])


def descending_levels(levels: Sequence[float] | Float[Array | np.ndarray, "points"]) -> tuple[float, ...]:
    """Levels as numbers.

    Raises:
        ValueError: unless they are finite, > 0 and strictly descending.
    """
    found = np.asarray(levels, np.float64)
    check_array("levels", found, positive=True)
    if not np.all(np.diff(found) < 0):
        raise ValueError(f"levels: expected strictly descending levels, found {found}")
    return tuple(map(float, found))


def levels_below(levels: tuple[float, ...], sigma: float) -> tuple[float, ...]:
    """`sigma`, and the levels below it."""
    check_positive("sigma", sigma)
    return (float(sigma), *(level for level in levels if level < sigma))
