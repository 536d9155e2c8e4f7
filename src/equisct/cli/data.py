"""`equisct-data check|preview|pack PATH`: look at data, find what is wrong with it, put it into one file."""

import dataclasses
import importlib
import pathlib
from collections.abc import Sequence
from typing import Annotated, Literal

import tyro

from .._check import check_at_least
from ..runs.exits import refusing_wrong_input
from ..settings.data import check_images

PROGRAM = "equisct-data"

DESCRIPTION = """Look at data: image files in a folder or zip, .npz, IDX, CIFAR-10 or .array_record.

  equisct-data check photos --size 64
  equisct-data preview photos --size 64 --out preview.png
  equisct-data pack photos --size 64 --bad skip --out photos.array_record
"""


@dataclasses.dataclass(frozen=True)
class ImageOptions:
    """How image files are read; other kinds of data need none of it."""

    path: tyro.conf.Positional[pathlib.Path]
    """Folder or file."""
    size: int | None = None
    """Side in pixels: the middle square of each image is reduced to it. Default: all images have the same size."""
    bad: Literal["error", "skip"] = "error"
    """What a file that cannot be used does: stop, or give its place to the next good one."""
    bad_limit: float = 0.01
    """Largest share of skipped files, 0 to 1."""
    index: pathlib.Path | None = None
    """What is known about the files: `check` writes it, the others believe it. Default: PATH.index.json."""


@dataclasses.dataclass(frozen=True)
class CheckOptions(ImageOptions):
    """Read everything once, name every bad file, and write an index that training trusts."""

    no_index: tyro.conf.FlagCreatePairsOff[bool] = False
    """Write no index."""


@dataclasses.dataclass(frozen=True)
class PreviewOptions(ImageOptions):
    """Draw the first batch and print the statistics of its values."""

    n: int = 64
    """Samples in the batch."""
    seed: int = 0
    """Seed of the order."""
    out: pathlib.Path = pathlib.Path("preview.png")
    """PNG file to write."""


@dataclasses.dataclass(frozen=True)
class PackOptions(ImageOptions):
    """Write the usable images into one file."""

    out: pathlib.Path = pathlib.Path("images.array_record")
    """New file to write: .array_record, read image by image, or .npz, read whole."""


Choice = (
    Annotated[CheckOptions, tyro.conf.subcommand("check")]
    | Annotated[PreviewOptions, tyro.conf.subcommand("preview")]
    | Annotated[PackOptions, tyro.conf.subcommand("pack")]
)


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
        work = importlib.import_module("equisct.cli.data_work")
        match options:
            case CheckOptions():
                work.check(options)
            case PreviewOptions():
                work.preview(options)
            case PackOptions():
                work.pack(options)
