"""`equisct-train PRESET [--group.field VALUE ...]`: JAX is imported only after the command line has been understood."""

import dataclasses
import importlib
import pathlib
import sys
from collections.abc import Sequence

import tyro

from ..data import Loader
from .config import Config, check
from .exits import refusing_wrong_input, stopping_cleanly
from .presets import PRESETS
from .source import load_data
from .xla import prefer_quick_compilation

PROGRAM = "equisct-train"

DESCRIPTION = """Train a consistency model with a score head (score-guided consistency training).

Choose a preset, then change what you like, for example

  equisct-train digits
  equisct-train digits --run.steps 2000 --method.head-weight 0.1
  equisct-train cifar10 --data.path cifar-10-batches-bin
"""


def parse(arguments: Sequence[str] | None = None) -> Config:
    """The configuration of a command line, checked; exits with code 2 and one message if it is wrong."""
    choices = tyro.extras.subcommand_type_from_defaults(
        {name: config for name, (_, config) in PRESETS.items()},
        {name: text for name, (text, _) in PRESETS.items()},
    )
    config = tyro.cli(
        tyro.conf.AvoidSubcommands[choices],  # type: ignore[valid-type]
        prog=PROGRAM,
        description=DESCRIPTION,
        args=arguments,
    )
    check(config)
    return config


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the command."""
    with refusing_wrong_input(PROGRAM):
        config = parse(arguments)
        dataset = load_data(config.data, seed=config.run.seed)
        Loader(dataset, config.run.batch, seed=config.run.seed)
        prefer_quick_compilation()
        run = importlib.import_module("equisct.cli.run")  # only now: this imports JAX
        mesh = run.choose_mesh(config)
        run.build_recipe(config)
        run.build_by_shape(config, dataset)
        folder: pathlib.Path = run.choose_folder(config)
    with stopping_cleanly(PROGRAM):
        config = dataclasses.replace(config, run=dataclasses.replace(config.run, dir=folder))
        run.write_config(config, [PROGRAM, *(sys.argv[1:] if arguments is None else arguments)], folder)
        print(f"run folder: {folder}", file=sys.stderr)
        run.train(config, dataset, mesh, folder)
        print(f"done: samples, curves.png, metrics.jsonl and checkpoints are in {folder}")
