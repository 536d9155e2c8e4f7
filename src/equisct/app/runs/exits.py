"""Exit codes, and the one place where an expected error becomes one message."""

import contextlib
import errno
import os
import pathlib
import sys
from collections.abc import Iterator
from typing import NoReturn

from ..._base.check import is_refusal
from ...data import DataError
from ..tracking import redact

WRONG_INPUT = 2
NOT_FINITE = 3
IN_USE = 4
OUT_OF_MEMORY = 5
CHECKPOINT = 6
STOPPED = 75
"""Told to stop, saved, and to be run again: EX_TEMPFAIL."""
FORCED = 130
BROKEN_PIPE = 141
"""As the shell has it: 128 and the number of SIGPIPE."""

_CODES = {
    "DataError": WRONG_INPUT,
    "NonFiniteError": NOT_FINITE,
    "FolderInUseError": IN_USE,
    "CheckpointError": CHECKPOINT,
}
"""By name: their modules import JAX."""

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def code_of(error: Exception) -> int | None:
    """The exit code of an error that is foreseen; None for a bug."""
    if isinstance(error, OSError) and error.errno in _FULL:
        return CHECKPOINT
    memory = OUT_OF_MEMORY if "RESOURCE_EXHAUSTED" in str(error) else None  # Orbax says so of a full disk too
    return _CODES.get(type(error).__name__, memory)


@contextlib.contextmanager
def refusing_wrong_input(program: str) -> Iterator[None]:
    """While settings and files are read: what the library refuses, or an `OSError`, is one message and exit code 2.

    Any other `ValueError`, such as one of NumPy or JAX, is a bug and keeps its traceback (see `is_refusal`).
    """
    try:
        with _unheard():
            yield
    except (ValueError, OSError) as error:
        if not (isinstance(error, OSError | DataError) or is_refusal(error)):
            raise
        _fail(program, error, WRONG_INPUT)
    except KeyboardInterrupt:
        _fail(program, "interrupted", FORCED)


@contextlib.contextmanager
def stopping_cleanly(program: str) -> Iterator[None]:
    """While a run goes on: what is foreseen becomes one message and a code of its own; any other error is a bug."""
    try:
        with _unheard():
            yield
    except KeyboardInterrupt:
        _fail(program, "interrupted", FORCED)
    except Exception as error:
        code = code_of(error)
        if code is None:
            raise
        _fail(program, advice_on_memory(str(error)) if code == OUT_OF_MEMORY else error, code)


@contextlib.contextmanager
def _unheard() -> Iterator[None]:
    """Ends quietly where whoever read our words has gone, as in `--help | head`; also in Python's last flush."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(BROKEN_PIPE)


@contextlib.contextmanager
def writing(place: pathlib.Path) -> Iterator[None]:
    """Inside, an `OSError` means that `place` cannot be written; one of a full disk stays what it is.

    Raises:
        DataError: says so.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise
        raise DataError(place, f"a place that cannot be written ({error})", "a folder with room and rights") from error


def advice_on_memory(error: str) -> str:
    """What to do where a device's memory does not suffice."""
    return (
        f"a device's memory does not suffice: {' '.join(error.split())[:300]}\n"
        "what helps, in order (equisct-train ... --run.dry-run shows the memory of each choice):\n"
        "  --parallel.microbatches 4        activations of a quarter of the batch at a time; same update\n"
        "  --parallel.precision bfloat16    half the memory for activations\n"
        "  --parallel.remat                 keeps only the blocks' outputs; about a third more time\n"
        "  --parallel.fsdp N                parameters, averages and optimiser divided among N devices"
    )


def _fail(program: str, error: object, code: int) -> NoReturn:
    with contextlib.suppress(OSError):  # a log on a full disk
        print(f"{program}: error: {redact(str(error))}", file=sys.stderr)
    sys.exit(code)
