"""R11: the number of worker processes changes nothing: same state, same rows, bit for bit."""

import pytest
from harness import full, metric_rows, scoring, state_hash
from inputs import SMALL, call, write_images

from equisct.app.cli import train
from equisct.app.runs import actions

pytest.importorskip("grain")


def test_workers_change_nothing(tmp_path, monkeypatch):
    """The workers are processes as the command starts them; nothing is drawn, which takes no data."""
    monkeypatch.setattr(actions, "draw_sheet", lambda *arguments, **named: {})
    write_images(tmp_path / "images", 20)
    found = {}
    with scoring("R11", "runs on image files with 0, 1 and 2 workers") as score:
        for workers in (0, 1, 2) if full() else (0, 2):
            folder = tmp_path / str(workers)
            words = ["--data.path", tmp_path / "images", "--data.flip", "--data.workers", workers, "--run.dir", folder]
            ended = call(train.main, "images", *SMALL, "--log.no-tensorboard", *words)
            assert ended.code == 0, ended.err
            found[workers] = state_hash(folder), metric_rows(folder)
            score(passed=found[workers] == found[0], what=f"{workers} workers")
