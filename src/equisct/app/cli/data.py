"""`equisct-data check|preview|pack PATH`: look at data, find what is wrong with it, put it into one file."""

import pathlib
from collections.abc import Sequence

import tyro

from ..._base.check import check_at_least
from ..runs.exits import refusing_wrong_input
from ..settings.data import check_images
from .data_options import CheckOptions, Choice, ImageOptions, PackOptions, PreviewOptions

PROGRAM = "equisct-data"

DESCRIPTION = """Look at data: image files in a folder or zip, .npz, IDX, CIFAR-10 or .array_record.

  equisct-data check photos --size 64
  equisct-data preview photos --size 64 --out preview.png
  equisct-data pack photos --size 64 --bad skip --out photos.array_record
"""


def parse(arguments: Sequence[str] | None = None) -> ImageOptions:
    """What a command line asks for, checked; exits with code 2 and one message if it is wrong."""
    options: ImageOptions = tyro.cli(Choice, prog=PROGRAM, description=DESCRIPTION, args=arguments)  # type: ignore[arg-type]
    check_images("", options.size, options.bad_limit)
    if isinstance(options, CheckOptions) and options.no_index and options.index is not None:
        raise ValueError(f"index: expected none with --no-index, found {options.index}")
    if isinstance(options, PreviewOptions):
        check_at_least("n", options.n, 1)
        check_at_least("seed", options.seed, 0)
        _check_suffix(options.out, (".png",))
    if isinstance(options, PackOptions):
        _check_suffix(options.out, (".array_record", ".npz"))
    return options


def _check_suffix(out: pathlib.Path, allowed: tuple[str, ...]) -> None:
    if out.suffix not in allowed:
        raise ValueError(f"out: expected a file ending in {' or '.join(allowed)}, found {out}")
    if not out.parent.is_dir():
        raise ValueError(f"out: expected a folder at {out.parent}, found none")


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the command."""
    with refusing_wrong_input(PROGRAM):
        options = parse(arguments)
        from . import data_work as work

        match options:
            case CheckOptions():
                work.check(options)
            case PreviewOptions():
                work.preview(options)
            case PackOptions():
                work.pack(options)
