"""Zero-shot editing with a consistency function: samples whose known part is given (Song et al. 2023, Algorithm 4).

What is known is a *projection* `x -> x` that puts it in place and leaves the rest: of some pixels (inpainting), of the
mean of each block (super-resolution), of the grey tone of each pixel (colouring), or one of your own.
"""

from collections.abc import Callable
from typing import TypeAlias

import jax.numpy as jnp
import jax.random as jr
from jax import Array
from jaxtyping import Bool, Float

from .._base.check import check_at_least
from .._base.concrete import check_answer
from .._base.defaults import SIGMA_MIN
from .._base.dtypes import float32_or_wider
from .._base.types import Denoiser, Key, Levels, Sample
from .consistency import renoise_to_level
from .interface import in_precision_of, level_array

Projection: TypeAlias = Callable[[Array], Array]

LUMA = (0.2989, 0.5870, 0.1140)
"""Shares of red, green and blue in a grey tone (ITU-R BT.601)."""


def edit(
    endpoint: Denoiser,
    project: Projection,
    z: Sample,
    levels: Levels,
    *,
    key: Key,
    sigma_min: float = SIGMA_MIN,
) -> Sample:
    """Jump to the end, put what is known in its place, add noise, jump again; one evaluation per level.

    Args:
        endpoint: consistency function.
        project: puts what is known in its place, and leaves an answer where it has done so before.
        z: unit Gaussian noise.
        levels: strictly descending, all >= `sigma_min`; some forty from the highest level down are usual.
        key: for the noise at each further level.
        sigma_min: level of what `endpoint` returns.

    Raises:
        ValueError: levels known before tracing are out of order; the projection returns another shape.
    """
    z = jnp.asarray(z)
    grid = jnp.asarray(level_array(levels)).astype(float32_or_wider(z.dtype))
    jump = in_precision_of(z, endpoint)
    put = lambda x: check_answer("project", project(x), x).astype(z.dtype)
    x = put(jump(put(jnp.zeros_like(z)) + grid[0].astype(z.dtype) * z, grid[0]))
    for tau, noise_key in zip(grid[1:], jr.split(key, grid.size - 1), strict=True):
        noise = renoise_to_level(tau, sigma_min).astype(z.dtype) * jr.normal(noise_key, z.shape, z.dtype)
        x = put(jump(x + noise, tau))
    return x


def inpainting(x: Sample, known: Bool[Array, "*shape"]) -> Projection:
    """Keeps the numbers of `x` where `known` is true."""
    return lambda other: jnp.where(known, x, other)


def super_resolution(low: Float[Array, "c h w"]) -> Projection:
    """Keeps the mean of each block of pixels, those of the small image `low`; samples are a whole factor larger.

    Raises:
        ValueError: when it meets an image whose sides are no multiples of those of `low`.
    """

    def project(other: Array) -> Array:
        channels, h, w = low.shape
        if other.ndim != 3 or other.shape[0] != channels or other.shape[1] % h or other.shape[2] % w:
            raise ValueError(f"low: expected a small image of samples {other.shape}, found {low.shape}")
        down, across = other.shape[1] // h, other.shape[2] // w
        blocks = other.reshape(channels, h, down, w, across)
        moved = blocks + (low[:, :, None, :, None] - blocks.mean((2, 4), keepdims=True))
        return moved.reshape(other.shape)

    return project


def colouring(grey: Float[Array, "1 h w"], *, shares: tuple[float, float, float] = LUMA) -> Projection:
    """Keeps the grey tone of each pixel, `shares` of red, green and blue; the colour is free."""
    for share in shares:
        check_at_least("shares", share, 0)
    weights = jnp.asarray(shares)[:, None, None]

    def project(other: Array) -> Array:
        tone = jnp.sum(weights * other, axis=0, keepdims=True)
        return other + (grey - tone) * weights / jnp.sum(jnp.square(weights))

    return project
