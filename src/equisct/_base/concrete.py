"""Values that can be checked before tracing: what is concrete, and what is still being traced."""

import numpy as np
from jax.core import Tracer

from .types import HostArray


def concrete(value: object) -> HostArray | None:
    """The value as a host array, or None while JAX is tracing it (then it cannot be checked)."""
    return None if isinstance(value, Tracer) else np.asarray(value)


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
