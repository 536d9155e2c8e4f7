"""The benchmark behind docs/table-1.md: its rows, settings and measures; that it goes on where it was stopped."""

import dataclasses
import importlib
import json
import pathlib
import sys

import numpy as np
import pytest

from equisct.app.cli import train
from equisct.app.runs import loop
from equisct.app.settings import codec
from equisct.app.settings.config import Torso
from equisct.evaluation import sliced_wasserstein
from strategies import untyped

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "benchmarks"))
runs = untyped(importlib.import_module("table_runs"))
table = untyped(importlib.import_module("table"))

KINDS = list(dict.fromkeys(row.trained for row in runs.ROWS))


@pytest.mark.parametrize("data", ["digits", "mixture"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_row_has_settings_that_the_command_takes(kind, data, tmp_path):
    config = runs.configuration(kind, data, tmp_path, 700, seed=3)
    assert codec.from_json(codec.to_json(config)) == config
    config.method.check(config)
    assert (config.run.steps, config.run.seed) == (700, 3)
    assert (getattr(config.method, "teacher", None) is not None) == (kind in runs.TEACHERS)


def test_rows_differ_in_nothing_but_the_method_and_what_it_needs(tmp_path):
    alike = [
        dataclasses.astuple(dataclasses.replace(config.torso)) + dataclasses.astuple(config.run)
        for config in (runs.configuration(kind, "digits", tmp_path, 700, seed=0) for kind in KINDS)
    ]
    assert len(set(alike)) == 1


def test_samples_are_measured_against_the_digits():
    _, data, accuracy = runs.classifier()
    assert accuracy > 0.9
    assert data.shape == (1797, 32)
    from sklearn.datasets import load_digits  # noqa: PLC0415  (an extra)

    images = untyped(load_digits()).data.reshape(-1, 1, 8, 8) / 8 - 1
    own = runs.measure_digits(images)
    noise = runs.measure_digits(np.random.default_rng(0).uniform(-1, 1, (500, 1, 8, 8)))
    assert own["fd"] < 1e-6
    assert (own["precision"], own["recall"]) == (1.0, 1.0)
    assert noise["fd"] > 100
    assert noise["precision"] < 0.2


def test_a_row_of_the_table():
    row = runs.Row("CD", "cd", runs.ONE, 1, "3.55")
    digits = [
        {"fd": fd, "precision": 0.5, "recall": 0.25, "images": 64_000, "seconds": s} for fd, s in ((1, 10), (3, 20))
    ]
    mixture = [{"rms": 0.1, "law": 0.2}, {"rms": 0.1, "law": 0.2}]
    assert table.line(row, digits, mixture) == (
        "| CD | 1 | 2.00 ± 1.41 | 0.50 ± 0.00 | 0.25 ± 0.00 | 0.200 ± 0.000 | 0.100 ± 0.000 | 64 | 15 | 3.55 |"
    )


def test_only_what_adds_no_noise_is_held_against_the_flow():
    names = [row.name for row in runs.ROWS if not row.follows_the_flow]
    assert names == ["DDPM", "CD", "CT", "iCT", "iCT*", "iCT + SH", "CD of its own head", "ECT"]


def test_points_of_the_mixture_are_at_no_distance_from_its_law():
    assert sliced_wasserstein(runs.exact_points(), runs.exact_points(2, 1_000)) < 0.1
    assert not np.array_equal(runs.exact_points(2, 1_000)[:5], runs.exact_points()[:5])


@pytest.mark.filterwarnings("ignore:batch. expected samples of a size")  # of a teacher with four updates
def test_a_run_that_was_stopped_begins_anew_and_one_that_is_done_does_not(tmp_path, monkeypatch):
    """Knowledge distillation on the mixture: its teacher, the pairs, the run, the row."""
    made = runs.configuration
    small = Torso(width=8, blocks=1, dropout=0.0, fourier_scale=1.0)
    monkeypatch.setattr(runs, "configuration", lambda *words: dataclasses.replace(made(*words), torso=small))
    monkeypatch.setattr(runs, "PAIRS", 600)
    monkeypatch.setattr(loop, "report_agreement", lambda *words: None)  # the table measures by itself
    monkeypatch.setattr(runs, "SAMPLES", 64)
    (tmp_path / "kd-0").mkdir()
    (tmp_path / "kd-0" / "config.json").write_text("left by a run that was stopped")
    (row,) = [row for row in runs.ROWS if row.trained == "kd"]
    first = runs.measured(row, "mixture", tmp_path, 4, 0)
    assert first["images"] == 4 * 512
    assert np.isfinite(first["rms"])
    assert first["law"] > 0.05
    assert {"ddpm-0.json", "kd-0.json", "pairs-0.npz"} <= {path.name for path in tmp_path.iterdir()}
    assert json.loads((tmp_path / "rows" / "kd-0-1.json").read_text()) == first

    def twice(*words):
        raise AssertionError(f"trained twice: {words}")

    monkeypatch.setattr(train, "main", twice)
    assert runs.measured(row, "mixture", tmp_path, 4, 0) == first
    (tmp_path / "rows" / "kd-0-1.json").unlink()
    assert runs.measured(row, "mixture", tmp_path, 4, 0)["rms"] == first["rms"]
