"""From settings to a network of features, and the features of data sets and of a model's samples."""

import contextlib
import dataclasses
import importlib
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.sharding import Mesh

from ..._base.batch import as_example
from ..._base.random import draw_start
from ...data import Dataset, load_digits
from ...data.images import check_scale
from ...evaluation import (
    Extracted,
    FeatureNetwork,
    Reference,
    extract,
    load_dinov2,
    load_inception,
    pixels,
    train_classifier,
)
from ...evaluation.features import Quantise, check_shape, see
from ...samplers import AbstractSampler, count_evaluations
from ...train.placement import batch_sharding, keep_whole
from ..settings.data import Reading
from ..settings.features import BROUGHT, Network
from .conditions import Conditions
from .data import AS_IT_IS, open_data
from .sampling import CHUNK

AT_ONCE = 4096
"""Samples of a data set that are held in memory."""


def network_of(options: Network, data: str, shape: tuple[int, ...]) -> FeatureNetwork:
    """The network that the options name; `auto` is that of `digits` for data of this name, else `pixels`.

    Args:
        options: name it.
        data: name of the data, or of the network whose features are measured against.
        shape: of the samples.

    Raises:
        ValueError: if there is none, it is no network of features, or it does not take such samples.
    """
    network = _network(options, "digits" if data == "digits" else "pixels", shape)
    check_shape(network, shape)
    return network


def _network(options: Network, auto: str, shape: tuple[int, ...]) -> FeatureNetwork:
    if options.features == "auto":
        options = dataclasses.replace(options, features=auto)
    if options.features == "digits":
        digits = load_digits()
        if shape != digits.shape:  # before it is trained
            raise ValueError(
                f"features: expected a network of samples {shape}, found digits, of samples {digits.shape}; pixels "
                "take any"
            )
        assert digits.labels is not None
        return train_classifier(digits.take(np.arange(digits.size)), digits.labels, name="digits")
    if options.features == "pixels":
        return pixels()
    if options.features in BROUGHT:
        assert options.weights is not None
        if options.features == "dinov2":
            return load_dinov2(options.weights)
        return load_inception(options.weights, bias=options.features != "inception")
    module, _, name = options.features.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)(options.weights)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"features: expected MODULE:FUNCTION, found {options.features} ({error})") from None
    if not isinstance(found, FeatureNetwork):
        raise ValueError(f"features: expected a FeatureNetwork from {options.features}, found {type(found).__name__}")  # noqa: TRY004  (a setting)
    return found


def open_samples(path: Path, reading: Reading = AS_IT_IS) -> Dataset:
    """A data set: the samples in a file of equisct-sample as they are, of others in [-1, 1].

    Raises:
        DataError: if nothing usable is there, or images are floats of another scale.
    """
    if path.suffix == ".npz" and path.is_file() and reading.array in (None, "samples"):
        samples, damage = None, (OSError, ValueError, zipfile.BadZipFile)  # the reader of data says what it is
        with contextlib.suppress(*damage), np.load(path, allow_pickle=False) as stored:
            samples = stored.get("samples")
        if samples is not None and samples.dtype.kind == "f":
            check_scale(f"{path}['samples']", samples)
            return _Samples(samples.astype(np.float32), path.name)
    return load_digits() if str(path) == "digits" else open_data(path, reading)


class _Samples:
    """Arrays as a data set, not looked at: samples that are not finite are refused where they are measured."""

    def __init__(self, samples: np.ndarray, name: str):
        self._samples, self.name = samples, name
        self.size, self.shape = len(samples), samples.shape[1:]

    def take(self, indices: np.ndarray, flip: np.ndarray | None = None) -> np.ndarray:
        """The samples with these numbers, as they are."""
        del flip
        return self._samples[indices]


def see_all(network: FeatureNetwork, dataset: Dataset, quantise: Quantise = "none") -> Extracted:
    """Features of a whole data set, some samples at a time; of pairs, of what the teacher's sampler made.

    Raises:
        ValueError: if the network does not take such samples, or some are not finite.
    """
    check_shape(network, dataset.shape)
    parts = []
    for begin in range(0, dataset.size, AT_ONCE):
        rows = dataset.take(np.arange(begin, min(begin + AT_ONCE, dataset.size)))
        parts.append(extract(network, as_example(rows).x, quantise=quantise))
    probabilities = [part.probabilities for part in parts if part.probabilities is not None]
    return Extracted(
        np.concatenate([part.features for part in parts]), np.concatenate(probabilities) if probabilities else None
    )


def name_of(dataset: Dataset) -> str:
    """What to call a data set."""
    return str(getattr(dataset, "name", "data"))


def reference_of(dataset: Dataset, network: FeatureNetwork) -> Reference:
    """The features of a data set, to measure against."""
    return Reference(name_of(dataset), network.name, network.weights, see_all(network, dataset).features)


# --- of samples, from noise to features in one program: they never reach the host ---


def evaluations(sampler: AbstractSampler, shape: tuple[int, ...]) -> int:
    """Evaluations of the network per sample, counted in the sampler's program."""

    class Counted:
        def __init__(self, function: Callable[..., Any]):
            self.endpoint = self.denoise = function

    return count_evaluations(lambda f: sampler(Counted(f), jnp.zeros(shape), key=jr.key(0)))


@eqx.filter_jit
def _see_chunk(
    sampler: AbstractSampler,
    model: Any,
    network: FeatureNetwork,
    shape: tuple[int, ...],
    quantise: Quantise,
    key: Any,
    indices: Any,
    mesh: Mesh,
    told: Conditions | None,
) -> Any:
    model = keep_whole(model, mesh)

    def one(index: Any) -> Any:
        z, sampler_key = draw_start(shape, index, key=key)
        bound = model if told is None else told.bind(model, index)
        return see(network, sampler(bound, z, key=sampler_key), quantise)

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
    conditions: Conditions | None = None,
    between: Callable[[], None] = lambda: None,
) -> Extracted:
    """Features of `n` samples, those of `draw_samples` with the same key, in one program over all devices of `mesh`.

    `model` and `network` are placed there; every process of a run calls this together. `conditions` are what samples
    are drawn under. `between` is called before each
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
        parts.append(_see_chunk(sampler, model, network, shape, quantise, key, placed, mesh, conditions))
    features, probabilities = jax.tree.map(lambda *leaves: np.concatenate([*map(np.asarray, leaves)])[:n], *parts)
    bad = int(np.sum(~np.isfinite(features).all(1)))
    if bad:
        raise ValueError(f"samples: expected finite numbers, found {bad} of {n} that are not")
    wanted = None if conditions is None else conditions.classes(n)
    return Extracted(features, probabilities if network.logits else None, wanted)
