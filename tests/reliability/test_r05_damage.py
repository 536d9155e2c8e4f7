"""R5: a damaged checkpoint is never loaded without a word; the one before it is, and the warning names the file."""

import json
import pathlib
import random
import shutil

import jax
import numpy as np

from equisct.train.checkpoint import CheckpointStore
from equisct.train.reading import find_checkpoint
from reliability import harness


def flip(path: pathlib.Path) -> None:
    content = bytearray(path.read_bytes())
    place = random.Random(path.name).randrange(8 * len(content))
    content[place // 8] ^= 1 << place % 8
    path.write_bytes(content)


def halve(path: pathlib.Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGE = {"flip": flip, "halve": halve, "delete": pathlib.Path.unlink, "empty": lambda path: path.write_bytes(b"")}


def stored(folder: pathlib.Path) -> dict[int, dict[str, np.ndarray]]:
    """Two checkpoints of a few arrays, at steps 1 and 2."""
    generator = np.random.default_rng(0)
    trees = {
        step: {
            "a": generator.normal(size=(40, 30)).astype(np.float32),
            "n": np.int32(step),
            "b": np.arange(step, step + 5, dtype=np.int32),
        }
        for step in (1, 2)
    }
    store = CheckpointStore(folder)
    for step, tree in trees.items():
        store.save(step, tree, {"step": step})
    store.close()
    return trees


def test_every_file_of_a_checkpoint(tmp_path):
    trees = stored(tmp_path / "whole")
    like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(np.shape(leaf), np.asarray(leaf).dtype), trees[1])
    files = sorted(p.relative_to(tmp_path / "whole") for p in (tmp_path / "whole" / "2").rglob("*") if p.is_file())
    assert len(files) >= 5
    with harness.scoring("R5", f"{len(files)} files x flip a bit, halve, delete, empty; loaded by the store") as score:
        for file in files:
            for name, damage in DAMAGE.items():
                if (tmp_path / "whole" / file).stat().st_size == 0 and name != "delete":
                    continue  # nothing to damage
                folder = tmp_path / "damaged"
                shutil.copytree(tmp_path / "whole", folder)
                damage(folder / file)
                told: list[str] = []
                store = CheckpointStore(folder, warn=told.append)
                found = store.restore(like)
                store.close()
                assert found is not None
                step, tree, notes = found
                right = harness.differing(tree, trees[step]) == [] and notes == {"step": step}
                named = any(file.name in message for message in told) and (folder / "2.damaged").is_dir()
                score(right and (step == 2 or named), f"{file} {name}: step {step}, right {right}, told {told}")
                shutil.rmtree(folder)


def test_reading_alone_falls_back_and_changes_nothing(tmp_path):
    stored(tmp_path)
    flip(next(path for path in (tmp_path / "2" / "d").iterdir()))
    before = sorted(tmp_path.rglob("*"))
    found = find_checkpoint(tmp_path)
    assert (found.step, found.notes) == (1, {"step": 1})
    assert sorted(tmp_path.rglob("*")) == before


def test_a_run_goes_on_from_the_one_before(tmp_path, arguments, unbroken):
    folder = tmp_path / "run"
    shutil.copytree(unbroken, folder)
    files = sorted(path for path in (folder / "checkpoints" / "30").rglob("*") if path.is_file())
    kinds = [*DAMAGE] if harness.full() else ["flip"]
    (folder / "STATUS.json").write_text(json.dumps({"status": "running", "step": 30}))
    with harness.scoring("R5", f"the command after {', '.join(kinds)} in its newest checkpoint") as score:
        for kind in kinds:
            file = random.Random(kind).choice([path for path in files if path.name != "MANIFEST.json"])
            DAMAGE[kind](file)
            again = harness.train(folder, *arguments)
            assert again.code == 0, again.err
            score(file.name in again.err and "resuming from step 20" in again.err, f"{kind}: {again.err}")
            score(harness.differing(harness.leaves(unbroken), harness.leaves(folder)) == [], f"{kind}: same bits")
            score(harness.metric_rows(unbroken) == harness.metric_rows(folder), f"{kind}: same rows")
            files = sorted(path for path in (folder / "checkpoints" / "30").rglob("*") if path.is_file())
            (folder / "STATUS.json").write_text(json.dumps({"status": "running", "step": 30}))
