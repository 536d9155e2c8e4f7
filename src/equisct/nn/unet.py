"""One U-Net with switches, of which NCSN++, DDPM++ and DDPM's own network are settings (see `architectures`)."""

from collections.abc import Iterator

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jax import Array
from jaxtyping import Float, PyTree

from .._base.check import check_fraction
from .._base.tree import count, in_short
from .._base.types import Key, Level, Sample
from .blocks import SKIP_SCALE, ConvResample, PyramidDown, ResidualBlock
from .embedding import Mapping
from .interface import TorsoOutput, check_axes
from .layers import SMALL, Conv, GroupNorm
from .resampling import Taps


class _Level(eqx.Module):
    """One resolution of the encoder or decoder: an optional resampling block, then residual blocks."""

    resample: ResidualBlock | ConvResample | None
    pyramid: PyramidDown | None
    blocks: tuple[ResidualBlock, ...]


def _keys(key: Key | None) -> Iterator[Key | None]:
    """An endless stream of keys, or of None."""
    while True:
        if key is None:
            yield None
        else:
            key, block_key = jr.split(key)
            yield block_key


def _kept(block: ResidualBlock | ConvResample, h: Array, e: Array, key: Key | None) -> Array:
    return block(h, e, key=key)


_recomputed = eqx.filter_checkpoint(_kept)
"""The same; the backward pass computes the inside of the block again instead of keeping it."""


def _check_sizes(resolution: int, multipliers: tuple[int, ...], blocks: int, width: int) -> None:
    sizes = {"resolution": resolution, "blocks": blocks, "width": width, "multipliers": len(multipliers)}
    for name, value in sizes.items():
        if value < 1:
            raise ValueError(f"{name}: expected at least 1, found {value}")
    divisor = 2 ** (len(multipliers) - 1)
    if resolution % divisor:
        raise ValueError(
            f"resolution: expected a multiple of {divisor} for {len(multipliers)} multipliers, found {resolution}"
        )


class UNetBody(eqx.Module):
    """The U-Net between its entry and its last features, channels last, driven by an activated noise embedding.

    Encoder level l has `blocks` residual blocks of `width * multipliers[l]` channels, decoder levels one more.
    Attention follows every encoder block and the last decoder block at the resolutions named in `attention`,
    and the first bottleneck block. `pyramid` adds NCSN++'s residual input pyramid. `plain` makes it DDPM's: sums are
    not rescaled, attention follows every decoder block too, and single convolutions change the size. `remat` keeps
    only the outputs of the blocks for the backward pass and computes what is inside them again: less memory for about
    a third more time.
    """

    stem: Conv
    encoder: tuple[_Level, ...]
    middle: tuple[ResidualBlock, ResidualBlock]
    decoder: tuple[_Level, ...]
    norm: GroupNorm
    out: Conv
    remat: bool = eqx.field(static=True)

    def __init__(
        self,
        c_in: int,
        c_out: int,
        *,
        resolution: int,
        width: int,
        multipliers: tuple[int, ...],
        blocks: int,
        attention: tuple[int, ...],
        embedding_width: int,
        dropout: float,
        taps: Taps,
        pyramid: bool,
        plain: bool = False,
        remat: bool = False,
        key: Key,
    ):
        _check_sizes(resolution, multipliers, blocks, width)
        check_fraction("dropout", dropout)
        keys = iter(jr.split(key, 4 + len(multipliers) * (2 * blocks + 6)))

        def block(
            c_in: int, c_out: int, *, attention: bool = False, down: bool = False, up: bool = False
        ) -> ResidualBlock:
            return ResidualBlock(
                c_in, c_out, embedding_width,
                attention=attention, dropout=dropout, down=down, up=up, taps=taps, plain=plain,
                key=next(keys),
            )  # fmt: skip

        def resample(channels: int, *, up: bool) -> ResidualBlock | ConvResample:
            if plain:
                return ConvResample(channels, up=up, key=next(keys))
            return block(channels, channels, down=not up, up=up)

        widths = [width * multiplier for multiplier in multipliers]
        sizes = [resolution // 2**level for level in range(len(widths))]
        self.stem = Conv(c_in, width, key=next(keys))
        channels, pyramid_channels, skips = width, c_in, [width]

        encoder = []
        for level, (size, c) in enumerate(zip(sizes, widths, strict=True)):
            down = resample(channels, up=False) if level else None
            step = PyramidDown(pyramid_channels, channels, taps=taps, key=next(keys)) if level and pyramid else None
            skips += [channels] if level else []
            pyramid_channels = channels if level else c_in
            inputs = [channels] + [c] * (blocks - 1)
            encoder.append(_Level(down, step, tuple(block(i, c, attention=size in attention) for i in inputs)))
            skips += [c] * blocks
            channels = c
        self.encoder = tuple(encoder)
        self.middle = (block(channels, channels, attention=True), block(channels, channels))

        decoder = []
        for level, (size, c) in reversed(list(enumerate(zip(sizes, widths, strict=True)))):
            up = resample(channels, up=True) if level < len(widths) - 1 else None
            inputs = [channels + skips.pop()] + [c + skips.pop() for _ in range(blocks)]
            attends = [plain and size in attention] * blocks + [size in attention]
            layers = tuple(block(i, c, attention=a) for i, a in zip(inputs, attends, strict=True))
            decoder.append(_Level(up, None, layers))
            channels = c
        self.decoder = tuple(decoder)
        self.norm = GroupNorm(channels)
        self.out = Conv(channels, c_out, gain=SMALL, key=next(keys))
        self.remat = remat

    def last_features(
        self, x: Float[Array, "h w c_in"], e: Float[Array, " embedding"], *, key: Key | None = None
    ) -> Float[Array, "h w c_last"]:
        """The output of the last residual block."""
        keys = _keys(key)
        e = e.astype(x.dtype)
        run = _recomputed if self.remat else _kept
        h, pyramid = self.stem(x), x
        skips = [h]
        for level in self.encoder:
            if level.resample is not None:
                h = run(level.resample, h, e, next(keys))
                if level.pyramid is not None:
                    h = pyramid = (level.pyramid(pyramid) + h) * SKIP_SCALE
                skips.append(h)
            for block in level.blocks:
                h = run(block, h, e, next(keys))
                skips.append(h)
        for block in self.middle:
            h = run(block, h, e, next(keys))
        for level in self.decoder:
            if level.resample is not None:
                h = run(level.resample, h, e, next(keys))
            for block in level.blocks:
                h = run(block, jnp.concatenate([h, skips.pop()], -1), e, next(keys))
        return h

    def activate(self, features: Float[Array, "h w c_last"]) -> Float[Array, "h w c_last"]:
        """The final norm and SiLU: the input of the output convolution."""
        return jax.nn.silu(self.norm(features))

    def __pdoc__(self, **settings: object) -> object:
        """Printed in one line; its parts print whole, `print(body.encoder)`."""
        return in_short(self, f"{len(self.encoder)} resolutions, {count(self):,} parameters")


class SongUNet(eqx.Module):
    """A whole U-Net on one channel-first image; a torso, or by itself a denoiser's raw network.

    Call it as `(x, c_noise, *, condition=None, augment_labels=None, key=None) -> TorsoOutput`, `x` of shape `(c_in,
    resolution, resolution)` with unit variance, `c_noise = ln(sigma) / 4`, `condition` for the embedder that the
    network was built with. While training, `key` is for dropout, the condition's too, `augment_labels` of an
    augmentation, where the network was built for so many. `features` are the last features after the final norm
    and SiLU (`tap_before_norm`: before them), `embedding` the noise embedding before its last SiLU (`tap_after_silu`:
    after it).

    Raises:
        ValueError: if a size is below 1, the resolution cannot be halved often enough, or dropout is outside [0, 1);
            when called on an image of other channels, or whose sides cannot be halved often enough.
    """

    mapping: Mapping
    body: UNetBody
    tap_before_norm: bool = eqx.field(static=True, default=False, kw_only=True)
    tap_after_silu: bool = eqx.field(static=True, default=False, kw_only=True)

    def __call__(
        self,
        x: Sample,
        c_noise: Level,
        *,
        condition: PyTree = None,
        augment_labels: Float[Array, " augment_labels"] | None = None,
        key: Key | None = None,
    ) -> TorsoOutput:
        self._check_image(x.shape)
        embedding = self.mapping(c_noise, augment_labels, self.mapping.vector(condition, key=key))
        e = jax.nn.silu(embedding)
        last = self.body.last_features(x.transpose(1, 2, 0), e, key=key)
        activated = self.body.activate(last)
        features = last if self.tap_before_norm else activated
        return TorsoOutput(
            raw=self.body.out(activated).transpose(2, 0, 1),
            features=features.transpose(2, 0, 1),
            embedding=e if self.tap_after_silu else embedding,
        )

    def _check_image(self, shape: tuple[int, ...]) -> None:
        channels, divisor = self.body.stem.weight.shape[2], 2 ** (len(self.body.encoder) - 1)
        check_axes(shape, (channels, "h", "w"))
        if shape[0] != channels or shape[1] % divisor or shape[2] % divisor:
            sides = f", h and w multiples of {divisor}" if divisor > 1 else ""
            turned = shape[2] == channels != shape[0]
            step = "; channels come first here: jax.numpy.moveaxis(x, -1, -3)" if turned else ""
            raise ValueError(f"x: expected shape ({channels}, h, w){sides}, found {shape}{step}")
