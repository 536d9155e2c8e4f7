"""Exit codes, and the one place where an expected error becomes one message: 0 done, 2 wrong input, 3 not finite."""

import functools
import sys
from collections.abc import Callable
from typing import ParamSpec

P = ParamSpec("P")

WRONG_INPUT, NOT_FINITE, INTERRUPTED = 2, 3, 130


def exits_cleanly(program: str) -> Callable[[Callable[P, None]], Callable[P, None]]:
    """Turns wrong input, a non-finite halt and Ctrl-C into one line on standard error and an exit code."""

    def decorate(main: Callable[P, None]) -> Callable[P, None]:
        @functools.wraps(main)
        def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
            try:
                main(*args, **kwargs)
            except ValueError as error:
                _fail(program, error, WRONG_INPUT)
            except RuntimeError as error:
                if type(error).__name__ != "NonFiniteError":
                    raise
                _fail(program, error, NOT_FINITE)
            except KeyboardInterrupt:
                _fail(program, "interrupted; the checkpoints written so far are in the run folder", INTERRUPTED)

        return wrapped

    return decorate


def _fail(program: str, error: object, code: int) -> None:
    print(f"{program}: error: {error}", file=sys.stderr)
    sys.exit(code)
