"""What `equisct-eval` can be asked for; free of JAX."""

import dataclasses
import pathlib
from typing import Annotated, Literal

import tyro

from ..settings.features import MEASURES, Metric, Network
from .sample_options import SamplerName


@dataclasses.dataclass(frozen=True)
class Measuring(Network):
    """What is measured."""

    metrics: tuple[Metric, ...] = MEASURES
    """Which figures; see docs/evaluation.md."""
    out: pathlib.Path | None = None
    """JSON file for the record; its figures are printed in any case."""


@dataclasses.dataclass(frozen=True)
class ModelOptions(Measuring):
    """Draw samples from a run and measure them, on the device from noise to features."""

    run: tyro.conf.Positional[pathlib.Path] = pathlib.Path()
    """Folder of a run of equisct-train."""
    ref: pathlib.Path | None = None
    """File of equisct-eval stats; default the run's own data."""
    n: int = 10_000
    """Number of samples."""
    seeds: tuple[int, ...] = (0,)
    """Seeds of the noise; the figures of several are given as mean and standard deviation."""
    sampler: SamplerName | None = None
    """As in equisct-sample. Default: the method's own, such as one-step."""
    levels: tuple[float, ...] = ()
    """Noise levels after the first, descending, for multistep; for two-step, one in place of the run's own."""
    steps: int | None = None
    """Steps of heun, euler or ddim."""
    ema: Literal["ema", "model"] = "ema"
    """Averaged or current weights of the model."""
    step: int | None = None
    """Updates done at the checkpoint to load; default the newest that is whole."""


@dataclasses.dataclass(frozen=True)
class ImagesOptions(Measuring):
    """Measure images or vectors that are there already."""

    path: tyro.conf.Positional[pathlib.Path] = pathlib.Path()
    """Folder or zip of images, .npz (of equisct-sample too), IDX, CIFAR-10 or .array_record; or the word digits."""
    ref: pathlib.Path | None = None
    """File of equisct-eval stats; needed."""


@dataclasses.dataclass(frozen=True)
class StatsOptions(Network):
    """Write the features of a data set into a file to measure against."""

    path: tyro.conf.Positional[pathlib.Path] = pathlib.Path()
    """Folder or zip of images, .npz, IDX, CIFAR-10 or .array_record; or the word digits."""
    out: pathlib.Path = pathlib.Path("reference.npz")
    """File to write."""


@dataclasses.dataclass(frozen=True)
class CompareOptions:
    """Put records side by side, if they were made alike."""

    records: tyro.conf.Positional[tuple[pathlib.Path, ...]]
    """JSON files of this command, two or more."""


Choice = (
    Annotated[ModelOptions, tyro.conf.subcommand("model")]
    | Annotated[ImagesOptions, tyro.conf.subcommand("images")]
    | Annotated[StatsOptions, tyro.conf.subcommand("stats")]
    | Annotated[CompareOptions, tyro.conf.subcommand("compare")]
)
Asked = ModelOptions | ImagesOptions | StatsOptions | CompareOptions
