"""R6: a full disk costs no checkpoint that is there; the run says what it needs, goes on, and ends with 6."""

import contextlib
import os
import re
import subprocess

import pytest

from reliability import harness


def told(err: str) -> list[str]:
    """The warnings about saves that failed, if each says where, how much was needed and how much is free."""
    pattern = r"warning: checkpoint \S+/checkpoints/\d+: expected to write [\d,]+ bytes or more, found [\d,]+ free"
    return re.findall(pattern, err)


def test_files_that_cannot_grow(tmp_path, arguments, unbroken):
    folder = tmp_path / "run"
    with harness.scoring("R6", "no file may exceed 16 KiB after update 12 (RLIMIT_FSIZE)") as score:
        saving = ("--run.save-every", "4", "--log.every", "2")
        ended = harness.train(folder, *arguments, *saving, hooks=["limit=12:16384"])
        score(ended.code == 6, f"exit {ended.code}: {ended.err[-500:]}")
        score(len(told(ended.err)) == 3, f"told {len(told(ended.err))} times: {ended.err[-1500:]}")
        kept, last = harness.steps(folder), harness.rows(folder / "metrics.jsonl")[-1]["step"]
        score(kept and last >= kept[-1] + 12, f"{kept} kept, rows to {last}")  # one save may be under way at the limit
        score(harness.status(folder)["exit_code"] == 6, f"status {harness.status(folder)}")
        again = harness.train(folder, *arguments, "--log.every", "2")
        went_on = f"resuming from step {kept[-1]} of" in again.err
        score(again.code == 0 and went_on, f"again: {again.code}, {again.err[-300:]}")
        score(harness.leftovers(folder) == [], f"left {harness.leftovers(folder)}")
        score(harness.state_hash(folder) == harness.state_hash(unbroken), "same bits")


@contextlib.contextmanager
def small_disk(place, size):
    """A file system of its own, of `size`; None where that is not allowed."""
    place.mkdir()
    if (
        os.geteuid()
        or subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place], check=False).returncode
    ):
        yield None
        return
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


@pytest.mark.skipif(not harness.full(), reason="mounts a file system: at full size only")
def test_a_small_disk(tmp_path, arguments, unbroken):
    with small_disk(tmp_path / "disk", "2m") as disk:
        if disk is None:
            pytest.skip("mounting a tmpfs is not allowed here")
        with harness.scoring("R6", "a file system of 2 MB, filled at update 12") as score:
            saving = ("--run.save-every", "4", "--log.every", "2")
            stopped = harness.train(disk / "run", *arguments, *saving, hooks=["stop=12"])
            score(stopped.code == 75, f"before: {stopped.code}, {stopped.err[-300:]}")
            free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
            (disk / "ballast").write_bytes(bytes(max(free - 300_000, 0)))
            ended = harness.train(disk / "run", *arguments, *saving)
            score(ended.code == 6, f"exit {ended.code}: {ended.err[-800:]}")
            score(len(told(ended.err)) == 3, f"told {len(told(ended.err))} times: {ended.err[-1500:]}")
            score(12 in harness.steps(disk / "run"), f"kept {harness.steps(disk / 'run')}")
            (disk / "ballast").unlink()
            again = harness.train(disk / "run", *arguments, "--log.every", "2")
            score(again.code == 0 and "resuming from step 12" in again.err, f"again: {again.code}, {again.err[-300:]}")
            score(harness.leftovers(disk / "run") == [], f"left {harness.leftovers(disk / 'run')}")
            score(harness.state_hash(disk / "run") == harness.state_hash(unbroken), "same bits")
