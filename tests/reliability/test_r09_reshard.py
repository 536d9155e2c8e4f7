"""R9: a run saved on some devices goes on with others: the same state, samples, and losses but for rounding."""

import shutil

import numpy as np
import pytest

from reliability import harness
from tolerances import OTHER_DEVICES

SAVED = {
    "4 devices": ("--parallel.devices", "4"),
    "4 devices, fsdp 2": ("--parallel.devices", "4", "--parallel.fsdp", "2"),
    "2 devices, fsdp 2": ("--parallel.devices", "2", "--parallel.fsdp", "2"),
}
RESUMED = (1, 2, 8) if harness.full() else (1,)


@pytest.mark.parametrize("saved", list(SAVED)[:2] if harness.full() else ["2 devices, fsdp 2"])
def test_other_devices(tmp_path, arguments, saved):
    more = ("--run.batch", "8", "--log.every", "1", "--run.steps", "20")
    with harness.scoring("R9", f"saved on {saved}, gone on with on {RESUMED}: 10 more updates") as score:
        stopped = harness.train(tmp_path / "run", *arguments, *more, *SAVED[saved], hooks=["stop=10"])
        assert stopped.code == 75, stopped.err
        runs = {
            "same": SAVED[saved],
            **{str(n): ("--parallel.devices", str(n), "--parallel.fsdp", "1") for n in RESUMED},
        }
        losses, samples = {}, {}
        for name, devices in runs.items():
            shutil.copytree(tmp_path / "run", tmp_path / name)
            watch = f"watch={tmp_path / name}.watch.jsonl"
            ended = harness.train(tmp_path / name, *arguments, *more, *devices, hooks=[watch])
            assert ended.code == 0, ended.err
            first, *batches = harness.rows(tmp_path / f"{name}.watch.jsonl")
            score(first == {"restored": harness.state_hash(tmp_path / "run")}, f"{name}: restored state")
            samples[name] = batches
            losses[name] = [row["loss"] for row in harness.rows(tmp_path / name / "metrics.jsonl")][10:]
            assert len(losses[name]) == len(batches) == 10
            score(samples[name] == samples["same"], f"{name}: samples")
            error = np.max(np.abs(np.array(losses[name]) / losses["same"] - 1))
            score(error <= OTHER_DEVICES, f"{name}: losses differ by {error:.1e}")
