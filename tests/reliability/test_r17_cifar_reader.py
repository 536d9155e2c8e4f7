"""R17: the CIFAR-10 reader refuses pickles, wrong sizes, wrong labels and wrong digests, and runs none of them.

It reads the binary version alone: nothing is unpickled at all, so there is no Python version to compare with; that is
refused with the hint to take the binary one. The table of damaged files is that of `tests/test_data_cifar10.py`.
"""

import pickle

import pytest
from harness import scoring
from inputs import call, files_below, no_jax_in

from equisct.app.cli import train
from test_data_arrays import Payload
from test_data_cifar10 import BAD_FILES, CONTENTS, member, official, small, tar, write

__all__ = ["small"]  # a fixture

BATCHES = [f"data_batch_{k}" for k in range(1, 6)]
PICKLES = {
    "a payload": pickle.dumps(Payload()),
    "a payload in a dictionary": pickle.dumps({"data": Payload(), "labels": [0]}, protocol=2),
    "an opcode that calls": b"cos\nmkdir\n(S'sentinel'\ntR.",
    "an opcode that builds": b"\x80\x02cbuiltins\neval\nX\x18\x00\x00\x00__import__('os').mkdir\x85R.",
    "a stack that never ends": b"(" * 5_000 + b".",
}


def refuse(tmp_path, monkeypatch, make, message):
    """The command exits with 2 and the message, before JAX, and writes nothing."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    make(here)
    before = files_below(tmp_path), sorted(tmp_path.rglob("*"))
    path = "a.tar.gz" if (here / "a.tar.gz").exists() else "."
    with scoring("R17", "wrong CIFAR-10 files, given to equisct-train") as score, no_jax_in(train):
        ended = call(train.main, "cifar10", "--data.path", path, "--run.batch", "4")
        assert (files_below(tmp_path), sorted(tmp_path.rglob("*"))) == before
        score(passed=ended.code == 2 and message in ended.err, what=f"{ended.code}: {ended.err}")


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("name", PICKLES)
@pytest.mark.parametrize("packed", [False, True], ids=["folder", "archive"])
def test_pickles_are_refused_by_name_and_by_content(name, packed, tmp_path, monkeypatch):
    content = PICKLES[name]

    def python_version(here):
        if packed:
            members = [member(f"cifar-10-batches-py/{batch}", content) for batch in BATCHES]
            (here / "a.tar.gz").write_bytes(tar(members))
        else:
            write(here, dict.fromkeys(BATCHES, content))

    refuse(tmp_path, monkeypatch, python_version, "pickles, which can run code: use the binary version")


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("name", PICKLES)
def test_pickles_under_the_names_of_the_binary_version_are_refused(name, tmp_path, monkeypatch):
    changed = CONTENTS | {"data_batch_1.bin": PICKLES[name]}
    refuse(tmp_path, monkeypatch, lambda here: write(here, changed), "data_batch_1.bin: found")


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("name", BAD_FILES)
def test_damaged_files_are_refused_by_the_command(name, tmp_path, monkeypatch):
    changed, _ = BAD_FILES[name]
    (file,) = changed
    refuse(tmp_path, monkeypatch, lambda here: write(here, CONTENTS | changed), f"{file}: ")


@pytest.mark.usefixtures("small")
def test_the_right_files_are_taken(tmp_path, monkeypatch):
    """The same command gets as far as JAX with the official files: the refusals above are not for another reason."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.tar.gz").write_bytes(tar(official()))
    with no_jax_in(train), pytest.raises(AssertionError, match="not refused before JAX"):
        call(train.main, "cifar10", "--data.path", "a.tar.gz", "--run.batch", "4")
