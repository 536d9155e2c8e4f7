"""All figures of a set of samples against a reference, and which records may be compared."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .._base.check import is_refusal
from .agreement import agreement
from .features import Extracted
from .frechet import frechet_at_infinity, frechet_distance
from .inception_score import inception_score
from .kernel import kernel_distance
from .neighbours import density_coverage, memorised_share, nearest, precision_recall
from .reference import Reference
from .vectors import energy_distance, sliced_wasserstein

FEW = 10_000
"""Samples below which a Fréchet distance is mostly its bias."""

PIPELINE = ("network", "weights", "reference", "samples", "quantised")
"""What two records must share for their figures to be compared."""


def _scored(found: Extracted) -> dict[str, float]:
    if found.probabilities is None:
        raise ValueError("metrics: expected a network with classes for the Inception score, found one without")
    score = inception_score(found.probabilities)
    return {"inception_score": score.mean, "inception_score_std": score.std}


def _kernel(found: Extracted, reference: Reference) -> dict[str, float]:
    estimate = kernel_distance(reference.features, found.features)
    return {"kernel_distance": estimate.value, "kernel_distance_error": estimate.standard_error}


def _agreed(found: Extracted) -> dict[str, float]:
    if found.probabilities is None or found.wanted is None:
        lacks = "a network with classes" if found.probabilities is None else "samples drawn under classes"
        raise ValueError(f"metrics: expected {lacks} for the agreement, found none")
    return {"agreement": agreement(found.probabilities, found.wanted)}


METRICS: dict[str, Callable[[Extracted, Reference], dict[str, float]]] = {
    "frechet": lambda s, r: {"frechet_distance": frechet_distance(r.features, s.features)},
    "frechet-infinity": lambda s, r: {"frechet_distance_at_infinity": frechet_at_infinity(r.features, s.features)},
    "kernel": _kernel,
    "precision-recall": lambda s, r: precision_recall(r.features, s.features)._asdict(),
    "density-coverage": lambda s, r: density_coverage(r.features, s.features)._asdict(),
    "memorised": lambda s, r: {"memorised_share": memorised_share(nearest(r.features, s.features))},
    "inception-score": lambda s, r: _scored(s),
    "agreement": lambda s, r: _agreed(s),
    "wasserstein": lambda s, r: {"sliced_wasserstein": sliced_wasserstein(r.features, s.features)},
    "energy": lambda s, r: {"energy_distance": energy_distance(r.features, s.features)},
}
"""By their names on the command line."""


NAMES_IN_INCEPTION = {
    "frechet_distance": "fid",
    "frechet_distance_at_infinity": "fid_at_infinity",
    "kernel_distance": "kid",
    "kernel_distance_error": "kid_error",
}
"""These names are those of distances in the public network's features alone."""


def measure(samples: Extracted, reference: Reference, metrics: Sequence[str]) -> dict[str, float]:
    """The figures of `metrics`, names of `METRICS`; in features of `inception-2015`, FID and KID by their names.

    Raises:
        ValueError: for an unknown name, or samples that a metric refuses; names it.
    """
    reference.check_width(samples.features.shape[1])
    figures: dict[str, float] = {}
    for name in metrics:
        if name not in METRICS:
            raise ValueError(f"metrics: expected some of {', '.join(METRICS)}, found {name}")
        try:
            figures |= METRICS[name](samples, reference)
        except ValueError as error:
            if str(error).startswith("metrics: ") or not is_refusal(error):
                raise
            step = "measure more samples (n), or leave this one out of metrics"
            raise ValueError(f"metrics: {name}: {error}; {step}") from None
    public = reference.network.startswith("inception-2015")
    return {NAMES_IN_INCEPTION.get(name, name) if public else name: value for name, value in figures.items()}


def warnings_of(samples: Extracted) -> list[str]:
    """What is to be said of the figures of so few samples."""
    n, d = samples.features.shape
    said = []
    if n < FEW:
        said.append(f"{n:,} samples, fewer than {FEW:,}: distances are biased upwards; compare only equal numbers")
    if n <= d:
        said.append(f"{n:,} samples, no more than the {d:,} features: the covariance has not full rank")
    return said


def check_comparable(records: Mapping[str, dict[str, Any]]) -> None:
    """Raises `ValueError`, naming the first part that differs, unless all records share their pipeline.

    Args:
        records: by their names, each with `pipeline`.
    """
    short = lambda value: f"{value:.12}" if isinstance(value, str) and len(value) == 64 else str(value)
    for first, other in itertools.pairwise(records):
        for part in PIPELINE:
            a, b = (records[name]["pipeline"][part] for name in (first, other))
            if a != b:
                raise ValueError(f"{part}: expected that of {first}, {short(a)}, found {short(b)} in {other}")
