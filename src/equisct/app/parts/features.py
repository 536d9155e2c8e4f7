"""From settings to a network of features, and the features of data sets."""

import contextlib
import importlib
import zipfile
from pathlib import Path

import numpy as np

from ..._base.batch import as_example
from ...data import Dataset, load_digits
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
from ...evaluation.features import Quantise, check_shape
from ..settings.features import INCEPTION, Network
from .data import open_data

AT_ONCE = 4096
"""Samples of a data set that are held in memory."""


def network_of(options: Network) -> FeatureNetwork:
    """The network that the options name.

    Raises:
        ValueError: if there is none, or it is no network of features.
    """
    if options.features == "digits":
        digits = load_digits()
        assert digits.labels is not None
        return train_classifier(digits.take(np.arange(digits.size)), digits.labels, name="digits")
    if options.features == "pixels":
        return pixels()
    if options.features in INCEPTION:
        assert options.weights is not None
        return load_inception(options.weights, bias=options.features != "inception")
    if options.features == "dinov2":
        assert options.weights is not None
        return load_dinov2(options.weights)
    module, _, name = options.features.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)(options.weights)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"features: expected MODULE:FUNCTION, found {options.features} ({error})") from None
    if not isinstance(found, FeatureNetwork):
        raise ValueError(f"features: expected a FeatureNetwork from {options.features}, found {type(found).__name__}")  # noqa: TRY004  (a setting)
    return found


def open_samples(path: Path) -> Dataset:
    """A data set: the samples in a file of equisct-sample as they are, of others in [-1, 1]."""
    if path.suffix == ".npz" and path.is_file():
        damage = (OSError, ValueError, zipfile.BadZipFile)  # the reader of data says what it is
        with contextlib.suppress(*damage), np.load(path, allow_pickle=False) as stored:
            if "samples" in stored:
                return _Samples(np.asarray(stored["samples"], np.float32), path.name)
    return load_digits() if str(path) == "digits" else open_data(path)


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
