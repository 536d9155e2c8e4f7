"""What decides a run's numbers and is no setting: its data, known again wherever they lie, and the flags of JAX."""

import json
import shutil

import jax
import numpy as np
import pytest
from PIL import Image

from equisct.app.cli import train
from equisct.app.parts import data as parts
from equisct.app.runs import provenance
from equisct.data import ArrayRecordSet, ImageFolder, ImageSet, PairSet, VectorSet, write_array_record
from test_cli_evaluate import call

N = 300


def pixels(changed):
    images = np.random.default_rng(0).integers(0, 256, (N, 2, 2, 3), dtype=np.uint8)
    images[changed] ^= 1
    return images


def picture_folder(place, changed):
    for number, image in enumerate(pixels(changed)[:6]):
        Image.fromarray(image).save(place / f"{number}.png")
    return ImageFolder(place)


def packed(place, changed):
    write_array_record(place / "a.array_record", [pixels(changed)], count=N)
    return ArrayRecordSet(place / "a.array_record")


def vectors(changed):
    points = np.random.default_rng(0).normal(size=(N, 2)).astype(np.float32)
    points[changed] += 1e-6
    return points


KINDS = {
    "images": lambda place, changed: ImageSet(pixels(changed), place.name),
    "vectors": lambda place, changed: VectorSet(vectors(changed), place.name),
    "pairs: noise": lambda place, changed: PairSet(vectors(changed), vectors([]), "", place.name),
    "pairs: samples": lambda place, changed: PairSet(vectors([]), vectors(changed), "", place.name),
    "image files": picture_folder,
    "packed": packed,
}


@pytest.mark.parametrize("kind", KINDS)
def test_data_are_known_again_wherever_they_lie_and_a_change_is_seen(kind, tmp_path):
    found = []
    for name, changed in (("here", []), ("moved", []), ("other", [2 if kind != "packed" else N - 1])):
        (tmp_path / name).mkdir()
        found.append(parts.fingerprint(KINDS[kind](tmp_path / name, changed)))
    here, moved, other = found
    assert here == moved
    assert json.loads(json.dumps(here)) == here
    assert {name for name in here if here[name] != other[name]} == {"sha256"}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a finished run, beside its data, and the words that began it."""
    place = tmp_path_factory.mktemp("provenance")
    np.savez(place / "d.npz", v=vectors([])[:64])
    small = ("--torso.width", 8, "--head.width", 8, "--torso.blocks", 1, "--head.blocks", 1, "--run.batch", 8)
    rest = ("--run.steps", 6, "--method.last", 20, "--sample.n", 0, "--log.no-tensorboard", "--parallel.devices", 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        ended = call(train.main, "npz", "--data.path", "d.npz", *small, *rest, "--run.dir", "run")
    assert ended.code == 0, ended.err
    return place / "run"


MORE = ("--run.steps", 8, "--method.period", 3, "--run.allow-change", "run.steps", "method.period")


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("how", ["another path", "replaced in place"])
def test_a_run_does_not_go_on_with_other_data(how, run, tmp_path, monkeypatch):
    other, before = tmp_path / "other.npz", contents(run)
    np.savez(other, v=100 + vectors([])[:80])
    flags = ("--data.path", other)
    if how == "replaced in place":
        place = run.parent / "d.npz"
        monkeypatch.setattr("equisct.app.cli.train.load_data", lambda data, seed: _replaced(data, place, other, seed))
        flags = ()
    ended = call(train.main, "resume", run, *MORE, *flags)
    assert ended.code == 2
    assert "error: data.path: expected the samples that this run has learned from, found 80 of shape [2]" in ended.err
    assert "not 64 of shape [2] with SHA-256" in ended.err
    assert "--run.allow-change data.path" in ended.err
    assert contents(run) == before


def _replaced(data, place, other, seed):
    assert data.path == place  # the whole path, though the command named it from its folder
    return parts.load_data(type(data)(other), seed=seed)


def test_a_run_goes_on_with_moved_data_and_says_which_flags_are_others(run, tmp_path):
    folder, moved = tmp_path / "run", tmp_path / "e.npz"
    shutil.copytree(run, folder)
    shutil.copy(run.parent / "d.npz", moved)
    with jax.threefry_partitionable(new_val=not jax.config.values["jax_threefry_partitionable"]):
        ended = call(train.main, "resume", folder, *MORE, "--data.path", moved)
    assert ended.code == 0, ended.err
    assert f"changed: data.path: {run.parent / 'd.npz'} -> {moved}\n" in ended.err
    (warning,) = [line for line in ended.err.splitlines() if line.startswith("warning: ")]
    assert warning.startswith("warning: after update 6 the bits differ from those of an uninterrupted run, because of ")
    assert warning.split("because of ")[1].startswith("jax.threefry_partitionable ")
    assert warning.count(",") == 1


def test_the_flags_are_those_of_jax():
    """Others of the list may be of some versions only."""
    always = {"threefry_partitionable", "default_prng_impl", "enable_x64", "default_matmul_precision"}
    assert always <= {flag for flag in provenance.FLAGS if f"jax_{flag}" in jax.config.values}


def test_only_what_both_environments_say_can_differ():
    before = {"jax": {"a": "1", "b": "2"}, "cores": 2}
    after = {"jax": {"a": "1", "b": "3", "c": "4"}, "cores": 1}
    assert provenance.differences(before, after) == "jax.b 2 -> 3, cores 2 -> 1"
    found = {"size": 1, "shape": [2], "sha256": "a"}
    assert provenance.other_samples({"data": found | {"sha256": "b"}}, found) == (
        "1 of shape [2] with SHA-256 a, not 1 of shape [2] with SHA-256 b"
    )
    assert provenance.other_samples({"data": found}, found) == provenance.other_samples({}, found) == ""
    assert provenance.differences(before, before) == provenance.differences(None, after) == ""
