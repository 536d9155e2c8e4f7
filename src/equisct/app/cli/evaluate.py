"""`equisct-eval model|images|stats|compare`: how good samples are, as records that say how they were made."""

from collections.abc import Sequence

import tyro

from ..._base.check import check_at_least
from ..runs.exits import refusing_wrong_input, stopping_cleanly
from ..settings.features import check_network
from .evaluate_options import Asked, Choice, CompareOptions, ImagesOptions, ModelOptions, StatsOptions
from .plugins import load_plugins
from .sample_options import check_walk
from .xla import prefer_quick_compilation

PROGRAM = "equisct-eval"

DESCRIPTION = """Measure samples against data, in the features of a frozen network, for example

  equisct-eval model runs/digits --n 1797
  equisct-eval stats digits --out digits.npz
  equisct-eval images photos --ref digits.npz --out photos.json
  equisct-eval compare a.json b.json
"""


def parse(arguments: Sequence[str] | None = None) -> Asked:
    """What a command line asks for, checked."""
    asked: Asked = tyro.cli(Choice, prog=PROGRAM, description=DESCRIPTION, args=arguments)  # type: ignore[arg-type]
    if isinstance(asked, CompareOptions):
        if len(asked.records) < 2:
            raise ValueError(f"records: expected two or more, found {len(asked.records)}")
        return asked
    check_network("", asked)
    suffix = ".npz" if isinstance(asked, StatsOptions) else ".json"
    if asked.out is not None and (asked.out.suffix != suffix or not asked.out.parent.is_dir()):
        raise ValueError(f"out: expected a file ending in {suffix} in a folder that is there, found {asked.out}")
    if isinstance(asked, ModelOptions):
        check_at_least("n", asked.n, 2)
        if not asked.seeds or min(asked.seeds) < 0 or len(set(asked.seeds)) < len(asked.seeds):
            raise ValueError(f"seeds: expected one or more different numbers >= 0, found {asked.seeds}")
        check_walk(asked.sampler, asked.steps, asked.levels)
    if isinstance(asked, ImagesOptions) and asked.ref is None:
        raise ValueError("ref: expected a file of equisct-eval stats, found none")
    return asked


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the command."""
    with stopping_cleanly(PROGRAM), refusing_wrong_input(PROGRAM):
        asked = parse(arguments)
        load_plugins()
        prefer_quick_compilation()
        from . import evaluate_work as work

        match asked:
            case ModelOptions():
                work.evaluate_model(asked)
            case ImagesOptions():
                work.evaluate_images(asked)
            case StatsOptions():
                work.write_statistics(asked)
            case CompareOptions():
                work.compare(asked)
