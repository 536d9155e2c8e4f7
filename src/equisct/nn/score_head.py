"""The score head's network on images: torso features and endpoint enter a DDPM++ with one block per level.

Every choice that the paper leaves open is a switch. The defaults are the authors' released system (26,243,715
parameters at CIFAR-10's size, the paper's "26M"); the preset `cifar10-literal` reads the paper's text literally.
"""

import enum

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jax import Array
from jaxtyping import Float

from .._base.types import Key, Level
from .embedding import Mapping, PositionalEmbedding
from .layers import Conv, GroupNorm, LayerNorm, Linear
from .resampling import BOX
from .unet import UNetBody


class EmbeddingEntry(enum.Enum):
    """How the torso's noise embedding enters the head's own.

    MERGE: layer norm, concatenation with the head's activated embedding, one linear layer (release).
    ADD: added to the head's embedding before its last SiLU; both widths must agree.
    NONE: not at all.
    """

    MERGE = "merge"
    ADD = "add"
    NONE = "none"


class HeadUNet(eqx.Module):
    """The head's raw network on one channel-first image.

    Call it as `(x, endpoint, features, embedding, c_noise, *, key=None) -> raw`: `x` and `endpoint`
    `(channels, h, w)` already scaled, `features` `(torso_channels, h, w)`, `embedding` `(torso_embedding,)`.

    Args:
        channels: image channels.
        torso_channels: channels of the torso's features.
        torso_embedding: width of the torso's noise embedding.
        layer_norm: layer norm over the channels of the features, before the group norm that is always there.
        entry_conv: `conv3x3(silu(u))` to `torso_channels` channels before the U-Net (else `u` enters directly).
        embedding_entry: how the torso's noise embedding enters.
        remat: compute the inside of the blocks again in the backward pass instead of keeping it.

    Raises:
        ValueError: if ADD is chosen and `torso_embedding` is not `4 width`.
    """

    layer_norm: LayerNorm | None
    group_norm: GroupNorm
    entry_conv: Conv | None
    mapping: Mapping
    embedding_norm: LayerNorm | None
    merge: Linear | None
    body: UNetBody
    embedding_entry: EmbeddingEntry = eqx.field(static=True)

    def __init__(
        self,
        *,
        channels: int = 3,
        torso_channels: int = 256,
        torso_embedding: int = 512,
        resolution: int = 32,
        width: int = 128,
        multipliers: tuple[int, ...] = (2, 2, 2),
        blocks: int = 1,
        attention: tuple[int, ...] = (16,),
        dropout: float = 0.0,
        layer_norm: bool = True,
        entry_conv: bool = True,
        embedding_entry: EmbeddingEntry = EmbeddingEntry.MERGE,
        remat: bool = False,
        key: Key,
    ):
        own_width = 4 * width
        if embedding_entry is EmbeddingEntry.ADD and torso_embedding != own_width:
            raise ValueError(f"torso_embedding: expected 4 width = {own_width} to be added, found {torso_embedding}")
        entry_key, mapping_key, merge_key, body_key = jr.split(key, 4)
        merges = embedding_entry is EmbeddingEntry.MERGE
        concatenated = 2 * channels + torso_channels
        self.layer_norm = LayerNorm(torso_channels) if layer_norm else None
        self.group_norm = GroupNorm(torso_channels)
        self.entry_conv = Conv(concatenated, torso_channels, key=entry_key) if entry_conv else None
        self.mapping = Mapping(PositionalEmbedding(width), width, own_width, key=mapping_key)
        self.embedding_norm = LayerNorm(torso_embedding) if merges else None
        self.merge = Linear(own_width + torso_embedding, own_width, key=merge_key) if merges else None
        self.body = UNetBody(
            torso_channels if entry_conv else concatenated, channels, resolution=resolution, width=width,
            multipliers=multipliers, blocks=blocks, attention=attention, embedding_width=own_width, dropout=dropout,
            taps=BOX, pyramid=False, remat=remat, key=body_key,
        )  # fmt: skip
        self.embedding_entry = embedding_entry

    def _embed(self, c_noise: Level, embedding: Float[Array, " torso_embedding"]) -> Float[Array, " width"]:
        own = self.mapping(c_noise)
        if self.merge is not None and self.embedding_norm is not None:
            with jax.default_matmul_precision("highest"):
                return self.merge(jnp.concatenate([jax.nn.silu(own), self.embedding_norm(embedding)]))
        return jax.nn.silu(own + embedding if self.embedding_entry is EmbeddingEntry.ADD else own)

    def __call__(
        self,
        x: Float[Array, "c h w"],
        endpoint: Float[Array, "c h w"],
        features: Float[Array, "torso_channels h w"],
        embedding: Float[Array, " torso_embedding"],
        c_noise: Level,
        *,
        key: Key | None = None,
    ) -> Float[Array, "c h w"]:
        x, endpoint, features = (a.transpose(1, 2, 0) for a in (x, endpoint, features))
        features = features if self.layer_norm is None else self.layer_norm(features)
        u = jnp.concatenate([x, endpoint, self.group_norm(features)], -1)
        u = u if self.entry_conv is None else self.entry_conv(jax.nn.silu(u))
        last = self.body.last_features(u, self._embed(c_noise, embedding), key=key)
        return self.body.out(self.body.activate(last)).transpose(2, 0, 1)
