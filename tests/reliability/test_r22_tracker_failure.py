"""R22: a tracker that raises or hangs, in whatever method, changes nothing about a run but for one warning a minute."""

import time

import pytest
from harness import DRAWING, full, metric_rows, rows, scoring, start, steps, vectors
from harness import train as run_process
from inputs import call

from equisct.app.cli import train
from equisct.app.runs import recorder
from test_tracking import METHODS

HANG = 5.0 if full() else 0.3
"""Seconds."""


def fail(*arguments):
    raise RuntimeError("the service is away")


def leave(*arguments):
    raise SystemExit(3)


def hang(*arguments):
    time.sleep(HANG)


def tracker(bad, act):
    """A class of trackers that do `act` in the methods `bad` and nothing in the others."""
    return type("Away", (), {name: act if name in bad else lambda *arguments: None for name in METHODS})


CASES = {
    "raises everywhere": (METHODS, fail),
    "hangs everywhere": (METHODS, hang),
    "leaves": (("log",), leave),
} | {
    f"{word} in {method}": ((method,), act)
    for method in METHODS
    for word, act in (("raises", fail), ("hangs", hang))
    if full()
}  # fmt: skip


@pytest.fixture(scope="module")
def points(tmp_path_factory):
    return (*vectors(tmp_path_factory.mktemp("points") / "points.npz"), *DRAWING)


@pytest.fixture(scope="module")
def unbroken(points, tmp_path_factory):
    """The rows of a run without another tracker."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert call(train.main, *points, "--run.dir", folder).code == 0
    return metric_rows(folder)


@pytest.mark.parametrize("name", CASES)
def test_a_run_with_a_bad_tracker_is_the_run_without(name, points, unbroken, tmp_path, monkeypatch):
    bad, act = CASES[name]
    monkeypatch.setattr(recorder, "TensorBoard", tracker(bad, act))
    with scoring("R22", "runs with a tracker that raises, leaves or hangs") as score:
        begin = time.monotonic()
        found = call(train.main, *points, "--log.tensorboard", "--run.dir", tmp_path / "run")
        seconds = time.monotonic() - begin
        warned = [line for line in found.err.splitlines() if line.startswith("warning: ")]
        assert found.code == 0, found.err
        assert metric_rows(tmp_path / "run") == unbroken
        assert steps(tmp_path / "run") == [20, 30]
        assert len(warned) <= 1 + seconds / 60, warned
        assert all("Away" in line and "training goes on" in line for line in warned)
        assert warned or act is hang
        score(passed=True, what=name)


def test_a_kill_leaves_no_torn_row_and_the_next_start_the_rows_of_an_unbroken_run(points, unbroken, tmp_path):
    """The same process, killed while it writes rows; `tests/test_tracking.py` kills the writer alone."""
    if not full():
        pytest.skip("at full size only; the storm of kills (R3) does this too")
    with scoring("R22", "kills while rows are written") as score:
        for number in range(3):
            folder = tmp_path / str(number)
            running = start(folder, *points, "--log.every", "1")
            running.until(lambda path=folder / "metrics.jsonl", least=3 * number: len(rows(path)) > least)
            running.process.kill()
            running.process.wait()
            assert metric_rows(folder).endswith(b"\n") or rows(folder / "metrics.jsonl")
            assert run_process(folder, *points, "--log.every", "1").code == 0
            assert [row["step"] for row in rows(folder / "metrics.jsonl")] == list(range(1, 31))
            score(passed=True, what=str(number))
