"""What every sampler is: a module with a name, called with a model and noise, or with a noisy sample and its level."""

import abc
import dataclasses
from typing import TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, PyTree

from .._base.check import check_positive
from .._base.concrete import as_array, check_array, concrete, in_line
from .._base.explain import show
from .._base.tree import in_short
from .._base.types import Denoiser, Key, Levels, Sample

Walk: TypeAlias = tuple[Array, PyTree]
"""The sample, and the noisy samples that were evaluated on the way, in stacks or alone: complete if they are kept."""


def method_of(model: PyTree, name: str) -> Denoiser:
    """What a sampler asks.

    Raises:
        TypeError: if the model has no such method.
    """
    found = getattr(model, name, None)
    if found is None:
        raise TypeError(
            f"model: expected one with a method {name}, found {show(model)}; a function alone is sampled "
            f"from by a function of this sampler's name"
        )
    return found


def in_precision_of(x_t: Array, model: Denoiser) -> Denoiser:
    """The model with its answers in the sample's dtype: a walk begins, goes on and ends in one."""
    return lambda point, sigma: model(point, sigma).astype(x_t.dtype)


class AbstractSampler(eqx.Module):
    """A way to draw samples, one at a time; `jax.vmap` makes a batch.

    `sampler(model, z, key=key)` begins with unit Gaussian noise `z`; `from_level` with any `x_t` at any level. The
    model has a method `endpoint` for `Multistep`, `denoise` for the others. A sample has the noise's dtype.
    """

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """A word for files and metrics that holds no level, such as `heun-18`."""

    @abc.abstractmethod
    def below(self, sigma: float) -> "AbstractSampler":
        """The same sampler begun at level `sigma`, > 0: that level first, then its own below it."""

    def begin(self, z: Sample) -> Sample:
        """The noisy sample that unit noise stands for, in the sampler's own coordinates: by default the noise."""
        return z

    def enter(self, x_t: Sample) -> Sample:
        """A noisy sample at the first level, `x + sigma z`, in the sampler's own coordinates: by default itself."""
        return x_t

    @abc.abstractmethod
    def walk(self, model: PyTree, x_t: Sample, key: Key | None, *, keep: bool) -> Walk:
        """From the first level to the sample."""

    def __call__(self, model: PyTree, z: Sample, *, key: Key | None = None) -> Sample:
        return self.walk(model, self.begin(jnp.asarray(z)), key, keep=False)[0]

    def from_level(self, model: PyTree, x_t: Sample, sigma: float, *, key: Key | None = None) -> Sample:
        """The sample to which the walk leads from `x_t` at level `sigma`, known before tracing."""
        rest = self.below(sigma)
        return rest.walk(model, rest.enter(jnp.asarray(x_t)), key, keep=False)[0]

    def trajectory(self, model: PyTree, z: Sample, *, key: Key | None = None) -> Float[Array, "points *shape"]:
        """The noisy sample `x_t` at each level, then the sample."""
        x, path = self.walk(model, self.begin(jnp.asarray(z)), key, keep=True)
        return jnp.concatenate([step if step.ndim > x.ndim else step[None] for step in (*jax.tree.leaves(path), x)])


class AbstractLevelSampler(AbstractSampler):
    """A sampler that goes down a list of levels."""

    levels: eqx.AbstractVar[tuple[float, ...]]

    def __pdoc__(self, **settings: object) -> object:
        """Printed in one line; the levels print whole, `print(sampler.levels)`."""
        return in_short(self, f"{len(self.levels)} levels, {self.levels[0]:g} to {self.levels[-1]:g}")

    def below(self, sigma: float) -> "AbstractSampler":
        """See `AbstractSampler`."""
        check_positive("sigma", sigma)
        rest = (float(sigma), *(level for level in self.levels if level < sigma))
        return dataclasses.replace(self, levels=rest)

    def begin(self, z: Sample) -> Sample:
        """`x_t` of no signal."""
        return jnp.asarray(self.levels[0], z.dtype) * z


def check_descending(levels: object) -> None:
    """Raises `ValueError` unless levels known before tracing are finite, > 0 and strictly descending."""
    check_array("levels", levels, positive=True)
    found = concrete(levels)
    if found is not None and not np.all(np.diff(found) < 0):
        step = "; turn them round, levels[::-1]" if np.all(np.diff(found) > 0) else ""
        raise ValueError(f"levels: expected strictly descending levels, found {in_line(found)}{step}")


def descending_levels(levels: Levels) -> tuple[float, ...]:
    """Levels as numbers, checked."""
    found = np.asarray(levels, np.float64)
    check_descending(found)
    return tuple(map(float, found))


def level_array(levels: Levels) -> Float[Array | np.ndarray, " points"]:
    """Levels as an array, checked if they are known before tracing."""
    found = as_array(levels)
    check_descending(found)
    return found
