"""Exit codes, and the one place where an expected error becomes one message: 0 done, 2 wrong input, 3 not finite."""

import contextlib
import sys
from collections.abc import Iterator
from typing import NoReturn

WRONG_INPUT, NOT_FINITE, INTERRUPTED = 2, 3, 130


@contextlib.contextmanager
def refusing_wrong_input(program: str) -> Iterator[None]:
    """While settings and data are checked: a `ValueError` is the user's, and becomes one message and exit code 2."""
    try:
        yield
    except ValueError as error:
        _fail(program, error, WRONG_INPUT)


@contextlib.contextmanager
def stopping_cleanly(program: str) -> Iterator[None]:
    """While a run goes on: a non-finite halt and Ctrl-C become one message each; any other error is a bug and shows."""
    try:
        yield
    except RuntimeError as error:
        if type(error).__name__ != "NonFiniteError":  # by name: its module imports JAX
            raise
        _fail(program, error, NOT_FINITE)
    except KeyboardInterrupt:
        _fail(program, "interrupted; the checkpoints written so far are in the run folder", INTERRUPTED)


def _fail(program: str, error: object, code: int) -> NoReturn:
    print(f"{program}: error: {error}", file=sys.stderr)
    sys.exit(code)
