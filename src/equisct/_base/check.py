"""Checks of settings known before tracing; a failure names the setting, what was found and what is expected.

Free of JAX, so that the command line can use it before JAX is imported.
"""

import difflib
import math
import re
from collections.abc import Iterable

_REFUSAL = re.compile(r".+?: (expected|found|takes no value)\b|(?s:expected .+?, found )")


def is_refusal(error: ValueError) -> bool:
    """Whether a `ValueError` refuses what somebody gave, by the form of all that this library refuses.

    That is `NAME: expected ..., found ...`, of an unknown word without a name, `WHERE: found ...` of a `DataError` or
    `FLAG: takes no value`. What NumPy, JAX or Python raise where the code is wrong is of another form.
    """
    return _REFUSAL.match(str(error)) is not None


def check_finite(name: str, value: float) -> None:
    """Raises `ValueError` unless `value` is a finite number."""
    if not math.isfinite(value):
        raise ValueError(f"{name}: expected a finite number, found {value}")


def check_positive(name: str, value: float) -> None:
    """Raises `ValueError` unless `value` is finite and > 0."""
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name}: expected a finite number > 0, found {value}")


def check_at_least(name: str, value: float, least: float) -> None:
    """Raises `ValueError` unless `value` is finite and >= `least`."""
    if not (math.isfinite(value) and value >= least):
        raise ValueError(f"{name}: expected a finite number >= {least}, found {value}")


def check_fraction(name: str, value: float) -> None:
    """Raises `ValueError` unless 0 <= `value` < 1."""
    if not 0 <= value < 1:
        raise ValueError(f"{name}: expected a number in [0, 1), found {value}")


def check_share(name: str, value: float) -> None:
    """Raises `ValueError` unless 0 <= `value` <= 1."""
    if not 0 <= value <= 1:
        raise ValueError(f"{name}: expected a number in [0, 1], found {value}")


def check_levels(sigma_min: float, sigma_max: float) -> None:
    """Raises `ValueError` unless 0 < sigma_min < sigma_max, both finite."""
    check_positive("sigma_min", sigma_min)
    check_positive("sigma_max", sigma_max)
    if sigma_min >= sigma_max:
        raise ValueError(f"sigma_min: expected less than sigma_max = {sigma_max}, found {sigma_min}")


def did_you_mean(found: str, known: Iterable[str]) -> str:
    """`; did you mean ...?` with what is most like a wrong word, for the end of a message; nothing if none is."""
    return "".join(f"; did you mean {word}?" for word in difflib.get_close_matches(found, list(known), 1))
