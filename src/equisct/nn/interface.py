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


def check_axes(shape: tuple[int, ...], expected: tuple[int | str, ...]) -> None:
    """Raises `TypeError` unless a network is given one sample, with as many axes as it expects."""
    if len(shape) == len(expected):
        return
    axes = f"({', '.join(map(str, expected))}{',' * (len(expected) == 1)})"
    batch = f"an objective takes a batch of samples {axes}"
    step = "use jax.vmap for a batch" if len(shape) > len(expected) else batch
    raise TypeError(f"x_t: expected one sample {axes}, found {shape}; {step}")


Torso: TypeAlias = Callable[..., TorsoOutput]
"""`(x, c_noise, *, key=None) -> TorsoOutput`; `x` is scaled to unit variance, `key` switches dropout on."""

HeadNetwork: TypeAlias = Callable[..., Array]
"""`(x, endpoint, features, embedding, c_noise, *, key=None) -> raw`; `x` and `endpoint` come scaled."""
