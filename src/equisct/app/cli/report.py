"""`equisct-report RUN [RUN ...]`: the paper's figures, samples and a comparison of runs, as one page and as files."""

import dataclasses
import pathlib
from collections.abc import Sequence

import tyro

from ..._base.check import check_at_least
from ..runs.exits import refusing_wrong_input, stopping_cleanly
from ..tracking import redact
from .next_step import check_run
from .plugins import load_plugins
from .words import read
from .xla import prefer_quick_compilation

PROGRAM = "equisct-report"

DESCRIPTION = """Write a report of one or more runs of equisct-train, for example

  equisct-report runs/digits
  equisct-report runs/ict-* runs/guided-* --out comparison.html

Runs that differ by their seed alone are taken together. The report is one HTML file that needs nothing else; its
figures lie beside it as SVG, PNG and CSV.
"""


@dataclasses.dataclass(frozen=True)
class ReportOptions:
    """What to report on, and where."""

    runs: tyro.conf.Positional[tuple[pathlib.Path, ...]]
    """Folders of runs of equisct-train."""
    out: pathlib.Path | None = None
    """HTML file to write; its figures go into a folder of the same name. Default: report.html in the first run."""
    models: bool = True
    """Load the models: for the alignment of head and consistency model, samples, and their nearest data. Without, only
    what the runs have recorded is shown, at once."""
    n: int = 1_024
    """Samples of the data for the alignment."""
    levels: int = 41
    """Noise levels there."""


def parse(arguments: Sequence[str] | None = None) -> ReportOptions:
    """What a command line asks for, checked.

    Raises:
        ValueError: names the option.
    """
    asked = read(ReportOptions, program=PROGRAM, description=DESCRIPTION, words=arguments)
    if not asked.runs:
        raise ValueError("runs: expected one or more folders of equisct-train, found none")
    for path in asked.runs:
        check_run("runs", path)
    if len({path.resolve() for path in asked.runs}) < len(asked.runs):
        raise ValueError("runs: expected each folder once, found one of them twice")
    check_at_least("n", asked.n, 2)
    check_at_least("levels", asked.levels, 2)
    out = asked.out or asked.runs[0] / "report.html"
    if out.suffix != ".html" or not out.parent.is_dir():
        raise ValueError(f"out: expected a file ending in .html in a folder that is there, found {out}")
    return dataclasses.replace(asked, out=out)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the command."""
    with stopping_cleanly(PROGRAM), refusing_wrong_input(PROGRAM):
        asked = parse(arguments)
        load_plugins()
        prefer_quick_compilation()
        from .report_work import report

        written = report(asked)
        print(f"wrote {redact(str(written))}")
