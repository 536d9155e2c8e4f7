"""From the settings of `torso` and `head` to their networks, for samples of a shape `(c, h, w)` or `(d,)`."""

from typing import Any

from ..._base.types import Key
from ...nn import EmbeddingEntry, HeadMLP, HeadUNet, TorsoMLP, ddpm, ddpmpp, ncsnpp
from ..settings.config import Config, Head, Torso


def build_torso(config: Config, shape: tuple[int, ...], *, augment_labels: int = 0, key: Key) -> Any:
    """The network of a consistency model or a denoiser, which may take `augment_labels` numbers.

    Raises:
        ValueError: for settings that the network cannot have; names them.
    """
    torso = config.torso
    if len(shape) == 1:
        return TorsoMLP(shape[0], torso.width, depth=torso.blocks, fourier_scale=torso.fourier_scale, key=key)
    make = {"ncsnpp": ncsnpp, "ddpmpp": ddpmpp, "ddpm": ddpm}[torso.architecture]
    if augment_labels and torso.architecture == "ddpm":
        raise ValueError("method.augment: expected 0 with torso.architecture ddpm, which takes no labels of it")
    more = {"fourier_scale": torso.fourier_scale} if torso.architecture == "ncsnpp" else {}
    more |= {"augment_labels": augment_labels} if augment_labels else {}
    return make(
        channels=shape[0],
        resolution=_resolution("torso", torso, shape),
        width=torso.width,
        multipliers=torso.multipliers,
        blocks=torso.blocks,
        attention=torso.attention,
        dropout=torso.dropout,
        tap_before_norm=torso.tap_before_norm,
        remat=config.parallel.remat,
        key=key,
        **more,
    )


def build_head(config: Config, shape: tuple[int, ...], *, key: Key) -> Any:
    """The network of a score head on such a torso."""
    torso, head = config.torso, config.head
    if len(shape) == 1:
        return HeadMLP(
            shape[0],
            head.width,
            depth=head.blocks,
            torso_width=torso.width,
            fourier_scale=torso.fourier_scale,
            key=key,
        )
    return HeadUNet(
        channels=shape[0],
        torso_channels=torso.width * torso.multipliers[0],
        torso_embedding=4 * torso.width,
        resolution=_resolution("head", head, shape),
        width=head.width,
        multipliers=head.multipliers,
        blocks=head.blocks,
        attention=head.attention,
        dropout=head.dropout,
        layer_norm=head.layer_norm,
        entry_conv=head.entry_conv,
        embedding_entry=EmbeddingEntry(head.embedding),
        remat=config.parallel.remat,
        key=key,
    )


def _resolution(name: str, net: Torso | Head, shape: tuple[int, ...]) -> int:
    """The side of the images.

    Raises:
        ValueError: unless they are square, and the U-Net's levels and those of its attention exist there.
    """
    _, resolution, width = shape
    if resolution != width:
        raise ValueError(f"data: expected square images, found {resolution} x {width}")
    halvings = (resolution & -resolution).bit_length() - 1
    if len(net.multipliers) > halvings + 1:
        raise ValueError(
            f"{name}.multipliers: expected at most {halvings + 1} for images of {resolution} x {resolution}, "
            f"found {len(net.multipliers)}"
        )
    levels = tuple(resolution // 2**level for level in range(len(net.multipliers)))
    for size in net.attention:
        if size not in levels:
            raise ValueError(f"{name}.attention: expected resolutions of the network, {levels}, found {size}")
    return resolution
