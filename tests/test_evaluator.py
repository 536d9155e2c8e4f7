"""Evaluation while training: figures of the right samples, the same after a stop, and mistakes that come early."""

import json
import os
import re
import shutil
import signal
import time

import jax.random as jr
import numpy as np
import pytest

from equisct.app.cli import train
from equisct.app.parts.sampling import draw_samples
from equisct.app.runs.evaluator import Evaluator
from equisct.app.runs.stored import load_run
from equisct.data import load_npz
from equisct.evaluation import frechet_distance
from equisct.evaluation.measure import PIPELINE
from equisct.train.reading import find_checkpoint, load_tree
from test_cli_evaluate import call
from tolerances import FLOAT32_ROUNDING

EVERY, STEPS, N = 4, 10, 40


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """A run on points in the plane that is measured after updates 4, 8 and 10."""
    path = tmp_path_factory.mktemp("data") / "points.npz"
    np.savez(path, images=np.random.default_rng(1).normal(size=(64, 2)).astype(np.float32))
    small = ("--torso.width", "8", "--head.width", "8", "--torso.blocks", "1", "--head.blocks", "1", "--run.batch", "8",
             "--run.steps", STEPS, "--run.save-every", "4", "--method.last", "20", "--log.every", "3",
             "--log.no-tensorboard", "--sample.n", "0")  # fmt: skip
    measured = ("--eval.every", EVERY, "--eval.n", N, "--eval.features", "pixels")
    weights = ("--ema.std", "0.25", "--ema.stds", "0.1", "0.2", "--optim.lr", "0.02")  # so that all differ
    measured += (*weights, "--eval.of", "ema", "model", "0.2")
    return ("npz", "--data.path", path, *small, *measured)


@pytest.fixture(scope="module")
def unbroken(words, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "unbroken"
    ended = call(train.main, *words, "--run.dir", folder)
    assert ended.code == 0
    (folder.parent / "told").write_text(ended.err)
    return folder


def rows(folder):
    return [json.loads(line) for line in (folder / "evaluations.jsonl").read_text().splitlines()]


def test_figures_are_those_of_the_weights_samples_against_the_data(words, unbroken):
    found = rows(unbroken)
    assert [row["step"] for row in found] == [4, 8, 10]
    samplers = ("one-step", "two-step")
    names = [f"{of}{each}/frechet_distance" for of in ("", "model/", "0.2/") for each in samplers]
    assert list(found[0]) == ["step", *names]
    for row in found[1:]:  # those whose checkpoints are kept
        stored = load_run(unbroken, row["step"])
        like = {"averages": (stored.model, stored.model)}
        _, wide = load_tree(find_checkpoint(unbroken / "checkpoints", row["step"]), like, partial=True)["averages"]
        data = load_npz(words[2], "images").take(np.arange(64))
        key = jr.split(jr.key(stored.config.run.seed), 3)[2]
        system = stored.config.method.build(stored.config, stored.shape)
        apart = np.diff(sorted(row[name] for name in names if "one-step" in name)) / row["one-step/frechet_distance"]
        assert (apart > 100 * FLOAT32_ROUNDING).all(), "the weights are too alike to be told apart"
        for of, model in {"": stored.ema, "model/": stored.model, "0.2/": wide}.items():
            for sampler in system.samplers(row["step"]):
                samples = draw_samples(sampler, model, stored.shape, N, key=key)
                name, expected = f"{of}{sampler.name}/frechet_distance", frechet_distance(data, samples)
                np.testing.assert_allclose(row[name], expected, rtol=10 * FLOAT32_ROUNDING)


def test_figures_are_told_as_they_are_found(unbroken):
    """And before, that they are being measured: nobody waits without a word."""
    told = (unbroken.parent / "told").read_text()
    for row in rows(unbroken):
        shown = ", ".join(f"{name} {value:.5g}" for name, value in row.items() if name != "step")
        begin = f"measuring samples after update {row['step']}"
        assert re.search(rf"^{begin} \.\.\.\n(.*\n)*?{begin}: {re.escape(shown)}, \d+\.\d s$", told, re.MULTILINE)


def test_how_they_were_taken_is_noted_and_a_change_is_told(words, unbroken, tmp_path):
    noted = json.loads((unbroken / "evaluation.json").read_text())["pipeline"]
    assert (noted["network"], noted["samples"], noted["quantised"]) == ("pixels", N, "round")
    assert set(noted) == set(PIPELINE)
    folder = tmp_path / "run"
    shutil.copytree(unbroken, folder)
    more = ("--run.dir", folder, "--run.steps", STEPS + 2, "--method.period", 5, "--eval.n", N + 1)
    refused = call(train.main, *words, *more)
    assert (refused.code, "eval.n: 40 -> 41" in refused.err) == (2, True)
    ended = call(train.main, *words, *more, "--run.allow-change", "eval.n", "method.period", "run.steps")
    assert ended.code == 0, ended.err
    assert "warning: evaluation: from now on samples differ" in ended.err
    assert json.loads((folder / "evaluation.json").read_text())["pipeline"]["samples"] == N + 1


def stopped_in(evaluation, monkeypatch):
    """The run is told to stop as this evaluation begins."""
    whole, calls = Evaluator.__call__, []

    def told(self, model, step, *, key, between):
        calls.append(step)
        if step == evaluation and calls.count(step) == 1:
            os.kill(os.getpid(), signal.SIGTERM)

            def listen():
                time.sleep(0.5)  # a thread takes note of the signal
                between()

            return whole(self, model, step, key=key, between=listen)
        return whole(self, model, step, key=key, between=between)

    monkeypatch.setattr(Evaluator, "__call__", told)
    return calls


@pytest.mark.parametrize("step", [4, 10])
def test_an_evaluation_that_is_given_up_is_made_up_for(words, unbroken, step, tmp_path, monkeypatch):
    calls = stopped_in(step, monkeypatch)
    ended = call(train.main, *words, "--run.dir", tmp_path / "run")
    assert ended.code == 75, ended.err
    assert step not in [row["step"] for row in rows(tmp_path / "run")]
    assert call(train.main, *words, "--run.dir", tmp_path / "run").code == 0
    for name in ("evaluations.jsonl", "metrics.jsonl"):
        assert (tmp_path / "run" / name).read_bytes() == (unbroken / name).read_bytes()
    assert calls == sorted([4, 8, 10, step])


def test_an_evaluation_that_fails_does_not_end_the_run(words, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise ValueError("samples: expected finite numbers, found 3 of 40 that are not")

    monkeypatch.setattr("equisct.app.runs.evaluator.draw_features", fail)
    ended = call(train.main, *words, "--run.dir", tmp_path / "run")
    assert ended.code == 0
    assert ended.err.count("warning: evaluation after update") == 3
    assert rows(tmp_path / "run") == []


MISTAKES = {
    "eval.features: expected a network of samples (2,), found digits": ("--eval.features", "digits"),
    "eval.features: expected digits, pixels, inception, dinov2 or MODULE": ("--eval.features", "resnet"),
    "eval.weights: expected the public checkpoint": ("--eval.features", "inception"),
    "eval.weights: expected a file that is there": ("--eval.weights", "nowhere.pth"),
    "eval.ref: expected a file of equisct-eval stats": ("--eval.ref", "nowhere.npz"),
    "eval.metrics: expected a network with classes": ("--eval.metrics", "inception-score"),
    "eval.n: expected a finite number >= 16": ("--eval.n", "15"),
}


@pytest.mark.parametrize("message", MISTAKES)
def test_mistakes_are_told_before_anything_is_written(message, words, tmp_path):
    ended = call(train.main, *words, *MISTAKES[message], "--run.dir", tmp_path / "run")
    assert (ended.code, message in ended.err) == (2, True), ended.err
    assert not [*tmp_path.iterdir()]
