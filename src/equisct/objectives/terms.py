"""What an objective returns beside its loss: the parts that add up to it, and the terms for logging."""

from typing import Any, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float

from .._types import Key, Level, Scalar, Step

BINS = 8


class Parts(eqx.Module):
    """The loss as a sum: `consistency + denoising`, each with its weight."""

    consistency: Scalar
    denoising: Scalar

    def total(self) -> Scalar:
        """The loss."""
        return self.consistency + self.denoising


class Terms(eqx.Module):
    """Parts of one batch for logging.

    `consistency` and `denoising` are the batch means before the head's weight. The `*_per_bin` arrays are sums over the
    samples whose student level (for denoising: head level) lies in each of eight bins, equally wide in ln sigma; divide
    by `count_per_bin` and `head_count_per_bin`, which differ only where the head has a level law of its own.
    """

    consistency: Scalar
    denoising: Scalar
    consistency_per_bin: Float[Array, " bins"]
    denoising_per_bin: Float[Array, " bins"]
    count_per_bin: Float[Array, " bins"]
    head_count_per_bin: Float[Array, " bins"]


def bin_edges(sigma_min: float, sigma_max: float) -> np.ndarray:
    """The edges of the bins in sigma, ascending: `bins + 1` of them."""
    return np.geomspace(sigma_min, sigma_max, BINS + 1)


def collect_terms(
    consistency: Float[Array, " batch"],
    denoising: Float[Array, " batch"],
    t: Float[Array, " batch"],
    head_t: Float[Array, " batch"],
    sigma_min: Level,
    sigma_max: Level,
) -> Terms:
    """The terms of a batch from each sample's two losses, student level and head level."""

    def member(level: Array) -> Array:
        position = jnp.log(level / sigma_min) / jnp.log(sigma_max / sigma_min)
        return jax.nn.one_hot(jnp.clip(jnp.floor(BINS * position), 0, BINS - 1).astype(int), BINS)

    return Terms(
        consistency=consistency.mean(),
        denoising=denoising.mean(),
        consistency_per_bin=consistency @ member(t),
        denoising_per_bin=denoising @ member(head_t),
        count_per_bin=member(t).sum(0),
        head_count_per_bin=member(head_t).sum(0),
    )


@runtime_checkable
class Objective(Protocol):
    """What training needs: a batch in, `(loss, terms)` out; the objective owns the randomness.

    An objective that also has `parts` (the same call, `(Parts, Terms)` out) can have its gradient norms reported
    per part.
    """

    def __call__(self, model: Any, batch: Float[Array, "batch *shape"], step: Step, *, key: Key) -> tuple[Scalar, Any]:
        """The loss of one batch at optimiser update `step`, and anything to log."""
        ...
