"""What a sample is made under, on its way into a network: embedders of conditions, and where the network adds them.

An embedder is a callable `condition -> vector` with a `size`, that vector's length: one of these, or a network of yours
(an `eqx.Module` with a field or property `size`), which is trained with the rest. A network takes one at construction,
`nn.ncsnpp(..., condition=nn.ClassEmbedding(10))`, and a `condition` at every call.
"""

import math
import warnings
from typing import TYPE_CHECKING, Any, Protocol

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jax import Array
from jaxtyping import Float, PyTree

from .._base.batch import GuidedCondition
from .._base.check import check_at_least, check_fraction, check_positive
from .._base.concrete import check_answer, concrete
from .._base.explain import show
from .._base.types import Key
from .layers import Linear

if TYPE_CHECKING:

    class Embedder(Protocol):
        """What turns a condition into a vector of `size` numbers."""

        @property
        def size(self) -> int: ...

        def __call__(self, condition: PyTree, /) -> Array: ...

else:
    Embedder = Any
"""`condition -> vector`, with `size`, the vector's length; `Conditioning` says what is wrong with anything else."""


class ClassEmbedding(eqx.Module):
    """A class number, 0 to `classes` - 1, as EDM shows it to its networks: one-hot, its 1 scaled to sqrt(classes).

    Raises:
        ValueError: when called with something else than one integer, or with a known one that is no class.
    """

    classes: int = eqx.field(static=True)

    def __check_init__(self) -> None:
        check_at_least("classes", self.classes, 1)

    @property
    def size(self) -> int:
        """One number for each class."""
        return self.classes

    def __call__(self, condition: PyTree) -> Float[Array, " classes"]:
        expected = f"one class number, an integer 0 to {self.classes - 1}"
        if not _is_integer(condition):
            raise ValueError(f"condition: expected {expected}, found {show(condition)}")
        found = concrete(condition)
        if found is not None and not 0 <= found < self.classes:
            raise ValueError(f"condition: expected {expected}, found {found}")
        return math.sqrt(self.classes) * jax.nn.one_hot(jnp.asarray(condition), self.classes, dtype=jnp.float32)


def _is_integer(condition: PyTree) -> bool:
    if isinstance(condition, int):
        return not isinstance(condition, bool)
    return getattr(condition, "shape", None) == () and jnp.issubdtype(condition.dtype, jnp.integer)


class VectorEmbedding(eqx.Module):
    """A vector of `size` numbers, as it is: a condition of about unit variance, which the network's layers embed.

    Raises:
        ValueError: when called with anything else.
    """

    size: int = eqx.field(static=True)

    def __check_init__(self) -> None:
        check_at_least("size", self.size, 1)

    def __call__(self, condition: PyTree) -> Float[Array, " size"]:
        shape = getattr(condition, "shape", None)
        if shape != (self.size,) or not jnp.issubdtype(condition.dtype, jnp.floating):
            raise ValueError(f"condition: expected a float array of shape ({self.size},), found {show(condition)}")
        return jnp.asarray(condition)


class GuidanceEmbedding(eqx.Module):
    """A `GuidedCondition`: the vector of its condition by another embedder, and the logarithm of its scale.

    A scale of 0 is no condition: all zeros, as where a condition is dropped. A condition without a scale has scale 1.
    Warns of a known scale outside the range that the network is trained for.

    Args:
        embedder: of the condition.
        low: least scale in training, > 0.
        high: greatest scale in training.
    """

    embedder: Embedder
    low: float = eqx.field(static=True, default=1.0)
    high: float = eqx.field(static=True, default=4.0)

    def __check_init__(self) -> None:
        check_range(self.low, self.high)

    @property
    def size(self) -> int:
        """That of the other embedder, and one for the scale."""
        return self.embedder.size + 1

    def __call__(self, condition: PyTree) -> Float[Array, " size"]:
        told = condition if isinstance(condition, GuidedCondition) else GuidedCondition(condition, 1.0)
        scale, found = jnp.asarray(told.scale, jnp.float32), concrete(told.scale)
        if found is not None and found != 0 and not self.low <= found <= self.high:
            expected = f"0 or a number in [{self.low:g}, {self.high:g}], which the network is trained for"
            warnings.warn(f"scale: expected {expected}, found {found:g}", stacklevel=2)
        guides = scale > 0
        vector = jnp.append(self.embedder(told.condition), jnp.log(jnp.where(guides, scale, 1)))
        return jnp.where(guides, vector, 0)


def check_range(low: float, high: float) -> None:
    """Raises `ValueError` unless 0 < low <= high, both finite."""
    check_positive("low", low)
    check_at_least("high", high, low)


class Conditioning(eqx.Module):
    """A condition's vector and its linear image, which a network adds to its noise embedding (Karras et al. 2022).

    The bias of that map is the *null*, learned, which stands for no condition: where none is given, and while training
    in a share `dropout` of the samples, drawn by their `key` (classifier-free guidance; Ho & Salimans 2022).
    """

    embedder: Embedder
    linear: Linear
    dropout: float = eqx.field(static=True)

    def __init__(self, embedder: Embedder, width: int, *, dropout: float = 0.0, key: Key):
        size = getattr(embedder, "size", None)
        if not isinstance(size, int) or not callable(embedder):
            raise TypeError(
                f"condition: expected an embedder, a callable with a number `size`, found {show(embedder)}; for "
                "classes nn.ClassEmbedding, for vectors nn.VectorEmbedding"
            )
        check_fraction("condition_dropout", dropout)
        self.embedder, self.dropout = embedder, dropout
        self.linear = Linear(size, width, key=key)

    def vector(self, condition: PyTree, *, key: Key | None = None) -> Float[Array, " size"]:
        """The condition's vector; zeros for none, and for one that is dropped.

        Raises:
            ValueError: if the embedder returns another size than it says.
        """
        size = self.embedder.size
        if condition is None:
            return jnp.zeros(size, jnp.float32)
        asked: Float[Array, " size"] = jnp.zeros(size, jnp.float32)
        vector = check_answer("condition", self.embedder(condition), asked).astype(jnp.float32)
        if key is None or self.dropout == 0:
            return vector
        return jnp.where(jr.bernoulli(jr.fold_in(key, _DROPPED), self.dropout), 0, vector)

    def __call__(self, vector: Float[Array, " size"]) -> Float[Array, " width"]:
        with jax.default_matmul_precision("highest"):
            return self.linear(vector)


_DROPPED = 0x5C0D
"""Told to a network's key, which the other draws of that network split."""
