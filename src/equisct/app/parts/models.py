"""From the settings of `torso`, `head` and `noise` to models: their networks, fresh weights, or those of a teacher."""

from typing import Any, Literal, TypeVar

import jax.random as jr

from ..._base.types import Key
from ...model import ConsistencyModel, DenoisingModel, EndpointScaling, ScoreGuidedModel, ScoreHead
from ...nn import EmbeddingEntry, HeadMLP, HeadUNet, TorsoMLP, ddpm, ddpmpp, ncsnpp
from ...preconditioning import BoundaryPreconditioning, EDMPreconditioning, VPPreconditioning
from ...train.weights import named_arrays, with_arrays
from ..settings.config import Config, Head, Torso
from .conditions import told_to_network

T = TypeVar("T")
Shape = tuple[int, ...]
"""Of a sample: `(c, h, w)` or `(d,)`."""


def _boundary(config: Config) -> BoundaryPreconditioning:
    return BoundaryPreconditioning(sigma_data=config.noise.sigma_data, sigma_min=config.noise.sigma_min)


def consistency_model(config: Config, shape: Shape, *, key: Key) -> ConsistencyModel:
    """The consistency model that `torso` describes."""
    return ConsistencyModel(build_torso(config, shape, key=key), _boundary(config))


def score_guided_model(config: Config, shape: Shape, *, key: Key) -> ScoreGuidedModel:
    """The consistency model and score head that `torso` and `head` describe."""
    torso_key, head_key = jr.split(key)
    head, sigma_data = config.head, config.noise.sigma_data
    return ScoreGuidedModel(
        consistency_model(config, shape, key=torso_key),
        ScoreHead(
            build_head(config, shape, key=head_key),
            _boundary(config) if head.preconditioning == "boundary" else EDMPreconditioning(sigma_data=sigma_data),
            guide=head.guide,
            endpoint_scaling=EndpointScaling(head.endpoint_scaling),
            sigma_data=sigma_data,
        ),
    )


def denoising_model(config: Config, shape: Shape, kind: str, *, augment_labels: int = 0, key: Key) -> DenoisingModel:
    """The denoiser that `torso` describes, with EDM's (`edm`) or DDPM's (`vp`) preconditioning.

    It may be told `augment_labels` numbers about augmentation.
    """
    scalings = VPPreconditioning() if kind == "vp" else EDMPreconditioning(sigma_data=config.noise.sigma_data)
    return DenoisingModel(build_torso(config, shape, augment_labels=augment_labels, key=key), scalings)


def transplant(model: T, teacher: object) -> T:
    """The model with every array of the teacher in its place; what is no array (dropout, say) stays the model's.

    A teacher's matrix for `augment_labels` is left out where the model has none: labels of 0 add nothing.

    Raises:
        ValueError: if the two have other arrays; names the first.
    """
    wanted, found = named_arrays(model), named_arrays(teacher)
    left = "mapping/augment_labels"
    found = {name: leaf for name, leaf in found.items() if name in wanted or not name.endswith(left)}
    shapes = [{name: tuple(leaf.shape) for name, leaf in arrays.items()} for arrays in (wanted, found)]
    if shapes[0] != shapes[1]:
        name = next(n for n in {**shapes[0], **shapes[1]} if shapes[0].get(n) != shapes[1].get(n))
        raise ValueError(
            f"method.teacher: expected a network of the same settings as torso, {name} of shape "
            f"{shapes[0].get(name)}, found {shapes[1].get(name)}"
        )
    return with_arrays(model, found)


def build_torso(config: Config, shape: Shape, *, augment_labels: int = 0, key: Key) -> Any:
    """The network of a consistency model or a denoiser, which may take `augment_labels` numbers.

    Raises:
        ValueError: for settings that the network cannot have; names them.
    """
    torso, told = config.torso, told_to_network(config)
    if len(shape) == 1:
        return TorsoMLP(shape[0], torso.width, depth=torso.blocks, fourier_scale=torso.fourier_scale, **told, key=key)
    make = {"ncsnpp": ncsnpp, "ddpmpp": ddpmpp, "ddpm": ddpm}[torso.architecture]
    if augment_labels and torso.architecture == "ddpm":
        raise ValueError("method.augment: expected 0 with torso.architecture ddpm, which takes no labels of it")
    more: dict[str, Any] = {"fourier_scale": torso.fourier_scale} if torso.architecture == "ncsnpp" else {}
    more |= told | ({"augment_labels": augment_labels} if augment_labels else {})
    return make(tap_before_norm=torso.tap_before_norm, key=key, **_unet("torso", config, shape), **more)


def build_head(config: Config, shape: Shape, *, key: Key) -> Any:
    """The network of a score head on such a torso."""
    torso, head = config.torso, config.head
    if len(shape) == 1:
        return HeadMLP(
            shape[0], head.width, depth=head.blocks, torso_width=torso.width, fourier_scale=torso.fourier_scale, key=key
        )
    return HeadUNet(
        torso_channels=torso.width * torso.multipliers[0],
        torso_embedding=4 * torso.width,
        layer_norm=head.layer_norm,
        entry_conv=head.entry_conv,
        embedding_entry=EmbeddingEntry(head.embedding),
        key=key,
        **_unet("head", config, shape),
    )


def _unet(name: Literal["torso", "head"], config: Config, shape: Shape) -> dict[str, Any]:
    """What both U-Nets take.

    Raises:
        ValueError: unless the images are square, and the U-Net's levels and those of its attention exist there.
    """
    net: Torso | Head = getattr(config, name)
    channels, resolution, width = shape
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
    same = {field: getattr(net, field) for field in ("width", "multipliers", "blocks", "attention", "dropout")}
    return {"channels": channels, "resolution": resolution, "remat": config.parallel.remat} | same
