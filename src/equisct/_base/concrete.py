"""Values that can be checked before tracing: what is concrete, and what is still being traced."""

from typing import TypeVar

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jaxtyping import Float

from .explain import show
from .types import HostArray, Levels

T = TypeVar("T")


def concrete(value: object) -> HostArray | None:
    """The value as a host array, or None while JAX is tracing it (then it cannot be checked)."""
    return None if isinstance(value, Tracer) else np.asarray(value)


def as_array(levels: Levels) -> Float[Array | np.ndarray, " points"]:
    """Levels as one array: in float64 on the host unless some are being traced or on a device already."""
    if isinstance(levels, Array | np.ndarray):
        return levels
    if any(isinstance(level, Tracer) for level in levels):
        return jnp.stack([jnp.asarray(level, float) for level in levels])
    return np.array(levels, np.float64)


def in_line(values: object) -> str:
    """Numbers in one line of a message: all of a few, the ends of many."""
    return " ".join(np.array2string(np.asarray(values), threshold=8, edgeitems=3, precision=4).split())


def check_array(name: str, value: object, *, positive: bool = False) -> None:
    """Raises `ValueError` unless a concrete array is non-empty, finite and, if asked, > 0 everywhere."""
    found = concrete(value)
    if found is None:
        return
    if found.size == 0:
        raise ValueError(f"{name}: expected at least one number, found shape {found.shape}")
    bad = ~np.isfinite(found) | (positive & (found <= 0))
    if bad.any():
        expected = "finite numbers > 0" if positive else "finite numbers"
        raise ValueError(f"{name}: expected {expected}, found {found[bad].flat[0]}")


def check_answer(name: str, answer: T, asked: Float[Array | np.ndarray, "..."]) -> T:
    """A function's answer; raises `ValueError` unless it has the shape of what the function was asked about.

    For functions that users give: without this a wrong answer fails far from them, or, where it broadcasts, not at all.
    """
    if getattr(answer, "shape", None) != asked.shape:
        raise ValueError(f"{name}: expected to return an array of shape {asked.shape}, found {show(answer)}")
    return answer


def one_number(name: str, answer: object) -> Array:
    """A function's answer as one number; raises `ValueError` for several, or what is no number."""
    number = isinstance(answer, bool | int | float) or isinstance(getattr(answer, "dtype", None), np.dtype)
    if not number or getattr(answer, "shape", ()) != ():
        raise ValueError(f"{name}: expected to return one number, found {show(answer)}")
    return jnp.asarray(answer)
