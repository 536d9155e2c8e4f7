"""The work of `equisct-data`; free of JAX."""

import contextlib
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..._base.files import atomic_write
from ...data import DataError, Dataset, ImageFolder, Loader, VectorSet, float_to_images, write_array_record
from ...data._picture_files import picture_files
from ...data._picture_index import default_index, scan, survey, write_index
from ...data.folder import check_survey
from ..assembly.detection import detect, open_data
from ..settings.data import ImageFiles
from .data_options import CheckOptions, ImageOptions, PackOptions, PreviewOptions

PIECE = 256
"""Images in memory at a time."""


def open_images(options: ImageOptions) -> Dataset:
    """The data set that the options name.

    Raises:
        DataError: if nothing usable is there.
    """
    size, bad, bad_limit, index = options.size, options.bad, options.bad_limit, options.index
    return open_data(options.path, size=size, bad=bad, bad_limit=bad_limit, index=index)


@contextlib.contextmanager
def _writing(place: pathlib.Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(place, f"a place that cannot be written ({error})", "a folder with room and rights") from error


def check(options: CheckOptions) -> None:
    """Reads everything, says what is there, and writes an index for image files.

    Raises:
        DataError: if the data cannot be used, or holds more bad files than the options allow.
    """
    if detect(options.path) is not ImageFiles:
        dataset = open_images(options)
        _read_all(dataset)
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
        with _writing(index):
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


def _read_all(dataset: Dataset) -> None:
    for _ in _pieces(dataset, np.arange(dataset.size)):
        pass


def preview(options: PreviewOptions) -> None:
    """Draws the first batch, and prints range, mean and standard deviation of each channel, as the model sees them."""
    dataset = open_images(options)
    x = Loader(dataset, min(options.n, dataset.size), seed=options.seed).batch(0)
    from ..report import draw_grids, draw_scatters

    draw = draw_grids if x.ndim == 4 else draw_scatters
    with _writing(options.out):
        draw({f"{len(x)} of {dataset.size:,}": x}, options.out)
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
    with _writing(options.out):
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
