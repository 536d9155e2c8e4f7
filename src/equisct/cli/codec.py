"""The configuration as JSON and back: strict, closed, and free of anything that could run code."""

import dataclasses
import pathlib
import types
import typing
from typing import Any

from .config import Config


def to_json(node: Any) -> Any:
    """A dataclass as a dictionary; members of a union carry their class name under "kind"."""
    hints = typing.get_type_hints(type(node))
    return {f.name: _value_to_json(getattr(node, f.name), hints[f.name]) for f in dataclasses.fields(node)}


def _value_to_json(value: Any, hint: Any) -> Any:
    if dataclasses.is_dataclass(value):
        tag = {"kind": type(value).__name__} if _is_union(hint) else {}
        return tag | to_json(value)
    if isinstance(value, pathlib.Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (types.UnionType, typing.Union)


def from_json(found: Any) -> Config:
    """The configuration of a file.

    Raises:
        ValueError: for an unknown, missing or wrongly typed field; names it.
    """
    return _from_json(found, Config, "config")


def _from_json(found: Any, hint: Any, name: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return _dataclass_from_json(found, hint, name)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if _is_union(hint):
        return _union_from_json(found, arguments, name)
    if origin is typing.Literal:
        ok = found in arguments
    elif origin is tuple:
        ok = isinstance(found, list) and all(type(item) is arguments[0] for item in found)
    elif hint is float:
        ok = type(found) in (int, float)
    else:
        ok = type(found) is (str if hint is pathlib.Path else hint)
    if not ok:
        raise ValueError(f"{name}: expected {hint}, found {found!r}")
    if hint in (pathlib.Path, float):
        return hint(found)
    return tuple(found) if origin is tuple else found


def _union_from_json(found: Any, members: tuple[Any, ...], name: str) -> Any:
    if found is None and type(None) in members:
        return None
    kinds = {member.__name__: member for member in members if dataclasses.is_dataclass(member)}
    if not kinds:
        (member,) = (member for member in members if member is not type(None))
        return _from_json(found, member, name)
    kind = found.get("kind") if isinstance(found, dict) else None
    if kind not in kinds:
        raise ValueError(f"{name}.kind: expected one of {', '.join(kinds)}, found {kind!r}")
    return _from_json({key: value for key, value in found.items() if key != "kind"}, kinds[kind], name)


def _dataclass_from_json(found: Any, cls: Any, name: str) -> Any:
    hints = typing.get_type_hints(cls)
    names = [field.name for field in dataclasses.fields(cls)]
    if not isinstance(found, dict):
        raise ValueError(f"{name}: expected an object, found {found!r}")  # noqa: TRY004  (a wrong file, not a wrong call)
    for key in found:
        if key not in names:
            raise ValueError(f"{name}.{key}: expected one of {', '.join(names)}, found an unknown field")
    for key in names:
        if key not in found:
            raise ValueError(f"{name}.{key}: expected a value, found none")
    return cls(**{key: _from_json(value, hints[key], f"{name}.{key}") for key, value in found.items()})
