"""`equisct-data check|preview|pack PATH`: look at data, find faults, pack it. JAX for `--support` only."""

import dataclasses
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tyro

from ..._base.check import check_at_least
from ..._base.files import atomic_write
from ...data import DataError, Dataset, ImageFolder, Loader, VectorSet, float_to_images, write_array_record
from ...data._picture_files import picture_files
from ...data._picture_index import default_index, scan, survey, write_index
from ...data.folder import check_survey, count_others
from ..parts.data import detect, open_data, speaking_of_flags
from ..report import draw_panels
from ..runs.exits import refusing_wrong_input, writing
from ..settings.data import ImageFiles, Reading, check_images
from .words import read_one_of
from .xla import begin_jax

PROGRAM = "equisct-data"

DESCRIPTION = """Look at data: image files in a folder or zip, .npz, IDX, CIFAR-10 or .array_record.

  equisct-data check photos --size 64
  equisct-data preview photos --size 64 --out preview.png
  equisct-data pack photos --size 64 --bad skip --out photos.array_record
"""

PIECE = 256
"""Images in memory at a time."""


@dataclasses.dataclass(frozen=True)
class PathOptions(Reading):
    """What is read, and how."""

    path: tyro.conf.Positional[pathlib.Path]
    """Folder or file."""


@dataclasses.dataclass(frozen=True)
class CheckOptions(PathOptions):
    """Read everything once, name every bad file, and write an index that training trusts."""

    no_index: tyro.conf.FlagCreatePairsOff[bool] = False
    """Write no index."""
    support: tyro.conf.FlagCreatePairsOff[bool] = False
    """Tell, by noise level, how many samples stand behind the posterior mean of one: where training by
    --method.velocity posterior is calmer (docs/science.md). All samples are held in memory."""


@dataclasses.dataclass(frozen=True)
class PreviewOptions(PathOptions):
    """Draw the first batch and print the statistics of its values."""

    n: int = 64
    """Samples in the batch."""
    seed: int = 0
    """Seed of the order."""
    out: pathlib.Path = pathlib.Path("preview.png")
    """PNG file to write."""


@dataclasses.dataclass(frozen=True)
class PackOptions(PathOptions):
    """Write the usable images into one file."""

    out: pathlib.Path = pathlib.Path("images.array_record")
    """New file to write: .array_record, read image by image, or .npz, read whole."""


CHOICES: dict[str, type[PathOptions]] = {"check": CheckOptions, "preview": PreviewOptions, "pack": PackOptions}


def parse(arguments: Sequence[str] | None = None) -> PathOptions:
    """What a command line asks for, checked; exits with code 2 and one message if it is wrong."""
    options = read_one_of(CHOICES, program=PROGRAM, description=DESCRIPTION, words=arguments)
    check_images("", options)
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


def check(options: CheckOptions) -> None:
    """Reads everything, says what is there, and writes an index for image files.

    Raises:
        DataError: if the data cannot be used, or holds more bad files than the options allow.
    """
    if detect(options.path) is not ImageFiles:
        dataset = open_data(options.path, options)
        for _ in _pieces(dataset, np.arange(dataset.size)):  # what cannot be read, it says
            pass
        print(summary(dataset.size, dataset.shape))
        if options.support:
            _tell_support(dataset)
        return
    files = picture_files(options.path)
    entries = scan(files)
    found = survey(entries, options.size)
    for name, reason in found.bad:
        print(f"bad: {ascii(name)}: {reason}")
    print(summary(len(found.good), found.shape))
    print(f"bad files: {len(found.bad):,}; files of other kinds, left alone: {files.ignored.total():,}")
    if left := count_others(files.ignored, pictures=True):
        print(f"pictures among them, not read: {left}")
    if not options.no_index:
        index = options.index or default_index(options.path)
        with writing(index):
            write_index(entries, index)
        print(f"wrote {index}")
    with speaking_of_flags("--"):
        check_survey(found, files, bad=options.bad, bad_limit=options.bad_limit)
    if options.support:
        _tell_support(open_data(options.path, options))


def _tell_support(dataset: Dataset) -> None:
    begin_jax()
    from ..parts.posterior import describe_support

    print(describe_support(dataset))


def summary(count: int, shape: tuple[int, ...]) -> str:
    """How many samples of which size, in words."""
    if len(shape) == 1:
        return f"{count:,} vectors of {shape[0]} numbers"
    channels, height, width = shape
    return f"{count:,} images of {width} x {height} pixels, {channels} channel{'s' if channels > 1 else ''}"


def _pieces(dataset: Dataset, indices: np.ndarray) -> Iterator[np.ndarray]:
    for first in range(0, len(indices), PIECE):
        yield dataset.take(indices[first : first + PIECE])


def preview(options: PreviewOptions) -> None:
    """Draws the first batch, and prints range, mean and standard deviation of each channel, as the model sees them."""
    dataset = open_data(options.path, options)
    x = Loader(dataset, min(options.n, dataset.size), seed=options.seed).batch(0)
    with writing(options.out):
        draw_panels({f"{len(x)} of {dataset.size:,}": x}, options.out)
    print(summary(dataset.size, dataset.shape))
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
    dataset = open_data(options.path, options)
    if isinstance(dataset, VectorSet) or len(dataset.shape) != 3:
        raise DataError(options.path, summary(dataset.size, dataset.shape), "images")
    indices = dataset.good if isinstance(dataset, ImageFolder) else np.arange(dataset.size)
    images = map(float_to_images, _pieces(dataset, indices))
    with writing(options.out):
        if options.out.suffix == ".npz":
            _write_npz(options.out, images, getattr(dataset, "labels", None))
        else:
            write_array_record(options.out, images, count=len(indices))
    print(summary(len(indices), dataset.shape))
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
