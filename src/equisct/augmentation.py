"""EDM's augmentation of images: flips and one affine map, with numbers that tell the network what was done.

Karras et al. (2022, appendix F.2), after Karras et al. (2020): each transformation is drawn by itself. A network that
is told by labels which were, and is told of none when it samples, makes no augmented images.

An affine map is applied at twice the resolution, between an orthogonal wavelet's low pass (sym6) and its adjoint: a
map that moves whole pixels changes no number. Beyond its border the image is mirrored.
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax import Array
from jax.scipy.ndimage import map_coordinates
from jaxtyping import Float

from ._base.check import check_fraction, check_positive
from ._base.types import Key

AUGMENT_LABELS = 9
"""Numbers that tell what was done; all 0 for an image as it is."""

SYM6 = np.array(
    [
        0.015404109327027373, 0.0034907120842174702, -0.11799011114819057, -0.048311742585633, 0.4910559419267466,
        0.787641141030194, 0.3379294217276218, -0.07263752278646252, -0.021060292512300564, 0.04472490177066578,
        0.0017677118642428036, -0.007800708325034148,
    ]
)  # fmt: skip
"""The low pass of Daubechies' least asymmetric wavelet with six vanishing moments (Daubechies 1992, table 6.3)."""

BEFORE, MARGIN = 5, 6
"""Fine pixels that a coarse pixel reaches to the left of its first, and those kept around the fine image."""

CENTRE = float(np.arange(len(SYM6)) @ SYM6 / SYM6.sum()) - BEFORE
"""Where the middle of coarse pixel k is, in fine pixels from 2 k: the low pass is not quite symmetric."""


class Augmentation(eqx.Module):
    """A random map of one image (c, h, w): `(x, *, key) -> (augmented, augment_labels)`.

    Mirrored left to right with probability 1/2; and each with `probability`: upside down with 1/2, scaled by
    `2^(spread n)`, turned by any angle, stretched by `2^(spread n)` along its width or, half of the time, along any
    direction, moved by `shift n` of its size; all n are unit Gaussians. The labels are, in this order: left to right
    and upside down (0 or 1), the scale's n, the turn's cosine less 1 and its sine, the stretch's n times the
    direction's cosine and sine (as published: they do not tell a stretch from as much of the opposite), the moves' n.

    The laws are those of the authors' code. Two conventions are not: there angles run from right to up, here from
    right to down, which changes the sign of labels 5 and 7 (the sines); and there the point that scale, turn and
    stretch leave in place is 0.049 pixels left of and above the middle, here the middle. Neither matters to a network
    that is trained here; to go on training one of theirs that was told labels, ask for `published`.

    Args:
        probability: of each but the first, in [0, 1); 0.12 in EDM on CIFAR-10.
        spread: standard deviation of the binary logarithm of scale and stretch, > 0.
        shift: that of the moves, in sizes of the image, > 0.
        published: the two conventions of the authors' code.
    """

    probability: float = 0.12
    spread: float = 0.2
    shift: float = 0.125
    published: bool = eqx.field(static=True, default=False)

    def __check_init__(self) -> None:
        check_fraction("probability", self.probability)
        check_positive("spread", self.spread)
        check_positive("shift", self.shift)

    def __call__(self, x: Float[Array, "c h w"], *, key: Key) -> tuple[Float[Array, "c h w"], Float[Array, " labels"]]:
        chance_key, number_key, angle_key, flip_key = jr.split(key, 4)
        does = jr.bernoulli(chance_key, self.probability, (5,)).astype(x.dtype)
        n = jr.normal(number_key, (4,), x.dtype)
        turn, along = jr.uniform(angle_key, (2,), x.dtype, -math.pi, math.pi)
        mirror, over, any_way = jr.bernoulli(flip_key, 0.5, (3,)).astype(x.dtype)
        over, along = over * does[0], any_way * along
        scale, turn, stretch, moves = does[1] * n[0], does[2] * turn, does[3] * n[1], does[4] * n[2:]
        x = jnp.where(mirror > 0, x[..., ::-1], x)
        x = jnp.where(over > 0, x[:, ::-1], x)
        sizes = jnp.array([x.shape[2], x.shape[1]], x.dtype)
        stretched = jnp.matmul(_stretch(self.spread * stretch, along), _turn(turn), precision="highest")
        linear = stretched * jnp.exp2(self.spread * scale)
        labels = jnp.stack(
            [mirror, over, scale, jnp.cos(turn) - 1, jnp.sin(turn), stretch * jnp.cos(along), stretch * jnp.sin(along)]
        )
        if self.published:
            labels = labels.at[jnp.array([4, 6])].multiply(-1)  # the sines
        centre = 0.0 if self.published else CENTRE
        x = jnp.where(does[1:].any(), affine(x, linear, self.shift * moves * sizes, centre), x)
        return x, jnp.concatenate([labels, moves])


def _turn(angle: Array) -> Float[Array, "2 2"]:
    c, s = jnp.cos(angle), jnp.sin(angle)
    return jnp.stack([jnp.stack([c, -s]), jnp.stack([s, c])])


def _stretch(exponent: Array, along: Array) -> Float[Array, "2 2"]:
    """By `2^exponent` along a direction, and as much less across."""
    return jnp.matmul(
        _turn(along) * jnp.exp2(jnp.stack([exponent, -exponent]))[None], _turn(-along), precision="highest"
    )


def affine(
    x: Float[Array, "c h w"], linear: Float[Array, "2 2"], move: Float[Array, " 2"], centre: float = CENTRE
) -> Float[Array, "c h w"]:
    """The image under `p -> linear p + move`, points `(right, down)` from its middle in pixels; mirrored outside.

    Args:
        x: an image of at least two pixels to a side.
        linear: the matrix, invertible.
        move: in pixels.
        centre: how far right of and below the first fine pixel of the middle the point that `linear` leaves in place
            is, in fine pixels; by default it is the middle of the image.
    """
    _, h, w = x.shape
    fine = x
    for axis in (1, 2):
        fine = _up(_mirrored(fine, axis), axis)
    # Where the fine pixels of the result are, from the middle of the image.
    down, right = (jnp.arange(-MARGIN, 2 * n + MARGIN, dtype=x.dtype) - (n - 1 + centre) for n in (h, w))
    points = jnp.stack(jnp.broadcast_arrays(right[None, :], down[:, None]))
    back = jnp.linalg.inv(linear)
    source = jnp.einsum("ij,jhw->ihw", back, points - 2 * move[:, None, None], precision="highest")
    places = [source[1] + h - 1 + centre, source[0] + w - 1 + centre]
    moved = jax.vmap(lambda channel: map_coordinates(channel, places, order=1, mode="wrap"))(fine)
    for axis in (1, 2):
        moved = _down(moved, axis)
    return moved


def _mirrored(x: Float[Array, "..."], axis: int) -> Float[Array, "..."]:
    """One period of the image and its mirror images, which goes on for ever: 2 n - 2 pixels."""
    inner = jax.lax.slice_in_dim(x, 1, x.shape[axis] - 1, axis=axis)
    return jnp.concatenate([x, jnp.flip(inner, axis)], axis)


def _up(x: Float[Array, "..."], axis: int) -> Float[Array, "..."]:
    """Twice as many pixels of a period: fine pixel i holds `sum_k sqrt(2) f[i - 2 k + BEFORE] x[k]`."""
    zeros = jnp.zeros_like(x)
    spread = jnp.stack([x, zeros], axis + 1).reshape([2 * n if i == axis else n for i, n in enumerate(x.shape)])
    parts = [value * jnp.roll(spread, tap - BEFORE, axis) for tap, value in enumerate((math.sqrt(2) * SYM6).tolist())]
    return jnp.stack(parts).sum(0)


def _down(x: Float[Array, "..."], axis: int) -> Float[Array, "..."]:
    """Half as many, less the margin: the adjoint of `_up`, divided by 2."""
    x = jnp.moveaxis(x, axis, -1)
    n = (x.shape[-1] - 2 * MARGIN) // 2
    parts = [
        value * x[..., MARGIN + tap - BEFORE : MARGIN + tap - BEFORE + 2 * n : 2]
        for tap, value in enumerate((SYM6 / math.sqrt(2)).tolist())
    ]
    return jnp.moveaxis(jnp.stack(parts).sum(0), -1, axis)
