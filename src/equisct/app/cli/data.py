"""`equisct-data check|preview|pack PATH`: look at data, find what is wrong with it, put it into one file. No JAX."""

import dataclasses
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from ..._base.check import check_at_least
from ..._base.files import as_path, atomic_write
from ...data import DataError, Dataset, ImageFolder, Loader, VectorSet, float_to_images, write_array_record
from ...data._picture_files import picture_files
from ...data._picture_index import default_index, scan, survey, write_index
from ...data.folder import check_survey
from ..parts.data import detect, open_data
from ..report import draw_panels
from ..runs.exits import refusing_wrong_input, writing
from ..settings.codec import with_paths
from ..settings.data import ImageFiles, check_images
from .counts import COUNTS

PROGRAM = "equisct-data"

DESCRIPTION = """Look at data: image files in a folder or zip, .npz, IDX, CIFAR-10 or .array_record.

  equisct-data check photos --size 64
  equisct-data preview photos --size 64 --out preview.png
  equisct-data pack photos --size 64 --bad skip --out photos.array_record
"""

PIECE = 256
"""Images in memory at a time."""


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
    options: ImageOptions = tyro.cli(Choice, prog=PROGRAM, description=DESCRIPTION, args=arguments, registry=COUNTS)  # type: ignore[arg-type]
    options = with_paths(options, as_path)
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


def open_images(options: ImageOptions) -> Dataset:
    """The data set that the options name.

    Raises:
        DataError: if nothing usable is there.
    """
    known = {name: getattr(options, name) for name in ("size", "bad", "bad_limit", "index")}
    return open_data(options.path, **known)


def check(options: CheckOptions) -> None:
    """Reads everything, says what is there, and writes an index for image files.

    Raises:
        DataError: if the data cannot be used, or holds more bad files than the options allow.
    """
    if detect(options.path) is not ImageFiles:
        dataset = open_images(options)
        for _ in _pieces(dataset, np.arange(dataset.size)):  # what cannot be read, it says
            pass
        print(_summary(dataset.size, dataset.shape))
        return
    files = picture_files(options.path)
    entries = scan(files)
    found = survey(entries, options.size)
    for name, reason in found.bad:
        print(f"bad: {ascii(name)}: {reason}")
    print(_summary(len(found.good), found.shape))
    print(f"bad files: {len(found.bad):,}; files of other kinds, left alone: {files.ignored:,}")
    if not options.no_index:
        index = options.index or default_index(options.path)
        with writing(index):
            write_index(entries, index)
        print(f"wrote {index}")
    check_survey(found, options.path, bad=options.bad, bad_limit=options.bad_limit)


def _summary(count: int, shape: tuple[int, ...]) -> str:
    if len(shape) == 1:
        return f"{count:,} vectors of {shape[0]} numbers"
    channels, height, width = shape
    return f"{count:,} images of {width} x {height} pixels, {channels} channel{'s' if channels > 1 else ''}"


def _pieces(dataset: Dataset, indices: np.ndarray) -> Iterator[np.ndarray]:
    for first in range(0, len(indices), PIECE):
        yield dataset.take(indices[first : first + PIECE])


def preview(options: PreviewOptions) -> None:
    """Draws the first batch, and prints range, mean and standard deviation of each channel, as the model sees them."""
    dataset = open_images(options)
    x = Loader(dataset, min(options.n, dataset.size), seed=options.seed).batch(0)
    with writing(options.out):
        draw_panels({f"{len(x)} of {dataset.size:,}": x}, options.out)
    print(_summary(dataset.size, dataset.shape))
    for channel, values in enumerate(np.moveaxis(x, 1, 0).astype(np.float64)):
        low, high, mean, std = values.min(), values.max(), values.mean(), values.std()
        print(f"channel {channel}: {low:.4f} to {high:.4f}, mean {mean:.4f}, standard deviation {std:.4f}")
    print(f"all: standard deviation {x.std(dtype=np.float64):.4f}")
    print(f"wrote {options.out}")


def pack(options: PackOptions) -> None:
    """Writes the usable images into one new file.

    Raises:
        DataError: if the data cannot be used, or the file is there already.
    """
    if options.out.exists():
        raise DataError(options.out, "a file that is there already", "a new name")
    dataset = open_images(options)
    if isinstance(dataset, VectorSet) or len(dataset.shape) != 3:
        raise DataError(options.path, _summary(dataset.size, dataset.shape), "images")
    indices = dataset.good if isinstance(dataset, ImageFolder) else np.arange(dataset.size)
    images = map(float_to_images, _pieces(dataset, indices))
    with writing(options.out):
        if options.out.suffix == ".npz":
            _write_npz(options.out, images, getattr(dataset, "labels", None))
        else:
            write_array_record(options.out, images, count=len(indices))
    print(_summary(len(indices), dataset.shape))
    print(f"wrote {options.out}")


def _write_npz(out: pathlib.Path, images: Iterator[np.ndarray], labels: np.ndarray | None) -> None:
    """An archive that `load_npz` reads."""
    arrays: dict[str, Any] = {"images": np.concatenate(list(images))} | ({} if labels is None else {"labels": labels})
    atomic_write(out, lambda place: np.savez_compressed(place, **arrays))


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the command."""
    with refusing_wrong_input(PROGRAM):
        options = parse(arguments)
        does: dict[type, Callable[[Any], None]] = {CheckOptions: check, PreviewOptions: preview, PackOptions: pack}
        does[type(options)](options)
