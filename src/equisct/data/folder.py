"""Pictures in a folder or a zip archive, decoded when they are asked for."""

import math
import pathlib
from collections.abc import Mapping
from typing import Literal

import numpy as np
from jaxtyping import Float32

from ._files import FilePath
from ._picture_files import ACCEPTED, OTHER_SUFFIXES, FolderFiles, ZipFiles, picture_files
from ._picture_index import Survey, default_index, read_index, scan, survey
from ._pictures import PictureError, decode, fit
from .errors import DataError
from .images import images_to_float
from .loader import check_at_least
from .records import Flips, Indices


class ImageFolder:
    """The pictures of a folder (at any depth) or a zip archive, sorted by their path in it.

    PNG, JPEG and WEBP, told by their contents. Everything is decoded once at construction, unless an index that
    `equisct-data check` has written knows a file of the same size and time of change. Files that cannot be used
    (damaged, animated, too large, of another size than the first) are refused or skipped; the others are turned
    upright, made 8-bit, laid on white where transparent, and grey or colour alike.

    Args:
        path: The folder or archive.
        size: Side in pixels of the samples: the middle square of every picture is reduced to it, none is enlarged.
            None: the pictures as they are, all of the size of the first.
        channels: 1 (grey) or 3 (colour); None: colour if one picture is.
        bad: What a file that cannot be used does: "error" stops; "skip" puts the next good picture in its place (after
            the last the first), so that positions and order stay.
        bad_limit: The largest share of skipped files, 0 to 1.
        index: The index file; None: `NAME.index.json` beside the data, if it is there.

    Attributes:
        path: The folder or archive.
        name: What to call the set in logs.
        bad: Name and reason of every file that cannot be used.
        ignored: How many files of other kinds are left alone, by their suffix.
        good: Positions of the usable files, ascending.
        size: The number of files, the skipped ones included.
        shape: The shape (c, h, w) of one sample.

    Raises:
        DataError: No picture can be used, or too many cannot.
        ValueError: A setting is out of range.
    """

    def __init__(
        self,
        path: FilePath,
        *,
        size: int | None = None,
        channels: Literal[1, 3] | None = None,
        bad: Literal["error", "skip"] = "error",
        bad_limit: float = 0.01,
        index: FilePath | None = None,
    ):
        if size is not None:
            check_at_least("size", size, 1)
        if channels not in (None, 1, 3):
            raise ValueError(f"channels: expected 1 or 3, found {channels}")
        if bad not in ("error", "skip"):
            raise ValueError(f"bad: expected error or skip, found {bad}")
        if not 0 <= bad_limit <= 1:
            raise ValueError(f"bad_limit: expected a number in [0, 1], found {bad_limit}")
        self.path = pathlib.Path(path)
        self.name = self.path.resolve().name.split(".")[0]
        self._files = picture_files(self.path)
        place = default_index(self.path) if index is None else pathlib.Path(index)
        known = read_index(place) if index is not None or place.exists() else {}
        found = survey(scan(self._files, known), size, channels)
        check_survey(found, self._files, bad=bad, bad_limit=bad_limit)
        self.bad, self.good, self.shape, self._side = found.bad, found.good, found.shape, size
        self.size, self.ignored = len(self._files.names), self._files.ignored
        self._source = self.good[np.searchsorted(self.good, np.arange(self.size)) % len(self.good)]

    def take(self, indices: Indices, flip: Flips = None) -> Float32[np.ndarray, "batch c h w"]:
        """The samples at `indices`, in [-1, 1], each mirrored left to right where `flip` is true.

        Raises:
            DataError: A file is no longer what it was at construction.
        """
        channels, height, width = self.shape
        images = np.empty((len(indices), height, width, channels), np.uint8)
        for image, position in zip(images, self._source[indices], strict=True):
            name = self._files.names[position]
            try:
                found = fit(decode(self._files.read(name)), self._side, channels)
                if found.shape != image.shape:
                    raise PictureError(f"{found.shape[1]} x {found.shape[0]} pixels")
            except PictureError as error:
                expected = f"the picture of {width} x {height} pixels that was there before"
                raise DataError(f"{self.path}: {ascii(name)}", str(error), expected, "check the set again") from error
            image[:] = found
        if flip is not None:
            images[flip] = images[flip][:, :, ::-1]
        return images_to_float(images)


def check_survey(found: Survey, files: FolderFiles | ZipFiles, *, bad: str, bad_limit: float) -> None:
    """Raises `DataError` if no file is good, or if more are bad than the settings allow."""
    path, count = files.path, len(found.good) + len(found.bad)
    if not count:
        kinds = f"no picture, but {count_others(files.ignored)}" if files.ignored else "no picture"
        raise DataError(path, kinds, ACCEPTED, _instead(files.ignored))
    first = f"{ascii(found.bad[0][0])}: {found.bad[0][1]}" if found.bad else ""
    if not len(found.good):
        raise DataError(path, f"no usable picture among {count:,} files; the first is {first}", ACCEPTED)
    share = f"{len(found.bad):,} of {count:,} files that cannot be used; the first is {first}"
    mend = "`equisct-data check` lists them all; mend or remove them, or"
    more = len(found.bad) > bad_limit * count
    limit = f"bad_limit={math.ceil(100 * len(found.bad) / count) / 100:g}"
    if found.bad and bad == "error":
        hint = f'{mend} skip them: bad="skip"' + (f", {limit}" if more else "")
        hint += f"; one size for all: size={min(found.shape[1:])}" if "where the first picture has" in first else ""
        raise DataError(path, share, "pictures alone", hint)
    if more:
        expected = f"at most a share of {bad_limit:g} (bad_limit)"
        raise DataError(path, share, expected, f"{mend} raise the limit: {limit}")


def count_others(ignored: Mapping[str, int], *, pictures: bool = False) -> str:
    """How many files of other kinds there are, by suffix, or how many pictures among them; nothing if none."""
    kinds = [kind for kind in sorted(ignored) if kind in OTHER_SUFFIXES or not pictures]
    words = [f"{ignored[kind]:,} {ascii(kind[:12])[1:-1] or 'without suffix'}" for kind in kinds]
    return ", ".join(words[:8]) + (f" and {len(words) - 8} kinds more" if len(words) > 8 else "")


def _instead(ignored: Mapping[str, int]) -> str:
    """What to do where there is no picture."""
    if any(suffix in OTHER_SUFFIXES for suffix in ignored):
        return "convert them to PNG, for example with ImageMagick: mogrify -format png *.bmp"
    if ".npy" in ignored:
        return "this holds arrays: load_npz reads an .npz file of them (`equisct-train npz`)"
    if any(suffix in (".npz", ".array_record", ".zip", ".gz", ".tgz", ".tar") for suffix in ignored):
        return "give the file itself, not the folder it lies in"
    return ""
