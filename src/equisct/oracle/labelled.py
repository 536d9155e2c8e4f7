"""A finite data set with a class for each sample, as a conditional distribution."""

import equinox as eqx
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int

from .._base.concrete import concrete
from .._base.types import Level
from .empirical import Empirical


class Labelled(eqx.Module):
    """A data set by class: the posterior mean over the samples of one class, or over all.

    `DenoiserVelocity(Labelled(law, labels).denoise)` is the exact velocity of training under classes. A continuous
    condition has no such law: no two samples share a value of it, so the mean would be the sample itself, its noise.

    Args:
        law: the samples.
        labels: the class of each, integers.

    Raises:
        ValueError: if there is not one label for each sample.
    """

    law: Empirical
    labels: Int[Array, "n"]

    def __check_init__(self) -> None:
        expected = (len(self.law.points),)
        if self.labels.shape != expected:
            raise ValueError(f"labels: expected shape {expected}, one for each point, found {self.labels.shape}")

    @property
    def points(self) -> Float[Array, "n *shape"]:
        """The samples of all classes."""
        return self.law.points

    def denoise(
        self, x_t: Float[Array, "*shape"], sigma: Level, *, condition: Int[Array, ""] | int | None = None
    ) -> Float[Array, "*shape"]:
        """The posterior mean over the samples of a class; without one, over all.

        Args:
            x_t: one noised sample.
            sigma: its level.
            condition: the class; one that no sample has gives nan where it is not known before tracing.

        Raises:
            ValueError: if a class known before tracing has no sample.
        """
        if condition is None:
            return self.law.denoise(x_t, sigma)
        asked, known = concrete(condition), concrete(self.labels)
        if asked is not None and known is not None and not (known == asked).any():
            raise ValueError(f"condition: expected the class of a sample, found {asked}")
        return self.law.denoise(x_t, sigma, mask=self.labels == jnp.asarray(condition))
