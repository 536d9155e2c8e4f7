"""The words that every signature uses.

Notation: everything below `objectives` works on *one* sample; `jax.vmap` makes a batch. The only clock is the noise
level `sigma` (variance exploding: `x_t = x + sigma z`).
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from jax import Array
from jaxtyping import ArrayLike, Float, Int, PRNGKeyArray, PyTree, Shaped

from .batch import Example

if TYPE_CHECKING:
    Sample: TypeAlias = Float[Array, "*shape"]
else:
    Sample: TypeAlias = Float[Array | np.ndarray, "*shape"]
"""One sample of any shape, of NumPy too; two `Sample`s in one signature have the same shape."""

Batch: TypeAlias = PyTree[Shaped[Array | np.ndarray, "..."]]
"""A pytree of arrays of one first axis, the batch; what it holds is between data set and objective."""

Examples: TypeAlias = Float[Array | np.ndarray, "batch *shape"] | Example
"""A batch of clean samples, with a condition or without."""

Scalar: TypeAlias = Float[Array, ""]

Key: TypeAlias = PRNGKeyArray
"""A typed JAX key (`jax.random.key`)."""

if TYPE_CHECKING:
    Level: TypeAlias = float | Array
    Step: TypeAlias = int | Array
else:
    Level: TypeAlias = Float[ArrayLike, ""] | int
    Step: TypeAlias = Int[ArrayLike, ""]
"""`Level`: a noise level sigma > 0. `Step`: the number of optimiser updates done so far."""

Levels: TypeAlias = Sequence[Level] | Float[Array | np.ndarray, "points"]
"""Noise levels in order: a list or tuple, or an array of JAX or NumPy."""

Denoiser: TypeAlias = Callable[[Array, Level], Array]
"""`(x_t, sigma) -> sample`: a posterior mean or an endpoint; oracles, heads and users' functions alike."""

HostArray: TypeAlias = np.ndarray
