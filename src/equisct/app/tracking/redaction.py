"""Blotting out secrets, by the name of a field and by the values that secret environment variables have now."""

import json
import os
import re
import shlex
import urllib.parse
from collections.abc import Mapping
from typing import Any

REDACTED = "[redacted]"
"""What stands where a secret was."""

SHORTEST = 6
"""Characters of the shortest environment value that counts as a secret; shorter ones are in ordinary words."""

PUBLIC: set[str] = set()
"""Words that are no secrets, though a variable with the name of one holds them: those of the presets, once read."""

_SECRET_NAME = re.compile(r"(?:token|key)$|secret|password", re.IGNORECASE)
_SECRET_VARIABLE = re.compile(r"(?:TOKEN|KEY|SECRET|PASSWORD)$", re.IGNORECASE)
_NAME = r"(?<![\w.-])[\w.-]*(?:token|key|secret[\w.-]*|password[\w.-]*)"
_VALUE = r"""(?:"[^"]*"|'[^']*'|[^\s"',;&]+)"""
_NAMED_IN_TEXT = re.compile(
    rf"(?P<name>{_NAME}(?:=|[\"']\s*[:=]\s*)|(?=--){_NAME}\s+(?!--))(?P<value>{_VALUE})", re.IGNORECASE
)
_FLAG = re.compile(rf"(?=--){_NAME}$", re.IGNORECASE)


def redact(value: Any, environment: Mapping[str, str] | None = None) -> Any:
    """The same text or JSON without secrets.

    Blotted out are: every string or number in a field whose name ends in token or key, or has secret or password in it;
    what follows such a name in a text or a command line (`--hub.token x`, `TOKEN=x`, `"token": "x"`); and, wherever it
    stands, the value of an environment variable whose name ends in one of these four words.

    Args:
        value: a text, a command as a list of its words, or JSON: dictionaries, lists and plain values.
        environment: the variables; those of this process unless given.
    """
    secrets = _secret_values(os.environ if environment is None else environment)
    return _redact(value, re.compile("|".join(map(re.escape, secrets))) if secrets else None)


def secret_in(name: str, text: str, environment: Mapping[str, str] | None = None) -> str:
    """What makes a field of that name and text one that must not be written, in words; empty where nothing does."""
    if _SECRET_NAME.search(name) and text:
        return "a text in a field of such a name"
    found = [n for n, value in _secrets(os.environ if environment is None else environment).items() if value in text]
    return f"the value of the environment variable {found[0]}" if found else ""


def _secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that hold a secret."""
    named = {name: value.strip() for name, value in environment.items() if _SECRET_VARIABLE.search(name)}
    return {name: value for name, value in named.items() if len(value) >= SHORTEST and value not in PUBLIC}


def _secret_values(environment: Mapping[str, str]) -> list[str]:
    """The values to look for, as they are and as JSON, URLs and shells write them; the longest first."""
    forms = {
        form
        for value in set(_secrets(environment).values())
        for form in (value, json.dumps(value)[1:-1], urllib.parse.quote(value, safe=""), shlex.quote(value))
    }
    return sorted(forms, key=lambda form: (-len(form), form))


def _redact(value: Any, secrets: re.Pattern[str] | None) -> Any:
    if isinstance(value, str):
        known = secrets.sub(REDACTED, value) if secrets else value
        return _NAMED_IN_TEXT.sub(_blot_in_text, known)
    if isinstance(value, Mapping):
        return {
            _redact(name, secrets): _blot(item) if _SECRET_NAME.search(str(name)) else _redact(item, secrets)
            for name, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_blot(item) if _is_flags(before, item) else _redact(item, secrets)
                for before, item in zip([None, *value], value, strict=False)]  # fmt: skip
    return value


def _is_flags(before: Any, item: Any) -> bool:
    """Whether an item is what a secret flag before it is given."""
    is_flag = isinstance(before, str) and _FLAG.match(before) is not None
    return is_flag and not (isinstance(item, str) and item.startswith("--"))


def _blot(value: Any) -> Any:
    """What stands instead of a secret field's value; None and truth values stay."""
    return value if value is None or isinstance(value, bool) else REDACTED


def _blot_in_text(found: re.Match[str]) -> str:
    quote = found["value"][0] if found["value"][0] in "\"'" else ""
    return found["name"] + quote + REDACTED + quote
