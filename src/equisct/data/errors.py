"""`DataError`, the one exception of this package for data that cannot be used; and `describe`."""

import os

import numpy as np


class DataError(ValueError):
    """Data that cannot be used: says where, what was found, what is expected, and how to mend it.

    Args:
        where: The path, the array or the argument.
        found: What is there.
        expected: What should be there.
        hint: What to do about it; may be empty.
    """

    def __init__(self, where: str | os.PathLike[str], found: str, expected: str, hint: str = ""):
        super().__init__(os.fspath(where), found, expected, hint)

    def __str__(self) -> str:
        where, found, expected, hint = self.args
        return f"{where}: found {found}\nexpected: {expected}" + (f"\nhint: {hint}" if hint else "")


def describe(array: np.ndarray) -> str:
    """The dtype, shape and, for numbers, range of an array, in words for a message."""
    words = f"{array.dtype} array of shape {array.shape}"
    if array.dtype.kind not in "uif" or not array.size:
        return words
    finite = array[np.isfinite(array)]
    if finite.size:
        words += f", values {finite.min():.6g} to {finite.max():.6g}"
    return words + (f", {array.size - finite.size} NaN or infinite" if finite.size < array.size else "")
