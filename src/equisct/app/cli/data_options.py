"""What `equisct-data` can be asked for; free of JAX."""

import dataclasses
import pathlib
from typing import Annotated, Literal

import tyro


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
