"""The 2-D convolution of every network: stride 1, channels last, one primitive that is bilinear by construction.

Why not `jax.lax.conv_general_dilated` itself: XLA on a CPU runs a convolution 10 to 60 times slower inside
`scan`, `while` and `cond` unless it reads `NHWC`/`HWIO`, and JAX's own gradient of a convolution does not. Here
both transposes are again convolutions of that form, so samplers, ODE solvers and accumulation loops run at full speed.
A primitive (and not `jax.custom_vjp`) keeps forward mode, and lets `vmap` merge the batch *before* the gradient
with respect to the weights is formed. `benchmarks/convolution.py` has the figures.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Float

Padding = tuple[tuple[int, int], tuple[int, int]]

_conv_p = Primitive("equisct_conv")
_config: Any = jax.config


def _lax_conv(x: Array, w: Array, *, padding: Padding, precision: str | None = None) -> Array:
    dimensions = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, w, (1, 1), padding, dimension_numbers=dimensions, precision=precision)


def _transpose_x(g: Array, x: object, w: Array, *, padding: Padding, precision: str | None) -> Array:
    full = tuple((k - 1 - low, k - 1 - high) for k, (low, high) in zip(w.shape[:2], padding, strict=True))
    return _conv_p.bind(g, jnp.flip(w, (0, 1)).swapaxes(2, 3), padding=full, precision=precision)


def _transpose_w(g: Array, x: Array, w: object, *, padding: Padding, precision: str | None) -> Array:
    dw = _conv_p.bind(x.transpose(3, 1, 2, 0), g.transpose(1, 2, 0, 3), padding=padding, precision=precision)
    return dw.transpose(1, 2, 0, 3)


def _batch(
    args: tuple[Array, Array], axes: tuple[int | None, int | None], *, padding: Padding, precision: str | None
) -> tuple[Array, int]:
    (x, w), (x_axis, w_axis) = args, axes
    if w_axis is None and x_axis is not None:
        x = jnp.moveaxis(x, x_axis, 0)
        y = _conv_p.bind(x.reshape(-1, *x.shape[2:]), w, padding=padding, precision=precision)
        return y.reshape(*x.shape[:2], *y.shape[1:]), 0
    return jax.vmap(partial(_lax_conv, padding=padding, precision=precision), in_axes=axes)(x, w), 0


def _shape(x: ShapedArray, w: ShapedArray, *, padding: Padding, precision: str | None) -> ShapedArray:
    y = jax.eval_shape(partial(_lax_conv, padding=padding, precision=precision), x, w)
    return ShapedArray(y.shape, y.dtype)


_conv_p.def_impl(jax.jit(_lax_conv, static_argnames=("padding", "precision")))
_conv_p.def_abstract_eval(_shape)
mlir.register_lowering(_conv_p, mlir.lower_fun(_lax_conv, multiple_results=False))
ad.defbilinear(_conv_p, _transpose_x, _transpose_w)
batching.primitive_batchers[_conv_p] = _batch


def conv2d(
    x: Float[Array, "h w c_in"], weight: Float[Array, "kh kw c_in c_out"], *, padding: int
) -> Float[Array, "h_out w_out c_out"]:
    """One sample's cross-correlation with zero padding on all four sides, stride 1.

    `h_out = h + 2 padding - kh + 1`. Differentiable in both arguments, in both modes, any number of times. Its
    precision is that of JAX's matrix products (`jax.default_matmul_precision`).
    """
    precision = _config.jax_default_matmul_precision  # as it is here, not where the program is compiled
    return _conv_p.bind(x[None], weight, padding=((padding, padding), (padding, padding)), precision=precision)[0]
