"""Writing files so that a crash at any moment leaves the old one or the new one, whole."""

import contextlib
import os
import pathlib


def replace_file(path: pathlib.Path, content: bytes) -> None:
    """Writes under a temporary name beside `path`, syncs, and renames."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: pathlib.Path) -> None:
    """Makes a rename last through a power failure, where the system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
