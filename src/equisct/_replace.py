"""Writing files so that after a crash at any moment the old one or the new one is there, whole. Free of JAX."""

import contextlib
import os
import pathlib


def replace_file(path: pathlib.Path, content: str | bytes) -> None:
    """Writes under a temporary name beside `path`, brings it to the disk, and renames."""
    partial = path.with_name(path.name + ".tmp")
    with partial.open("wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    with contextlib.suppress(OSError):  # so that the name lasts too, where the system can
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
