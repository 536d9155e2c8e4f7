"""The 2015 Inception network, whose features FID is taken in (Szegedy et al. 2016; Heusel et al. 2017).

The graph is that of TensorFlow's file of 2015-12-05 as the public PyTorch checkpoint holds it: 1008 classes, averages
that leave out the border, a maximum in the last block. Batch norm is folded into each convolution's scale and shift.
"""

import os
from collections.abc import Mapping

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Float

from .features import FeatureNetwork, check_weights
from .torch_file import built_from_file, named_array

SIDE = 299
"""Pixels of the image that the network sees."""

EPSILON = 1e-3
"""Of batch norm."""

FILE_HASH = "6726825d"
"""The first digits of the SHA-256 of the public checkpoint, as its name says."""

_PLAIN = ("branch1x1", "branch5x5_1 branch5x5_2", "branch3x3dbl_1 branch3x3dbl_2 branch3x3dbl_3", "average branch_pool")
_SMALLER = ("branch3x3/2", "branch3x3dbl_1 branch3x3dbl_2 branch3x3dbl_3/2", "maximum/2")
_LONG = (
    "branch1x1",
    "branch7x7_1 branch7x7_2 branch7x7_3",
    "branch7x7dbl_1 branch7x7dbl_2 branch7x7dbl_3 branch7x7dbl_4 branch7x7dbl_5",
    "average branch_pool",
)
_SMALLEST = ("branch3x3_1 branch3x3_2/2", "branch7x7x3_1 branch7x7x3_2 branch7x7x3_3 branch7x7x3_4/2", "maximum/2")
_WIDE = (
    "branch1x1",
    "branch3x3_1 branch3x3_2a+branch3x3_2b",
    "branch3x3dbl_1 branch3x3dbl_2 branch3x3dbl_3a+branch3x3dbl_3b",
)

STEM = "Conv2d_1a_3x3/2 Conv2d_2a_3x3/1 Conv2d_2b_3x3 maximum/2 Conv2d_3b_1x1 Conv2d_4a_3x3/1 maximum/2"
"""A chain: layers one after the other; with `+`, side by side. `/2` and `/1` are strides without a border."""

BLOCKS: dict[str, tuple[str, ...]] = {
    "Mixed_5b": _PLAIN,
    "Mixed_5c": _PLAIN,
    "Mixed_5d": _PLAIN,
    "Mixed_6a": _SMALLER,
    "Mixed_6b": _LONG,
    "Mixed_6c": _LONG,
    "Mixed_6d": _LONG,
    "Mixed_6e": _LONG,
    "Mixed_7a": _SMALLEST,
    "Mixed_7b": (*_WIDE, "average branch_pool"),
    "Mixed_7c": (*_WIDE, "maximum branch_pool"),
}
"""Chains side by side."""


class Convolution(eqx.Module):
    """Convolution, scale and shift, ReLU, of one image (h, w, c)."""

    weight: Float[Array, "kh kw i o"]
    scale: Float[Array, " o"]
    shift: Float[Array, " o"]

    def __call__(self, x: Float[Array, "h w i"], stride: int | None) -> Float[Array, "H W o"]:
        """With `stride` None the size stays: zeros beyond the border."""
        padding = "SAME" if stride is None else "VALID"
        strides = (stride or 1, stride or 1)
        dimensions = ("NHWC", "HWIO", "NHWC")
        y = lax.conv_general_dilated(
            x[None], self.weight, strides, padding, dimension_numbers=dimensions, precision="highest"
        )
        return jax.nn.relu(y[0] * self.scale + self.shift)


class Inception(eqx.Module):
    """The network; built by `inception_from` alone."""

    layers: dict[str, Convolution]
    classes: Float[Array, "2048 1008"]
    bias: Float[Array, " 1008"]

    def features(self, x: Float[Array, "3 h w"]) -> Float[Array, " 2048"]:
        """The mean over places of the last block's output.

        Args:
            x: an image of any size in [-1, 1].
        """
        pixels = 127.5 * x.transpose(1, 2, 0) + 127.5
        h = (resize(pixels, SIDE) - 128) / 128
        h = self._chain("", STEM, h)
        for block, chains in BLOCKS.items():
            h = jnp.concatenate([self._chain(f"{block}.", chain, h) for chain in chains], axis=-1)
        return h.mean((0, 1))

    def logits(self, x: Float[Array, "3 h w"]) -> Float[Array, " 1008"]:
        """With the bias, as the TensorFlow graph's; the Inception score of most papers is taken without it."""
        return self.logits_without_bias(x) + self.bias

    def logits_without_bias(self, x: Float[Array, "3 h w"]) -> Float[Array, " 1008"]:
        """What EDM and torch-fidelity take the Inception score of."""
        return jnp.matmul(self.features(x), self.classes, precision="highest")

    def _chain(self, where: str, chain: str, h: Array) -> Array:
        for step in chain.split():
            h = jnp.concatenate([self._layer(where, name, h) for name in step.split("+")], axis=-1)
        return h

    def _layer(self, where: str, step: str, h: Array) -> Array:
        name, _, number = step.partition("/")
        stride = int(number) if number else None
        if name == "average":
            return _pool(h, lax.add, 0.0, None) / _pool(jnp.ones_like(h[..., :1]), lax.add, 0.0, None)
        if name == "maximum":
            return _pool(h, lax.max, -jnp.inf, stride)
        return self.layers[where + name](h, stride)


def _pool(h: Array, reduce: object, start: float, stride: int | None) -> Array:
    """Over windows of 3 x 3; with `stride` None the size stays."""
    steps = (stride or 1, stride or 1, 1)
    return lax.reduce_window(h, start, reduce, (3, 3, 1), steps, "SAME" if stride is None else "VALID")  # type: ignore[arg-type]


def resize(pixels: Float[Array, "h w c"], side: int) -> Float[Array, "side side c"]:
    """Bilinear, as TensorFlow 1 does: place i of the result is place `i h / side` of the image, corners not aligned."""
    for axis in (0, 1):
        size = pixels.shape[axis]
        place = np.arange(side) * np.float32(size / side)
        low = np.floor(place).astype(int)
        high, share = np.minimum(low + 1, size - 1), (place - low).astype(np.float32)
        share = jnp.asarray(share.reshape((-1, 1, 1) if axis == 0 else (1, -1, 1)))
        lower, upper = jnp.take(pixels, low, axis=axis), jnp.take(pixels, high, axis=axis)
        pixels = lower + (upper - lower) * share
    return pixels


def inception_names() -> list[str]:
    """The convolutions by their names in the checkpoint."""
    chains = [("", STEM), *((f"{block}.", chain) for block, chains in BLOCKS.items() for chain in chains)]
    names = [where + step.partition("/")[0] for where, chain in chains for step in chain.replace("+", " ").split()]
    return [name for name in names if not name.endswith(("average", "maximum"))]


def inception_from(arrays: Mapping[str, np.ndarray]) -> Inception:
    """The network from arrays by their names in the public checkpoint; raises `ValueError` if they are others."""
    layers = {name: _convolution(arrays, name) for name in inception_names()}
    classes, bias = named_array(arrays, "fc.weight", 2).T, named_array(arrays, "fc.bias", 1)
    made = Inception(layers, jnp.asarray(classes), jnp.asarray(bias))
    check_weights(made.logits, "the 2015 Inception network")
    return made


def _convolution(arrays: Mapping[str, np.ndarray], name: str) -> Convolution:
    parts = ("weight", "bias", "running_mean", "running_var")
    gain, bias, mean, variance = (named_array(arrays, f"{name}.bn.{part}", 1) for part in parts)
    scale = gain / np.sqrt(variance + np.float32(EPSILON))
    weight = named_array(arrays, f"{name}.conv.weight", 4).transpose(2, 3, 1, 0)
    return Convolution(jnp.asarray(weight), jnp.asarray(scale), jnp.asarray(bias - mean * scale))


def load_inception(path: str | os.PathLike[str], *, bias: bool = False) -> FeatureNetwork:
    """The network by a file of weights; it is called `inception-2015` only if that is the public checkpoint.

    Args:
        path: `.pth` of PyTorch, read without executing anything in it, or `.safetensors`.
        bias: whether the classes are those with the bias; then that is part of the name.

    Raises:
        ValueError: if the file is missing or holds something else; with its hash.
    """
    net, digest = built_from_file(path, "the Inception network", inception_from)
    name = "inception-2015" if digest.startswith(FILE_HASH) else "inception-of-other-weights"
    if bias:
        return FeatureNetwork(f"{name}-with-bias", digest, net.features, net.logits)
    return FeatureNetwork(name, digest, net.features, net.logits_without_bias)
