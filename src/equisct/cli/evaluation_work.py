"""The work of `equisct-eval`: what is measured, and the records of it."""

import contextlib
import importlib
import importlib.metadata
import json
import time
import zipfile
from pathlib import Path
from typing import Any

import jax.random as jr
import numpy as np

from .._replace import replace_file
from ..data import Dataset, PairSet, load_digits
from ..evaluation import (
    Extracted,
    FeatureNetwork,
    Reference,
    check_comparable,
    extract,
    load_inception,
    load_reference,
    measure,
    pixels,
    save_reference,
    spread,
    train_classifier,
)
from ..evaluation.features import Quantise, check_shape
from ..evaluation.measure import warnings_of
from .data import ImageOptions
from .data_work import open_images
from .draw import choose_sampler
from .draw_features import draw_features, evaluations
from .evaluate import INCEPTION, CompareOptions, ImagesOptions, Measuring, ModelOptions, Network, StatsOptions
from .source import load_data
from .stored import Stored, load_run, weights_hash

FORMAT = "equisct-eval-1"


# --- what features are taken of ---


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
    module, _, name = options.features.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)(options.weights)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"features: expected MODULE:FUNCTION, found {options.features} ({error})") from None
    if not isinstance(found, FeatureNetwork):
        raise ValueError(f"features: expected a FeatureNetwork from {options.features}, found {type(found).__name__}")  # noqa: TRY004
    return found


def _open(path: Path) -> tuple[str, np.ndarray]:
    """The name and all samples of a data set: of a file of equisct-sample as they are, of others in [-1, 1]."""
    if path.suffix == ".npz" and path.is_file():
        damage = (OSError, ValueError, zipfile.BadZipFile)  # the reader of data says what it is
        with contextlib.suppress(*damage), np.load(path, allow_pickle=False) as stored:
            if "samples" in stored:
                return path.name, np.asarray(stored["samples"], np.float32)
    dataset = load_digits() if str(path) == "digits" else open_images(ImageOptions(path))
    return _whole(dataset)


def _whole(dataset: Dataset) -> tuple[str, np.ndarray]:
    return str(getattr(dataset, "name", "data")), dataset.take(np.arange(dataset.size))


def _see(network: FeatureNetwork, samples: np.ndarray, quantise: Quantise = "none") -> Extracted:
    check_shape(network, samples.shape[1:])
    return extract(network, samples, quantise=quantise)


def write_statistics(options: StatsOptions) -> None:
    """`equisct-eval stats`."""
    network = network_of(options)
    name, samples = _open(options.path)
    found = Reference(name, network.name, network.weights, _see(network, samples).features)
    save_reference(options.out, found)
    n, d = found.features.shape
    print(f"wrote {d} features ({network.name}) of {n:,} samples of {name} to {options.out}")


# --- records ---


def _record(
    options: Measuring, network: FeatureNetwork, reference: Reference, found: list[Extracted], **made: Any
) -> dict[str, Any]:
    """What was measured, how, and with what."""
    if (reference.network, reference.weights) != (network.name, network.weights):
        raise ValueError(
            f"ref: expected features of {network.name} ({network.weights[:12]}), "
            f"found those of {reference.network} ({reference.weights[:12]})"
        )
    figures = [measure(each, reference, options.metrics) for each in found]
    versions = {name: importlib.metadata.version(name) for name in ("jax", "numpy", "equinox")}
    return {
        "format": FORMAT,
        "figures": {name: spread([each[name] for each in figures])._asdict() for name in figures[0]},
        "pipeline": {
            "network": network.name,
            "weights": network.weights,
            "reference": reference.hash,
            "samples": len(found[0].features),
            "quantised": options.quantise,
        },
        "reference": {"data": reference.data, "samples": len(reference.features)},
        "made": made,
        "software": versions,
        "warnings": warnings_of(found[0]),
    }


def _tell(record: dict[str, Any], out: Path | None) -> None:
    pipeline, several = record["pipeline"], any(each["runs"] > 1 for each in record["figures"].values())
    for name, each in record["figures"].items():
        print(f"{name:32} {each['mean']:.6g}" + (f" ± {each['std']:.2g}" if several else ""))
    reference = record["reference"]
    print(
        f"{pipeline['samples']:,} samples against {reference['samples']:,} of {reference['data']}, in features of "
        f"{pipeline['network']} ({pipeline['weights'][:12]})"
    )
    for warning in record["warnings"]:
        print(f"warning: {warning}")
    if out is not None:
        record["figures"] = {
            name: {key: value for key, value in each.items() if value == value}
            for name, each in record["figures"].items()
        }  # JSON has no NaN: of a single run there is no spread
        replace_file(out, json.dumps(record, indent=2, allow_nan=False) + "\n")
        print(f"wrote {out}")


def evaluate_images(options: ImagesOptions) -> None:
    """`equisct-eval images`."""
    assert options.ref is not None
    reference, network = load_reference(options.ref), network_of(options)
    name, samples = _open(options.path)
    found = _see(network, samples, options.quantise)
    _tell(_record(options, network, reference, [found], images=name), options.out)


def evaluate_model(options: ModelOptions) -> None:
    """`equisct-eval model`."""
    if not (options.run / "config.json").is_file():
        raise ValueError(f"run: expected a folder of equisct-train with config.json, found {options.run}")
    stored = load_run(options.run, options.step)
    title, sampler = choose_sampler(options, stored)
    network = network_of(options)
    reference = load_reference(options.ref) if options.ref else _own_reference(stored, network)
    model = stored.ema if options.ema == "ema" else stored.model
    begin = time.monotonic()
    found = [
        draw_features(sampler, model, stored.shape, options.n, network, options.quantise, key=jr.key(seed))
        for seed in options.seeds
    ]
    made = {
        "run": options.run.name,
        "model": weights_hash(model),
        "weights": options.ema,
        "average": stored.config.ema.decay,
        "updates": stored.step,
        "sampler": title,
        "evaluations": evaluations(sampler, stored.shape),
        "seeds": list(options.seeds),
    }
    rate = len(options.seeds) * options.n / (time.monotonic() - begin)
    _tell(_record(options, network, reference, found, **made), options.out)
    print(f"{rate:,.0f} samples/s from noise to features, compilation included")


def _own_reference(stored: Stored, network: FeatureNetwork) -> Reference:
    """The features of the run's own data."""
    dataset = load_data(stored.config.data, seed=stored.config.run.seed)
    name, samples = _whole(dataset)
    if isinstance(dataset, PairSet):
        samples = samples[:, 1]  # of a pair, what the teacher's sampler made
    return Reference(name, network.name, network.weights, _see(network, samples).features)


# --- comparing ---


def compare(options: CompareOptions) -> None:
    """`equisct-eval compare`."""
    records = {str(path): _read(path) for path in options.records}
    check_comparable(records)
    names = list(dict.fromkeys(name for record in records.values() for name in record["figures"]))
    print("| record | " + " | ".join(names) + " |")
    print("|---" * (len(names) + 1) + "|")
    for path, record in records.items():
        cells = [record["figures"].get(name, {}) for name in names]
        shown = [
            f"{each['mean']:.5g}" + (f" ± {each['std']:.2g}" if "std" in each else "") if each else "-"
            for each in cells
        ]
        print(f"| {path} | " + " | ".join(shown) + " |")


def _cell(figure: dict[str, Any]) -> str:
    if not figure:
        return "-"
    return f"{figure['mean']:.5g}" + (f" ± {figure['std']:.2g}" if "std" in figure else "")


def _read(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text())
        right = record["format"] == FORMAT and isinstance(record["pipeline"], dict)
        right = right and all(isinstance(each["mean"], int | float) for each in record["figures"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"records: expected a record of equisct-eval, found {path} ({error})") from None
    if not right:
        raise ValueError(f"records: expected a record of the format {FORMAT}, found {path}")
    return record
