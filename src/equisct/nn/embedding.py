"""Embeddings of the preconditioned noise level `c_noise = ln(sigma) / 4` (a scalar) into a vector."""

import math
from typing import TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax import Array
from jaxtyping import Float

from .._base.tree import Frozen
from .._base.types import Key, Level
from .layers import Linear, xavier


def _sin_cos(phase: Float[Array, " m"]) -> Float[Array, " 2*m"]:
    return jnp.concatenate([jnp.sin(phase), jnp.cos(phase)])


class FourierEmbedding(eqx.Module):
    """Random Fourier features `[sin(2 pi w u), cos(2 pi w u)]`, `w ~ Normal(0, scale^2)` drawn once and never trained.

    `scale` 16 is NCSN++'s own; improved consistency training uses 0.02 for a calmer dependence on the level.
    """

    frequencies: Frozen

    def __init__(self, features: int, *, scale: float = 16.0, key: Key):
        self.frequencies = Frozen(scale * jr.normal(key, (features // 2,), jnp.float32))

    def __call__(self, c_noise: Level) -> Float[Array, " features"]:
        return _sin_cos(2 * jnp.pi * self.frequencies.value * c_noise)


class PositionalEmbedding(eqx.Module):
    """Sinusoidal features `[sin(w u), cos(w u)]`, `w_k = 10000^(-k / (m - 1))`, k = 0..m-1, m = features / 2."""

    features: int = eqx.field(static=True)

    def __call__(self, c_noise: Level) -> Float[Array, " features"]:
        m = self.features // 2
        frequencies = np.exp(-math.log(10_000) * np.arange(m) / (m - 1))
        u = jnp.asarray(c_noise)
        return _sin_cos(jnp.asarray(frequencies, u.dtype) * u)


Embedding: TypeAlias = FourierEmbedding | PositionalEmbedding


class Mapping(eqx.Module):
    """Noise level -> embedding -> Linear -> SiLU -> Linear: the network's noise embedding before its last SiLU.

    `augment_labels`, where the network takes any, is the matrix that adds them to the embedding; 0 adds nothing.
    """

    embedding: Embedding
    first: Linear
    second: Linear
    augment_labels: Float[Array, "augment_labels features"] | None

    def __init__(self, embedding: Embedding, features: int, width: int, *, augment_labels: int = 0, key: Key):
        first_key, second_key = jr.split(key)
        self.embedding = embedding
        self.first = Linear(features, width, key=first_key)
        self.second = Linear(width, width, key=second_key)
        labels_key = jr.fold_in(key, 2)
        self.augment_labels = xavier((augment_labels, features), 1.0, key=labels_key) if augment_labels else None

    def __call__(
        self, c_noise: Level, augment_labels: Float[Array, " augment_labels"] | None = None
    ) -> Float[Array, " width"]:
        embedded = self.embedding(c_noise)
        if augment_labels is not None:
            if self.augment_labels is None:
                raise ValueError("augment_labels: expected none with a network that was built without, found some")
            embedded = embedded + jnp.matmul(augment_labels, self.augment_labels, precision="highest")
        with jax.default_matmul_precision("highest"):  # elsewhere float32 is rounded to fewer digits, by the device
            return self.second(jax.nn.silu(self.first(embedded)))
