"""Values and type hints in words, and what to do where they do not fit. Free of JAX."""

import dataclasses
import inspect
import itertools
import types
from typing import TYPE_CHECKING, TypeGuard, Union, get_args, get_origin

import numpy as np
from jaxtyping import AbstractArray

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

MOST = 60
"""Characters of a value that are shown."""

NUMBER, WHOLE = "one number", "one whole number"
NUMBERS = {"Float": NUMBER, "float": NUMBER, "Int": WHOLE, "int": WHOLE, "str": "a word"}
KINDS = {"Float": "floating-point ", "Int": "whole-number ", "Shaped": "", "Bool": "boolean "}


def show(value: object) -> str:
    """A value in a few words: of an array its type and shape, of a number itself, of anything else its class."""
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if isinstance(shape, tuple) and dtype is not None:
        return f"{'NumPy ' if type(value).__module__ == 'numpy' else ''}{dtype} {shape}"
    if isinstance(value, list | tuple) and type(value) in (list, tuple):
        words = f"{type(value).__name__} ({', '.join(show(each) for each in itertools.islice(value, 9))})"
        return words if len(words) <= MOST else f"{words[:MOST]}..."
    if value is None or isinstance(value, bool | int | float | complex | str):
        return repr(value) if len(repr(value)) <= MOST else f"{repr(value)[:MOST]}..."
    if inspect.isclass(value):
        return f"the class {value.__name__}"
    if inspect.isroutine(value):
        return f"the function {value.__name__}"
    return _one("function" if "Method" in type(value).__name__ else type(value).__name__)


def in_brief(record: "DataclassInstance") -> str:
    """For a dataclass's `__repr__`: its fields, of arrays type and shape alone."""
    fields = (f"{field.name}={show(getattr(record, field.name))}" for field in dataclasses.fields(record))
    return f"{type(record).__name__}({', '.join(fields)})"


def describe(hint: object) -> str:
    """A type hint in words."""
    words = dict.fromkeys(_describe(each) for each in _alternatives(hint) if each is not np.number)
    return " or ".join(each for each in words if each != WHOLE or NUMBER not in words)


def advice(hint: object, value: object, name: str) -> str:
    """What to do about a value that does not fit a hint; nothing where there is no usual mistake."""
    alternatives = _alternatives(hint)
    arrays, classes = [*filter(_is_array, alternatives)], [*filter(inspect.isclass, alternatives)]
    methods = [each for each in ("denoise", "endpoint") if callable(getattr(value, each, None))]
    if any(_is_key(each) for each in arrays):
        return "make one with jax.random.key(0)"
    if methods and any(_is_function(each) for each in alternatives):
        return "give its method, " + " or ".join(f"model.{each}" for each in methods)
    named = {each.__name__ for each in classes}
    if "GradientTransformation" in named and isinstance(value, float):
        return f"such as optax.adam({value:g})"
    if inspect.isclass(value) and any(issubclass(value, each) for each in classes):
        return f"make one of it, {value.__name__}()"
    if "Example" in named and isinstance(value, tuple):
        return "a batch with a condition is an Example(x, condition)"
    return _advice_on_array(arrays, value, name) if arrays else ""


def _advice_on_array(arrays: list[type[AbstractArray]], value: object, name: str) -> str:
    shape, dtype = getattr(value, "shape", None), str(getattr(value, "dtype", ""))
    if shape is None:
        return "make an array of it with jax.numpy.asarray" if isinstance(value, list | tuple) else ""
    ranks = {len(each.dim_str.split()) for each in arrays if "*" not in each.dim_str and "..." not in each.dim_str}
    if ranks and len(shape) == max(ranks) + 1:
        return "use jax.vmap for a batch"
    if (not ranks or len(shape) in ranks) and dtype.startswith(("uint", "int")) and "Float" in map(_kind, arrays):
        return f"images of 8 bits become {name} / 127.5 - 1, other numbers {name}.astype('float32')"
    return ""


def _alternatives(hint: object) -> list[object]:
    if get_origin(hint) in (Union, types.UnionType):
        return [inner for each in get_args(hint) for inner in _alternatives(each)]
    return [hint]


def _is_array(hint: object) -> TypeGuard[type[AbstractArray]]:
    return inspect.isclass(hint) and issubclass(hint, AbstractArray)


def _kind(hint: type[AbstractArray]) -> str:
    return hint.__name__.split("[")[0]


def _is_key(hint: type[AbstractArray]) -> bool:
    return _kind(hint) == "Key" or (_kind(hint) == "UInt32" and hint.dim_str in ("2", "4"))


def _is_function(hint: object) -> bool:
    return str(hint).startswith(("collections.abc.Callable", "typing.Callable"))


def _describe(hint: object) -> str:
    if _is_array(hint):
        return "a key" if _is_key(hint) else _describe_array(_kind(hint), hint.dim_str.split())
    if hint is type(None):
        return "None"
    if _is_function(hint):
        return "a function"
    if inspect.isclass(hint) and not get_args(hint):
        return NUMBERS.get(hint.__name__, _one(hint.__name__.removeprefix("Abstract")))
    return str(hint).replace("typing.", "").replace("collections.abc.", "").replace("equisct.", "")[:MOST]


def _describe_array(kind: str, axes: list[str]) -> str:
    if not axes:
        return NUMBERS.get(kind, f"one {kind}")
    comma = "," if len(axes) == 1 and "*" not in axes[0] else ""
    return f"{_one(KINDS.get(kind, f'{kind} ') + 'array')} ({', '.join(axes)}{comma})"


def _one(noun: str) -> str:
    return f"an {noun}" if noun[0] in "AEIOUaeiou" else f"a {noun}"
