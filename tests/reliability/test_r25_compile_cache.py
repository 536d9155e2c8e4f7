"""R25: a damaged compile cache, or one that cannot be written, costs time and nothing else."""

import os
import pathlib
import shutil

from reliability import harness


def truncate(path: pathlib.Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def spoil(path: pathlib.Path) -> None:
    path.write_bytes(b"no program" * 100)


def alternate(path: pathlib.Path) -> None:
    (truncate if path.stat().st_size % 2 else spoil)(path)


def test_damaged_cache(tmp_path, arguments, unbroken):
    kinds = {"truncated": truncate, "garbage": spoil} if harness.full() else {"truncated or garbage": alternate}
    whole = tmp_path / "whole"
    if harness.full():
        assert harness.train(tmp_path / "first", *arguments, JAX_COMPILATION_CACHE_DIR=str(whole)).code == 0
    else:
        shutil.copytree(harness.environment()["JAX_COMPILATION_CACHE_DIR"], whole)
    with harness.scoring("R25", f"every entry {', every entry '.join(kinds)}") as score:
        for kind, damage in kinds.items():
            place = tmp_path / kind.replace(" ", "-")
            shutil.copytree(whole, place / "cache")
            files = [path for path in (place / "cache").iterdir() if path.is_file()]
            assert files
            for path in files:
                damage(path)
            ended = harness.train(place / "run", *arguments, JAX_COMPILATION_CACHE_DIR=str(place / "cache"))
            score(ended.code == 0, f"{kind}: exit {ended.code}, {ended.err[-300:]}")
            score(harness.state_hash(place / "run") == harness.state_hash(unbroken), f"{kind}: same bits")


def test_cache_that_cannot_be_written(tmp_path, arguments, unbroken):
    if not harness.full():
        return
    place = tmp_path / "cache"
    if os.geteuid():
        place.mkdir()
        place.chmod(0o500)
    else:  # nothing is read-only for root: below a file nobody can write
        place.write_text("")
        place /= "below"
    with harness.scoring("R25", "a cache that cannot be written") as score:
        ended = harness.train(tmp_path / "run", *arguments, JAX_COMPILATION_CACHE_DIR=str(place))
        score(ended.code == 0, f"exit {ended.code}, {ended.err[-300:]}")
        score(harness.state_hash(tmp_path / "run") == harness.state_hash(unbroken), "same bits")
