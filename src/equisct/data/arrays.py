"""A user's own arrays, from an `.npz` file as written by `numpy.savez`; pickled objects are never read."""

import zipfile

import numpy as np

from ._files import FilePath, check_expansion, existing, printable, read_exactly, refused
from .errors import DataError, describe
from .records import ImageSet, VectorSet, check_images, check_labels, check_points

LABELS = "labels"
ACCEPTED = """an .npz file as written by numpy.savez, with either
  images: uint8 (n, h, w, c) or (n, h, w), values 0 to 255, and if you like labels: integers (n,)
  or vectors: float32 (n, d)"""
EXAMPLE = 'numpy.savez("mine.npz", images=images), then load_npz("mine.npz")'


def load_npz(path: FilePath, key: str | None = None) -> ImageSet | VectorSet:
    """An array of an `.npz` file: images if its numbers are uint8, vectors if they are float32 of rank 2.

    It is that named `key`; without one, `images`, or else the only one beside `labels`.

    Images are (n, h, w, c) or, if grey, (n, h, w); the array `labels`, if there is one, is read with them.

    Raises:
        DataError: Nothing usable is there, or the array is neither.
    """
    place = existing(path, ACCEPTED, EXAMPLE)
    name = place.name.split(".")[0]
    with refused(place, ACCEPTED, EXAMPLE), place.open("rb") as stream, zipfile.ZipFile(stream) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        others = [member for member in members if member != LABELS and member.isidentifier()]
        key = key or (others[0] if len(others) == 1 else "images")
        where = f"{place}[{key!r}]"
        if key not in members:
            hint = f"choose one of them, or {EXAMPLE}"
            raise DataError(place, f"no array {key!r}, but {printable(list(members))}", ACCEPTED, hint)
        array = _read(archive, members[key], where)
        if array.dtype.kind == "f" and array.ndim == 2:
            check_points(where, array)
            return VectorSet(array, name)
        labels = _read(archive, members[LABELS], f"{place}[{LABELS!r}]") if LABELS in members else None
    if array.dtype == np.uint8 and array.ndim == 3 and array.shape[-1] not in (1, 3, 4):
        array = array[..., None]
    if array.dtype == np.uint8 and array.size and array.max() <= 1:
        hint = "if white is 1: images * np.uint8(255)"
        raise DataError(where, f"a {describe(array)}", "values 0 to 255; these would all be black", hint)
    check_images(where, array)
    if labels is not None:
        labels = labels.astype(np.int64) if labels.dtype.kind in "ui" else labels
        check_labels(f"{place}[{LABELS!r}]", labels, len(array))
    return ImageSet(array, name, labels)


def _read(archive: zipfile.ZipFile, member: zipfile.ZipInfo, where: str) -> np.ndarray:
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DataError(where, f"compression method {member.compress_type}", "none or deflate, as numpy writes")
    check_expansion(where, member.compress_size, member.file_size)
    with archive.open(member) as stream:
        try:
            array = np.lib.format.read_array(stream, allow_pickle=False)
        except ValueError as error:
            if "Object arrays" not in str(error):
                raise
            found, hint = "an array of pickled Python objects", "pictures of one size in one array of numbers"
            raise DataError(where, found, ACCEPTED, hint) from error
        read_exactly(stream, 0, f"{where} after the array")
    return array
