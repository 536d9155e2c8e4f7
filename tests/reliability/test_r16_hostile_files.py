"""R16: files of a stranger run no code and write nothing outside; the source has nothing that could."""

import gc
import json
import os
import pathlib
import pickle
import re
import shutil
import struct
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from harness import full, scoring, vectors
from inputs import call, counts, files_below, write_images

import equisct
from equisct.app import presets
from equisct.app.cli import data, sample, train
from equisct.app.settings import codec
from equisct.train import CheckpointError, PowerFunction, load_weights, manifest, reconstruct
from test_data_arrays import HOSTILE as HOSTILE_ARRAYS
from test_data_arrays import OBJECTS, Payload, npy, zipped

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
SOURCE = pathlib.Path(equisct.__file__).parent
PICKLE = pickle.dumps(Payload())
"""Makes a folder `sentinel` when unpickled."""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The working folder, one below a folder that is watched too."""
    place = tmp_path / "outside" / "here"
    place.mkdir(parents=True)
    monkeypatch.chdir(place)
    return place


def test_the_payload_works(here):
    pickle.loads(PICKLE)  # noqa: S301  (that it does something is what the others rely on)
    assert (here / "sentinel").is_dir()


def refused(here, main, *words, codes=(2, 6)):
    """The command fails with one message, and nothing is new anywhere."""
    before = sorted(here.parent.parent.rglob("*")), files_below(here.parent.parent)
    with scoring("R16", "files of a stranger, given to a command") as score:
        found = call(main, *words)
        assert found.code in codes, (found.code, found.err)
        assert "Traceback" not in found.err
        assert (sorted(here.parent.parent.rglob("*")), files_below(here.parent.parent)) == before
        score(passed=True, what=str(words))
    return found


# --- data ---

DATA = {
    "objects in an npz": ("a.npz", zipped(OBJECTS)),
    "a pickle named npz": ("a.npz", PICKLE),
    "an npy named npz": ("a.npz", OBJECTS),
    "a pickle in an npz": ("a.npz", zipped(PICKLE)),
    "an npz in an npz": ("a.npz", zipped(zipped(OBJECTS))),
    "records of objects": ("a.npz", zipped(npy(np.zeros(2, [("x", "O")]), allow_pickle=True))),
    "a pickle named array_record": ("a.array_record", PICKLE * 5_000),
    "a pickle named zip": ("a.zip", PICKLE),
    "a pickle named tar.gz": ("a.tar.gz", PICKLE),
    "a pickle named gz": ("a.gz", b"\x1f\x8b" + PICKLE),
}


@pytest.mark.parametrize("name", DATA)
def test_data_of_a_stranger(name, here):
    file, content = DATA[name]
    (here / file).write_bytes(content)
    refused(here, data.main, "check", file, "--no-index")
    preset = {"npz": "npz", "array_record": "array-record", "zip": "images"}.get(file.partition(".")[2])
    if preset:
        refused(here, train.main, preset, "--data.path", file)


def test_pickles_among_pictures_are_bad_files(here):
    write_images(here / "set", 3)
    for name in ("a.png", "b.jpg", "c.webp"):
        (here / "set" / name).write_bytes(PICKLE)
    (here / "set" / "d.pkl").write_bytes(PICKLE)
    found = refused(here, data.main, "check", "set", "--no-index")
    assert found.out.count("bad: ") == 3


def test_names_in_archives_write_nothing(here):
    with zipfile.ZipFile("a.zip", "w") as archive:
        for name in ("../../evil.png", "/evil.png", "a/../../../evil.png"):
            archive.writestr(name, b"x")
    refused(here, data.main, "check", "a.zip", "--no-index")
    refused(here, data.main, "preview", "a.zip")
    refused(here, data.main, "pack", "a.zip")


INDEX = {
    "a pickle": PICKLE,
    "no index": b"{}",
    "deep": b"[" * 100_000,
    "a long number": b'{"files": ' + b"9" * 5_000 + b"}",
}


@pytest.mark.parametrize("name", INDEX)
def test_an_index_of_a_stranger(name, here):
    write_images(here / "set", 3)
    (here / "set.index.json").write_bytes(INDEX[name])
    refused(here, train.main, "images", "--data.path", "set", "--run.batch", "2")


# --- configurations ---

CONFIGS = {
    "a dotted class": {"data": {"kind": "os.system", "command": "mkdir sentinel"}},
    "a dotted class of ours": {"data": {"kind": "equisct.app.settings.data.Digits"}},
    "a class of another group": {"data": {"kind": "Run"}},
    "a private class": {"data": {"kind": "__class__"}},
    "a kind where none belongs": {"optim": {"kind": "os.system"}},
    "a target": {"torso": {"_target_": "os.mkdir", "path": "sentinel"}},
    "a class name": {"head": {"class_name": "os.mkdir"}},
    "a reducer": {"run": {"py/reduce": [{"py/type": "os.mkdir"}, ["sentinel"]]}},
    "a preset that climbs": {"preset": "../../evil"},
    "an absolute preset": {"preset": "/evil"},
    "a project that climbs": {"log": {"wandb_project": "../../evil"}},
    "a format string": {"preset": "{0.__class__}"},
    "a shell": {"preset": "$(mkdir sentinel)"},
}


def poisoned(change):
    """The stored configuration of `tiny`, changed."""
    stored = codec.to_json(presets.TINY)
    for name, value in change.items():
        stored[name] = stored[name] | value if isinstance(value, dict) and name != "data" else value
    return json.dumps(stored)


@pytest.mark.parametrize("name", CONFIGS)
def test_configurations_of_a_stranger(name, here):
    (here / "run").mkdir()
    (here / "run" / "config.json").write_text(poisoned(CONFIGS[name]))
    refused(here, train.main, "from-config", "run/config.json")
    refused(here, train.main, "resume", "run")
    refused(here, sample.main, "run")


YAML = b"!!python/object/apply:os.mkdir ['sentinel']"


@pytest.mark.parametrize("content", [YAML, PICKLE, b"__import__('os').mkdir('sentinel')"], ids=["yaml", "pickle", "py"])
def test_other_files_in_place_of_a_configuration(content, here):
    (here / "run").mkdir()
    for name in ("config.json", "config.yaml", "config.py"):
        (here / "run" / name).write_bytes(content)
    refused(here, train.main, "from-config", "run/config.json")
    refused(here, train.main, "resume", "run")
    refused(here, sample.main, "run")


@pytest.mark.parametrize("place", ["../../evil", "/evil", "../evil"])
@counts("R16", "files of a stranger, given to a command")
def test_a_stored_folder_says_nothing_about_where_to_write(place, here):
    """Only the command line says where a run goes: `resume` and `from-config` leave the stored place aside."""
    (here / "config.json").write_text(poisoned({"run": {"dir": place}}))
    fresh = train.parse(["from-config", str(here / "config.json")])
    assert fresh.run.dir is None
    assert train.parse(["resume", str(here)]).run.dir == here


# --- checkpoints ---


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a finished run with snapshots."""
    folder = tmp_path_factory.mktemp("runs")
    words = [*vectors(folder / "points.npz"), "--ema.stds", "0.1", "--ema.snapshot-every", "30"]
    assert call(train.main, *words, "--run.dir", folder / "run").code == 0
    shutil.rmtree(folder / "run" / "checkpoints" / "20")  # what a damaged newest one falls back to
    return folder / "run"


@pytest.fixture
def run(finished, here):
    """A copy of it."""
    yield shutil.copytree(finished, here / "run")
    gc.collect()  # what Orbax leaves behind when it fails complains here, not in a later test


def manifest_of(run):
    return run / "checkpoints" / "30" / "MANIFEST.json"


MANIFESTS = {
    "a pickle": PICKLE,
    "deep": b"[" * 100_000,
    "a list": b"[]",
    "files outside": {"files": {"../../../../outside.txt": {"size": 1, "sha256": "0"}}},
    "an absolute file": {"files": {"/etc/hostname": {"size": 1, "sha256": "0"}}},
    "a device": {"files": {"/dev/zero": {"size": 0, "sha256": "0"}}},
    "files that are numbers": {"files": {"d": 3}},
    "no files": {"files": {}},
    "a list of files": {"files": []},
    "another format": {"format": 99},
    "notes of a stranger": {"notes": {"leaves": {"x": ["os.system", [1]]}, "notes": {"shape": [1, 8, 8]}}},
    "a shape of a stranger": {"notes": {"leaves": {}, "notes": {"shape": "../evil"}}},
    "a huge shape": {"notes": {"leaves": {}, "notes": {"shape": [1, 10**9, 10**9]}}},
    "no shape": {"notes": {"leaves": {}, "notes": {}}},
}


def write_manifest(path, content):
    """Bytes as they are; otherwise the manifest there changed, with a digest that is right."""
    if isinstance(content, bytes):
        path.write_bytes(content)
        return
    found = json.loads(path.read_text()) | content
    found.pop("digest")
    path.write_text(json.dumps(found | {"digest": manifest._digest(found)}))


@pytest.mark.parametrize("name", MANIFESTS)
def test_manifests_of_a_stranger(name, run, here):
    write_manifest(manifest_of(run), MANIFESTS[name])
    refused(here, sample.main, run, "--out", "new.npz")


def test_pickles_in_place_of_every_file_of_a_checkpoint(run, here):
    place = manifest_of(run).parent
    for path in sorted(place.rglob("*")):
        if path.is_file() and path.name != "MANIFEST.json":
            before = path.read_bytes()
            path.write_bytes(PICKLE)
            refused(here, sample.main, run, "--out", "new.npz")
            path.write_bytes(before)
    assert call(sample.main, run, "--n", "2", "--out", here / "new.npz").code == 0


@pytest.mark.parametrize("name", ["_METADATA", "_CHECKPOINT_METADATA", "manifest.ocdbt"])
@pytest.mark.parametrize(
    "content",
    [PICKLE, b"{}", b"[" * 50_000, YAML][: None if full() else 1],
    ids=["pickle", "empty", "deep", "yaml"][: None if full() else 1],
)
@counts("R16", "files of a stranger, given to a command")
def test_files_of_a_stranger_with_a_manifest_that_vouches_for_them(name, content, run, here):
    place = manifest_of(run).parent
    (place / name).write_bytes(content)
    notes = json.loads(manifest_of(run).read_text())["notes"]
    manifest.write_manifest(place, notes)
    before = sorted(here.parent.parent.rglob("*"))
    found = call(sample.main, run, "--n", "2", "--out", "new.npz")
    made = sorted(set(here.parent.parent.rglob("*")) - set(before))
    assert (found.code, made) in [(0, [here / "new.npz"]), (2, []), (6, [])]
    assert "Traceback" not in found.err


def header(content, length=None):
    """A safetensors file with such a header."""
    return struct.pack("<Q", len(content) if length is None else length) + content


def entry(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def tensors(entries, size=8):
    return header(json.dumps(entries).encode()) + bytes(size)


SAFETENSORS = {
    "a pickle": PICKLE,
    "nothing": b"",
    "a huge header": header(b"{}", 2**63),
    "a header longer than the file": header(b"{}", 2**20),
    "no JSON": header(b"mkdir sentinel"),
    "deep JSON": header(b'{"a":' * 100_000),
    "a list": header(b"[]"),
    "overlapping": tensors({"0/a": entry(), "0/b": entry()}),
    "a hole": tensors({"0/a": entry(offsets=(8, 16))}, 16),
    "beyond the end": tensors({"0/a": entry(offsets=(0, 2**40))}),
    "backwards": tensors({"0/a": entry(offsets=(8, 0))}),
    "negative": tensors({"0/a": entry(offsets=(-8, 0))}),
    "an overflowing shape": tensors({"0/a": entry(shape=(2**62, 2**62))}),
    "a negative shape": tensors({"0/a": entry(shape=(-2,))}),
    "objects": tensors({"0/a": entry(dtype="O")}),
    "bytes after the end": tensors({"0/a": entry()}, 16),
    "metadata of another type": tensors({"__metadata__": {"averages": 3}, "0/a": entry()}),
    "averages of a stranger": tensors({"__metadata__": {"averages": '[{"kind": "os.system"}]'}, "0/a": entry()}),
    "no metadata": tensors({"0/a": entry()}),
    "averages that are deep": tensors({"__metadata__": {"averages": "[" * 100_000, "step": "6"}, "0/a": entry()}),
}


@pytest.mark.parametrize("name", SAFETENSORS)
@counts("R16", "snapshots of a stranger, read")
def test_snapshots_of_a_stranger(name, here):
    path = here / "step_00000006.safetensors"
    path.write_bytes(SAFETENSORS[name])
    like = {"a": np.zeros(2, np.float32)}
    with pytest.raises(CheckpointError):
        reconstruct(here, like, PowerFunction.from_std(0.1))
    with pytest.raises(CheckpointError):
        load_weights(path, like, group="0/b")
    assert list(here.parent.parent.rglob("*")) == [here.parent, here, path]


def test_a_snapshot_of_a_stranger_ends_the_command_with_a_message(run, here):
    (run / "averages" / "step_00000030.safetensors").write_bytes(PICKLE)
    refused(here, sample.main, run, "--std", "0.1", "--out", "new.npz")


@counts("R16", "files of a stranger, given to a command")
def test_other_files_of_a_run_are_not_believed(run, here):
    """Status, events and rows of a stranger stop nothing and run nothing."""
    for name in ("STATUS.json", "metrics.jsonl", "events.jsonl", "stages.json", "throughput.jsonl"):
        (run / name).write_bytes(PICKLE)
    assert call(sample.main, run, "--n", "2", "--out", here / "new.npz").code == 0
    assert not [path for path in here.parent.parent.rglob("*") if path.name == "sentinel"]


# --- the source ---

FORBIDDEN = re.compile(
    r"allow_pickle\s*=\s*True|\bpickle\.(load|Unpickler)|\b(eval|exec)\(|torch\.load|yaml\.|__import__\("
    r"|extractall\(|\.extract\(|os\.system|shell\s*=\s*True|trust_remote_code|joblib|\bmarshal\b|\bshelve\b"
)


EXCEPTIONS = ["torch_file.py: import pickle", "torch_file.py: class _Reader(pickle.Unpickler):"]
"""That reader names all it may call; tests/test_inception.py holds it to that."""


@counts("R16", "the source")
def test_nothing_in_the_source_could_run_code():
    found = [
        f"{path.name}: {line.strip()}"
        for path in sorted(SOURCE.rglob("*.py"))
        for line in path.read_text().splitlines()
        if FORBIDDEN.search(line) or re.match(r"\s*(import|from) (pickle|dill|cloudpickle|yaml|shelve|marshal)\b", line)
    ]
    assert found == EXCEPTIONS
    ruff = shutil.which("ruff", path=os.pathsep.join([str(pathlib.Path(sys.executable).parent), os.environ["PATH"]]))
    if ruff is not None:
        rules = ["--isolated", "--no-cache", "--select", "S301,S302,S307,S506", "--ignore-noqa"]
        gate = subprocess.run([ruff, "check", *rules, str(SOURCE)], capture_output=True, text=True, check=False)
        assert gate.returncode == 0, gate.stdout


def test_the_cases_of_the_reader_of_arrays_count_too():
    """`tests/test_data_arrays.py` runs them."""
    assert len(HOSTILE_ARRAYS) >= 15
