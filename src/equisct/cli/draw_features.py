"""From noise to features in one program: the samples themselves never reach the host."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from ..evaluation import Extracted, FeatureNetwork
from ..evaluation.features import Quantise, check_shape, see
from ..samplers import count_evaluations
from ..train import data_mesh
from ..train.placement import batch_sharding, place
from .sampling import CHUNK, Sampler


def evaluations(sampler: Sampler, shape: tuple[int, ...]) -> int:
    """Evaluations of the network per sample, counted in the sampler's program."""

    class Counted:
        def __init__(self, function: Callable[..., Any]):
            self.endpoint = self.denoise = function

    return count_evaluations(lambda f: sampler(Counted(f), jnp.zeros(shape), jr.key(0)))


@eqx.filter_jit
def _chunk(
    sampler: Sampler, model: Any, network: FeatureNetwork, shape: tuple[int, ...], quantise: Quantise, keys: Any
) -> Any:
    def one(key: Any) -> Any:
        z_key, sampler_key = jr.split(key)
        return see(network, sampler(model, jr.normal(z_key, shape), sampler_key), quantise)

    return jax.vmap(one)(keys)


def draw_features(
    sampler: Sampler,
    model: Any,
    shape: tuple[int, ...],
    n: int,
    network: FeatureNetwork,
    quantise: Quantise,
    *,
    key: Any,
) -> Extracted:
    """Features of `n` samples, those of `draw_samples` with the same key, in one program over all devices.

    Raises:
        ValueError: if samples are not finite, or the network does not take them.
    """
    check_shape(network, shape)
    mesh = data_mesh()
    model, network = place((model, network), mesh)
    size = -(-min(n, CHUNK) // mesh.size) * mesh.size
    keys = jax.vmap(lambda i: jr.fold_in(key, i))(jnp.arange(-(-n // size) * size))
    parts = [
        _chunk(sampler, model, network, shape, quantise, jax.device_put(keys[i : i + size], batch_sharding(mesh)))
        for i in range(0, len(keys), size)
    ]
    features, probabilities = jax.tree.map(lambda *leaves: np.concatenate([*map(np.asarray, leaves)])[:n], *parts)
    bad = int(np.sum(~np.isfinite(features).all(1)))
    if bad:
        raise ValueError(f"samples: expected finite numbers, found {bad} of {n} that are not")
    return Extracted(features, probabilities if network.logits else None)
