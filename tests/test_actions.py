"""The actions of a run: those of one's own, errors that come of a signal, the trace for a profiler."""

import gc
import os
import pathlib
import re
import signal

import equinox as eqx
import jax
import numpy as np
import pytest

from equisct.app.cli import train
from equisct.app.runs import actions
from equisct.app.runs import evaluator as evaluation
from equisct.app.runs.stored import load_run
from equisct.train import Every, load_weights
from equisct.train import loop as library
from reliability import harness
from test_cli_evaluate import call


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "points.npz"
    np.savez(path, images=np.random.default_rng(1).normal(size=(64, 2)).astype(np.float32))
    small = ("--torso.width", "8", "--head.width", "8", "--torso.blocks", "1", "--head.blocks", "1", "--run.batch", "8",
             "--run.steps", 10, "--run.save-every", "4", "--method.last", "20", "--log.every", "3",
             "--log.no-tensorboard", "--sample.n", "0", "--eval.every", "4", "--eval.n", "40", "--eval.features",
             "pixels")  # fmt: skip
    return ("npz", "--data.path", path, *small)


@pytest.fixture(scope="module")
def unbroken(words, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "unbroken"
    assert call(train.main, *words, "--run.dir", folder).code == 0
    return folder


def assert_same(folder, unbroken):
    for name in ("metrics.jsonl", "evaluations.jsonl"):
        assert (folder / name).read_bytes() == (unbroken / name).read_bytes()
    assert harness.state_hash(folder) == harness.state_hash(unbroken)


def killed_with_the_group(*_, **__):
    """What JAX does where a signal to all processes of a group has ended a compiler that it started."""
    os.kill(os.getpid(), signal.SIGTERM)
    raise RuntimeError("INTERNAL: ptxas exited with signal 15")


def test_an_action_of_ones_own_sees_the_run_and_changes_nothing(words, unbroken, tmp_path, monkeypatch):
    seen = []

    def mine(run):
        return Every(3, lambda now: seen.append((now.step, int(now.state.step), run.step, run.job.config.run.batch)))

    monkeypatch.setattr(actions, "MORE", [mine])
    assert call(train.main, *words, "--run.dir", tmp_path / "run").code == 0
    assert seen == [(3, 3, 3, 8), (6, 6, 6, 8), (9, 9, 9, 8)]
    assert_same(tmp_path / "run", unbroken)


@pytest.fixture
def strictest():
    """64-bit arithmetic on and every implicit promotion an error, in the whole process."""
    flags = {"jax_enable_x64": True, "jax_numpy_dtype_promotion": "strict", "jax_numpy_rank_promotion": "raise"}
    before = {name: getattr(jax.config, name) for name in flags}
    for name, value in flags.items():
        jax.config.update(name, value)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def test_a_run_takes_the_strictest_flags_of_jax(strictest, words, tmp_path):
    del strictest
    assert call(train.main, *words, "--run.steps", 3, "--run.dir", tmp_path / "run").code == 0


def test_the_pages_action_runs(words, tmp_path, monkeypatch):
    page = (pathlib.Path(__file__).parent.parent / "docs" / "extend.md").read_text()
    (code,) = re.findall(r'^```py title="kept.py"\n(.*?)^```$', page, re.MULTILINE | re.DOTALL)
    monkeypatch.setattr(actions, "MORE", [])
    exec(code.replace("1_000", "5"), {"__name__": "kept"})  # noqa: S102  (our own page)
    assert call(train.main, *words, "--run.dir", tmp_path / "run").code == 0
    kept = load_run(tmp_path / "run", 10)
    assert [path.name[-16:-12] for path in sorted((tmp_path / "run").glob("weights_*"))] == ["0005", "0010"]
    found = load_weights(tmp_path / "run" / "weights_00000010.safetensors", kept.ema)
    assert eqx.tree_equal(found, kept.ema)


HELD: dict[int, int] = {}
"""Bytes of all arrays of JAX, by the updates done."""


def weigh(run):
    def action(now):
        gc.collect()
        HELD[now.step] = sum(array.nbytes for array in jax.live_arrays())

    return Every(3, action)


def broken_action(monkeypatch):
    monkeypatch.setattr(actions, "MORE", [weigh, lambda run: Every(5, killed_with_the_group)])


def broken_update(monkeypatch):
    monkeypatch.setattr(library, "train_step", killed_with_the_group)


def broken_evaluation(monkeypatch):
    monkeypatch.setattr(evaluation, "draw_features", killed_with_the_group)


@pytest.mark.parametrize(("broken", "step"), [(broken_action, 5), (broken_update, 0), (broken_evaluation, 4)])
def test_an_error_that_comes_of_a_signal_stops_the_run(words, unbroken, broken, step, tmp_path, monkeypatch):
    """And the run that goes on holds no second state beside its own."""
    folder = tmp_path / "run"
    HELD.clear()
    with pytest.MonkeyPatch.context() as patch:
        broken(patch)
        ended = call(train.main, *words, "--run.dir", folder)
    assert (ended.code, "stopped and saved" in ended.err) == (75, True), ended.err
    state = harness.status(folder)
    assert (state["status"], state["step"], state["exit_code"]) == ("preempted", step, 75)
    assert harness.steps(folder)[-1:] == ([step] if step else [])
    monkeypatch.setattr(actions, "MORE", [weigh])
    assert call(train.main, *words, "--run.dir", folder).code == 0
    assert_same(folder, unbroken)
    if broken is broken_action:
        state = sum(leaf.nbytes for leaf in harness.leaves(folder).values())
        assert HELD[9] < HELD[3] + state / 4


def test_any_other_error_of_an_action_is_a_bug(words, tmp_path, monkeypatch):
    def fail(now):
        raise RuntimeError("of its own")

    monkeypatch.setattr(actions, "MORE", [lambda run: Every(5, fail)])
    with pytest.raises(RuntimeError, match="of its own"):
        call(train.main, *words, "--run.dir", tmp_path / "run")
    assert harness.status(tmp_path / "run")["status"] == "failed"


def test_a_trace_may_begin_at_once_and_ends_with_the_run(words, tmp_path):
    ended = call(train.main, *words, "--run.dir", tmp_path / "run", "--log.profile", 0, 99)
    assert ended.code == 0, ended.err
    assert [*(tmp_path / "run" / "profile").rglob("*.xplane.pb")]


def test_an_action_that_is_none_is_named(words, tmp_path, monkeypatch):
    monkeypatch.setattr(actions, "MORE", [lambda run: print])
    with pytest.raises(TypeError, match=r"actions.MORE: expected functions of a run that return a train.Every, found"):
        call(train.main, *words, "--run.dir", tmp_path / "run")
