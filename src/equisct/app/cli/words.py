"""From words to settings: tyro reads them; here is what may have been meant by one that it does not know."""

import contextlib
import dataclasses
import difflib
import itertools
import pathlib
import re
import sys
import textwrap
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import tyro

from ..._base.check import did_you_mean
from ..._base.version import installed_version
from .values import VALUES

T = TypeVar("T")

_ELSEWHERE = {
    "batch-size": "batch", "train-batch-size": "batch", "learning-rate": "lr", "iterations": "steps", "iters": "steps",
    "epochs": "steps", "max-iters": "steps", "max-steps": "steps", "num-steps": "steps", "max-train-steps": "steps",
    "output": "out", "output-dir": "dir", "out-dir": "dir", "outdir": "dir", "run-dir": "dir", "samples": "n",
    "num-samples": "n", "n-samples": "n", "num-workers": "workers", "mixed-precision": "precision",
    "gradient-accumulation-steps": "microbatches", "reference": "ref", "gpus": "devices",
}  # fmt: skip
"""What other programs call a flag, and the last part of what it is called here."""

_TRUTHS = ("true", "false", "yes", "no", "on", "off", "1", "0")


def choose(
    program: str, description: str, choices: Mapping[str, str], words: Sequence[str], *, usage: str
) -> tuple[str, list[str]]:
    """The first word, which is one of `choices`, and the words after it; help and the version end the process.

    Args:
        program: the command's name.
        description: for its help.
        choices: the words there are, each with a line of help.
        words: what stands after the program.
        usage: what may stand there, in general.

    Raises:
        ValueError: if the first word is none of them.
    """
    first, *rest = words or [""]
    if first in choices:
        return first, rest
    if first in ("-h", "--help"):
        print(f"usage: {program} {usage}\n\n{description.strip()}\n")
        width = max(map(len, choices)) + 4
        for name, text in choices.items():
            print(textwrap.fill(text, 100, initial_indent=f"  {name}".ljust(width), subsequent_indent=" " * width))
        sys.exit(0)
    if first == "--version":
        print(f"equisct {installed_version('equisct') or '(from its source)'}")
        sys.exit(0)
    found = f"the flag {first} before it" if first.startswith("-") else first or "nothing"
    raise ValueError(
        f"expected {program} {usage}, found {found}{did_you_mean(first, choices)}\n"
        f"the first word is one of {', '.join(choices)}; {program} --help says what they are"
    )


def read_one_of(kinds: Mapping[str, type[T]], *, program: str, description: str, words: Sequence[str] | None) -> T:
    """The settings of the kind that the first word names, each with its docstring as help; see `choose` and `read`."""
    texts = {name: (kind.__doc__ or "").splitlines()[0] for name, kind in kinds.items()}
    words = sys.argv[1:] if words is None else words
    first, rest = choose(program, description, texts, words, usage=f"{{{','.join(kinds)}}} PATH [--flag VALUE ...]")
    return read(kinds[first], program=f"{program} {first}", description=texts[first], words=rest)


def read(kind: type[T], *, program: str, description: str, words: Sequence[str] | None, default: T | None = None) -> T:
    """The settings that flags and places give; a value of another type and `--help` end the process.

    Args:
        kind: a dataclass; every field of `default` that is one too is a group of flags, `--group.field`.
        program: the command, and the words before `words`.
        description: for its help.
        words: flags, their values and places; None: the process's own.
        default: where the flags begin from; None: at the defaults of `kind`.

    Raises:
        ValueError: for a word that means nothing here.
    """
    words = sys.argv[1:] if words is None else words
    flags = dict(_flags(kind, default))
    _check_flags(words, flags, program, list(vars(default) if default is not None else ()))
    given: dict[str, Any] = {} if default is None else {"default": default}
    asked, unknown = tyro.cli(
        kind, prog=program, description=description, args=words, registry=VALUES, return_unknown_args=True,
        config=(tyro.conf.AvoidSubcommands,), **given,
    )  # fmt: skip
    for word in unknown:
        name, _, value = f"--{word}".partition("=")
        hint = f"; did you mean {name} {value}?" if name in flags else ""
        raise ValueError(f"expected flags and their values, found {word} too{hint}\n{program} --help lists the flags")
    return asked


def _flags(kind: Any, default: Any, group: str = "") -> Iterator[tuple[str, str | None]]:
    """Every flag; with its opposite (which may be "") if it takes no value, or else with None."""
    hints = typing.get_type_hints(kind, include_extras=True)
    for field in dataclasses.fields(kind):
        value, hint = getattr(default, field.name, None), hints[field.name]
        marks = str(getattr(hint, "__metadata__", ""))
        if dataclasses.is_dataclass(value):
            yield from _flags(type(value), value, f"{group}{field.name}.")
        elif not ("Positional" in marks or "Suppress" in marks):
            on, off = (f"--{group}{no}{field.name}".replace("_", "-") for no in ("", "no-"))
            if bool not in (hint, getattr(hint, "__origin__", None)):
                yield on, None
            elif "CreatePairsOff" in marks:
                yield on, ""
            else:
                yield from ((on, off), (off, on))


def _check_flags(words: Sequence[str], flags: Mapping[str, str | None], program: str, groups: Sequence[str]) -> None:
    """Raises `ValueError` at the first that there is not, or that takes no value and is given one."""
    for word, after in itertools.zip_longest(words, words[1:], fillvalue=""):
        name, _, value = word.replace("_", "-").partition("=")
        if not re.match("--?[a-zA-Z]", name) or _is_number(word) or name in ("-h", "--help"):
            continue
        if name not in flags:
            meant = _meant(name, flags, groups)
            raise ValueError(f"expected a flag of {program}, found {word}{meant}\n{program} --help lists the flags")
        opposite, truth = flags[name], after.lower() in _TRUTHS and not pathlib.Path(after).exists()
        if opposite is not None and (value or truth):
            raise ValueError(
                f"{name}: takes no value, found {value or after}; write {name}{opposite and f' or {opposite}'} alone"
            )


def _is_number(word: str) -> bool:
    with contextlib.suppress(ValueError):
        return bool(str(float(word)))
    return False


def _meant(name: str, flags: Mapping[str, str | None], groups: Sequence[str]) -> str:
    """The flags of the same last part, of another program's name for it, or of one alike; else those of the group."""
    group, _, last = name.lstrip("-").rpartition(".")
    parts = {flag: flag.lstrip("-").rpartition(".")[2] for flag in flags}
    there = [flag for flag in flags if flag.startswith(f"--{group}.")] if group in groups else list(flags)
    known = (last, _ELSEWHERE.get(last))
    for wanted in (*known, *difflib.get_close_matches(last, [parts[flag] for flag in there], 1)):
        if same := [flag for flag in flags if parts[flag] == wanted and (flag in there or wanted in known)]:
            return f"; did you mean {' or '.join(same)}?"
    return f"; of {group} there are {', '.join(there) or 'none here'}" if group in groups else ""
