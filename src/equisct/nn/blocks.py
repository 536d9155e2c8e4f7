"""The blocks of the U-Nets, on one channels-last sample: residual block, attention, input-pyramid step."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jax import Array
from jaxtyping import Float

from .._base.types import Key
from .layers import SMALL, Conv, GroupNorm, Linear, add_to_channels, at_least_float32, dropout
from .resampling import BOX, Taps, downsample, upsample

SKIP_SCALE = math.sqrt(0.5)
"""Sums of two branches are scaled so that the variance stays; in a `plain` block (DDPM's) they are not."""


class Attention(eqx.Module):
    """Single-head self-attention over all pixels: `(x + proj(attend(norm(x)))) / sqrt 2`; `plain`: not divided."""

    norm: GroupNorm
    qkv: Linear
    project: Linear
    plain: bool = eqx.field(static=True)

    def __init__(self, channels: int, *, plain: bool = False, key: Key):
        qkv_key, project_key = jr.split(key)
        self.norm = GroupNorm(channels)
        gain = math.sqrt(2) if plain else math.sqrt(0.2)  # sqrt 2: Xavier's for each of the three, as in DDPM
        self.qkv = Linear(channels, 3 * channels, gain=gain, key=qkv_key)
        self.project = Linear(channels, channels, gain=SMALL, key=project_key)
        self.plain = plain

    def __call__(self, x: Float[Array, "h w c"]) -> Float[Array, "h w c"]:
        channels = x.shape[-1]
        q, k, v = jnp.split(self.qkv(self.norm(x)).reshape(-1, 3 * channels), 3, axis=-1)
        weights = jax.nn.softmax(at_least_float32(q @ k.T / math.sqrt(channels)), axis=-1).astype(v.dtype)
        y = x + self.project(weights @ v).reshape(x.shape)
        return y if self.plain else y * SKIP_SCALE


class ResidualBlock(eqx.Module):
    """The residual block of NCSN++ and DDPM++ (Song et al. 2021; Karras et al. 2022, Table 7).

    `h = conv1(dropout(silu(norm1(conv0(resample(silu(norm0(x)))) + affine(e)))))`, output `(h + skip(x)) / sqrt 2`
    (`plain`: not divided), then attention if any. `e` is the activated noise embedding, added, not scaling. The skip is
    a 1x1 convolution where channels or size change.
    """

    norm0: GroupNorm
    conv0: Conv
    affine: Linear
    norm1: GroupNorm
    conv1: Conv
    skip: Linear | None
    attention: Attention | None
    dropout: float
    down: bool = eqx.field(static=True)
    up: bool = eqx.field(static=True)
    taps: Taps = eqx.field(static=True)
    plain: bool = eqx.field(static=True)

    def __init__(
        self,
        c_in: int,
        c_out: int,
        embedding_width: int,
        *,
        attention: bool = False,
        dropout: float = 0.0,
        down: bool = False,
        up: bool = False,
        taps: Taps = BOX,
        plain: bool = False,
        key: Key,
    ):
        conv0_key, affine_key, conv1_key, skip_key, attention_key = jr.split(key, 5)
        self.norm0 = GroupNorm(c_in)
        self.conv0 = Conv(c_in, c_out, key=conv0_key)
        self.affine = Linear(embedding_width, c_out, key=affine_key)
        self.norm1 = GroupNorm(c_out)
        self.conv1 = Conv(c_out, c_out, gain=SMALL, key=conv1_key)
        self.skip = Linear(c_in, c_out, key=skip_key) if c_in != c_out or down or up else None
        self.attention = Attention(c_out, plain=plain, key=attention_key) if attention else None
        self.dropout, self.down, self.up, self.taps, self.plain = dropout, down, up, taps, plain

    def _resample(self, x: Float[Array, "h w c"]) -> Float[Array, "h2 w2 c"]:
        if self.down:
            return downsample(x, self.taps)
        return upsample(x, self.taps) if self.up else x

    def __call__(
        self, x: Float[Array, "h w c_in"], e: Float[Array, " embedding"], *, key: Key | None = None
    ) -> Float[Array, "h2 w2 c_out"]:
        h = add_to_channels(self.conv0(self._resample(jax.nn.silu(self.norm0(x)))), self.affine(e))
        h = self.conv1(dropout(jax.nn.silu(self.norm1(h)), self.dropout, key=key))
        x = self._resample(x)
        y = h + (x if self.skip is None else self.skip(x))
        y = y if self.plain else y * SKIP_SCALE
        return y if self.attention is None else self.attention(y)


class PyramidDown(eqx.Module):
    """One step of NCSN++'s residual input pyramid: a 3x3 convolution fused with filtered down-sampling.

    Zero padding is added once, before the convolution, and shared by the filter: padding in two stages gives
    other borders.
    """

    conv: Conv
    taps: Taps = eqx.field(static=True)

    def __init__(self, c_in: int, c_out: int, *, taps: Taps, key: Key):
        self.conv = Conv(c_in, c_out, padding=len(taps) // 2, key=key)
        self.taps = taps

    def __call__(self, x: Float[Array, "h w c_in"]) -> Float[Array, "h2 w2 c_out"]:
        # The filter's taps sum to one and no zeros are added after the bias, so adding the bias first is the same.
        return downsample(self.conv(x), self.taps, pad=0)


class ConvResample(eqx.Module):
    """DDPM's change of size: a 3x3 convolution of stride 2, or nearest-neighbour doubling and then a 3x3 convolution.

    Takes and ignores the noise embedding and key that the residual blocks of other networks take in its place.
    """

    conv: Conv
    up: bool = eqx.field(static=True)

    def __init__(self, channels: int, *, up: bool, key: Key):
        self.conv, self.up = Conv(channels, channels, key=key), up

    def __call__(
        self, x: Float[Array, "h w c"], e: Float[Array, " embedding"], *, key: Key | None = None
    ) -> Float[Array, "h2 w2 c"]:
        del e, key
        if self.up:
            return self.conv(upsample(x, BOX))
        return self.conv(x)[1::2, 1::2]  # padding below and right alone, as in TensorFlow's stride 2
