"""Writing files so that after a crash at any moment the old one or the new one is there, whole. Free of JAX."""

import contextlib
import os
import pathlib
from collections.abc import Iterator


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


@contextlib.contextmanager
def writing_whole(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A temporary name of the same suffix beside `path`, renamed to it at the end; after an error nothing is left."""
    partial = path.with_name(f".{path.stem}.tmp{path.suffix}")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
