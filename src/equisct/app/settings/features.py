"""What figures are taken of samples, and in whose features: for `equisct-eval` and for runs that train. Free of JAX."""

import dataclasses
import pathlib
from typing import Literal

from ..._base.check import check_at_least, did_you_mean
from ..._base.defaults import AVERAGE, CURRENT

Metric = Literal[
    "frechet",
    "frechet-infinity",
    "kernel",
    "precision-recall",
    "density-coverage",
    "memorised",
    "inception-score",
    "agreement",
    "wasserstein",
    "energy",
]
MEASURES: tuple[Metric, ...] = ("frechet", "kernel", "precision-recall", "density-coverage", "memorised")

_INCEPTION = ("the Inception network", "pt_inception-2015-12-05-6726825d.pth")
BROUGHT: dict[str, tuple[str, str]] = {
    "inception": _INCEPTION,
    "inception-with-bias": _INCEPTION,
    "dinov2": ("DINOv2", "dinov2_vitl14_pretrain.pth"),
}
"""Networks whose weights the user brings: what they are called, and their file."""


@dataclasses.dataclass(frozen=True)
class Network:
    """How features are taken."""

    features: str = "auto"
    """Network of features: auto (digits for the digits, pixels for other data, or the reference's), digits (a small
    classifier, trained on them when it is needed), pixels (the sample itself), inception (FID's, its score without the
    bias) or inception-with-bias, dinov2, or MODULE:FUNCTION of your own, which takes the path of the weights and
    returns a FeatureNetwork."""
    weights: pathlib.Path | None = None
    """File of its weights: of inception and dinov2 the public checkpoint (.pth or .safetensors); or what your own
    takes."""
    quantise: Literal["round", "truncate", "none"] = "round"
    """8 bits for images, as a file would hold them: the nearest level, the next lower one, or as they are."""


@dataclasses.dataclass(frozen=True)
class Eval(Network):
    """Evaluation while training: samples, always from the same noise, against the data."""

    every: int = 0
    """Updates between evaluations, the last at the end; 0 evaluates never."""
    n: int = 1_000
    """Samples of each of the weights by each of the method's own samplers."""
    metrics: tuple[Metric, ...] = ("frechet",)
    """Which figures; see docs/evaluation.md."""
    ref: pathlib.Path | None = None
    """File of equisct-eval stats to measure against; default the run's own data."""
    of: tuple[str, ...] = (AVERAGE,)
    """Whose samples: ema (the average), model (the current weights), or further averages by their numbers in ema.decays
    and ema.stds, such as ema model 0.05; always from the same noise."""


def check_network(group: str, asked: Network) -> None:
    """Raises `ValueError`, naming the setting after `group`, unless the settings name a network and what it needs."""
    check_name(group, asked.features)
    if asked.features in BROUGHT and asked.weights is None:
        what, file = BROUGHT[asked.features]
        hint = f"({file}; this library downloads nothing)"
        raise ValueError(f"{group}weights: expected the public checkpoint of {what}, found none {hint}")
    if asked.weights is not None and (asked.features in ("auto", "digits", "pixels") or not asked.weights.is_file()):
        raise ValueError(
            f"{group}weights: expected a file that is there, with inception, dinov2 or your own, found {asked.weights}"
        )


def check_name(group: str, features: str) -> None:
    """Raises `ValueError`, naming the setting after `group`, unless this can be a network's name."""
    if not (features in ("auto", "digits", "pixels", *BROUGHT) or ":" in features):
        raise ValueError(
            f"{group}features: expected digits, pixels, inception, dinov2 or MODULE:FUNCTION, or auto, found {features}"
            f"{did_you_mean(features, ('auto', 'digits', 'pixels', *BROUGHT))}"
        )


def check_eval(asked: Eval, kept: tuple[str, ...]) -> None:
    """Raises `ValueError`, naming the setting, at the first that is out of its range; `kept` are further averages."""
    check_at_least("eval.every", asked.every, 0)
    check_at_least("eval.n", asked.n, 16)
    check_name("eval.", asked.features)
    if asked.every:
        check_network("eval.", asked)
        if not asked.metrics:
            raise ValueError("eval.metrics: expected one or more with eval.every, found none")
    known = (AVERAGE, CURRENT, *kept)
    if not asked.of or len(set(asked.of)) < len(asked.of) or not set(asked.of) <= set(known):
        found = " ".join(asked.of) or "none"
        raise ValueError(
            f"eval.of: expected one or more of {', '.join(dict.fromkeys(known))}, each once, found {found} "
            "(numbers are those of ema.decays and ema.stds)"
        )
