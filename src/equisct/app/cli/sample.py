"""`equisct-sample RUN_DIR`: samples from a finished run, as a PNG grid or as arrays."""

from collections.abc import Sequence

import tyro

from ..runs.exits import refusing_wrong_input, stopping_cleanly
from ..tracking import redact
from .plugins import load_plugins
from .sample_options import Options, check
from .xla import prefer_quick_compilation

PROGRAM = "equisct-sample"

DESCRIPTION = """Draw samples from a run of equisct-train, for example

  equisct-sample runs/digits
  equisct-sample runs/digits --sampler two-step --n 100 --out two.png
  equisct-sample runs/digits --sampler multistep --levels 0.9 0.3 --out samples.npz
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the command."""
    with stopping_cleanly(PROGRAM), refusing_wrong_input(PROGRAM):
        options = tyro.cli(Options, prog=PROGRAM, description=DESCRIPTION, args=arguments)
        check(options)
        load_plugins()
        prefer_quick_compilation()
        from .sample_work import draw

        draw(options)
        print(f"wrote {options.n} samples to {redact(str(options.out))}")
