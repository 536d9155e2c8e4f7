"""R7: at every moment one whole checkpoint is there, also when killed between commit and deletion."""

import pathlib
import shutil

import jax
import numpy as np
import pytest

from equisct.train import checkpoint
from equisct.train.checkpoint import CheckpointStore
from reliability import harness


def test_every_moment_of_a_save(tmp_path, monkeypatch):
    moments: list[pathlib.Path] = []
    folder = tmp_path / "checkpoints"

    def photograph(name: str) -> None:
        original = getattr(checkpoint, name)

        def wrapped(*args):
            for when in ("before", "after"):
                moments.append(tmp_path / f"{len(moments):03d} {when} {name}")
                if when == "after":
                    original(*args)
                shutil.copytree(folder, moments[-1])

        monkeypatch.setattr(checkpoint, name, wrapped)

    photograph("write_manifest")
    photograph("_remove")
    monkeypatch.setattr(
        checkpoint, "_own_copy", lambda arrays, copy=checkpoint._own_copy: photograph_now() or copy(arrays)
    )

    def photograph_now() -> None:
        moments.append(tmp_path / f"{len(moments):03d} begin")
        shutil.copytree(folder, moments[-1])

    store, saves = CheckpointStore(folder, keep=2), 6
    for step in range(1, saves + 1):
        store.save(step, {"a": np.full(50, step, np.float32)}, {})
    store.close()
    monkeypatch.undo()
    with harness.scoring("R7", f"{len(moments)} moments of {saves} saves, keep 2: a kill there, by a copy") as score:
        newest = 0
        for moment in moments[1:]:
            copy = CheckpointStore(moment, keep=2, warn=lambda message: None)
            found = copy.restore({"a": jax.ShapeDtypeStruct((50,), np.float32)})
            copy.close()
            step = found[0] if found else 0
            whole = found is not None and bool(np.all(np.asarray(found[1]["a"]) == step))
            first = moment.name.endswith(("begin", "before write_manifest")) and newest == 0
            score(first or (whole and step >= newest), f"{moment.name}: {step} after {newest}")
            score(harness.leftovers(moment) == [], f"{moment.name}: left {harness.leftovers(moment)}")
            newest = max(newest, step)
        assert newest == saves
        score(len(harness.steps(tmp_path)) == 2, f"kept {harness.steps(tmp_path)}")


@pytest.mark.skipif(not harness.full(), reason="many processes: at full size only")
def test_killed_between_commit_and_deletion(tmp_path, arguments, unbroken):
    places = range(3, 23)
    with harness.scoring("R7", f"SIGKILL between commit and deletion, {len(places)} times") as score:
        for step in places:
            ended = harness.train(tmp_path / "run", *arguments, "--run.save-every", "1", hooks=[f"kill=prune:{step}"])
            newest = harness.leaves(tmp_path / "run")["step"]
            score(ended.code == -9 and newest == step, f"{step}: exit {ended.code}, newest {newest}")
        assert harness.train(tmp_path / "run", *arguments).code == 0
        score(harness.state_hash(tmp_path / "run") == harness.state_hash(unbroken), "same bits")
