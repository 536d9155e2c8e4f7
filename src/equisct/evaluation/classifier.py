"""A small classifier, trained in seconds and always to the same weights, whose features need nothing to download."""

import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jaxtyping import Float, Int

from .features import FeatureNetwork

HIDDEN = (64, 32)
STEPS, RATE, DECAY = 300, 1e-2, 1e-4
DECIMALS = 4
"""Of the weights that are kept: training ends in the same ones on every machine, but for the last bits."""

Layers = list[tuple[Array, Array]]


def train_classifier(
    images: Float[np.ndarray, "n c h w"], labels: Int[np.ndarray, " n"], *, name: str
) -> FeatureNetwork:
    """An MLP of two hidden layers on four of five images; its features are the 32 of the second.

    Adam on the whole set at once, in float64, from weights drawn by NumPy; the result is rounded, so that its hash is
    the same wherever it is trained.

    Args:
        images: in [-1, 1], small enough for an MLP; every fifth is left out.
        labels: classes 0, 1, ...
        name: of the network.

    Raises:
        ValueError: for fewer than five images, or another number of labels.
    """
    if len(images) < 5 or len(labels) != len(images) or labels.min() < 0:
        raise ValueError(f"labels: expected one >= 0 for each of five or more images, found {len(labels)}")
    kept = np.arange(len(images)) % 5 > 0
    sizes = (images[0].size, *HIDDEN, int(labels.max()) + 1)
    draw = np.random.default_rng(0)
    start = [(draw.normal(size=(m, n)) * np.sqrt(2 / m), np.zeros(n)) for m, n in zip(sizes, sizes[1:], strict=False)]
    with jax.enable_x64(True):  # noqa: FBT003  (its only argument)
        x, y = jnp.asarray(images.reshape(len(images), -1)[kept], jnp.float64), jnp.asarray(labels[kept])
        ended = _descend(jax.tree.map(jnp.asarray, start), x, y)
        rounded = [tuple(np.asarray(leaf).round(DECIMALS).astype(np.float32) for leaf in layer) for layer in ended]
    digest = hashlib.sha256(b"".join(leaf.tobytes() for layer in rounded for leaf in layer)).hexdigest()
    layers = jax.tree.map(jnp.asarray, rounded)
    see = lambda x: _hidden_and_logits(layers, x.reshape(-1))
    return FeatureNetwork(name, digest, lambda x: see(x)[0], lambda x: see(x)[1])


def _hidden_and_logits(layers: Layers, x: Array) -> tuple[Array, Array]:
    *hidden, (last, shift) = layers
    for weights, bias in hidden:
        x = jax.nn.relu(jnp.matmul(x, weights, precision="highest") + bias)
    return x, jnp.matmul(x, last, precision="highest") + shift


@jax.jit
def _descend(layers: Layers, x: Array, y: Array) -> Layers:
    optimiser = optax.adam(RATE)

    def loss(layers: Layers) -> Array:
        errors = optax.softmax_cross_entropy_with_integer_labels(_hidden_and_logits(layers, x)[1], y)
        return errors.mean() + DECAY * sum(jnp.square(weights).sum() for weights, _ in layers)

    def step(carry: tuple[Layers, optax.OptState], _: None) -> tuple[tuple[Layers, optax.OptState], None]:
        layers, state = carry
        updates, state = optimiser.update(jax.grad(loss)(layers), state)
        return (optax.apply_updates(layers, updates), state), None  # type: ignore[return-value]

    (layers, _), _ = jax.lax.scan(step, (layers, optimiser.init(layers)), None, length=STEPS)
    return layers
