"""R14: whatever is wrong in the settings is refused with one message, before JAX is imported; nothing is written."""

import copy
import dataclasses
import json
import subprocess
import sys

import pytest
from harness import environment, full, record
from hypothesis import given, settings
from hypothesis import strategies as st
from inputs import BY_METHOD, DATA, GROUPS, as_words, call, counts, fields, files_below, no_jax_in

from equisct.app import presets
from equisct.app.cli import train
from equisct.app.settings import codec, config
from equisct.app.settings import data as data_settings
from strategies import untyped

NOT_STORED = ("run.allow_change",)
"""Of the command line alone: what a file says there is not looked at."""

FIELDS = {f"{preset} {name}": (preset, name, field) for preset, name, field in fields()}


def refused(outcome, folder, before):
    """Whether a command was refused as it should be."""
    assert outcome.code == 2, (outcome.code, outcome.err)
    assert outcome.err.strip()
    assert "Traceback" not in outcome.err
    assert files_below(folder) == before
    assert [path.name for path in folder.iterdir()] == sorted(before)


def flag(name):
    return "--" + name.replace("_", "-")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("nothing")


def test_the_table_has_every_field():
    groups = {group.default_factory for group in dataclasses.fields(config.Config)} - {dataclasses.MISSING}
    assert groups | set(untyped(data_settings.Data).__args__) | set(codec.kinds(config.Method).values()) == set(GROUPS)
    for kind, table in GROUPS.items():
        assert {field.name for field in dataclasses.fields(kind)} == set(table), kind
    assert set(DATA) == set(untyped(data_settings.Data).__args__)
    assert set(BY_METHOD) == set(codec.kinds(config.Method).values())


def test_a_wrong_value_of_any_field_is_refused(place, monkeypatch):
    """As a flag, and in a stored file; at full size four of every field."""
    monkeypatch.chdir(place)
    tried = passed = 0

    def attempt(name, value):
        nonlocal tried, passed
        tried += 1
        preset, path, field = FIELDS[name]
        if field.words:
            words = [preset, flag(path), *as_words(value)]
            with no_jax_in(train):
                refused(call(train.main, *words), place, {})
        if path in NOT_STORED:
            passed += 1
            return
        stored = copy.deepcopy(codec.to_json(presets.PRESETS[preset][1]))
        group, leaf = path.split(".")
        stored[group][leaf] = value
        content = json.dumps(stored)
        (place / "stored.json").write_text(content)
        try:
            with no_jax_in(train):
                refused(call(train.main, "from-config", "stored.json"), place, {"stored.json": content.encode()})
        finally:
            (place / "stored.json").unlink()
        passed += 1

    @settings(max_examples=25, deadline=None, database=None)
    @given(st.sampled_from(sorted(FIELDS)), st.data())
    def any_field(name, data):
        attempt(name, data.draw(FIELDS[name][2].invalid))

    def every_field():
        for name, (_, _, field) in FIELDS.items():
            given_one = given(st.just(name), field.invalid)(attempt)
            settings(max_examples=4, deadline=None, database=None)(given_one)()

    try:
        every_field() if full() else any_field()
    finally:
        record("R14", tried="wrong values of single fields, as flags and in stored files", passed=passed, of=tried)


TOGETHER = {
    "knee of l1": ["tiny", "--method.distance", "l1", "--method.c", "1"],
    "snapshots of nothing": ["tiny", "--ema.snapshot-every", "5"],
    "levels": ["tiny", "--noise.sigma-min", "90"],
    "mid level": ["tiny", "--sample.mid-sigma", "100"],
    "curriculum": ["tiny", "--method.first", "50"],
    "too few steps": ["tiny", "--run.steps", "2"],
    "coordinator alone": ["tiny", "--parallel.coordinator", "x:1"],
    "rank": ["tiny", "--parallel.distributed", "--parallel.coordinator", "x:1", "--parallel.processes", "2",
             "--parallel.process", "2"],
    "microbatches": ["tiny", "--parallel.microbatches", "3"],
    "batch beyond the data": ["tiny", "--run.batch", "1800"],
    "mixture smaller than a batch": ["toy", "--data.samples", "100"],
    "seed beyond what fits": ["tiny", "--run.seed", str(2**63)],
    "steps beyond what fits": ["tiny", "--run.steps", str(2**31)],
    "a preset of another name": ["tinny"],
    "no preset": [],
    "an unknown flag": ["tiny", "--run.stepz", "3"],
    "a flag without value": ["tiny", "--run.steps"],
    "flags of other data": ["tiny", "--data.flip"],
    "no file": ["from-config"],
    "no such file": ["from-config", "nowhere.json"],
    "no run": ["resume", "nowhere"],
    "must go on": ["tiny", "--run.resume", "must"],
    "a folder below a file": ["tiny", "--run.dir", "/dev/null/run"],
    "a name too long": ["tiny", "--run.dir", "x" * 5000],
    "a name that no file can have": ["tiny", "--run.dir", "a\0b"],
    "data of a name too long": ["npz", "--data.path", "x" * 5000],
    "data of an impossible name": ["images", "--data.path", "a\0b"],
}  # fmt: skip


@pytest.mark.parametrize("name", TOGETHER)
@counts("R14", "wrong settings together")
def test_settings_that_do_not_fit_together_are_refused(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with no_jax_in(train):
        refused(call(train.main, *TOGETHER[name]), tmp_path, {})


STORED = {
    "nothing": "",
    "no JSON": "{",
    "a list": "[]",
    "a number": "3",
    "null": "null",
    "deeper than Python can go": "[" * 100_000,
    "an object deeper than Python can go": '{"run":' * 100_000,
    "a number longer than Python reads": '{"run": ' + "9" * 5000 + "}",
    "not a number": '{"run": NaN}',
    "bytes that are no text": "\udcff",
}


@pytest.mark.parametrize("name", STORED)
@counts("R14", "files that are no configuration")
@pytest.mark.parametrize("command", ["from-config", "resume"])
def test_files_that_are_no_configuration_are_refused(name, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.json").write_text(STORED[name], errors="surrogateescape")
    before = files_below(tmp_path)
    with no_jax_in(train):
        refused(call(train.main, command, "config.json" if command == "from-config" else "."), tmp_path, before)


FOREIGN = {
    "newer field": lambda c: c | {"teacher": {"decay": 0.5}},
    "newer field of a group": lambda c: c | {"optim": c["optim"] | {"weight_decay": 0.1}},
    "missing group": lambda c: {key: value for key, value in c.items() if key != "noise"},
    "huge integer for a float": lambda c: c | {"optim": c["optim"] | {"lr": 10**400}},
    "kind that is a list": lambda c: c | {"data": {"kind": ["Digits"]}},
    "kind that is an object": lambda c: c | {"data": {"kind": {"kind": "Digits"}}},
    "no kind": lambda c: c | {"data": {}},
    "data as text": lambda c: c | {"data": "Digits"},
    "a field of another kind": lambda c: c | {"data": {"kind": "Digits", "path": "x"}},
    "a preset that climbs": lambda c: c | {"preset": "../up"},
    "an absolute preset": lambda c: c | {"preset": "/abs"},
    "a preset without name": lambda c: c | {"preset": ""},
    "a preset of one dot": lambda c: c | {"preset": ".."},
    "preset of a number": lambda c: c | {"preset": 3},
}


@pytest.mark.parametrize("name", FOREIGN)
@counts("R14", "files that are no configuration")
def test_stored_configurations_of_another_make_are_refused(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(FOREIGN[name](codec.to_json(presets.TINY))))
    before = files_below(tmp_path)
    with no_jax_in(train):
        refused(call(train.main, "from-config", "config.json"), tmp_path, before)


@counts("R14", "wrong settings together")
def test_jax_is_not_imported(tmp_path):
    """All in one process of its own, in which an import of JAX fails."""
    code = """if True:
        import json, sys
        sys.modules["jax"] = None
        from equisct.app.cli.train import main
        for words in json.load(sys.stdin):
            try:
                main(words)
            except SystemExit as end:
                assert end.code == 2, words
            else:
                raise AssertionError(words)
        print("refused all")"""
    words = [words for name, words in TOGETHER.items() if "\0" not in " ".join(words)]
    done = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(words), capture_output=True, text=True, cwd=tmp_path,
        env=environment(), check=False,
    )  # fmt: skip
    assert done.stdout.strip() == "refused all", done.stderr[-2000:]
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())
