"""LPIPS (Zhang et al. 2018), the distance that consistency distillation and training were first published with.

Both images are brought to [0, 1]'s mean and spread, go through VGG-16, and are compared where it has a ReLU before each
pooling and at its end: unit vectors over the channels, weighted squares of their differences, means over the places.
"""

import itertools
import os
import pathlib
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float

from .._base.files import as_path
from .._base.types import Sample, Scalar
from ..distance import AbstractDistance
from .torch_file import named_array, read_weights

BLOCKS = (2, 2, 3, 3, 3)
"""Convolutions of VGG-16 before each pooling, the last block without."""

PLACES = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
"""Of the convolutions in torchvision's list: each is followed by its ReLU, each block by its pooling."""

SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
"""Of the three colours in [-1, 1], as the authors publish them."""

FILES = ("vgg16-397923af", "vgg")
"""Names of the two public files: torchvision's network, and the authors' weights of its channels (version 0.1)."""

ENDINGS = (".safetensors", ".pth")


class LPIPS(AbstractDistance):
    """The distance of two RGB images (3, h, w) in [-1, 1]; smaller ones are enlarged to `size` pixels (bilinear).

    Args:
        kernels: of the convolutions in order, each (3, 3, in, out).
        biases: of the same.
        weights: of the channels where they are compared, >= 0, one array for each of the five blocks.
        size: pixels to a side; as the consistency models' authors have it by default.
    """

    kernels: tuple[Float[Array, "3 3 _in _out"], ...]
    biases: tuple[Float[Array, " _out"], ...]
    weights: tuple[Float[Array, " _out"], ...]
    size: int = 224

    def features(self, x: Sample) -> list[Array]:
        """Where images are compared: unit vectors over the channels, (h, w, channels), after each block."""
        if x.ndim != 3 or x.shape[0] != 3:
            raise ValueError(f"distance: expected RGB images (3, h, w) for LPIPS, found {x.shape}")
        if min(x.shape[1:]) < self.size:
            x = jax.image.resize(x, (3, self.size, self.size), "bilinear")
        h = (x.transpose(1, 2, 0) - jnp.array(SHIFT)) / jnp.array(SCALE)
        found, layers = [], zip(self.kernels, self.biases, strict=True)
        for block, count in enumerate(BLOCKS):
            if block:
                h = jax.lax.reduce_window(h, -jnp.inf, jax.lax.max, (2, 2, 1), (2, 2, 1), "VALID")
            for kernel, bias in itertools.islice(layers, count):
                h = jax.nn.relu(_convolve(h, kernel) + bias)
            found.append(h / (jnp.sqrt(jnp.square(h).sum(-1, keepdims=True)) + 1e-10))
        return found

    def __call__(self, a: Sample, b: Sample) -> Scalar:
        compared = zip(self.features(a), self.features(b), self.weights, strict=True)
        return jnp.stack(
            [jnp.matmul(jnp.square(x - y), weights, precision="highest").mean() for x, y, weights in compared]
        ).sum()


def _convolve(h: Float[Array, "h w c"], kernel: Float[Array, "3 3 c d"]) -> Float[Array, "h w d"]:
    dimensions = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(
        h[None], kernel, (1, 1), "SAME", dimension_numbers=dimensions, precision="highest"
    )[0]


def lpips_from(network: Mapping[str, np.ndarray], channels: Mapping[str, np.ndarray]) -> LPIPS:
    """The distance from arrays by the names in the two public files.

    Args:
        network: `features.N.weight` and `features.N.bias` of torchvision's VGG-16, of any widths.
        channels: `lin0.model.1.weight` to `lin4.model.1.weight`, (1, channels, 1, 1).

    Raises:
        ValueError: if one is missing or of another shape.
    """
    kernels = [named_array(network, f"features.{place}.weight", 4).transpose(2, 3, 1, 0) for place in PLACES]
    biases = [named_array(network, f"features.{place}.bias", 1) for place in PLACES]
    weights = [named_array(channels, f"lin{i}.model.1.weight", 4).reshape(-1) for i in range(len(BLOCKS))]
    widths = [3, *(kernel.shape[3] for kernel in kernels)]
    ends = np.cumsum(BLOCKS)
    for i, kernel in enumerate(kernels):
        if kernel.shape != (3, 3, widths[i], widths[i + 1]) or biases[i].shape != (widths[i + 1],):
            raise ValueError(f"lpips: expected the layers of VGG-16, found convolution {i} of shape {kernel.shape}")
    if [len(each) for each in weights] != [widths[end] for end in ends] or any(each.min() < 0 for each in weights):
        found = [len(each) for each in weights]
        raise ValueError(f"lpips: expected a weight >= 0 for each channel of the network, found {found} of them")
    on_device = lambda arrays: tuple(map(jnp.asarray, arrays))
    return LPIPS(on_device(kernels), on_device(biases), on_device(weights))


def lpips_shapes(widths: Sequence[int]) -> tuple[dict[str, tuple[int, ...]], dict[str, tuple[int, ...]]]:
    """Names and shapes of the arrays in the two files, for a network of these channels in its five blocks."""
    network, before = {}, 3
    each = [width for width, count in zip(widths, BLOCKS, strict=True) for _ in range(count)]
    for place, width in zip(PLACES, each, strict=True):
        network |= {f"features.{place}.weight": (width, before, 3, 3), f"features.{place}.bias": (width,)}
        before = width
    return network, {f"lin{i}.model.1.weight": (1, width, 1, 1) for i, width in enumerate(widths)}


def lpips_files(folder: str | os.PathLike[str]) -> list[pathlib.Path]:
    """The two public files in a folder, each as `.safetensors` or `.pth`; raises `ValueError` if one is missing."""
    found = []
    for name in FILES:
        there = [path for ending in ENDINGS if (path := as_path(folder) / f"{name}{ending}").is_file()]
        if not there:
            wanted = " and ".join(f"{each}.pth" for each in FILES)
            raise ValueError(
                f"lpips: expected a folder with {wanted} (of torchvision, and of LPIPS 0.1; or as .safetensors; this "
                f"library downloads nothing), found no {name}.pth in {folder}"
            )
        found.append(there[0])
    return found


def load_lpips(folder: str | os.PathLike[str]) -> LPIPS:
    """The distance by the weights in a folder, read without executing anything in them.

    Raises:
        ValueError: if a file is missing or holds something else.
    """
    network, channels = lpips_files(folder)
    try:
        return lpips_from(read_weights(network), read_weights(channels))
    except ValueError as error:
        what = str(error).removeprefix("lpips: ").removeprefix("weights: ")
        raise ValueError(f"lpips: {what}, in the files of {folder}") from error
