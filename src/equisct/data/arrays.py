"""A user's own arrays, from an `.npz` file as written by `numpy.savez`; pickled objects are never read."""

import pathlib
import re
import zipfile

import numpy as np

from ._files import FilePath, check_expansion, existing, printable, read_exactly, refused
from ._picture_files import named_as_picture
from .errors import DataError, describe
from .records import ImageSet, VectorSet, are_labels, check_images, check_labels, check_points, flat_hint

LABELS, CONDITION = "labels", "condition"
ACCEPTED = """an .npz file as written by numpy.savez, with either
  images: uint8 (n, h, w, c) or (n, h, w), values 0 to 255
  or vectors: float32 (n, d)
and if you like labels: integers (n,), or condition: float32 (n, d)"""
EXAMPLE = 'numpy.savez("mine.npz", images=images), then load_npz("mine.npz")'


def load_npz(path: FilePath, key: str | None = None) -> ImageSet | VectorSet:
    """An array of an `.npz` file: images if its numbers are uint8, vectors if they are float32 of rank 2.

    It is that named `key`; without one, `images`, else `arr_0`, which has no name of its own, else the only one beside
    `labels` and `condition`.

    Images are (n, h, w, c) or, if grey, (n, h, w); the array `labels`, if there is one, is read with them; of vectors,
    whose `labels` may be anything, where they are class numbers.

    Raises:
        DataError: Nothing usable is there, or the array is neither.
    """
    place = existing(path, ACCEPTED, EXAMPLE)
    name = place.name.split(".")[0]
    with refused(place, ACCEPTED, EXAMPLE), place.open("rb") as stream, zipfile.ZipFile(stream) as archive:
        members = npz_members(archive)
        others = [member for member in members if member not in (LABELS, CONDITION) and member.isidentifier()]
        usual = [name for name in ("images", "arr_0") if name in members]
        key = key or (others[0] if len(others) == 1 else (usual or ["images"])[0])
        where = f"{place}[{key!r}]"
        if key not in members:
            found = f"no array {key!r}, but {printable(list(members))}"
            raise DataError(place, found, ACCEPTED, _advice(archive, members, place.name))
        array = read_array(archive, members, key, place)
        labels = read_array(archive, members, LABELS, place) if LABELS in members else None
    if labels is not None:
        labels = labels.astype(np.int64) if labels.dtype.kind in "ui" else labels
    if array.dtype.kind == "f" and array.ndim == 2:
        check_points(where, array)
        return VectorSet(array, name, labels if labels is not None and are_labels(labels, len(array)) else None)
    if array.dtype == np.uint8 and array.ndim == 3 and array.shape[-1] not in (1, 3, 4):
        array = array[..., None]
    if array.dtype == np.uint8 and array.size and array.max() <= 1:
        hint = "if white is 1: images * np.uint8(255)"
        raise DataError(where, f"a {describe(array)}", "values 0 to 255; these would all be black", hint)
    check_images(where, array)
    if labels is not None:
        check_labels(f"{place}[{LABELS!r}]", labels, len(array))
    return ImageSet(array, name, labels)


def load_conditions(path: FilePath) -> np.ndarray:
    """The array `condition` of an `.npz` file: what each of its samples is made under.

    Raises:
        DataError: There is none, or it cannot be read.
    """
    place = existing(path, ACCEPTED, EXAMPLE)
    with refused(place, ACCEPTED, EXAMPLE), place.open("rb") as stream, zipfile.ZipFile(stream) as archive:
        members = npz_members(archive)
        if CONDITION not in members:
            expected = "an array condition, float32 (n, d), one row for each sample"
            raise DataError(place, f"no array {CONDITION!r}, but {printable(list(members))}", expected)
        return read_array(archive, members, CONDITION, place)


def npz_members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """What an `.npz` file holds, by the names of the arrays."""
    return {info.filename.removesuffix(".npy"): info for info in archive.infolist()}


def read_array(
    archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], name: str, place: pathlib.Path
) -> np.ndarray:
    """One array of an `.npz` file; raises `DataError` for pickled objects, bombs and bytes after the array."""
    member, where = members[name], f"{place}[{name!r}]"
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DataError(where, f"compression method {member.compress_type}", "none or deflate, as numpy writes")
    again = f'numpy.savez("mine.npz", {name}=numpy.load("{place.name}")["{name}"])'
    check_expansion(where, member.compress_size, member.file_size, f"write it without compression: {again}")
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


def _advice(archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], file: str) -> str:
    """What to do about an `.npz` file without `images`: which arrays may hold them, told by their headers."""
    if any(map(named_as_picture, members)):
        return "this is an archive of pictures, not of arrays: ImageFolder reads it (`equisct-train images`)"
    headers = {name: _header(archive, member) for name, member in members.items() if re.fullmatch(r"[\w.-]+", name)}
    images = [name for name, (shape, kind) in headers.items() if kind == "u1" and len(shape) in (3, 4)]
    rows = [name for name, (shape, kind) in headers.items() if kind == "u1" and len(shape) == 2]
    if not images and {"mu", "sigma"} <= members.keys():
        return "mu and sigma are a mean and covariance of features; give the images that they were taken of"
    vectors = [name for name, (shape, kind) in headers.items() if kind[:1] == "f" and len(shape) in (2, 4)]
    if rows and not images:
        numbers, source = headers[rows[0]][0][1], f'numpy.load("{file}")["{rows[0]}"]'
        return f"give each row its shape, and save that as images: {flat_hint(numbers, source)}"
    choices = [f'key="{name}"' for name in (images or vectors)[:4]]
    return f"choose the array: {' or '.join(choices)}" if choices else EXAMPLE


def _header(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> tuple[tuple[int, ...], str]:
    """Shape and kind of an array, the kind as in `u1`; of what is none, nothing."""
    try:
        with archive.open(member) as stream:
            version = np.lib.format.read_magic(stream)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = read(stream)
        return shape, f"{dtype.kind}{dtype.itemsize}"
    except Exception:  # whatever it is, it is no array
        return (), ""
