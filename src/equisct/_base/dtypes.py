"""Which dtype a number has, said in full: the same with 64-bit arithmetic on, and with promotion made an error."""

import contextlib
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike


def common(a: DTypeLike, b: DTypeLike) -> np.dtype:
    """The dtype that holds the numbers of both; `jnp.promote_types` refuses where promotion is an error."""
    return np.promote_types(np.dtype(a), np.dtype(b))


def float32_or_wider(dtype: DTypeLike) -> np.dtype:
    """Float32, or `dtype` where that is higher: statistics, levels and noise are never in bfloat16."""
    return common(dtype, np.float32) if jnp.issubdtype(dtype, jnp.inexact) else np.dtype(np.float32)


@contextlib.contextmanager
def usual_promotion() -> Iterator[None]:
    """Around another library's code, which relies on JAX's usual promotion of dtypes and ranks."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield
