"""Where pictures lie: a folder with everything below it, or a zip archive that is read in place and never extracted."""

import collections
import os
import pathlib
import re
import stat
import zipfile
from typing import Any

from ._files import FilePath, check_expansion, existing, read_exactly, refused
from ._pictures import FILE_BYTES, PictureError, unusable_if_not
from .errors import DataError

SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp")
OTHER_SUFFIXES = (".bmp", ".tif", ".tiff", ".gif", ".avif", ".heic", ".jp2", ".jxl", ".ppm", ".pgm", ".tga", ".svg")
"""Pictures that are not read, but counted by their kind."""

HIDDEN = ("__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN")
"""Folders of macOS, Synology and Windows with doubles, thumbnails and what was thrown away."""

ACCEPTED = """a folder of pictures (.png, .jpg, .jpeg, .webp), at any depth
or a zip archive of them (nothing is extracted)"""
EXAMPLE = 'ImageFolder("pictures")'
OUTSIDE = "this archive wants to write outside its folder; pack it again if you trust it"


class FolderFiles:
    """The pictures below a folder, by their path in it. Links to files are followed, links to folders are not.

    Attributes:
        path: The folder.
        names: Paths relative to the folder, with slashes, sorted. Hidden files are left out.
        ignored: How many files of another kind there are, by their suffix.

    Raises:
        DataError: A folder cannot be listed.
    """

    def __init__(self, path: pathlib.Path):
        self.path = path
        self.ignored: collections.Counter[str] = collections.Counter()
        self._reasons: dict[str, str] = {}  # why a name is refused without a look at it, or nothing
        with refused(path, "a folder that can be listed"):
            for place, folders, files in os.walk(path, onerror=_stop):
                folders[:] = [name for name in folders if not _hidden(name)]
                here = pathlib.Path(place).relative_to(path)
                for name in list(folders):
                    link = os.path.islink(os.path.join(place, name))
                    if link or named_as_picture(name):
                        folders.remove(name)
                        reason = "a link to a folder, which is not followed" if link else "a folder"
                        self._reasons[(here / name).as_posix()] = reason
                pictures = [name for name in files if named_as_picture(name) and not _hidden(name)]
                self.ignored.update(map(_suffix, {*files}.difference(pictures)))
                self._reasons |= {(here / name).as_posix(): "" for name in pictures}
        self.names = sorted(self._reasons)

    def stamp(self, name: str) -> tuple[int, int]:
        """Bytes and time of change, in nanoseconds; raises `PictureError` if it is no readable file."""
        if reason := self._reasons.get(name):
            raise PictureError(reason)
        try:
            found = os.stat(self.path / name)
        except OSError as error:
            raise PictureError(f"cannot be opened ({error.strerror})") from error
        if not stat.S_ISREG(found.st_mode):
            raise PictureError("not a regular file")
        return _bounded(found.st_size), found.st_mtime_ns

    def read(self, name: str) -> bytes:
        """The whole file; raises `PictureError` if that is not possible."""
        size, _ = self.stamp(name)
        try:
            content = (self.path / name).read_bytes()
        except OSError as error:
            raise PictureError(f"cannot be read ({error.strerror})") from error
        if len(content) != size:
            raise PictureError("changes while it is read")
        return content


class ZipFiles:
    """The pictures in a zip archive, by their name in it.

    Attributes:
        path: The archive.
        names: The names in the archive, sorted. Hidden files are left out.
        ignored: How many files of another kind there are, by their suffix.

    Raises:
        DataError: It is no zip archive, or one with climbing or absolute names, links, doubled names, encryption, an
            unusual compression, or contents out of proportion to its size.
    """

    def __init__(self, path: pathlib.Path):
        self.path = path
        self._archive: zipfile.ZipFile | None = None
        with refused(path, ACCEPTED):
            members = self._open().infolist()
            self._members = {_name_of(member): member for member in members}
            for name, member in self._members.items():
                _check_member(path, name, member)
            if len(self._members) < len(members):
                raise DataError(path, "two files of one name", "each name once")
            unpacked = sum(member.file_size for member in members)
            check_expansion(str(path), path.stat().st_size, unpacked, "unpack it, and give the folder")
            self._changed = path.stat().st_mtime_ns
        names = self._members.keys()
        self.names = sorted(x for x in names if named_as_picture(x) and not any(map(_hidden, x.split("/"))))
        self.ignored = collections.Counter(_suffix(x) for x in names - {*self.names} if not x.endswith("/"))

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_archive": None}

    def _open(self) -> zipfile.ZipFile:
        """One open archive per process."""
        if self._archive is None:
            self._archive = zipfile.ZipFile(self.path)
        return self._archive

    def stamp(self, name: str) -> tuple[int, int]:
        """Bytes, and the archive's time of change, in nanoseconds; raises `PictureError` if it is no readable file."""
        if name.endswith("/"):
            raise PictureError("a folder")
        return _bounded(self._members[name].file_size), self._changed

    def read(self, name: str) -> bytes:
        """The whole file; raises `PictureError` if that is not possible."""
        size, _ = self.stamp(name)
        with unusable_if_not("unpacked"), self._open().open(self._members[name]) as stream:
            return read_exactly(stream, size, name)


def picture_files(path: FilePath) -> FolderFiles | ZipFiles:
    """The pictures of a folder or a zip archive; raises `DataError` unless one is there."""
    place = existing(path, ACCEPTED, EXAMPLE)
    return FolderFiles(place) if place.is_dir() else ZipFiles(place)


def named_as_picture(name: str) -> bool:
    return name.rstrip("/").lower().endswith(SUFFIXES)


def _hidden(name: str) -> bool:
    """What looks like a picture of the set and is none."""
    return name.startswith(".") or name in HIDDEN


def _bounded(size: int) -> int:
    if size > FILE_BYTES:
        raise PictureError(f"{size:,} bytes, more than {FILE_BYTES:,}")
    return size


def _stop(error: OSError) -> None:
    raise error


def _name_of(member: zipfile.ZipInfo) -> str:
    """Its path with slashes: some programs of Windows write backslashes."""
    return member.filename.replace("\\", "/")


def _suffix(name: str) -> str:
    return pathlib.PurePosixPath(name).suffix.lower()


def _check_member(path: pathlib.Path, name: str, member: zipfile.ZipInfo) -> None:
    where = f"{path}: {ascii(name[:80])}"
    if name.startswith("/") or re.match(r"[A-Za-z]:/", name) or ".." in name.split("/"):
        raise DataError(where, "a name that leaves the archive's folder", "plain relative names", OUTSIDE)
    if stat.S_ISLNK(member.external_attr >> 16):
        raise DataError(where, "a symbolic link", "files and folders", OUTSIDE)
    if member.flag_bits & 1:
        raise DataError(where, "an encrypted file", "files that can be read")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DataError(where, f"compression method {member.compress_type}", "none or deflate")
