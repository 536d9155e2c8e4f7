"""Hypothesis strategies of the suite: numbers exactly representable in float32, small arrays of few shapes.

Few shapes, because JAX compiles each operation once per shape.
"""

from typing import Any

import hypothesis.extra.numpy as hnp
import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st
from jax import Array


def untyped(value: Any) -> Any:
    """The value, its type hidden from pyright: for calls that are wrong on purpose."""
    return value


SIGMA_MIN = float(np.float32(0.002))
SIGMA_MAX = 80.0


def levels(least: float = SIGMA_MIN, most: float = SIGMA_MAX) -> st.SearchStrategy[float]:
    """Noise levels, as Python floats that float32 holds exactly."""
    return st.floats(least, most, width=32)


def level_pairs() -> st.SearchStrategy[tuple[float, float]]:
    """Levels (t, r) with t > r, not closer than float32 resolves to three digits."""
    return (
        st.tuples(levels(), levels()).map(lambda two: (max(two), min(two))).filter(lambda two: two[0] > 1.001 * two[1])
    )


def settings(least: float, most: float) -> st.SearchStrategy[float]:
    """Positive settings between two powers of 2."""
    return st.floats(least, most, width=32, allow_subnormal=False)


def host_samples(shape: tuple[int, ...] = (3,), bound: float = 8.0) -> st.SearchStrategy[np.ndarray]:
    """Float32 NumPy arrays with elements in [-bound, bound] that are 0 or at least 2^-20."""
    magnitudes = st.one_of(st.just(0.0), st.floats(2**-20, bound, width=32))
    elements = st.tuples(magnitudes, st.sampled_from([-1.0, 1.0])).map(lambda pair: pair[0] * pair[1])
    return hnp.arrays(np.float32, shape, elements=elements)


def samples(shape: tuple[int, ...] = (3,), bound: float = 8.0) -> st.SearchStrategy[Array]:
    """`host_samples` as JAX arrays."""
    return host_samples(shape, bound).map(jnp.asarray)


def keys() -> st.SearchStrategy[Array]:
    """Typed JAX keys."""
    return st.integers(0, 2**31 - 1).map(jax.random.key)
