"""Embeddings of the preconditioned noise level `c_noise = ln(sigma) / 4` (a scalar) into a vector."""

import math
from typing import TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax import Array
from jaxtyping import Float, PyTree

from .._base.explain import show
from .._base.tree import Frozen
from .._base.types import Key, Level
from .condition import Conditioning, Embedder
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

    What else a network is told is added to the embedding: `augment_labels` by a matrix (0 adds nothing), a condition by
    a `Conditioning`, each where the network takes any.
    """

    embedding: Embedding
    first: Linear
    second: Linear
    augment_labels: Float[Array, "augment_labels features"] | None
    conditioning: Conditioning | None

    def __init__(
        self,
        embedding: Embedding,
        features: int,
        width: int,
        *,
        augment_labels: int = 0,
        condition: Embedder | None = None,
        condition_dropout: float = 0.0,
        key: Key,
    ):
        if condition is None and condition_dropout:
            raise ValueError(f"condition_dropout: expected 0 without an embedder, found {condition_dropout}")
        first_key, second_key = jr.split(key)
        self.embedding = embedding
        self.first = Linear(features, width, key=first_key)
        self.second = Linear(width, width, key=second_key)
        labels_key, condition_key = jr.fold_in(key, 2), jr.fold_in(key, 3)
        self.augment_labels = xavier((augment_labels, features), 1.0, key=labels_key) if augment_labels else None
        self.conditioning = None
        if condition is not None:
            self.conditioning = Conditioning(condition, features, dropout=condition_dropout, key=condition_key)

    @property
    def condition_size(self) -> int:
        """Length of a condition's vector; 0 where the network takes none."""
        return 0 if self.conditioning is None else self.conditioning.embedder.size

    def vector(self, condition: PyTree, *, key: Key | None = None) -> Float[Array, " size"] | None:
        """A condition's vector (`Conditioning.vector`); None where the network takes none.

        Raises:
            ValueError: for a condition where the network takes none.
        """
        if self.conditioning is not None:
            return self.conditioning.vector(condition, key=key)
        if condition is not None:
            raise ValueError(
                f"condition: expected none with a network that was built without, found {show(condition)}; build it "
                "with condition=nn.ClassEmbedding(classes), say"
            )
        return None

    def __call__(
        self,
        c_noise: Level,
        augment_labels: Float[Array, " augment_labels"] | None = None,
        vector: Float[Array, " size"] | None = None,
    ) -> Float[Array, " width"]:
        embedded = self.embedding(c_noise)
        if vector is not None and self.conditioning is not None:
            embedded = embedded + self.conditioning(vector)
        if augment_labels is not None:
            if self.augment_labels is None:
                raise ValueError("augment_labels: expected none with a network that was built without, found some")
            embedded = embedded + jnp.matmul(augment_labels, self.augment_labels, precision="highest")
        with jax.default_matmul_precision("highest"):  # elsewhere float32 is rounded to fewer digits, by the device
            return self.second(jax.nn.silu(self.first(embedded)))
