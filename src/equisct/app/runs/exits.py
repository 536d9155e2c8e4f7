"""Exit codes, and the one place where an expected error becomes one message."""

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from typing import NoReturn

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
    """While settings and data are checked: a `ValueError` or `OSError` is the user's: one message, exit code 2."""
    try:
        yield
    except BrokenPipeError:  # whoever read our words has gone, as in `--help | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(BROKEN_PIPE)
    except (ValueError, OSError) as error:
        _fail(program, error, WRONG_INPUT)
    except KeyboardInterrupt:
        _fail(program, "interrupted", FORCED)


@contextlib.contextmanager
def stopping_cleanly(program: str) -> Iterator[None]:
    """While a run goes on: what is foreseen becomes one message and a code of its own; any other error is a bug."""
    try:
        yield
    except KeyboardInterrupt:
        _fail(program, "interrupted", FORCED)
    except Exception as error:
        code = code_of(error)
        if code is None:
            raise
        _fail(program, advice_on_memory(str(error)) if code == OUT_OF_MEMORY else error, code)


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
