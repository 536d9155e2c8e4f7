"""R24: what earlier versions wrote is read: samples as they were, training goes on; newer files are refused clearly."""

import json
import pathlib
import re
import shutil

import numpy as np
import pytest
from harness import rows, status, steps
from inputs import call, counts, files_below

from equisct.app.cli import sample, train
from equisct.train import manifest

FIXTURES = pathlib.Path(__file__).parent / "fixtures"
VERSIONS = sorted(path.name for path in FIXTURES.iterdir() if path.is_dir())
LARGEST = 200_000
"""Bytes of one version."""
SAME_SAMPLE = 1e-3
"""Samples of unit size on another processor or compiler: float32 through a small network of random weights."""


@pytest.fixture(params=VERSIONS)
def place(request, tmp_path, monkeypatch):
    """The working folder, with the files of a version."""
    shutil.copytree(FIXTURES / request.param, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_there_are_versions_and_they_are_small():
    assert VERSIONS
    for version in VERSIONS:
        assert sum(map(len, files_below(FIXTURES / version).values())) <= LARGEST


@counts("R24", "samples, snapshots and going on, of every version")
def test_samples_of_an_old_run_are_as_they_were(place):
    assert call(sample.main, "run", "--n", "4", "--out", "new.npz").code == 0
    found, expected = np.load("new.npz")["samples"], np.load("samples.npz")["samples"]
    np.testing.assert_allclose(found, expected, rtol=SAME_SAMPLE, atol=SAME_SAMPLE)


@counts("R24", "samples, snapshots and going on, of every version")
def test_snapshots_of_an_old_run_make_an_average(place):
    found = call(sample.main, "run", "--n", "2", "--std", "0.1", "--out", "new.npz")
    assert found.code == 0, found.err
    assert "off by" in found.out


@counts("R24", "samples, snapshots and going on, of every version")
def test_an_old_run_goes_on(place):
    before = rows(place / "run" / "metrics.jsonl")
    found = call(train.main, "resume", "run", "--run.steps", "12")
    assert found.code == 0, found.err
    assert "resuming from step 8 of 12" in found.err
    after = rows(place / "run" / "metrics.jsonl")
    assert after[: len(before)] == before
    assert [row["step"] for row in after] == [2, 4, 6, 8, 10, 12]
    assert (status(place / "run")["status"], steps(place / "run")) == ("finished", [8, 12])


def newer_field(run):
    stored = json.loads((run / "config.json").read_text())
    stored["optim"]["weight_decay"] = 0.1
    (run / "config.json").write_text(json.dumps(stored))
    return "config.optim.weight_decay: expected one of name, lr, .*, found an unknown field"


def newer_group(run):
    stored = json.loads((run / "config.json").read_text()) | {"teacher": {"decay": 0.5}}
    (run / "config.json").write_text(json.dumps(stored))
    return "config.teacher: expected one of data, .*, found an unknown field"


def newer_checkpoint(run):
    path = run / "checkpoints" / "8" / "MANIFEST.json"
    content = json.loads(path.read_text()) | {"format": 2}
    content.pop("digest")
    path.write_text(json.dumps(content | {"digest": manifest._digest(content)}))
    return "expected format 1, found 2: another version's checkpoint"


@pytest.mark.parametrize("change", [newer_field, newer_group, newer_checkpoint])
@counts("R24", "files of a newer version")
def test_newer_files_are_refused_clearly(change, place):
    message = change(place / "run")
    before = files_below(place)
    found = call(sample.main, "run", "--out", "new.npz")
    assert found.code in (2, 6)
    assert "Traceback" not in found.err
    assert re.search(message, found.err), found.err
    assert files_below(place) == before
