"""The manifest of a checkpoint: size and SHA-256 of every file in its folder, and notes; a folder without is none.

Written last, to a temporary name, flushed to the disk and renamed; it carries a digest of its own content. So a
checkpoint is either whole and known to be, or not there.
"""

import hashlib
import json
import pathlib
from typing import Any

from .._base.files import atomic_write, partial_name

NAME = "MANIFEST.json"
FORMAT = 1


class DamagedError(ValueError):
    """A checkpoint whose files are not those that were written; the message names the first."""


class FormatError(ValueError):
    """A checkpoint that is whole, but of another version's format."""


def write_manifest(folder: pathlib.Path, notes: dict[str, Any]) -> None:
    """Hashes every file below `folder` and writes the manifest, which makes the checkpoint count.

    Args:
        folder: holds all files of the checkpoint, none of which may change any more.
        notes: anything JSON can hold; comes back from `read_manifest`.
    """
    files = {str(path.relative_to(folder)): _describe(path) for path in _files(folder)}
    content = {"format": FORMAT, "files": files, "notes": notes}
    atomic_write(folder / NAME, json.dumps(content | {"digest": _digest(content)}, indent=1))


def read_manifest(folder: pathlib.Path) -> dict[str, Any]:
    """The notes of a checkpoint, after every file has been read and compared.

    Raises:
        DamagedError: if the manifest or a file is missing, of another size or of another content.
        FormatError: if another version of this library wrote it.
    """
    files, notes = _read(folder / NAME)
    for name, expected in files.items():
        place = folder / name
        if not place.is_file():
            raise DamagedError(f"{place}: expected {expected['size']} bytes, found no file")
        if place.stat().st_size != expected["size"]:
            raise DamagedError(f"{place}: expected {expected['size']} bytes, found {place.stat().st_size}")
        try:
            found = _describe(place)
        except OSError as error:
            raise DamagedError(f"{place}: expected a file that can be read, found {error}") from error
        if found != expected:
            raise DamagedError(f"{place}: expected SHA-256 {expected['sha256']}, found another")
    return notes


def read_notes(folder: pathlib.Path) -> dict[str, Any]:
    """The notes alone, at once: no other file is read. Errors are those of `read_manifest`."""
    return _read(folder / NAME)[1]


def _read(path: pathlib.Path) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """The files and the notes that a manifest lists."""
    try:
        found = json.loads(path.read_text())
        digest = found.pop("digest")
        if digest != _digest(found):
            raise DamagedError(f"{path}: expected digest {digest}, found {_digest(found)}")
        if found["format"] != FORMAT:
            raise FormatError(
                f"{path}: expected format {FORMAT}, found {found['format']}: another version's checkpoint"
            )
        return _checked(found["files"]), dict(found["notes"])
    except (DamagedError, FormatError):
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedError(f"{path}: expected a manifest, found none that can be read ({error!r})") from error


def _checked(files: Any) -> dict[str, dict[str, Any]]:
    """The list of files of a manifest, if all lie in the checkpoint's folder and are described."""
    for name, described in files.items():
        outside = pathlib.PurePath(name).is_absolute() or ".." in pathlib.PurePath(name).parts
        if outside or not isinstance(described, dict) or set(described) != {"size", "sha256"}:
            raise ValueError(f"expected size and SHA-256 of files in the folder, found {name!r}: {described!r}")
    if not files:
        raise ValueError("expected at least one file, found none")
    return files


def _files(folder: pathlib.Path) -> list[pathlib.Path]:
    own = (NAME, partial_name(folder / NAME).name)
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in own)


def _describe(path: pathlib.Path) -> dict[str, Any]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"size": path.stat().st_size, "sha256": digest}


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
