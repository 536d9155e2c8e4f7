"""R12: a folder with every kind of damage: refused with the file's name, or skipped and counted, in little memory.

The fourteen kinds are those of `tests/test_data_folder.py`, which holds what each gives; here the commands meet them.
"""

import resource
import sys

import numpy as np
import pytest
from harness import full, scoring, state_hash, status
from inputs import SMALL, call, files_below

from equisct.app.cli import data, train
from test_data_folder import DAMAGED, DIRECTORY, GREY16, LINKS, damaged, encoded

__all__ = ["damaged"]  # a fixture

KINDS = len(DAMAGED) + len(LINKS) + 1
RSS_GROWTH = 200 * 2**20
"""Bytes; the bombs among the files claim far more."""
ONE_LEVEL = 1 / 255


def peak():
    """The largest memory of this process so far, in bytes."""
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size if sys.platform == "darwin" else size * 1024


@pytest.mark.skipif(sys.platform == "win32", reason="links and devices of POSIX")
def test_commands_meet_every_kind_of_damage(damaged, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = files_below(tmp_path)
    with scoring("R12", "kinds of damage among 200 image files, met by equisct-data and equisct-train") as score:
        memory = peak()
        refused = call(train.main, "images", *SMALL, "--data.path", damaged, "--run.dir", "run")
        assert (refused.code, files_below(tmp_path)) == (2, before)
        assert f"{KINDS} of 200 files that cannot be used; the first is 'd01-truncated.png'" in refused.err
        checked = call(data.main, "check", damaged, "--bad", "skip", "--bad-limit", "0.07", "--no-index")
        named = [line for line in checked.out.splitlines() if line.startswith("bad: ")]
        assert checked.code == 0
        assert peak() - memory <= RSS_GROWTH
        for name in (*DAMAGED, *LINKS, DIRECTORY):
            score(passed=sum(repr(name) in line for line in named) == 1, what=name)
        assert len(named) == KINDS
        assert f"bad files: {KINDS}; " in checked.out


@pytest.mark.skipif(sys.platform == "win32", reason="links and devices of POSIX")
def test_a_run_that_skips_them_is_deterministic(damaged, tmp_path):
    if not full():
        pytest.skip("at full size only; tests/test_data_folder.py compares the batches")
    pytest.importorskip("grain")
    words = ["--data.path", damaged, "--data.bad", "skip", "--data.bad-limit", "0.07", "--log.no-tensorboard"]
    with scoring("R12", "runs that skip bad files, equal") as score:
        for name in ("a", "b"):
            ended = call(train.main, "images", *SMALL, *words, "--run.dir", tmp_path / name)
            assert ended.code == 0, ended.err
        score(passed=state_hash(tmp_path / "a") == state_hash(tmp_path / "b"), what="two runs")


def test_16_bits_keep_their_mean(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.png").write_bytes(encoded(GREY16))
    with scoring("R12", "the mean of a 16-bit picture") as score:
        assert call(data.main, "pack", "set", "--out", "a.npz").code == 0
        mean = np.load("a.npz")["images"].mean() / 255
        score(passed=abs(mean - GREY16.mean() / 65535) <= ONE_LEVEL, what=f"mean {mean}")


def test_a_file_that_goes_bad_while_training_ends_the_run_with_a_message(tmp_path, monkeypatch):
    """The index said that it is good: exit code 2 and its name, not a traceback."""
    pytest.importorskip("grain")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "set").mkdir()
    for k in range(12):
        (tmp_path / "set" / f"{k:02}.png").write_bytes(encoded(GREY16))
    train_source = train.load_data

    def then_damaged(*arguments, **named):
        dataset = train_source(*arguments, **named)
        for path in (tmp_path / "set").iterdir():
            path.write_bytes(b"gone")
        return dataset

    monkeypatch.setattr(train, "load_data", then_damaged)
    with scoring("R12", "a file damaged after the check") as score:
        words = ["--data.path", "set", "--log.no-tensorboard", "--run.dir", "run"]
        ended = call(train.main, "images", *SMALL, *words)
        noted = status(tmp_path / "run")["exit_code"]
        score(passed=ended.code == noted == 2 and ".png" in ended.err, what=f"{ended.code}: {ended.err[-300:]}")
