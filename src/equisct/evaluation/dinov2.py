"""DINOv2's vision transformer (Oquab et al. 2023), whose features FD-DINOv2 is taken in (Stein et al. 2023).

An image is enlarged to 224 pixels (bicubic), brought to ImageNet's mean and spread, cut into patches of 14 pixels, and
read at the class token after the last norm. The network's sizes are those of the file; ViT-L/14 is the published one.
"""

import math
import os
from collections.abc import Mapping

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float

from .._base.types import Sample
from .features import FeatureNetwork, check_weights
from .torch_file import built_from_file, named_array

SIDE, WIDTH_OF_HEAD, EPSILON = 224, 64, 1e-6
"""Pixels that are seen, channels of an attention head, of the norms."""

MEAN, SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's colours in [0, 1]."""

OFFSET = 0.1
"""Added to the number of patches where the authors enlarge or shrink the places' embedding."""


class Norm(eqx.Module):
    """Layer norm over the last axis."""

    weight: Float[Array, " d"]
    bias: Float[Array, " d"]

    def __call__(self, x: Float[Array, "n d"]) -> Float[Array, "n d"]:
        centred = x - x.mean(-1, keepdims=True)
        return centred / jnp.sqrt(jnp.square(centred).mean(-1, keepdims=True) + EPSILON) * self.weight + self.bias


class Dense(eqx.Module):
    """`x @ weight + bias`."""

    weight: Float[Array, "c d"]
    bias: Float[Array, " d"]

    def __call__(self, x: Float[Array, "n c"]) -> Float[Array, "n d"]:
        return jnp.matmul(x, self.weight, precision="highest") + self.bias


class Block(eqx.Module):
    """Attention, then a perceptron of one hidden layer, each scaled by channel and added."""

    norm1: Norm
    qkv: Dense
    proj: Dense
    scale1: Float[Array, " d"]
    norm2: Norm
    fc1: Dense
    fc2: Dense
    scale2: Float[Array, " d"]

    def __call__(self, x: Float[Array, "n d"]) -> Float[Array, "n d"]:
        x = x + self.scale1 * self.proj(_attend(self.qkv(self.norm1(x))))
        hidden = jax.nn.gelu(self.fc1(self.norm2(x)), approximate=False)
        return x + self.scale2 * self.fc2(hidden)


def _attend(qkv: Float[Array, "n three_d"]) -> Float[Array, "n d"]:
    n, heads = len(qkv), qkv.shape[1] // 3 // WIDTH_OF_HEAD
    q, k, v = qkv.reshape(n, 3, heads, WIDTH_OF_HEAD).transpose(1, 2, 0, 3)
    alike = jnp.einsum("hnc,hmc->hnm", q, k, precision="highest")
    weights = jax.nn.softmax(alike / math.sqrt(WIDTH_OF_HEAD), axis=-1)
    return jnp.einsum("hnm,hmc->nhc", weights, v, precision="highest").reshape(n, -1)


class DINOv2(eqx.Module):
    """The network; `features` takes one RGB image (3, h, w) in [-1, 1] of any size to the class token (d,)."""

    patch: Dense
    token: Float[Array, " d"]
    places: Float[Array, "tokens d"]
    blocks: tuple[Block, ...]
    norm: Norm

    def features(self, x: Sample) -> Float[Array, " d"]:
        """The class token after the last norm."""
        if x.ndim != 3 or x.shape[0] != 3:
            raise ValueError(f"x: expected RGB images (3, h, w), found {x.shape}")
        colours = (jax.image.resize(x, (3, SIDE, SIDE), "cubic") + 1) / 2
        h = (colours - jnp.array(MEAN)[:, None, None]) / jnp.array(SPREAD)[:, None, None]
        side = round(math.sqrt(self.patch.weight.shape[0] / 3))
        n = SIDE // side
        patches = h.reshape(3, n, side, n, side).transpose(1, 3, 0, 2, 4).reshape(n * n, -1)
        h = jnp.concatenate([self.token[None], self.patch(patches)]) + self.places
        for block in self.blocks:
            h = block(h)
        return self.norm(h)[0]


def dinov2_from(arrays: Mapping[str, np.ndarray]) -> DINOv2:
    """The network, of any width and depth, from arrays by their public names; raises `ValueError` for others."""
    read = lambda name, dimensions: jnp.asarray(named_array(arrays, name, dimensions))
    dense = lambda name: Dense(read(f"{name}.weight", 2).T, read(f"{name}.bias", 1))
    norm = lambda name: Norm(read(f"{name}.weight", 1), read(f"{name}.bias", 1))

    def block(i: int) -> Block:
        name = f"blocks.{i}"
        return Block(
            norm(f"{name}.norm1"), dense(f"{name}.attn.qkv"), dense(f"{name}.attn.proj"), read(f"{name}.ls1.gamma", 1),
            norm(f"{name}.norm2"), dense(f"{name}.mlp.fc1"), dense(f"{name}.mlp.fc2"), read(f"{name}.ls2.gamma", 1),
        )  # fmt: skip

    kernel = read("patch_embed.proj.weight", 4)
    patch = Dense(kernel.reshape(len(kernel), -1).T, read("patch_embed.proj.bias", 1))
    depth = next(i for i in range(len(arrays) + 1) if f"blocks.{i}.norm1.weight" not in arrays)
    embedding = named_array(arrays, "pos_embed", 3)[0]
    places = np.concatenate([embedding[:1], resized(embedding[1:], SIDE // kernel.shape[-1])])
    made = DINOv2(patch, read("cls_token", 3)[0, 0], jnp.asarray(places), tuple(map(block, range(depth))), norm("norm"))
    check_weights(made.features, "DINOv2 without registers")
    return made


def resized(grid: Float[np.ndarray, "n d"], side: int) -> Float[np.ndarray, "m d"]:
    """The embedding of a square of places for another, as the authors do: bicubic, a tenth of a place added."""
    before = round(math.sqrt(len(grid)))
    if before * before != len(grid):
        raise ValueError(f"weights: expected a square of places in pos_embed, found {len(grid)}")
    if before == side:
        return grid
    weights = _cubic_weights(before, side, (side + OFFSET) / before)
    square = grid.reshape(before, before, -1).astype(np.float64)
    return np.einsum("ia,jb,abd->ijd", weights, weights, square).reshape(side * side, -1).astype(np.float32)


def _cubic_weights(before: int, after: int, scale: float) -> Float[np.ndarray, "after before"]:
    """PyTorch's bicubic interpolation along one axis (a = -0.75, the border's value beyond it) as a matrix."""
    at = (np.arange(after)[:, None] + 0.5) / scale - 0.5
    places, a = np.floor(at) + np.arange(-1, 3), -0.75
    d = abs(at - places)
    cubic = np.where(d <= 1, (a + 2) * d**3 - (a + 3) * d**2 + 1, a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a)
    return (cubic[..., None] * (places.clip(0, before - 1)[..., None] == np.arange(before))).sum(1)


def load_dinov2(path: str | os.PathLike[str]) -> FeatureNetwork:
    """The network by a file of its weights, known by its size and their hash.

    Args:
        path: `.pth` of PyTorch (`dinov2_vitl14_pretrain.pth`), read without executing anything in it, or the same
            arrays as `.safetensors`.

    Raises:
        ValueError: if the file is missing or holds something else; with its hash.
    """
    net, digest = built_from_file(path, "DINOv2", dinov2_from)
    width, side = len(net.token), round(math.sqrt(net.patch.weight.shape[0] / 3))
    return FeatureNetwork(f"dinov2-{width}-{side}", digest, net.features)
