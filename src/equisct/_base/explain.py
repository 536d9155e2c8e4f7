"""Values and type hints in words, and what to do where they do not fit. Free of JAX."""

import inspect
import types
from collections.abc import Callable
from typing import Any, Union, get_args, get_origin

from jaxtyping import AbstractArray

MOST = 60
"""Characters of a value that are shown."""

KINDS = {"Float": "floating-point ", "Int": "whole-number ", "Shaped": "", "Bool": "boolean "}


def show(value: object) -> str:
    """A value in a few words: of an array its type and shape, of a number itself, of anything else its class."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        host = "NumPy " if type(value).__module__ == "numpy" else ""
        return f"{host}{value.dtype} {tuple(value.shape)}"
    if value is None or isinstance(value, bool | int | float | complex | str | list | tuple | dict):
        words = repr(value)
        return words if len(words) <= MOST else f"{type(value).__name__} {words[:MOST]}..."
    if inspect.isroutine(value) or inspect.isclass(value):
        return f"{type(value).__name__} {getattr(value, '__name__', '')}".strip()
    return f"a {type(value).__name__}"


def describe(hint: Any) -> str:
    """A type hint in words."""
    return " or ".join(dict.fromkeys(_describe(each) for each in _alternatives(hint)))


def advice(hint: Any, value: Any, name: str) -> str:
    """What to do about a value that does not fit a hint; nothing where there is no usual mistake."""
    alternatives, shape = _alternatives(hint), getattr(value, "shape", None)
    arrays = [each for each in alternatives if _is_array(each)]
    methods = [each for each in ("denoise", "endpoint") if callable(getattr(value, each, None))]
    if any(_is_key(each) for each in arrays):
        return "make one with jax.random.key(0)"
    if any(_is_function(each) for each in alternatives) and methods:
        return "give its method, " + " or ".join(f"model.{each}" for each in methods)
    if any("GradientTransformation" in str(each) for each in alternatives) and isinstance(value, float):
        return f"such as optax.adam({value:g})"
    if shape is None:
        return "make an array of it with jax.numpy.asarray" if arrays and isinstance(value, list | tuple) else ""
    ranks = {len(each.dim_str.split()) for each in arrays if "*" not in each.dim_str and "..." not in each.dim_str}
    if ranks and len(shape) == max(ranks) + 1:
        return "use jax.vmap for a batch"
    if ranks and len(shape) not in ranks:
        return ""
    if arrays and str(value.dtype).startswith(("uint", "int")) and any(_kind(each) == "Float" for each in arrays):
        return f"images of 8 bits become {name} / 127.5 - 1, other numbers {name}.astype('float32')"
    return ""


def _alternatives(hint: Any) -> list[Any]:
    if get_origin(hint) in (Union, types.UnionType):
        return [inner for each in get_args(hint) for inner in _alternatives(each)]
    return [hint]


def _is_array(hint: Any) -> bool:
    return inspect.isclass(hint) and issubclass(hint, AbstractArray)


def _is_function(hint: Any) -> bool:
    return get_origin(hint) is Callable.__class__ or "Callable[" in str(hint)


def _kind(hint: Any) -> str:
    return hint.__name__.split("[")[0]


def _is_key(hint: Any) -> bool:
    return _is_array(hint) and (_kind(hint) == "Key" or (_kind(hint) == "UInt32" and hint.dim_str in ("2", "4")))


def _describe(hint: Any) -> str:
    if _is_key(hint):
        return "a key"
    if _is_array(hint):
        kind, dims = KINDS.get(_kind(hint), f"{_kind(hint)} "), hint.dim_str.split()
        host = "NumPy " if "numpy" in str(hint.array_type) or "ndarray" in str(hint.array_type) else ""
        return f"a {kind}{host}array ({', '.join(dims)}{',' * (len(dims) == 1)})" if dims else f"one {kind}number"
    if hint is type(None):
        return "None"
    if _is_function(hint):
        return "a function"
    if inspect.isclass(hint) and not get_args(hint):
        numbers = {"float": "one number", "int": "one whole number", "number": "one number", "str": "a word"}
        return numbers.get(hint.__name__, f"a {hint.__name__}")
    return str(hint).replace("typing.", "").replace("collections.abc.", "").replace("equisct.", "")[:MOST]
