"""From noise to features in one program: the samples themselves never reach the host."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.sharding import Mesh

from ..._base.random import draw_start
from ...evaluation import Extracted, FeatureNetwork
from ...evaluation.features import Quantise, check_shape, see
from ...samplers import AbstractSampler, count_evaluations
from ...train.placement import batch_sharding, keep_whole
from ..parts.sampling import CHUNK


def evaluations(sampler: AbstractSampler, shape: tuple[int, ...]) -> int:
    """Evaluations of the network per sample, counted in the sampler's program."""

    class Counted:
        def __init__(self, function: Callable[..., Any]):
            self.endpoint = self.denoise = function

    return count_evaluations(lambda f: sampler(Counted(f), jnp.zeros(shape), key=jr.key(0)))


@eqx.filter_jit
def _chunk(
    sampler: AbstractSampler,
    model: Any,
    network: FeatureNetwork,
    shape: tuple[int, ...],
    quantise: Quantise,
    key: Any,
    indices: Any,
    mesh: Mesh,
) -> Any:
    model = keep_whole(model, mesh)

    def one(index: Any) -> Any:
        z, sampler_key = draw_start(shape, index, key=key)
        return see(network, sampler(model, z, key=sampler_key), quantise)

    return keep_whole(jax.vmap(one)(indices), mesh)


def draw_features(
    sampler: AbstractSampler,
    model: Any,
    shape: tuple[int, ...],
    n: int,
    network: FeatureNetwork,
    quantise: Quantise,
    *,
    key: Any,
    mesh: Mesh,
    between: Callable[[], None] = lambda: None,
) -> Extracted:
    """Features of `n` samples, those of `draw_samples` with the same key, in one program over all devices of `mesh`.

    `model` and `network` are placed there; every process of a run calls this together. `between` is called before each
    chunk; it may raise to stop.

    Raises:
        ValueError: if samples are not finite, or the network does not take them.
    """
    check_shape(network, shape)
    size = -(-min(n, CHUNK) // mesh.size) * mesh.size
    indices = np.arange(-(-n // size) * size, dtype=np.int32)
    parts = []
    for i in range(0, len(indices), size):
        between()
        chunk = indices[i : i + size]
        placed = jax.make_array_from_callback(chunk.shape, batch_sharding(mesh), chunk.__getitem__)
        parts.append(_chunk(sampler, model, network, shape, quantise, key, placed, mesh))
    features, probabilities = jax.tree.map(lambda *leaves: np.concatenate([*map(np.asarray, leaves)])[:n], *parts)
    bad = int(np.sum(~np.isfinite(features).all(1)))
    if bad:
        raise ValueError(f"samples: expected finite numbers, found {bad} of {n} that are not")
    return Extracted(features, probabilities if network.logits else None)
