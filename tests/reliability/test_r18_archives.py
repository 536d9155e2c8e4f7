"""R18: archives made to write, read or grow where they should not are refused by the commands; nothing is extracted.

The tables of attacks are those of `tests/test_data_cifar10.py` and `tests/test_data_folder.py`; the messages too.
"""

import warnings
import zipfile

import pytest
from harness import scoring
from inputs import call, no_jax_in

from equisct.app.cli import data, train
from test_data_cifar10 import FOLDER, HOSTILE, ONE, official, small, tar
from test_data_folder import CHANGED, CLIMBING, GOOD, attack, linked, listed

__all__ = ["small"]  # a fixture


def refuse(tmp_path, monkeypatch, name, make, preset):
    """Both commands exit with 2, and nothing is new: neither beside the archive nor above it."""
    here = tmp_path / "outside" / "here"
    here.mkdir(parents=True)
    monkeypatch.chdir(here)
    make(here / name)
    before = sorted(tmp_path.rglob("*"))
    with scoring("R18", "attacks by archives, on equisct-data and equisct-train") as score, no_jax_in(train):
        found = [
            call(data.main, "check", name, "--no-index"),
            call(data.main, "pack", name, "--out", "a.npz"),
            call(train.main, preset, "--data.path", name, "--run.batch", "1"),
        ]
        assert sorted(tmp_path.rglob("*")) == before
        assert not any("Traceback" in ended.err for ended in found)
        score(passed=[ended.code for ended in found] == [2, 2, 2], what=str(found))


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("name", HOSTILE)
def test_tar_archives(name, tmp_path, monkeypatch):
    members, _ = HOSTILE[name]
    rest = [good for good in official()[1:] if good[0].name != f"{FOLDER}/{ONE}"]
    refuse(tmp_path, monkeypatch, "a.tar.gz", lambda path: path.write_bytes(tar([*members, *rest])), "cifar10")


ZIPS = {f"a name that climbs: {name}": lambda path, name=name: attack(path, (name, GOOD)) for name in CLIMBING} | {
    "a symbolic link": lambda path: attack(path, linked("link.png", "../secret.png")),
    "two of one name": lambda path: attack(path, ("good.png", GOOD)),
} | {
    name: lambda path, change=change: attack(path, ("b.png", GOOD)).write_bytes(listed(path.read_bytes(), *change[:3]))
    for name, change in CHANGED.items()
}  # fmt: skip


@pytest.mark.parametrize("name", ZIPS)
def test_zip_archives(name, tmp_path, monkeypatch):
    def make(path):
        with warnings.catch_warnings(action="ignore"):  # zipfile's, about two of one name
            ZIPS[name](path)
        assert zipfile.is_zipfile(path)

    refuse(tmp_path, monkeypatch, "a.zip", make, "images")
