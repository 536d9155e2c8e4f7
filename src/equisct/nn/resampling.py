"""Changing an image's size by two with a short separable filter, zero outside the image.

A filter is its taps: `BOX = (1, 1)` averages and repeats (DDPM++), `FIR = (1, 3, 3, 1)` is NCSN++'s.
Written with pads, slices and sums only, so that gradients are such too.
"""

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float

Taps = tuple[int, ...]

BOX: Taps = (1, 1)
FIR: Taps = (1, 3, 3, 1)


def _pad(x: Array, axis: int, amount: int) -> Array:
    return jnp.pad(x, [(amount, amount) if i == axis else (0, 0) for i in range(x.ndim)])


def _down_axis(x: Array, taps: Taps, axis: int, pad: int) -> Array:
    x = _pad(x, axis, pad)
    size = (x.shape[axis] - len(taps)) // 2 + 1
    every_second = lambda start: lax.slice_in_dim(x, start, start + 2 * size - 1, 2, axis)
    return jnp.sum(jnp.stack([tap / sum(taps) * every_second(k) for k, tap in enumerate(taps)]), 0)


def downsample(x: Float[Array, "h w c"], taps: Taps, *, pad: int | None = None) -> Float[Array, "h2 w2 c"]:
    """Filters and keeps every second pixel; `pad` zeros on each side, by default so many that the size halves."""
    pad = (len(taps) - 2) // 2 if pad is None else pad
    return _down_axis(_down_axis(x, taps, 0, pad), taps, 1, pad)


def _up_axis(x: Array, taps: Taps, axis: int) -> Array:
    if len(taps) == 2:
        return jnp.repeat(x, 2, axis)
    size, padded = x.shape[axis], _pad(x, axis, 1)
    shifted = lambda offset: lax.slice_in_dim(padded, 1 + offset, 1 + offset + size, axis=axis)
    a, b = taps[0] * 2 / sum(taps), taps[1] * 2 / sum(taps)
    even = a * shifted(-1) + b * shifted(0)
    odd = b * shifted(0) + a * shifted(1)
    shape = [2 * n if i == axis else n for i, n in enumerate(x.shape)]
    return jnp.stack([even, odd], axis + 1).reshape(shape)


def upsample(x: Float[Array, "h w c"], taps: Taps) -> Float[Array, "h2 w2 c"]:
    """Doubles the size and filters; the filter's gain makes up for the inserted zeros.

    Raises:
        ValueError: if the filter has neither two nor four taps or is not symmetric.
    """
    if len(taps) not in (2, 4) or taps != taps[::-1]:
        raise ValueError(f"taps: expected a symmetric filter of two or four taps, found {taps}")
    return _up_axis(_up_axis(x, taps, 0), taps, 1)
