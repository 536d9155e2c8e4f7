"""Conditions from data set to samples by the commands: read, told, drawn under, measured, refused."""

import dataclasses
import json
import re

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from PIL import Image

import equisct as sct
from catalogue import BOUNDARY
from equisct import nn
from equisct._base.batch import Example
from equisct.app import presets
from equisct.app.cli import evaluate, sample, train
from equisct.app.parts.condition_size import with_size
from equisct.app.parts.data import fingerprint, load_data, some_of
from equisct.app.parts.posterior import divided, training_posterior
from equisct.app.settings.data import Digits, Npz
from equisct.data import ConditionalSet, DataError, VectorSet, load_digits, load_npz
from equisct.evaluation import Extracted, agreement
from equisct.evaluation.measure import METRICS
from equisct.train import data_mesh
from strategies import untyped
from test_cli import run

RNG = np.random.default_rng(0)
POINTS = RNG.normal(size=(40, 2)).astype(np.float32)
LABELS, VECTORS = np.arange(40) % 3, RNG.normal(size=(40, 3)).astype(np.float32)
SMALL = ("--torso.width", "4", "--torso.blocks", "1", "--head.width", "4", "--head.blocks", "1", "--run.steps", "4",
         "--run.batch", "8", "--run.save-every", "4", "--method.last", "10", "--log.no-tensorboard", "--sample.n", "6",
         "--sample.heun-steps", "3", "--optim.no-decay", "--parallel.devices", "1")  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A file with labels and conditions."""
    folder = tmp_path_factory.mktemp("data")
    np.savez(folder / "mine.npz", points=POINTS, labels=LABELS, condition=VECTORS)
    np.savez(folder / "bare.npz", points=POINTS)
    return folder


@pytest.fixture(scope="module")
def guided(tmp_path_factory):
    """A run on the digits' classes, whose model is told a scale of guidance by its own head."""
    folder = tmp_path_factory.mktemp("runs") / "guided"
    flags = ["--data.condition", "classes", "--torso.guidance", "2", "--method.velocity", "head", "--sample.n", "20"]
    train.main(["tiny", *flags, "--run.dir", str(folder), "--eval.every", "6", "--eval.n", "16",
                "--eval.metrics", "agreement", "--parallel.devices", "1"])  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def told_vectors(tmp_path_factory, files):
    """A run whose samples are made under vectors of three numbers."""
    folder = tmp_path_factory.mktemp("runs") / "vectors"
    train.main(["npz", "--data.path", str(files / "mine.npz"), "--data.condition", "vector", *SMALL,
                "--run.dir", str(folder)])  # fmt: skip
    return folder


def draw(folder, tmp_path, capsys, *words):
    """Samples of a run."""
    out = tmp_path / "samples.npz"
    code, said = run(sample.main, capsys, folder, *words, "--out", out)
    assert code == 0, said.err
    return np.load(out)["samples"], said.out


# --- data ---


def test_labels_and_vectors_of_a_file_come_with_their_samples(files):
    by_class = load_data(Npz(files / "mine.npz", condition="classes"), seed=0)
    by_vector = load_data(Npz(files / "mine.npz", condition="vector"), seed=0)
    rows = np.array([3, 1, 39])
    for dataset, conditions in ((by_class, LABELS), (by_vector, VECTORS)):
        found = dataset.take(rows)
        assert isinstance(found, Example)
        np.testing.assert_array_equal(found.x, POINTS[rows])
        np.testing.assert_array_equal(found.condition, conditions[rows])
    assert (untold := load_npz(files / "mine.npz")).shape == (2,)
    prints = [fingerprint(each)["sha256"] for each in (untold, by_class, by_vector)]
    assert len(set(prints)) == 3


def test_labels_of_vectors_that_are_no_classes_are_left_alone(tmp_path):
    for labels in (LABELS / 2, LABELS - 1, LABELS[:3], np.array(["a"] * 40)):
        np.savez(tmp_path / "odd.npz", points=POINTS, labels=labels)
        assert load_npz(tmp_path / "odd.npz").labels is None
        with pytest.raises(DataError, match="expected: labels, an integer >= 0 for the class of each sample"):
            load_data(Npz(tmp_path / "odd.npz", condition="classes"), seed=0)


def test_the_size_of_the_network_is_the_datas(files):
    config = dataclasses.replace(presets.NPZ, data=Npz(files / "mine.npz", condition="classes"))
    dataset = load_data(config.data, seed=0)
    assert with_size(config, dataset).torso.condition == 3
    more = dataclasses.replace(config, torso=dataclasses.replace(config.torso, condition=5))
    assert with_size(more, dataset).torso.condition == 5  # classes that only other data have
    fewer = dataclasses.replace(config, torso=dataclasses.replace(config.torso, condition=2))
    with pytest.raises(ValueError, match="torso.condition: expected at least the data's 3 classes, found 2"):
        with_size(fewer, dataset)
    vectors = load_data(Npz(files / "mine.npz", condition="vector"), seed=0)
    with pytest.raises(ValueError, match="torso.condition: expected 3 numbers, found 5"):
        with_size(more, vectors)


BAD = {
    "too few": (LABELS[:3], "one for each of 40 samples"),
    "negative": (np.where(np.arange(40) == 7, -1, LABELS), "class -1 at sample 7"),
    "half a class": (LABELS / 2, "conditions.astype(np.float32)[:, None]"),
    "not finite": (np.where(np.arange(40)[:, None] == 5, np.float32(np.nan), VECTORS), "not finite at sample 5"),
    "doubles": (VECTORS.astype(np.float64), "conditions.astype(np.float32)"),
    "numbers of no class": (LABELS + 10**6, "class numbers below 100,000"),
}


@pytest.mark.parametrize("name", BAD)
def test_wrong_conditions_are_named(name):
    conditions, message = BAD[name]
    with pytest.raises(DataError, match=re.escape(message)):
        ConditionalSet(VectorSet(POINTS, "mine"), conditions)


def test_the_posterior_mean_is_taken_within_the_class(files):
    config = dataclasses.replace(presets.NPZ, data=Npz(files / "mine.npz", condition="classes"))
    law = untyped(training_posterior(config, load_data(config.data, seed=0)))
    x_t = jnp.array([0.2, -0.3])
    for c in range(3):
        own = sct.oracle.Empirical(jnp.asarray(POINTS[c == LABELS]))
        np.testing.assert_allclose(law.denoise(x_t, 0.5, condition=c), own.denoise(x_t, 0.5), rtol=1e-5)
    told = dataclasses.replace(config, data=Npz(files / "mine.npz", condition="vector"))
    with pytest.raises(ValueError, match="found posterior: no two samples share a condition"):
        training_posterior(told, load_data(told.data, seed=0))


def test_a_labelled_set_is_divided_among_devices_and_says_the_same():
    law = sct.oracle.Labelled(sct.oracle.Empirical(jnp.asarray(POINTS)), jnp.asarray(LABELS))
    x_t = jnp.asarray(RNG.normal(size=(6, 2)).astype(np.float32))
    classes = jnp.arange(6) % 3
    ask = lambda law: jax.jit(jax.vmap(lambda x, c: law.denoise(x, 0.7, condition=c)))(x_t, classes)
    parted = divided(law, data_mesh(2))
    assert parted.law.mesh is not None
    np.testing.assert_allclose(ask(parted), ask(law), rtol=1e-5)


def test_data_to_look_at_stand_class_by_class():
    dataset = load_data(Digits("classes"), seed=0)
    shown, plain = some_of(dataset, 40), load_digits()
    pixels = plain.take(np.arange(plain.size)).reshape(plain.size, -1)
    assert plain.labels is not None
    labels = [plain.labels[np.argmin(np.square(pixels - each.reshape(-1)).sum(1))] for each in shown]
    np.testing.assert_array_equal(labels, np.arange(40) // 4)


def test_a_lowered_network_is_told_too():
    """In bfloat16 the condition enters the noise embedding in float32, and the answer is near the float32 one."""
    cm = sct.ConsistencyModel(nn.TorsoMLP(2, 8, condition=nn.ClassEmbedding(3), key=jr.key(0)), BOUNDARY)
    low = sct.in_precision(cm, jnp.bfloat16)
    for c in range(3):
        found = low(POINTS[0], 1.0, condition=c).endpoint
        np.testing.assert_allclose(found, cm(POINTS[0], 1.0, condition=c).endpoint, atol=2e-2)
    jax.vmap(lambda x, c: low(x, 1.0, condition=c))(POINTS[:3], jnp.arange(3))


# --- runs ---


def test_samples_are_drawn_under_the_classes_asked_for(guided, tmp_path, capsys):
    every, _ = draw(guided, tmp_path, capsys, "--n", 20)
    sevens, _ = draw(guided, tmp_path, capsys, "--n", 20, "--condition", 7)
    some, _ = draw(guided, tmp_path, capsys, "--n", 20, "--condition", 2, 7)
    np.testing.assert_allclose(every[14:16], sevens[14:16], atol=1e-6)  # two of each class, class by class
    np.testing.assert_allclose(some[10:], sevens[10:], atol=1e-6)
    assert not np.allclose(every[0], sevens[0], atol=1e-6)


def test_guidance_is_told_to_a_model_that_was_trained_for_it_and_walks_by_steps(guided, tmp_path, capsys):
    plain, _ = draw(guided, tmp_path, capsys, "--n", 10, "--condition", 7)
    one, _ = draw(guided, tmp_path, capsys, "--n", 10, "--condition", 7, "--guidance", 1)
    two, _ = draw(guided, tmp_path, capsys, "--n", 10, "--condition", 7, "--guidance", 2)
    np.testing.assert_array_equal(plain, one)
    assert not np.array_equal(plain, two)
    _, said = draw(guided, tmp_path, capsys, "--n", 10, "--guidance", 3)
    assert "note: guidance 3 is beyond 1 to 2, which this model was trained for" in said
    walks = [draw(guided, tmp_path, capsys, "--sampler", "heun", "--steps", 2, "--n", 10, *more)[0]
             for more in ((), ("--guidance", 2))]  # fmt: skip
    assert not np.array_equal(*walks)


def test_a_run_shows_a_class_in_each_row_and_measures_agreement(guided, tmp_path, capsys):
    rows = [json.loads(line) for line in (guided / "evaluations.jsonl").read_text().splitlines()]
    assert 0 <= rows[-1]["one-step/agreement"] <= 1
    stored = json.loads((guided / "config.json").read_text())
    assert json.dumps(stored).count('"condition": 10') == 1  # the number of classes, read from the data
    out = tmp_path / "classes.png"
    assert run(sample.main, capsys, guided, "--n", 20, "--out", out)[0] == 0
    with Image.open(out) as picture:
        width, height = picture.size
    assert height > 4 * width  # ten rows of two
    assert run(evaluate.main, capsys, "model", guided, "--n", 16, "--metrics", "agreement")[0] == 0


def test_a_run_of_vectors_is_drawn_under_the_vector_asked_for(told_vectors, tmp_path, capsys):
    one, _ = draw(told_vectors, tmp_path, capsys, "--condition", 0.5, -1, 2)
    other, _ = draw(told_vectors, tmp_path, capsys, "--condition", 0.5, -1, 3)
    assert one.shape == (64, 2)
    assert not np.array_equal(one, other)


def test_a_run_with_conditions_goes_on(told_vectors, tmp_path, capsys):
    del tmp_path
    code, said = run(train.main, capsys, "resume", told_vectors, "--run.steps", 6, "--run.allow-change", "run.steps")
    assert code == 0, said.err
    assert "step 6/6" in said.out + said.err


WRONG = {
    "no class": ("guided", ("--condition", "12"), "condition: expected classes, whole numbers 0 to 9, found 12"),
    "half a class": ("guided", ("--condition", "1.5"), "condition: expected classes, whole numbers 0 to 9, found 1.5"),
    "too few numbers": ("told_vectors", ("--condition", "1"), "condition: expected the 3 numbers of a vector, found 1"),
    "no vector": ("told_vectors", (), "condition: expected the 3 numbers of a vector, found 0"),
    "guided jump": (
        "told_vectors", ("--condition", "1", "2", "3", "--guidance", "2"),
        "guidance: expected 1 by consistency sampling of a run without torso.guidance",
    ),
    "negative": ("guided", ("--guidance", "-1"), "guidance: expected a finite number >= 0, found -1.0"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_drawn_is_refused(name, request, capsys, tmp_path):
    fixture, words, message = WRONG[name]
    code, said = run(sample.main, capsys, request.getfixturevalue(fixture), *words, "--out", tmp_path / "new.png")
    assert code == 2
    assert message in said.err
    assert not (tmp_path / "new.png").exists()


REFUSED = {
    "bare": (("npz", "--data.condition", "classes"), "bare.npz", "expected: labels, an integer >= 0 for the class of"),
    "no vectors": (("npz", "--data.condition", "vector"), "bare.npz", "no array 'condition'"),
    "nothing to guide to": (
        ("npz", "--torso.guidance", "2"), "mine.npz", "torso.guidance: expected 1 without a data.condition"
    ),
    "noise": (
        ("npz", "--data.condition", "classes", "--torso.guidance", "2"),
        "mine.npz",
        "torso.guidance: expected 1 with one sample's noise in the velocity, which cannot be guided",
    ),
    "size of nothing": (("npz", "--torso.condition", "3"), "mine.npz", "torso.condition: expected 0 without"),
    "references": (
        ("npz", "--data.condition", "classes", "--method.velocity", "posterior", "--method.references", "4"),
        "mine.npz",
        "method.references: expected none with data.condition",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_conditions_that_cannot_be_trained_are_refused(name, files, tmp_path, capsys):
    words, file, message = REFUSED[name]
    folder = tmp_path / "run"
    code, said = run(train.main, capsys, *words, "--data.path", files / file, "--run.dir", folder)
    assert code == 2
    assert message in said.err
    assert not folder.exists()


def test_agreement_is_the_share_that_the_classifier_confirms():
    probabilities = np.array([[0.6, 0.4], [0.1, 0.9], [0.7, 0.3], [0.2, 0.8]])
    assert agreement(probabilities, np.array([0, 1, 1, 1])) == 0.75
    for wrong in (np.array([0, 1, 1, 2]), np.array([0, 1, 1, -1])):
        with pytest.raises(ValueError, match="wanted: expected classes of the network, 0 to 1, found"):
            agreement(probabilities, wrong)
    found = Extracted(np.zeros((4, 1)), probabilities)
    with pytest.raises(ValueError, match="metrics: expected samples drawn under classes for the agreement, found none"):
        METRICS["agreement"](found, untyped(None))
