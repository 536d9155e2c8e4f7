"""Which error ends a command with which code; and that a bug is none of them."""

import ast
import errno
import importlib
import os
import pathlib
import sys

import jax
import numpy as np
import pytest

import equisct
from equisct._base.check import is_refusal
from equisct.app.cli import data, evaluate, report, sample, train
from equisct.app.runs import exits, folder, places
from equisct.data import DataError
from equisct.train import CheckpointError

TABLE = [
    (CheckpointError("checkpoint: Orbax found RESOURCE_EXHAUSTED: No space left on device"), exits.CHECKPOINT),
    (RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes"), exits.OUT_OF_MEMORY),
    (OSError(errno.ENOSPC, "No space left on device"), exits.CHECKPOINT),
    (OSError(errno.EACCES, "Permission denied"), None),
    (KeyError("a bug"), None),
]
MAINS = {"data": data.main, "eval": evaluate.main, "report": report.main, "sample": sample.main, "train": train.main}


@pytest.mark.parametrize(("error", "code"), TABLE)
def test_table(error, code):
    assert exits.code_of(error) == code


BUG = ValueError("operands could not be broadcast together with shapes (2,) (3,): a bug")
WHILE_READING = {
    "of the library's form": (ValueError("run.steps: expected at least 1, found 0"), 2),
    "without a name": (ValueError("expected a preset, found digit; did you mean digits?"), 2),
    "of a flag": (ValueError("--data.flip: takes no value, found True"), 2),
    "of data": (DataError("a\nb.npz", "nothing", "a file"), 2),
    "of a checkpoint": (CheckpointError("checkpoint a b/c: expected one, found none"), 2),
    "of the system": (PermissionError(errno.EACCES, "Permission denied"), 2),
    "of NumPy": (BUG, None),
    "of Python": (ValueError("not enough values to unpack (expected 2, got 1)"), None),
    "of another kind": (KeyError("name: expected 1, found 2"), None),
}


@pytest.mark.parametrize("name", WHILE_READING)
def test_only_what_is_refused_is_the_persons_mistake(name, capsys):
    error, code = WHILE_READING[name]
    with pytest.raises(type(error) if code is None else SystemExit) as found, exits.refusing_wrong_input("program"):
        raise error
    assert code is None or (found.value.code, capsys.readouterr().err[:15]) == (code, "program: error:")


INNER = ("torch_file.py", "manifest.py", "posthoc.py")
"""Files with checks whose `ValueError` the same file takes into a message of the form."""


def test_every_refusal_of_the_library_has_the_form_by_which_it_is_known():
    """`NAME: expected ...`, or another error's message behind a name; whoever breaks it gets a traceback instead."""
    found = []
    for path in sorted(pathlib.Path(str(equisct.__file__)).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and path.name not in INNER:
                text = ast.unparse(node.exc.args[0]).lstrip("f")[1:] if node.exc.args else ""
                passed_on = {"error", "what"} & {n.id for n in ast.walk(node.exc) if isinstance(n, ast.Name)}
                if ast.unparse(node.exc.func) == "ValueError" and not passed_on and not is_refusal(ValueError(text)):
                    found.append((path.name, node.lineno, text))
    assert found == []


WORDS = {
    "data": ("check", "digits"),
    "eval": ("stats", "digits", "--out", "out.npz"),
    "report": ("run", "--no-models"),
    "sample": ("run",),
    "train": ("tiny",),
}
WORK = {
    "data": "data.check",
    "eval": "evaluate_work.write_statistics",
    "report": "report_work.report",
    "sample": "sample_work.draw",
    "train": "train.load_data",
}


@pytest.mark.parametrize("command", MAINS)
def test_a_bug_in_any_command_keeps_its_traceback(command, tmp_path, monkeypatch):
    """Not only while a run trains: in what each command does, where a refusal would be one message and code 2."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    module, _, name = WORK[command].partition(".")

    def broken(*_, **__):
        raise BUG

    monkeypatch.setattr(importlib.import_module(f"equisct.app.cli.{module}"), name, broken)
    with pytest.raises(ValueError, match="a bug"):
        MAINS[command]([*WORDS[command]])


@pytest.mark.parametrize("command", MAINS)
def test_a_reader_that_has_gone_ends_any_command_without_a_traceback(command, monkeypatch):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed:
        monkeypatch.setattr(sys, "stdout", closed)
        with pytest.raises(SystemExit) as end:
            MAINS[command](["--help"])
    assert end.value.code == exits.BROKEN_PIPE


@pytest.mark.parametrize("error", [AssertionError(), RuntimeError("Unable to initialize backend 'cuda'")])
def test_a_platform_without_a_device_is_named(error, monkeypatch):
    def none():
        raise error

    monkeypatch.setattr(jax, "devices", none)
    with pytest.raises(ValueError, match="JAX_PLATFORMS: expected platforms with a device, such as cpu, found"):
        places.check_platform()


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="found a place that cannot be written"), folder.locked(tmp_path / "file" / "x"):
        pass


@pytest.mark.parametrize("words", ["check two.npz --support", "tiny --run.dry-run"])
def test_a_command_without_a_device_is_refused(words, monkeypatch, tmp_path, capsys):
    def none():
        raise AssertionError

    monkeypatch.chdir(tmp_path)
    np.savez("two.npz", vectors=np.zeros((4, 2), np.float32))
    monkeypatch.setattr(jax, "devices", none)
    with pytest.raises(SystemExit) as end:
        MAINS["train" if words.startswith("tiny") else "data"](words.split())
    assert end.value.code == exits.WRONG_INPUT
    assert "error: JAX_PLATFORMS: expected platforms with a device" in capsys.readouterr().err
