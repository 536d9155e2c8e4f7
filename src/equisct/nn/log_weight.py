"""A trained weight of a loss by noise level (Karras et al. 2024, EDM2, section 3; Lu & Song 2024, section 4.2)."""

import equinox as eqx
import jax
import jax.numpy as jnp

from .._base.types import Key, Level, Scalar
from .embedding import FourierEmbedding
from .layers import SMALL, Linear


class LogWeight(eqx.Module):
    """The logarithm w of a loss's weight by level, `sigma -> w`: a linear layer on Fourier features of `ln(sigma) / 4`.

    A loss `e^w L - w` is least where `e^w = 1 / E[L]` at every level: after the weight all levels count alike, whatever
    their scale. It starts near w = 0. It belongs to the model (`ConsistencyModel.log_weight`), so that optimiser,
    averages and checkpoints have it.

    Args:
        features: Fourier features, even.
    """

    embedding: FourierEmbedding
    out: Linear

    def __init__(self, features: int = 64, *, key: Key):
        embedding_key, out_key = jax.random.split(key)
        self.embedding = FourierEmbedding(features, scale=1.0, key=embedding_key)
        self.out = Linear(features, 1, gain=SMALL, key=out_key)

    def __call__(self, sigma: Level) -> Scalar:
        with jax.default_matmul_precision("highest"):
            return self.out(self.embedding(jnp.log(jnp.asarray(sigma)) / 4))[0]
