"""How words become values: whole numbers as `1e4` too, choices in the order they were written in, `~` in paths."""

import contextlib
import decimal
import os
import pathlib
import types
import typing
from collections.abc import Callable
from typing import Any, Literal, TypeGuard

from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from ..._base.check import did_you_mean

VALUES = ConstructorRegistry()
"""For `tyro.cli`, whose own rules take `1e4` for no number, and list the choices of `Literal[...] | None` as a set."""

_LONGEST = 40
"""Digits of a whole number that is written with an exponent."""


def whole(word: str) -> int:
    """`1000`, `1_000`, `1e3` or `2.5e3`: exactly that whole number."""
    with contextlib.suppress(ValueError):
        return int(word)
    with contextlib.suppress(decimal.DecimalException):
        number = decimal.Decimal(word)
        if "e" in word.lower() and number.is_finite() and number.adjusted() < _LONGEST and number == int(number):
            return int(number)
    raise ValueError(f"expected a whole number such as 1000 or 1e3, found {word}")


def real(word: str) -> float:
    """A number; whether it may be nan or infinite is for others to say."""
    try:
        return float(word)
    except ValueError:
        raise ValueError(f"expected a number such as 0.5 or 1e-4, found {word}") from None


def home(word: str) -> pathlib.Path:
    """A path; `~`, which the shell leaves as it is after `=`, is the home folder."""
    return pathlib.Path(os.path.expanduser(word))


def _one(metavar: str, read: Callable[[str], Any], is_one: Callable[[Any], bool]) -> PrimitiveConstructorSpec[Any]:
    """A value of one word."""
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=metavar,
        instance_from_str=lambda words: read(words[0]),
        is_instance=is_one,
        str_from_instance=lambda value: [str(value)],
    )


def _is_simple(found: object) -> TypeGuard[PrimitiveConstructorSpec[Any]]:
    """Whether this reads one word, and says itself what is wrong with it (tyro compares with `choices` before)."""
    return isinstance(found, PrimitiveConstructorSpec) and found.nargs == 1 and found.choices is None


@VALUES.primitive_rule
def _number_or_path(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    if info.type is int:
        return _one("INT", whole, lambda value: type(value) is int)
    if info.type is float:
        return _one("FLOAT", real, lambda value: type(value) in (int, float))
    if info.type is pathlib.Path:
        return _one("PATH", home, lambda value: isinstance(value, pathlib.Path))
    return None


@VALUES.primitive_rule
def _choice(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    if info.type_origin is not Literal:
        return None
    choices: tuple[str, ...] = typing.get_args(info.type)

    def read(word: str) -> str:
        if word in choices:
            return word
        raise ValueError(f"expected one of {', '.join(choices)}, found {word}{did_you_mean(word, choices)}")

    return _one(f"{{{','.join(choices)}}}", read, lambda value: value in choices)


@VALUES.primitive_rule
def _or_none(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """One word, or None."""
    members = set(typing.get_args(info.type)) - {types.NoneType}
    if info.type_origin not in (types.UnionType, typing.Union) or len(members) != 1:
        return None
    found = ConstructorRegistry.get_primitive_spec(PrimitiveTypeInfo.make(next(iter(members)), info.markers))
    if not _is_simple(found):
        return None
    read = lambda word: None if word == "None" else found.instance_from_str([word])
    return _one(f"{found.metavar}|None", read, lambda value: value is None or found.is_instance(value) is True)


@VALUES.primitive_rule
def _several(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """Several of one kind, each of one word: any number of them, or as many as the type says."""
    members = typing.get_args(info.type)
    if info.type_origin is not tuple or len(set(members) - {...}) != 1:
        return None
    one = ConstructorRegistry.get_primitive_spec(PrimitiveTypeInfo.make(members[0], info.markers))
    if not _is_simple(one):
        return None
    some = members[-1] is ...
    return PrimitiveConstructorSpec(
        nargs="*" if some else len(members),
        metavar=f"[{one.metavar} ...]" if some else " ".join([one.metavar] * len(members)),
        instance_from_str=lambda words: tuple(one.instance_from_str([word]) for word in words),
        is_instance=lambda value: isinstance(value, tuple) and all(map(one.is_instance, value)),
        str_from_instance=lambda value: [word for each in value for word in one.str_from_instance(each)],
    )
