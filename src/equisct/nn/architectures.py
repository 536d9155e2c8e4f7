"""The U-Nets of the paper's Table 1 as settings of `UNetBody`; exact parameter counts are asserted in the tests.

NCSN++ and DDPM++ as Karras et al. (2022, Table 7) train them on CIFAR-10, and the network of DDPM itself. Each takes an
embedder of conditions, such as `nn.ClassEmbedding(10)`, whose vector enters the noise embedding as EDM's classes do,
and `condition_dropout`, the share of the samples that train as if they had none.
"""

import jax.random as jr

from .._base.types import Key
from .condition import Embedder
from .embedding import FourierEmbedding, Mapping, PositionalEmbedding
from .resampling import BOX, FIR
from .unet import SongUNet, UNetBody


def ncsnpp(
    *,
    channels: int = 3,
    resolution: int = 32,
    width: int = 128,
    multipliers: tuple[int, ...] = (2, 2, 2),
    blocks: int = 4,
    attention: tuple[int, ...] = (16,),
    dropout: float = 0.0,
    fourier_scale: float = 0.02,
    tap_before_norm: bool = False,
    tap_after_silu: bool = False,
    augment_labels: int = 0,
    condition: Embedder | None = None,
    condition_dropout: float = 0.0,
    remat: bool = False,
    key: Key,
) -> SongUNet:
    """NCSN++ (Song et al. 2021): Fourier embedding, [1, 3, 3, 1] resampling, residual input pyramid.

    The defaults with `dropout=0.3` are the paper's consistency model on CIFAR-10: 56,395,523 parameters.
    `fourier_scale` 0.02 is iCT's; NCSN++'s own is 16. `augment_labels` is how many numbers about augmentation enter.
    """
    embedding_key, mapping_key, body_key = jr.split(key, 3)
    embedding = FourierEmbedding(2 * width, scale=fourier_scale, key=embedding_key)
    told = {"augment_labels": augment_labels, "condition": condition, "condition_dropout": condition_dropout}
    mapping = Mapping(embedding, 2 * width, 4 * width, **told, key=mapping_key)
    body = UNetBody(
        channels, channels, resolution=resolution, width=width, multipliers=multipliers, blocks=blocks,
        attention=attention, embedding_width=4 * width, dropout=dropout, taps=FIR, pyramid=True, remat=remat,
        key=body_key,
    )  # fmt: skip
    return SongUNet(mapping, body, tap_before_norm=tap_before_norm, tap_after_silu=tap_after_silu)


def ddpmpp(
    *,
    channels: int = 3,
    channels_in: int | None = None,
    resolution: int = 32,
    width: int = 128,
    multipliers: tuple[int, ...] = (2, 2, 2),
    blocks: int = 4,
    attention: tuple[int, ...] = (16,),
    dropout: float = 0.0,
    tap_before_norm: bool = False,
    tap_after_silu: bool = False,
    augment_labels: int = 0,
    condition: Embedder | None = None,
    condition_dropout: float = 0.0,
    remat: bool = False,
    key: Key,
) -> SongUNet:
    """DDPM++ (Song et al. 2021): positional embedding, averaging and nearest-neighbour resampling, no pyramid.

    The defaults have 55,732,739 parameters. `channels_in` differs from `channels` where more than the image enters;
    `augment_labels` is how many numbers about augmentation do.
    """
    mapping_key, body_key = jr.split(key)
    told = {"augment_labels": augment_labels, "condition": condition, "condition_dropout": condition_dropout}
    mapping = Mapping(PositionalEmbedding(width), width, 4 * width, **told, key=mapping_key)
    body = UNetBody(
        channels_in or channels, channels, resolution=resolution, width=width, multipliers=multipliers, blocks=blocks,
        attention=attention, embedding_width=4 * width, dropout=dropout, taps=BOX, pyramid=False, remat=remat,
        key=body_key,
    )  # fmt: skip
    return SongUNet(mapping, body, tap_before_norm=tap_before_norm, tap_after_silu=tap_after_silu)


def ddpm(
    *,
    channels: int = 3,
    resolution: int = 32,
    width: int = 128,
    multipliers: tuple[int, ...] = (1, 2, 2, 2),
    blocks: int = 2,
    attention: tuple[int, ...] = (16,),
    dropout: float = 0.0,
    tap_before_norm: bool = False,
    tap_after_silu: bool = False,
    condition: Embedder | None = None,
    condition_dropout: float = 0.0,
    remat: bool = False,
    key: Key,
) -> SongUNet:
    """The network of DDPM (Ho et al. 2020): sums not rescaled, attention after every block at 16x16, plain resampling.

    The defaults with `dropout=0.1` are its network for CIFAR-10: 35,746,307 parameters. Its noise input is the time,
    0 to 999, as `VPPreconditioning` gives it.
    """
    mapping_key, body_key = jr.split(key)
    told = {"condition": condition, "condition_dropout": condition_dropout}
    mapping = Mapping(PositionalEmbedding(width), width, 4 * width, **told, key=mapping_key)
    body = UNetBody(
        channels, channels, resolution=resolution, width=width, multipliers=multipliers, blocks=blocks,
        attention=attention, embedding_width=4 * width, dropout=dropout, taps=BOX, pyramid=False, plain=True,
        remat=remat, key=body_key,
    )  # fmt: skip
    return SongUNet(mapping, body, tap_before_norm=tap_before_norm, tap_after_silu=tap_after_silu)
