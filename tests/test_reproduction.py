"""The benchmark behind docs/reproduction.md: its arms, its statistics, and what it says of numbers that are known."""

import dataclasses
import importlib
import json
import pathlib
import sys

import numpy as np
import pytest

from equisct.app.settings import codec
from strategies import untyped

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "benchmarks"))
runs = untyped(importlib.import_module("reproduction_runs"))
study = untyped(importlib.import_module("reproduction"))


def test_arms_are_those_of_the_ablations_each_once():
    assert [arm.weight for arm in runs.BY_WEIGHT] == [0, 0.05, 0.1, 0.3, 1]
    assert [arm.c for arm in runs.BY_CONSTANT] == [0.0003, 0.001, 0.003, 0.01, 0.03]
    assert len(runs.ARMS) == 9
    assert len({arm.name for arm in runs.ARMS}) == 9


@pytest.mark.parametrize("arm", runs.ARMS, ids=lambda arm: arm.name)
def test_arms_differ_in_nothing_but_weight_guide_and_constant(arm):
    config, centre = (runs.configuration(each, 2_000, seed=3) for each in (arm, runs.CENTRE))
    assert codec.from_json(codec.to_json(config)) == config
    assert config.head.guide == (arm.weight > 0)
    method = dataclasses.replace(config.method, head_weight=0.3, c=0.003)
    alike = dataclasses.replace(config, preset=centre.preset, head=centre.head, method=method, log=centre.log)
    assert alike == centre
    assert config.method.c == arm.c
    assert config.method.head_weight == (arm.weight or 0.3)


def test_an_effect_is_students_interval_of_the_differences():
    found = study.Effect.from_values([1.0, 2.0, 3.0, 4.0, 5.0])
    assert found.mean == 3
    np.testing.assert_allclose([found.low, found.high], [3 - 1.96324, 3 + 1.96324], rtol=1e-5)  # t = 2.776445
    np.testing.assert_allclose(found.size, 3 / np.sqrt(2.5))
    assert found.verdict(wanted=1) == "holds"
    assert found.verdict(wanted=-1) == "the opposite holds"
    assert study.Effect.from_values([-1.0, 2.0, -1.5, 1.0]).verdict(wanted=1) == "not decided"


def fabricated():
    """Five seeds in which the head lowers the variance by a quarter, and one-step quality is best at weight 0.1."""
    draw = np.random.default_rng(0)
    rank = {0.0: 10.0, 0.05: 9.0, 0.1: 5.0, 0.3: 8.0, 1.0: 12.0}
    quality, variance, deviation = {}, {}, {}
    for arm in runs.ARMS:
        one = rank[arm.weight] + (0.0 if arm.c == 0.003 else 4.0) + 0.01 * draw.normal(size=5)
        names = {"one-step/precision": 0.5, "one-step/recall": 0.4, study.TWO: 7.0}
        quality[arm] = {study.ONE: one} | {name: value + 0.001 * draw.normal(size=5) for name, value in names.items()}
        factor = 1.0 if arm == runs.PLAIN else 0.75
        variance[arm] = factor * np.tile([1.0, 2.0], (5, 1)) * np.exp(0.001 * draw.normal(size=(5, 2)))
        deviation[arm] = np.full((5, 2), 0.2) + 0.001 * draw.normal(size=(5, 2))
    return study.Results(quality, variance, deviation, [11, 21], variance[runs.CENTRE] / 2)


def test_what_it_says_of_known_numbers():
    alignment = {
        "cosine": np.array([0.01, 0.011, 0.009, 0.01, 0.012]),
        "centred": np.array([0.1, -0.1, 0.05, -0.05, 0.0]),
    }
    lines = list(study.page(fabricated(), alignment, 2_000, 5))
    verdicts = {line.split("|")[1].strip(): line.split("|")[3].strip() for line in lines if "|" in line}
    by = lambda words: next(verdict for claim, verdict in verdicts.items() if words in claim)
    assert by("lowers the variance") == "holds"
    assert by("coefficient of variation") == "not decided"
    assert by("One-step samples") == "holds"
    assert by("Two-step samples") == "not decided"
    assert by("(cosine; Figure 3)") == "holds"
    assert by("(cosine about") == "not decided"
    assert by("Weight 0.3 is best") == "the opposite holds"
    assert by("Constant 0.003 is best") == "holds"
    (stage,) = [line for line in lines if line.startswith("| 10 |")]
    assert "0.75 (0.7" in stage
    (row,) = [line for line in lines if line.startswith("| 0.1 |")]
    assert "-5.0" in row


def test_a_finished_run_is_not_trained_again(tmp_path, monkeypatch):
    called = []
    monkeypatch.setattr(runs, "quietly", lambda main, *words: called.append(words))
    training = runs.Training(runs.CENTRE, 1, tmp_path, 40)
    assert training() == tmp_path / "weight-0.3-c-0.003-seed-1"
    stored = codec.from_json(json.loads((tmp_path / "weight-0.3-c-0.003-seed-1.settings.json").read_text()))
    assert stored == runs.configuration(runs.CENTRE, 40, 1)
    assert called == [("from-config", f"{training.folder}.settings.json", "--run.dir", str(training.folder))]
    training.folder.mkdir()
    (training.folder / "STATUS.json").write_text('{"status": "finished"}')
    training()
    assert len(called) == 1
    (training.folder / "STATUS.json").write_text('{"status": "preempted"}')
    training()
    assert len(called) == 2
    assert not training.folder.exists()  # begun anew
