"""The work of `equisct-eval`: what is measured, and the records of it."""

import importlib.metadata
import json
import time
from pathlib import Path
from typing import Any

import jax.random as jr

from ..._base.files import atomic_write
from ...evaluation import (
    Extracted,
    FeatureNetwork,
    Reference,
    check_comparable,
    load_reference,
    measure,
    save_reference,
    spread,
)
from ...evaluation.features import check_shape
from ...evaluation.measure import warnings_of
from ...train import data_mesh
from ...train.placement import place
from ..parts.condition_size import NONE, kind_of
from ..parts.conditions import conditions_of_data
from ..parts.data import load_data
from ..parts.features import draw_features, evaluations, name_of, network_of, open_samples, reference_of, see_all
from ..runs.stored import load_run, weights_hash
from ..settings.features import Network
from .evaluate import CompareOptions, ImagesOptions, Measuring, ModelOptions, StatsOptions
from .sample_work import choose_sampler, with_guidance

FORMAT = "equisct-eval-1"


# --- files of features ---


def write_statistics(options: StatsOptions) -> None:
    """`equisct-eval stats`."""
    dataset = open_samples(options.path, options)
    network = network_of(options, name_of(dataset), dataset.shape)
    found = reference_of(dataset, network)
    save_reference(options.out, found)
    n, d = found.features.shape
    print(f"wrote {d} features ({network.name}) of {n:,} samples of {found.data} to {options.out}")


def _network_against(reference: Reference, options: Network, shape: tuple[int, ...]) -> FeatureNetwork:
    """The network asked for; of `auto`, that of the reference."""
    if options.features == "auto" and reference.network not in ("digits", "pixels"):
        raise ValueError(f"features: expected the name of the reference's network, {reference.network}, found auto")
    network = network_of(options, reference.network, shape)
    reference.check_of(network)
    reference.check_width(check_shape(network, shape))
    return network


# --- records ---


def _record(
    options: Measuring, network: FeatureNetwork, reference: Reference, found: list[Extracted], **made: Any
) -> dict[str, Any]:
    """What was measured, how, and with what."""
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
    weights = f" ({pipeline['weights'][:12]})" if pipeline["weights"] else ""
    print(
        f"{pipeline['samples']:,} samples against {reference['samples']:,} of {reference['data']}, in features of "
        f"{pipeline['network']}{weights}"
    )
    for warning in record["warnings"]:
        print(f"warning: {warning}")
    if out is not None:
        record["figures"] = {
            name: {key: value for key, value in each.items() if value == value}
            for name, each in record["figures"].items()
        }  # JSON has no NaN: of a single run there is no spread
        atomic_write(out, json.dumps(record, indent=2, allow_nan=False) + "\n")
        print(f"wrote {out}")


def evaluate_images(options: ImagesOptions) -> None:
    """`equisct-eval images`."""
    assert options.ref is not None
    reference, dataset = load_reference(options.ref), open_samples(options.path, options)
    network = _network_against(reference, options, dataset.shape)
    found = see_all(network, dataset, options.quantise)
    _tell(_record(options, network, reference, [found], images=name_of(dataset)), options.out)


def evaluate_model(options: ModelOptions) -> None:
    """`equisct-eval model`."""
    stored = load_run(options.run, options.step)
    sampler = choose_sampler(options, stored)
    dataset = None
    if kind_of(stored.config) != NONE or not options.ref:
        dataset = load_data(stored.config.data, seed=stored.config.run.seed, prefix="equisct-train's --data.")
    told = with_guidance(None if dataset is None else conditions_of_data(dataset), options, stored, sampler)
    if options.ref:
        reference = load_reference(options.ref)
        network = _network_against(reference, options, stored.shape)
    else:
        assert dataset is not None
        asked = stored.config.eval if options.features == "auto" and stored.config.eval.every else options
        network = network_of(asked, name_of(dataset), stored.shape)
        reference = reference_of(dataset, network)
    mesh = data_mesh()
    model, network = place((stored.ema if options.ema == "ema" else stored.model, network), mesh)
    begin = time.monotonic()
    found = [
        draw_features(
            sampler, model, stored.shape, options.n, network, options.quantise,
            key=jr.key(seed), mesh=mesh, conditions=told,
        )
        for seed in options.seeds
    ]  # fmt: skip
    made = {
        "run": options.run.name,
        "model": weights_hash(model),
        "weights": options.ema,
        "average": stored.config.ema.rule,
        "updates": stored.step,
        "sampler": sampler.name,
        "guidance": 1.0 if options.guidance is None else options.guidance,
        "evaluations": evaluations(sampler, stored.shape),
        "seeds": list(options.seeds),
    }
    rate = len(options.seeds) * options.n / (time.monotonic() - begin)
    _tell(_record(options, network, reference, found, **made), options.out)
    print(f"{rate:,.0f} samples/s from noise to features, compilation included")


# --- comparing ---


def compare(options: CompareOptions) -> None:
    """`equisct-eval compare`."""
    records = {str(path): _read(path) for path in options.records}
    check_comparable(records)
    names = list(dict.fromkeys(name for record in records.values() for name in record["figures"]))
    print("| record | " + " | ".join(names) + " |")
    print("|---" * (len(names) + 1) + "|")
    for path, record in records.items():
        print(f"| {path} | " + " | ".join(_cell(record["figures"].get(name, {})) for name in names) + " |")


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
