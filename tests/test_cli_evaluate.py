"""`equisct-eval`: figures of runs and images, records, what may be compared, and mistakes that get one message."""

import contextlib
import io
import json
import os
import stat
import sys
import types
import typing

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from equisct._base.files import atomic_write, partial_name
from equisct.app import presets
from equisct.app.cli import evaluate, sample, train
from equisct.app.parts.features import draw_features, evaluations
from equisct.app.parts.sampling import draw_samples, heun, jump
from equisct.app.runs.stored import load_run
from equisct.app.settings.features import Metric
from equisct.data import float_to_images, images_to_float, load_digits
from equisct.evaluation import (
    Extracted,
    FeatureNetwork,
    Reference,
    check_comparable,
    extract,
    load_reference,
    measure,
    pixels,
    save_reference,
    train_classifier,
)
from equisct.evaluation.features import Quantise, quantised
from equisct.evaluation.measure import METRICS, PIPELINE
from equisct.train import data_mesh
from equisct.train.placement import place
from strategies import untyped
from tolerances import FLOAT32_ROUNDING

SMALL = ("--torso.width", "8", "--head.width", "8", "--torso.blocks", "1", "--head.blocks", "1", "--run.batch", "16",
         "--method.last", "20", "--run.steps", "2", "--log.no-tensorboard", "--sample.n", "0", "--data.samples",
         "2000")  # fmt: skip


def call(main, *words):
    """Runs a command in this process: its exit code and what it printed."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main([str(word) for word in words])
        except SystemExit as end:
            code = end.code or 0
    return types.SimpleNamespace(code=code, out=out.getvalue(), err=err.getvalue())


@pytest.fixture(scope="module")
def digits():
    found = load_digits()
    return found.take(np.arange(found.size)), untyped(found.labels)


@pytest.fixture(scope="module")
def network(digits):
    return train_classifier(*digits, name="digits")


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """A run of points in the plane."""
    folder = tmp_path_factory.mktemp("runs") / "toy"
    assert call(train.main, "toy", *SMALL, "--run.dir", folder).code == 0
    assert not [*folder.rglob("*.png")]  # no picture was asked for
    levels = [line.split()[0] for line in (folder / "agreement.txt").read_text().splitlines()[4:]]
    assert levels == ["0.050", "0.100", "0.200", "0.500", "1.000", "2.000", "5.000", "20.000", "80.000"]
    return folder


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    path = tmp_path_factory.mktemp("references") / "digits.npz"
    assert call(evaluate.main, "stats", "digits", "--out", path).code == 0
    return path


# --- networks of features ---


def test_the_small_classifier_reads_digits_it_has_not_seen_and_is_always_the_same(digits, network):
    images, labels = digits
    found = extract(network, images, batch=500)
    right = untyped(found.probabilities).argmax(1) == labels
    assert right[::5].mean() > 0.96
    assert found.features.shape == (1797, 32)
    again = train_classifier(images, labels, name="digits")
    assert again.weights == network.weights
    other = train_classifier(images, 9 - labels, name="digits")
    assert other.weights != network.weights


def test_batches_change_nothing(digits, network):
    images = digits[0][:50]
    whole, parts = extract(network, images, batch=64), extract(network, images, batch=16)
    np.testing.assert_allclose(parts.features, whole.features, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(untyped(parts.probabilities), untyped(whole.probabilities), atol=1e-5)
    np.testing.assert_array_equal(extract(pixels(), images).features, images.reshape(50, -1))


def test_eight_bits_are_those_of_a_file():
    x = jnp.array([-2.0, -1.0, -0.999, 0.0, 0.0038, 0.999, 1.0, 3.0]).reshape(1, 1, 8)
    levels = {"round": [0, 0, 0, 128, 128, 255, 255, 255], "truncate": [0, 0, 0, 127, 127, 254, 255, 255]}
    for rounding in typing.get_args(Quantise)[:2]:
        expected = levels[rounding]
        found = (quantised(x, rounding) + 1) * 127.5
        np.testing.assert_allclose(found.ravel(), expected, atol=1e-3)
        np.testing.assert_array_equal(quantised(x[0, 0], rounding), x[0, 0])  # a vector
        whole = extract(pixels(), np.asarray(x)[None], quantise=rounding).features
        np.testing.assert_allclose(whole[0], quantised(x, rounding).ravel(), atol=FLOAT32_ROUNDING)
    np.testing.assert_array_equal(quantised(x, "none"), x)
    nearest = images_to_float(float_to_images(np.asarray(x)[None]))[0]  # what a PNG file holds
    np.testing.assert_allclose(quantised(x, "round"), nearest, atol=1e-6)


@pytest.mark.parametrize("rounding", typing.get_args(Quantise))
def test_images_of_eight_bits_keep_every_level(rounding):
    """Compiled or not, however the 256 levels were brought to [-1, 1]."""
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    parts = (levels[..., 0] / 255).astype(np.float32)
    for x in (images_to_float(levels)[0], 2 * parts - 1, (parts - np.float32(0.5)) / np.float32(0.5)):
        for call in (quantised, jax.jit(quantised, static_argnums=1)):
            found = float_to_images(np.asarray(call(jnp.asarray(x), rounding))[None])
            np.testing.assert_array_equal(found, levels)
    assert (np.asarray(quantised(jnp.full((1, 1, 1), 99.9 / 127.5 - 1), "truncate")) + 1) * 127.5 == pytest.approx(99)


# --- from noise to features ---


def test_features_are_those_of_the_samples_that_are_drawn(toy):
    stored = load_run(toy)
    network = FeatureNetwork("twice", "", lambda x: 2 * x, lambda x: x)
    sampler = jump((), stored.config.noise)
    mesh = data_mesh()
    model, network = place((stored.ema, network), mesh)
    found = draw_features(sampler, model, stored.shape, 5, network, "round", key=jr.key(3), mesh=mesh)
    drawn = draw_samples(sampler, stored.ema, stored.shape, 5, key=jr.key(3))
    np.testing.assert_allclose(found.features, 2 * drawn, rtol=FLOAT32_ROUNDING, atol=1e-5)
    np.testing.assert_allclose(untyped(found.probabilities), jax.nn.softmax(drawn, axis=-1), atol=1e-5)


def test_images_of_a_model_pass_through_eight_bits():
    class Model(eqx.Module):
        def endpoint(self, x, sigma):
            return x / 80

    noise = load_config("digits").noise
    sampler = jump((), noise)
    for rounding in typing.get_args(Quantise):
        found = draw_features(sampler, Model(), (1, 2, 2), 7, pixels(), rounding, key=jr.key(1), mesh=data_mesh())
        plain = draw_samples(sampler, Model(), (1, 2, 2), 7, key=jr.key(1))
        expected = jax.vmap(lambda x: quantised(x, rounding))(plain).reshape(7, -1)  # noqa: B023  (called at once)
        np.testing.assert_allclose(found.features, expected, atol=1e-5)


def load_config(name):
    return presets.PRESETS[name][1]


def test_evaluations_are_counted_in_the_program():
    config = load_config("digits")
    assert evaluations(heun(18, config.noise), (1, 8, 8)) == 35
    assert evaluations(jump((0.7, 0.2), config.noise), (1, 8, 8)) == 3
    for name, counts in {"digits": [1, 2], "toy": [1, 2]}.items():
        system = load_config(name).method.build(load_config(name), (2,))
        assert [evaluations(sampler, (2,)) for sampler in system.samplers(0)] == counts


# --- the command ---


def test_a_run_is_measured_against_its_own_data(toy, tmp_path):
    words = ["--metrics", "frechet", "wasserstein", "memorised", "frechet-infinity"]  # features chosen by the data
    out = tmp_path / "toy.json"
    ended = call(evaluate.main, "model", toy, "--n", "300", "--seeds", "0", "1", *words, "--out", out)
    assert ended.code == 0, ended.err
    record = json.loads(out.read_text())
    figures = record["figures"]
    assert list(figures)[:3] == ["frechet_distance", "sliced_wasserstein", "memorised_share"]
    assert all(each["runs"] == 2 and each["std"] >= 0 for each in figures.values())
    made = record["made"]
    assert (made["evaluations"], made["sampler"], made["updates"], made["seeds"]) == (1, "one-step", 2, [0, 1])
    assert set(record["pipeline"]) == set(PIPELINE)
    assert record["pipeline"]["network"] == "pixels"
    assert "fewer than 10,000" in ended.out
    one = [call(evaluate.main, "model", toy, "--n", "300", "--seeds", s, *words).out.split()[1] for s in ("0", "1")]
    np.testing.assert_allclose(np.mean([*map(float, one)]), figures["frechet_distance"]["mean"], rtol=1e-4)


def test_samples_of_a_file_give_the_figures_of_the_run(toy, tmp_path):
    """Of vectors: nothing is rounded."""
    assert call(sample.main, toy, "--n", "200", "--out", tmp_path / "samples.npz").code == 0
    data = np.random.default_rng(0).normal(size=(500, 2)).astype(np.float32)
    save_reference(tmp_path / "ref.npz", Reference("normal", "pixels", "", data))
    words = ["--features", "pixels", "--metrics", "frechet", "--ref", tmp_path / "ref.npz", "--out"]
    assert call(evaluate.main, "images", tmp_path / "samples.npz", *words, tmp_path / "a.json").code == 0
    assert call(evaluate.main, "model", toy, "--n", "200", *words, tmp_path / "b.json").code == 0
    a, b = (json.loads((tmp_path / f"{name}.json").read_text())["figures"]["frechet_distance"] for name in "ab")
    np.testing.assert_allclose(a["mean"], b["mean"], rtol=1e-4)
    told = call(evaluate.main, "compare", tmp_path / "a.json", tmp_path / "b.json")
    assert told.code == 0
    assert f"| {tmp_path / 'a.json'} | {a['mean']:.5g} |" in told.out


def test_data_measured_against_themselves(reference, tmp_path):
    out = tmp_path / "digits.json"
    metrics = [name for name in METRICS if name != "agreement"]  # with classes that data were not drawn under
    ended = call(evaluate.main, "images", "digits", "--ref", reference, "--metrics", *metrics, "--out", out)
    assert ended.code == 0, ended.err
    figures = {name: each["mean"] for name, each in json.loads(out.read_text())["figures"].items()}
    assert abs(figures["frechet_distance"]) < 1e-6
    assert (figures["precision"], figures["recall"], figures["coverage"]) == (1.0, 1.0, 1.0)
    assert figures["memorised_share"] > 0.99
    assert 9 < figures["inception_score"] < 10
    assert abs(figures["sliced_wasserstein"]) < 1e-6


# --- records ---


def test_references_survive_their_file_and_are_told_apart(tmp_path):
    features = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    there = Reference("set", "net", "f" * 64, features)
    save_reference(tmp_path / "r.npz", there)
    back = load_reference(tmp_path / "r.npz")
    assert (back.data, back.network, back.weights, back.hash) == ("set", "net", "f" * 64, there.hash)
    assert Reference("set", "net", "f" * 64, features + 1).hash != there.hash
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r.npz"]


def test_the_command_knows_every_metric(toy, tmp_path):
    assert typing.get_args(Metric) == tuple(METRICS)
    assert call(evaluate.main, "model", toy, "--metrics", "fid").code == 2


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "file.npz"
    path.write_text("before")

    def fail(place):
        place.write_text("half")
        raise OSError("full")

    with pytest.raises(OSError, match="full"):
        atomic_write(path, fail)
    assert {found.name: found.read_text() for found in tmp_path.iterdir()} == {"file.npz": "before"}
    for content in ("after", b"bytes", lambda place: place.write_text("a function")):
        partial_name(path).write_text("what a killed process left")
        atomic_write(path, content)
        assert [found.name for found in tmp_path.iterdir()] == ["file.npz"]
    assert path.read_text() == "a function"


def test_a_file_is_readable_for_whom_new_files_are(tmp_path):
    def private(place):
        place.unlink()
        place.touch(0o600)

    before = os.umask(0o027)
    try:
        atomic_write(tmp_path / "a", "text")
        atomic_write(tmp_path / "b", private)
    finally:
        os.umask(before)
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in "ab"] == [0o640, 0o640]


@pytest.mark.parametrize("part", PIPELINE)
def test_records_that_differ_in_one_part_are_not_compared(part):
    pipeline = dict.fromkeys(PIPELINE, "a" * 64)
    records = {"one": {"pipeline": pipeline}, "two": {"pipeline": pipeline | {part: "b" * 64}}}
    with pytest.raises(ValueError, match=f"{part}: expected that of one, a{{12}}, found b{{12}} in two"):
        check_comparable(records)
    check_comparable({"one": records["one"], "same": {"pipeline": dict(pipeline)}})


def nothing(weights):
    """A network that is none."""


def of_vectors(weights):
    """A network for another kind of sample."""
    return FeatureNetwork("vectors", "", lambda x: x @ np.ones((2, 3), np.float32))


def test_mistakes_get_one_message_and_leave_nothing(toy, reference, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mine", sys.modules[__name__])
    (tmp_path / "text.json").write_text("{}")
    (tmp_path / "text.npz").write_text("no archive")
    small = tmp_path / "small.npz"
    np.savez(small, samples=np.full((4, 1, 8, 8), np.nan, np.float32))
    out = ("--out", tmp_path / "out.json")
    wide, plane = tmp_path / "wide.npz", tmp_path / "plane.npz"
    np.savez(wide, samples=np.ones((4, 3), np.float32))
    np.savez(plane, samples=np.ones((4, 2), np.float32))
    points, of_inception = tmp_path / "points.npz", tmp_path / "inception.npz"
    four = np.eye(4, 2, dtype=np.float32)
    save_reference(points, Reference("points", "pixels", "", four))
    save_reference(of_inception, Reference("points", "inception-2015", "f" * 64, four))
    few = ("model", toy, "--features", "pixels", "--n", "9", *out)
    cases = {
        "run: expected the folder of a run of equisct-train": ("model", tmp_path, *out),
        "n: expected a finite number >= 2": ("model", toy, "--n", "1", *out),
        "seeds: expected one or more different": ("model", toy, "--seeds", "1", "1", *out),
        "steps: expected with --sampler heun": ("model", toy, "--steps", "4", *out),
        "levels: expected at least one with multistep": ("model", toy, "--sampler", "multistep", *out),
        "features: expected digits, pixels, inception, dinov2 or MODULE": ("model", toy, "--features", "resnet", *out),
        "weights: expected the public checkpoint": ("model", toy, "--features", "inception", *out),
        "weights: expected a PyTorch checkpoint of named tensors, found": (
            "model", toy, "--features", "inception", "--weights", tmp_path / "text.npz", *out),
        "features: expected MODULE:FUNCTION, found mine:away": ("model", toy, "--features", "mine:away", *out),
        "features: expected a FeatureNetwork from mine:nothing": ("model", toy, "--features", "mine:nothing", *out),
        "features: expected a network of samples (1, 8, 8), found vectors": (
            "images", "digits", "--ref", reference, "--features", "mine:of_vectors", *out),
        "features: expected a network of samples (2,), found digits": ("model", toy, "--features", "digits", *out),
        "ref: expected samples of the same shape and channels as the reference's, 2 features of pixels from points, "
        "found 3 features": ("images", wide, "--ref", points, *out),
        "features: expected a network of samples (2,), found digits, of samples (1, 8, 8)": (
            "model", toy, "--ref", reference, *out),
        "features: expected the name of the reference's network, inception-2015, found auto": (
            "images", wide, "--ref", of_inception, *out),
        "metrics: density-coverage: data: expected more than 5 rows of 2": (
            "images", plane, "--ref", points, "--metrics", "frechet", "density-coverage", *out),
        "text.npz: found a file that cannot": ("images", tmp_path / "text.npz", "--ref", reference, *out),
        "weights: expected a file that is there": ("model", toy, "--weights", tmp_path / "no", *out),
        "metrics: expected a network with classes": (*few, "--metrics", "inception-score"),
        "metrics: precision-recall: samples: expected more than 3 rows": (
            "model", toy, "--features", "pixels", "--n", "3", "--metrics", "precision-recall", *out),
        "samples: expected one or more of finite numbers, found 4, 4 not finite": (
            "images", small, "--ref", reference, *out),
        "ref: expected a file of equisct-eval stats, found none": ("images", "digits", *out),
        "ref: expected a file of equisct-eval stats, found ": (
            "images", "digits", "--ref", tmp_path / "text.npz", *out),
        "ref: expected features of pixels (), found those of digits": (
            "images", "digits", "--features", "pixels", "--ref", reference, *out),
        "out: expected a file ending in .json": ("model", toy, "--out", tmp_path / "out.txt"),
        "out: expected a file ending in .npz": ("stats", "digits", "--out", tmp_path / "out.json"),
        "records: expected two or more, found 1": ("compare", tmp_path / "text.json"),
        "records: expected a record of equisct-eval, found ": ("compare", *[tmp_path / "text.json"] * 2),
        "nothing at this path": ("stats", tmp_path / "away", "--out", tmp_path / "out.npz"),
    }  # fmt: skip
    for message, words in cases.items():
        ended = call(evaluate.main, *words)
        assert ended.code == 2, (message, ended)
        before, _, said = ended.err.partition("equisct-eval: error: ")
        assert message in said, (message, ended.err)
        assert all(line.startswith(("taking features of ", "drawing ")) for line in before.splitlines()), ended.err
        assert before == "" or "metrics" in message or "finite" in message, "what can be checked first is"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["small.npz", "text.json", "text.npz", "wide.npz", "plane.npz", "points.npz", "inception.npz"]
    )


BAD = {
    "labels": (
        lambda: train_classifier(np.zeros((4, 1, 2, 2), np.float32), np.zeros(4, np.int64), name="x"),
        "labels: expected one >= 0 for each of five or more images, found 4",
    ),
    "no samples": (
        lambda: extract(pixels(), np.zeros((0, 2), np.float32)),
        "samples: expected one or more of finite numbers, found 0",
    ),
    "one row": (lambda: Reference("a", "b", "", np.zeros((1, 2), np.float32)), "features: expected finite float32"),
    "metric": (
        lambda: measure(
            Extracted(np.zeros((3, 2), np.float32), None), Reference("a", "b", "", np.ones((3, 2), np.float32)), ["fid"]
        ),
        "metrics: expected some of frechet, .* found fid",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_call_is_named(name):
    made, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        made()
