"""What `equisct-report` can be asked for; free of JAX."""

import dataclasses
import pathlib

import tyro


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
