"""How much of the noise of training a data set can take away by itself: the samples behind its posterior mean."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from .._base.types import Key
from ..diffusion import perturb, pf_drift
from ..oracle import Empirical
from ._points import over_levels


class Support(eqx.Module):
    """What stands behind a data set's posterior mean `E[x | x_t]` at each level, means over its noised samples.

    Where `effective_samples` (`1 / sum posterior^2`) is near 1 the mean is the sample itself: the velocity under it is
    the noise of that sample, nothing is gained, and a network that follows it learns the training set. `removable` is
    the share of the noise's variance that the mean takes away: `E |z - (x_t - mean) / sigma|^2 / size`, from 0 to 1.
    """

    levels: Float[Array, " levels"]
    effective_samples: Float[Array, " levels"]
    removable: Float[Array, " levels"]


def measure_support(law: Empirical, levels: Float[Array, " levels"], *, samples: int, key: Key) -> Support:
    """The support of a data set's posterior mean, on `samples` of its points with fresh noise at each level.

    Tells before training at which levels `DenoiserVelocity(law.denoise)` is calmer than one sample's noise.

    Args:
        law: the data set.
        levels: noise levels, > 0.
        samples: points drawn, with replacement; one noise each for all levels.
        key: for the points and the noise.

    Raises:
        ValueError: for levels that are not > 0, or no samples.
    """
    return Support(levels, *over_levels(eqx.Partial(_support_at, law), law, levels, samples=samples, key=key))


def _support_at(law: Empirical, x: Array, z: Array, sigma: Array) -> tuple[Array, Array]:
    def one(x: Array, z: Array) -> tuple[Array, Array]:
        x_t = perturb(x, z, sigma)
        velocity = pf_drift(law.denoise(x_t, sigma), x_t, sigma)
        return law.effective_samples(x_t, sigma), jnp.square(z - velocity).mean()

    number, taken = jax.vmap(one)(x, z)
    return number.mean(), taken.mean()
