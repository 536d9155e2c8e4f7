"""Writing files so that after a crash at any moment the old one or the new one is there, whole. Free of JAX."""

import contextlib
import os
import pathlib
from collections.abc import Callable


def as_path(path: str | os.PathLike[str]) -> pathlib.Path:
    """The path, with `~` and `~USER` at its begin as the home folder; where there is no such user, as it is."""
    return pathlib.Path(os.path.expanduser(path))


def partial_name(path: pathlib.Path) -> pathlib.Path:
    """What `atomic_write` calls a file until it is whole: beside it, of the same suffix."""
    return path.with_name(f".{path.stem}.tmp{path.suffix}")


def atomic_write(path: pathlib.Path, content: str | bytes | Callable[[pathlib.Path], object]) -> None:
    """Writes under a temporary name, brings it to the disk, and renames; after an error nothing is left of it.

    Args:
        path: replaced if it exists; may be read by whom the umask lets read.
        content: what to write, or a function that writes it to the path it is given.
    """
    partial = partial_name(path)
    partial.unlink(missing_ok=True)
    try:
        partial.write_bytes(b"" if callable(content) else content.encode() if isinstance(content, str) else content)
        if callable(content):
            mode = partial.stat().st_mode
            content(partial)
            partial.chmod(mode)  # safetensors makes it private
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # so that the name lasts too, where the system can
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
