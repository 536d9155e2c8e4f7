"""R8: updates that are not finite change nothing, are counted, and end the run before they are many."""

import json

import numpy as np
import pytest

from equisct.data import Loader, VectorSet
from reliability import harness

FIRST = 12
"""The first update of those at fault; the checkpoint before it is that of 10 updates."""

COUNTERS = {"step", "skipped", "skipped_in_row"}


def poisoned(folder, updates):
    """Arguments to train on points of which those of some updates overflow; and the points at fault."""
    loader = Loader(VectorSet(np.zeros((256, 2), np.float32), name="points"), harness.BATCH, seed=0)
    bad = [int(index) for update in updates for index in loader.indices(update)]
    return harness.vectors(folder / "points.npz", bad=bad), bad


@pytest.mark.parametrize("count", [1, 3] if harness.full() else [1])
def test_updates_at_fault_change_nothing(tmp_path, count):
    updates = range(FIRST, FIRST + count)
    arguments, _ = poisoned(tmp_path, updates)
    saving = ("--run.steps", str(FIRST + count), "--run.save-every", "1", "--run.keep", "8", "--log.every", "1")
    with harness.scoring("R8", f"{count} batch with points of 1e30: before and after, bit by bit") as score:
        ended = harness.train(tmp_path / "run", *arguments, *saving)
        assert ended.code == 0, ended.err
        before, after = harness.leaves(tmp_path / "run", FIRST), harness.leaves(tmp_path / "run", FIRST + count)
        earlier = harness.leaves(tmp_path / "run", FIRST - 1)
        score(len(harness.differing(earlier, before)) > 10, "a good update changes the state")
        score(set(harness.differing(before, after)) == COUNTERS, f"changed: {harness.differing(before, after)}")
        score(after["skipped"] == count and after["skipped_in_row"] == count, f"counted {after['skipped']}")
        score(ended.err.count("is not finite and was skipped") == count, "told of each")
        row = harness.rows(tmp_path / "run" / "metrics.jsonl")[-1]
        score(row["skipped"] >= 1 and row["step"] == FIRST + count, f"row {row}")


def test_many_in_a_row_halt_the_run_and_twice_at_one_place_is_enough(tmp_path):
    arguments, bad = poisoned(tmp_path, range(FIRST, FIRST + harness.PATIENCE))
    folder, last = tmp_path / "run", FIRST + harness.PATIENCE - 1
    with harness.scoring("R8", "5 such batches in a row: halt, halt again, refusal, and past them") as score:
        for _ in range(2):
            ended = harness.train(folder, *arguments)
            score(ended.code == 3 and "; lower --optim.lr, " in ended.err, f"exit {ended.code}: {ended.err[-300:]}")
        report = json.loads((folder / f"nan_report_{last:08d}.json").read_text())
        at_fault = bad[-harness.BATCH :]
        score(report["step"] == last and report["sample_indices"] == at_fault, f"report on {report['sample_indices']}")
        score(harness.status(folder)["status"] == "failed" and harness.status(folder)["exit_code"] == 3, "status")
        score(all(np.isfinite(leaf).all() for leaf in harness.leaves(folder).values()), "checkpoint is finite")
        refused = harness.train(folder, *arguments)
        named = "run.skip_steps" in refused.err and f"nan_report_{last:08d}.json" in refused.err
        score(refused.code == 2 and named, f"third start: {refused.code}, {refused.err}")
        flags = refused.err.rpartition("for example ")[2].split()
        past = harness.train(folder, *arguments, *flags)
        score(past.code == 0, f"with {flags}: {past.code}, {past.err[-300:]}")
        arrays = harness.leaves(folder)
        score(all(np.isfinite(leaf).all() for leaf in arrays.values()), "the end is finite")
        score(arrays["step"] == 30, f"the end is at {arrays['step']}")
