"""Networks of features: what turns images into the vectors between which distances are taken."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Int

from .._base.types import Sample

Quantise = Literal["round", "truncate", "none"]


class FeatureNetwork(eqx.Module):
    """A frozen network, known by its name and the hash of its weights.

    The functions may be plain ones, or methods of a module: its arrays are then arguments of the compiled program.

    Args:
        name: distances in its features are named after it; FID is the name of those in the 2015 Inception graph alone.
        weights: the SHA-256 of its weights, "" where it has none.
        features: one sample, images (c, h, w) in [-1, 1], to features (d,).
        logits: one sample to the logits of classes, for the Inception score; None where there are none.
    """

    name: str = eqx.field(static=True)
    weights: str = eqx.field(static=True)
    features: Callable[[Sample], Float[Array, " d"]]
    logits: Callable[[Sample], Float[Array, " classes"]] | None = None


class Extracted(NamedTuple):
    """What a network says of samples: features float32 (n, d), and probabilities (n, classes) or None.

    `wanted` is the class that each sample was drawn under, where it was under one.
    """

    features: Float[np.ndarray, "n d"]
    probabilities: Float[np.ndarray, "n classes"] | None
    wanted: Int[np.ndarray, " n"] | None = None


def pixels() -> FeatureNetwork:
    """The sample itself as its features: for vectors, and to look for copies."""
    return FeatureNetwork("pixels", "", lambda x: x.reshape(-1))


def extract(
    network: FeatureNetwork,
    samples: Float[Array | np.ndarray, "n *shape"],
    *,
    quantise: Quantise = "none",
    batch: int = 256,
) -> Extracted:
    """Features of all samples, `batch` at a time on the device, in one compilation.

    Args:
        network: of features.
        samples: in [-1, 1] if they are images.
        quantise: of images: see `quantised`.
        batch: samples at a time.

    Raises:
        ValueError: for no samples, or some that are not finite.
    """
    samples = np.asarray(samples)
    bad = int(np.sum(~np.isfinite(samples).all(axis=tuple(range(1, samples.ndim)))))
    if not len(samples) or bad:
        raise ValueError(f"samples: expected one or more of finite numbers, found {len(samples)}, {bad} not finite")
    size, parts = min(batch, len(samples)), []
    for start in range(0, len(samples), size):
        part = samples[start : start + size]
        padded = np.concatenate([part, np.repeat(part[-1:], size - len(part), 0)])
        parts.append(_see_all(network, jnp.asarray(padded), quantise))
    features, probabilities = jax.tree.map(lambda *all: np.concatenate([*map(np.asarray, all)])[: len(samples)], *parts)
    return Extracted(features, probabilities if network.logits else None)


@eqx.filter_jit
def _see_all(network: FeatureNetwork, samples: Float[Array, "n *shape"], quantise: Quantise) -> tuple[Array, Array]:
    return jax.vmap(lambda x: see(network, x, quantise))(samples)


def see(
    network: FeatureNetwork, x: Sample, quantise: Quantise = "none"
) -> tuple[Float[Array, " d"], Float[Array, " classes"]]:
    """Features and probabilities of one sample, in float32; without logits, no probabilities: an empty array."""
    x, nothing = quantised(x, quantise), jnp.zeros(0)
    with jax.default_matmul_precision("highest"):  # by default a GPU or TPU rounds float32 to fewer digits
        return network.features(x), nothing if network.logits is None else jax.nn.softmax(network.logits(x))


def quantised(x: Sample, quantise: Quantise) -> Sample:
    """An image in [-1, 1] through 8 bits and back, as a file would hold it; a vector as it is.

    Args:
        x: one sample; (c, h, w) if it is an image.
        quantise: `round` to the nearest level (EDM), `truncate` (the released code), or `none`. Both leave an image
            of 8 bits at its levels: what lies less than a thousandth of a level below one counts as that.
    """
    if quantise == "none" or x.ndim != 3:
        return x
    shift = 128.0 if quantise == "round" else 127.5 + 1e-3  # 127.5 (x + 1) comes out just below a level, or above
    return jnp.floor(jnp.clip(127.5 * x + shift, 0, 255)) / 127.5 - 1


def check_weights(call: Callable[[Sample], Array], network: str) -> None:
    """Raises `ValueError` unless arrays from a file of `network` fit together: its call takes an RGB image."""
    try:
        jax.eval_shape(call, jax.ShapeDtypeStruct((3, 32, 32), jnp.float32))
    except (TypeError, ValueError) as error:
        raise ValueError(f"weights: expected those of {network}, found other shapes ({error})") from None


def check_shape(network: FeatureNetwork, shape: tuple[int, ...]) -> int:
    """The number of features of a sample of this shape; raises `ValueError` if the network does not take it."""
    try:
        features, _ = jax.eval_shape(lambda x: see(network, x), jax.ShapeDtypeStruct(shape, jnp.float32))
        return features.shape[0]
    except (TypeError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        found = f"{network.name} ({reason}); pixels take any"
        raise ValueError(f"features: expected a network of samples {shape}, found {found}") from None
