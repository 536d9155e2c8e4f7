"""What a torso gives and what torsos and head networks are: callables on one channel-first sample."""

from collections.abc import Callable
from typing import TypeAlias

import equinox as eqx
from jax import Array
from jaxtyping import Float


class TorsoOutput(eqx.Module):
    """A torso's raw output (before preconditioning), its last features and its noise embedding."""

    raw: Float[Array, "*shape"]
    features: Float[Array, "channels *space"]
    embedding: Float[Array, " width"]


Torso: TypeAlias = Callable[..., TorsoOutput]
"""`(x, c_noise, *, key=None) -> TorsoOutput`; `x` is scaled to unit variance, `key` switches dropout on."""

HeadNetwork: TypeAlias = Callable[..., Array]
"""`(x, endpoint, features, embedding, c_noise, *, key=None) -> raw`; `x` and `endpoint` come scaled."""
