"""`equisct-eval model|images|stats|compare`: how good samples are, as records that say how they were made."""

import dataclasses
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, Literal

import tyro

from ..._base.check import check_at_least
from ..runs.exits import refusing_wrong_input, stopping_cleanly
from ..settings.data import Reading, check_images
from ..settings.features import MEASURES, Metric, Network, check_network
from .next_step import check_run
from .plugins import load_plugins
from .sample import SamplerChoice, check_walk
from .words import read_one_of
from .xla import begin_jax

PROGRAM = "equisct-eval"

DESCRIPTION = """Measure samples against data, in the features of a frozen network, for example

  equisct-eval model runs/digits --n 1797
  equisct-eval stats digits --out digits.npz
  equisct-eval images photos --ref digits.npz --out photos.json
  equisct-eval compare a.json b.json
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measuring(Network):
    """What is measured."""

    metrics: tuple[Metric, ...] = MEASURES
    """Which figures; see docs/evaluation.md."""
    out: pathlib.Path | None = None
    """JSON file for the record; its figures are printed in any case."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelOptions(SamplerChoice, Measuring):
    """Draw samples from a run and measure them, on the device from noise to features."""

    run: tyro.conf.Positional[pathlib.Path]
    """Folder of a run of equisct-train."""
    ref: pathlib.Path | None = None
    """File of equisct-eval stats; default the run's own data."""
    n: int = 10_000
    """Number of samples."""
    seeds: tuple[int, ...] = (0,)
    """Seeds of the noise; the figures of several are given as mean and standard deviation."""
    ema: Literal["ema", "model"] = "ema"
    """Averaged or current weights of the model."""
    step: int | None = None
    """Updates done at the checkpoint to load; default the newest that is whole."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImagesOptions(Reading, Measuring):
    """Measure images or vectors that are there already."""

    path: tyro.conf.Positional[pathlib.Path]
    """Folder or zip of images, .npz (of equisct-sample too), IDX, CIFAR-10 or .array_record; or the word digits."""
    ref: pathlib.Path | None = None
    """File of equisct-eval stats; needed."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class StatsOptions(Reading, Network):
    """Write the features of a data set into a file to measure against."""

    path: tyro.conf.Positional[pathlib.Path]
    """Folder or zip of images, .npz, IDX, CIFAR-10 or .array_record; or the word digits."""
    out: pathlib.Path = pathlib.Path("reference.npz")
    """File to write."""


@dataclasses.dataclass(frozen=True)
class CompareOptions:
    """Put records side by side, if they were made alike."""

    records: tyro.conf.Positional[tuple[pathlib.Path, ...]]
    """JSON files of this command, two or more."""


Asked = ModelOptions | ImagesOptions | StatsOptions | CompareOptions
CHOICES: dict[str, type[Asked]] = {
    "model": ModelOptions,
    "images": ImagesOptions,
    "stats": StatsOptions,
    "compare": CompareOptions,
}


def parse(arguments: Sequence[str] | None = None) -> Asked:
    """What a command line asks for, checked."""
    asked = read_one_of(CHOICES, program=PROGRAM, description=DESCRIPTION, words=arguments)
    if isinstance(asked, CompareOptions):
        if len(asked.records) < 2:
            raise ValueError(f"records: expected two or more, found {len(asked.records)}")
        return asked
    check_network("", asked)
    if isinstance(asked, Reading):
        check_images("", asked)
    suffix = ".npz" if isinstance(asked, StatsOptions) else ".json"
    if asked.out is not None and (asked.out.suffix != suffix or not asked.out.parent.is_dir()):
        raise ValueError(f"out: expected a file ending in {suffix} in a folder that is there, found {asked.out}")
    if isinstance(asked, ModelOptions):
        check_at_least("n", asked.n, 2)
        if not asked.seeds or min(asked.seeds) < 0 or len(set(asked.seeds)) < len(asked.seeds):
            raise ValueError(f"seeds: expected one or more different numbers >= 0, found {asked.seeds}")
        check_walk(asked)
        check_run("run", asked.run)
    if isinstance(asked, ImagesOptions) and asked.ref is None:
        raise ValueError("ref: expected a file of equisct-eval stats, found none")
    return asked


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the command."""
    with stopping_cleanly(PROGRAM), refusing_wrong_input(PROGRAM):
        asked = parse(arguments)
        load_plugins()
        begin_jax(devices=not isinstance(asked, CompareOptions))
        from . import evaluate_work as work

        does: dict[type, Callable[[Any], None]] = {
            ModelOptions: work.evaluate_model,
            ImagesOptions: work.evaluate_images,
            StatsOptions: work.write_statistics,
            CompareOptions: work.compare,
        }
        does[type(asked)](asked)
