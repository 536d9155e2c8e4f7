"""The configuration as JSON and back: strict, closed, and free of anything that could run code."""

import contextlib
import dataclasses
import inspect
import pathlib
import types
import typing
from typing import Any

from ..._base.check import did_you_mean
from .config import Config


def to_json(node: Any) -> Any:
    """A dataclass as a dictionary; one of several kinds, of a union or a base class, has its class's name in "kind"."""
    hints = typing.get_type_hints(type(node))
    return {f.name: _value_to_json(getattr(node, f.name), hints[f.name]) for f in dataclasses.fields(node)}


def _value_to_json(value: Any, hint: Any) -> Any:
    if dataclasses.is_dataclass(value):
        tag = {"kind": type(value).__name__} if _is_union(hint) or kinds(hint) else {}
        return tag | to_json(value)
    if isinstance(value, pathlib.Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (types.UnionType, typing.Union)


def kinds(hint: Any) -> dict[str, Any]:
    """The classes that may stand where a base class is asked for, by their names; none where it has no subclass."""
    if not isinstance(hint, type) or not dataclasses.is_dataclass(hint):
        return {}
    below = {kind.__name__: kind for kind in hint.__subclasses__()}
    return {
        name: kind
        for first, cls in below.items()
        for name, kind in ({first: cls} | kinds(cls)).items()
        if not inspect.isabstract(kind)
    }


def from_json(found: Any) -> Config:
    """The configuration of a file.

    Raises:
        ValueError: for an unknown, missing or wrongly typed field; names it.
    """
    return _from_json(found, Config, "config")


def _from_json(found: Any, hint: Any, name: str) -> Any:
    if _is_union(hint):
        return _union_from_json(found, typing.get_args(hint), name)
    if several := kinds(hint):
        return _kind_from_json(found, several, name, _OF_ONES_OWN)
    if dataclasses.is_dataclass(hint):
        return _dataclass_from_json(found, hint, name)
    return _plain_from_json(found, hint, name)


def _plain_from_json(found: Any, hint: Any, name: str) -> Any:
    """A number, text, path, choice or tuple."""
    kind, arguments = typing.get_origin(hint) or hint, typing.get_args(hint)
    if kind is typing.Literal and found in arguments:
        return found
    if kind is tuple and isinstance(found, list) and (arguments[-1] is ... or len(found) == len(arguments)):
        return tuple(_plain_from_json(item, arguments[0], name) for item in found)
    if kind is float and isinstance(found, (int, float)) and not isinstance(found, bool):
        with contextlib.suppress(OverflowError):
            return float(found)
    if kind is pathlib.Path and type(found) is str:
        return pathlib.Path(found)
    if type(found) is kind:
        return found
    if kind is typing.Literal:
        close = did_you_mean(str(found), arguments)
        raise ValueError(f"{name}: expected one of {', '.join(arguments)}, found {found!r}{close}")
    raise ValueError(f"{name}: expected {hint if arguments else kind.__name__}, found {found!r}")


def _union_from_json(found: Any, members: tuple[Any, ...], name: str) -> Any:
    """None where that is a member, the single other member, or the dataclass that "kind" names."""
    others = [member for member in members if member is not type(None)]
    if found is None and len(others) < len(members):
        return None
    if len(others) == 1:
        return _from_json(found, others[0], name)
    return _kind_from_json(found, {member.__name__: member for member in others}, name)


_OF_ONES_OWN = "; one of your own: put EQUISCT_METHODS=FILE.py before the command, or see docs/extend.md"


def _kind_from_json(found: Any, several: dict[str, Any], name: str, advice: str = "") -> Any:
    """The dataclass that "kind" names."""
    fields: dict[str, Any] = dict(found) if isinstance(found, dict) else {}
    kind = fields.pop("kind", None)
    if not isinstance(kind, str) or kind not in several:
        close = did_you_mean(str(kind), several)
        raise ValueError(f"{name}.kind: expected one of {', '.join(several)}, found {kind!r}{close}{advice}")
    return _dataclass_from_json(fields, several[kind], name)


def _dataclass_from_json(found: Any, cls: Any, name: str) -> Any:
    hints = typing.get_type_hints(cls)
    names = [field.name for field in dataclasses.fields(cls)]
    if not isinstance(found, dict):
        raise ValueError(f"{name}: expected an object, found {found!r}")  # noqa: TRY004  (a wrong file, not a call)
    for key in found:
        if key not in names:
            hint = did_you_mean(key, names)
            raise ValueError(f"{name}.{key}: expected one of {', '.join(names)}, found an unknown field{hint}")
    for key in names:
        if key not in found:
            raise ValueError(f"{name}.{key}: expected a value, found none")
    return cls(**{key: _from_json(value, hints[key], f"{name}.{key}") for key, value in found.items()})
