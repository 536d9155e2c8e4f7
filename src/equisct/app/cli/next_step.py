"""What a person does next: commands that work as they are printed, and the folders of runs that may be meant."""

import os
import pathlib
import shlex
import shutil
import sys

from ..._base.check import did_you_mean
from ..runs.folder import CONFIG


def as_typed(program: str, *words: object) -> str:
    """The command line of a program of this installation: by its path where its name alone would not be found."""
    began = pathlib.Path(sys.argv[0])
    place = began.parent if began.name.startswith("equisct-") else pathlib.Path(sys.executable).parent
    found = shutil.which(program)
    if found and os.path.realpath(os.path.dirname(found)) == os.path.realpath(place):
        command = [program]
    elif (place / program).is_file():
        command = [str(place / program)]
    else:
        command = [sys.executable, "-m", "equisct", program.removeprefix("equisct-")]
    return shlex.join([*command, *map(str, words)])


def check_run(option: str, path: pathlib.Path) -> None:
    """Raises `ValueError`, naming the option, unless the path is the folder of a run; says which may be meant."""
    if (path / CONFIG).is_file():
        return
    above = [each for each in path.absolute().parents[:3] if (each / CONFIG).is_file()]
    with_runs = (path, path.parent, pathlib.Path("runs"))
    beside = {str(each.parent) for folder in with_runs for each in folder.glob(f"*/{CONFIG}")}
    hint = f"; did you mean {os.path.relpath(above[0])}?" if above else did_you_mean(str(path), sorted(beside))
    if not hint and beside:
        hint = f"; there are {', '.join(sorted(beside)[:5])}"
    found = f"none in {path}" if path.exists() else f"nothing at {path}"
    raise ValueError(
        f"{option}: expected the folder of a run of equisct-train, with {CONFIG}, found {found}"
        f"{hint or '; equisct-train digits makes one'}"
    )
