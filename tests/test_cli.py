"""The commands: instant help, one message per mistake, a whole tiny run, samples from it, the configuration's codec."""

import dataclasses
import hashlib
import inspect
import io
import json
import pathlib
import re
import shutil
import subprocess
import sys
import typing

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from equisct.app import methods, presets
from equisct.app.cli import data, evaluate, plugins, report, sample, train
from equisct.app.runs import exits, folder, host_log, progress
from equisct.app.settings import check, codec, config
from equisct.app.settings import data as data_settings
from equisct.train import CheckpointError, NonFiniteError
from strategies import untyped


def run(main, capsys, *arguments):
    """Exit code and standard error of a command."""
    try:
        main([str(a) for a in arguments])
        code = 0
    except SystemExit as exit_:
        code = exit_.code
    return code, capsys.readouterr()


def open_png(path):
    return untyped(Image.open(path))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The folder of one finished run."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    train.main(["tiny", "--run.dir", str(folder)])
    return folder


@pytest.mark.parametrize("command", ["train", "sample", "data"])
def test_help_comes_without_jax(command):
    code = (
        f"import sys; from equisct.app.cli.{command} import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: sys.exit('jax' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert "usage" in found.stdout


@pytest.mark.parametrize("module", ["app.runs.folder", "app.runs.stored", "app.cli.report_work", "app.cli.sample_work"])
def test_whatever_reads_a_configuration_knows_the_methods(module):
    words = (
        f"import equisct.{module}; from equisct.app.settings import codec, config\n"
        "print(sorted(codec.kinds(config.Method)))"
    )
    found = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True).stdout
    assert found.strip() == str(sorted(codec.kinds(config.Method)))


def test_a_preset_has_its_own_name(monkeypatch):
    """Or its runs would lie in another's folder."""
    monkeypatch.setitem(presets.PRESETS, "mine", ("Of one's own.", presets.TINY))
    with pytest.raises(ValueError, match="PRESETS: expected preset='mine' in the one of that name, found 'tiny'"):
        train.parse(["mine"])


def test_help_documents_every_field(capsys):
    pages = [run(train.main, capsys, name, "--help") for name in presets.PRESETS]
    assert all(code == 0 for code, _ in pages)
    text = " ".join(pages[0][1].out.split())
    for group in dataclasses.fields(config.Config):
        if group.name in ("data", "preset"):
            continue
        for field in dataclasses.fields(getattr(presets.DIGITS, group.name)):
            assert f"--{group.name}.{field.name.replace('_', '-')}" in text
    assert text.count("(default:") >= 50


def described(cls):
    """The fields of a configuration class that have a docstring under them."""
    source = inspect.getsource(cls).splitlines()
    pairs = zip(source, source[1:], strict=False)
    return {a.split(":")[0].strip() for a, b in pairs if b.strip().startswith('"""') and ":" in a}


@pytest.mark.parametrize(
    "cls",
    [*typing.get_args(data_settings.Data)[1:], *codec.kinds(config.Method).values(), config.Torso, config.Head,
     config.Noise, config.Optim, config.Ema, config.Run, config.Parallel, config.Log, config.Sample,
     sample.Options],
)  # fmt: skip
def test_every_field_has_a_description(cls):
    bases = [base for base in cls.__mro__ if dataclasses.is_dataclass(base)]
    assert {field.name for field in dataclasses.fields(cls)} <= set().union(*map(described, bases))


BAD_SETTINGS = {
    "unknown preset": (["digit"], "digits"),
    "no preset": ([], "resume RUN"),
    "unknown flag": (["tiny", "--run.stepz", "3"], "--run.steps"),
    "not a number": (["tiny", "--run.steps", "many"], "--run.steps"),
    "negative batch": (["tiny", "--run.batch", "-4"], "run.batch: expected a finite number >= 1, found -4"),
    "zero steps": (["tiny", "--run.steps", "0"], "run.steps: expected a finite number >= 1, found 0"),
    "too few steps": (["tiny", "--run.steps", "2"], r"run.steps: expected at least one update per curriculum stage"),
    "nan": (["tiny", "--optim.lr", "nan"], "optim.lr: expected a finite number, found nan"),
    "infinite": (["tiny", "--noise.sigma-max", "inf"], "noise.sigma_max: expected a finite number, found inf"),
    "negative lr": (["tiny", "--optim.lr", "-0.1"], "optim.lr: expected a finite number > 0, found -0.1"),
    "ema": (["tiny", "--ema.decay", "1.0"], "ema.decay: expected a number in [0, 1), found 1.0"),
    "width of no average": (["cifar10", "--ema.std", "0.05"], "ema.std: expected ema.decay None with it"),
    "width too large": (["tiny", "--ema.std", "0.3"], "ema.std: expected a relative width in (0, 0.28), found 0.3"),
    "short twice": (["cifar10-edm", "--ema.decay", "None"], "ema.ramp: expected 0 with ema.decay None"),
    "weights not kept": (
        ["tiny", "--ema.stds", "0.1", "--eval.of", "model", "0.05"],
        "eval.of: expected one or more of ema, model, 0.1, each once, found model 0.05",
    ),
    "weights twice": (["tiny", "--eval.of", "ema", "ema"], "each once, found ema ema"),
    "no weights": (["tiny", "--eval.of"], "eval.of: expected one or more of ema, model, each once, found none"),
    "levels": (
        ["tiny", "--noise.sigma-min", "90"],
        "noise.sigma_min: expected less than noise.sigma_max = 80.0",
    ),
    "mid": (["tiny", "--sample.mid-sigma", "100"], "sample.mid_sigma: expected a level between 0.002 and 80.0"),
    "width": (["tiny", "--torso.width", "6"], "torso.width: expected a multiple of 4, found 6"),
    "multipliers": (["tiny", "--head.multipliers", "0"], "head.multipliers: expected whole numbers >= 1, found (0,)"),
    "resolution": (
        ["tiny", "--torso.multipliers", "1", "1", "1", "1", "1"],
        "torso.multipliers: expected at most 4 for images of 8 x 8, found 5",
    ),
    "attention": (
        ["digits", "--head.attention", "5"],
        "head.attention: expected resolutions of the network, (8, 4), found 5",
    ),
    "head weight": (["tiny", "--method.head-weight", "-1"], "method.head_weight: expected a finite number >= 0"),
    "curriculum": (["tiny", "--method.last", "5"], "method.last: expected a finite number >= 10, found 5"),
    "knee": (["tiny", "--method.c", "0"], "method.c: expected a finite number > 0, found 0"),
    "knee of l2": (
        ["tiny", "--method.distance", "l1", "--method.c", "1"],
        "method.c: expected none with the distance l1",
    ),
    "batch beyond the data": (
        ["tiny", "--run.batch", "1800"],
        "run.batch: found 1800, more than the data's 1,797 samples",
    ),
    "devices": (["tiny", "--parallel.devices", "999"], "devices: expected 1 to 2 (those there are), found 999"),
    "data": (["cifar10", "--data.path", "nowhere"], "nowhere"),
    "npz": (["npz", "--data.path", "nowhere.npz"], "nowhere.npz"),
    "images": (["images", "--data.path", "nowhere"], "nowhere: found nothing at this path"),
    "array_record": (["array-record", "--data.path", "nowhere.array_record"], "nowhere.array_record"),
    "workers": (["images", "--data.workers", "-1"], "data.workers: expected a finite number >= 0, found -1"),
    "image size": (["images", "--data.size", "0"], "data.size: expected a finite number >= 1, found 0"),
    "bad limit": (["images", "--data.bad-limit", "2"], "data.bad_limit: expected a number in [0, 1], found 2"),
    "bad policy": (["images", "--data.bad", "ignore"], "--data.bad"),
}


@pytest.mark.parametrize("name", BAD_SETTINGS)
def test_bad_setting_gets_one_message_and_writes_nothing(name, capsys, tmp_path, monkeypatch):
    arguments, message = BAD_SETTINGS[name]
    monkeypatch.chdir(tmp_path)
    code, out = run(train.main, capsys, *arguments)
    assert code == 2
    assert message in " ".join(out.err.replace("│", " ").split())
    assert "Traceback" not in out.err
    assert not list(tmp_path.iterdir())


BAD_ARRAYS = {
    "floats in [0, 1]": (np.random.default_rng(0).uniform(size=(20, 8, 8, 1)), "uint8"),
    "empty": (np.zeros((0, 8, 8, 1), np.uint8), "empty"),
    "channels first": (np.full((20, 3, 8, 8), 9, np.uint8), "(n, h, w, c)"),
    "nan vectors": (np.full((20, 2), np.nan, np.float32), "40 NaN or infinite"),
    "not square": (np.full((20, 8, 4, 1), 9, np.uint8), "data: expected square images, found 8 x 4"),
}


@pytest.mark.parametrize("name", BAD_ARRAYS)
def test_bad_arrays_get_one_message_and_nothing_is_written(name, capsys, tmp_path, monkeypatch):
    array, message = BAD_ARRAYS[name]
    np.savez(tmp_path / "mine.npz", images=array)
    monkeypatch.chdir(tmp_path)
    code, out = run(train.main, capsys, "npz", "--data.path", "mine.npz", "--run.batch", "8", "--run.steps", "8")
    assert code == 2
    assert message in out.err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.npz"]


def test_a_finished_run_is_left_alone(tiny, capsys):
    before = contents(tiny)
    for words in (["tiny", "--run.dir", tiny], ["resume", tiny], ["tiny", "--run.dir", tiny, "--run.keep", "5"]):
        code, out = run(train.main, capsys, *words)
        assert code == 0
        assert out.out == f"the run in {tiny} is finished: 12 updates\n"
    assert contents(tiny) == before


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


IN_THE_WAY = {
    "other settings": (["tiny", "--optim.lr", "0.5"], "optim.lr: 0.001 -> 0.5\ntake another --run.dir, or allow"),
    "another seed": (["tiny", "--run.seed", "5"], "run.seed: 0 -> 5"),
    "more updates": (["resume", "--run.steps", "20"], "run.steps: 12 -> 20"),
    "an average too long": (["tiny", "--ema.decay", "0.9999"], "ema.decay: None -> 0.9999"),
    "never": (["tiny", "--run.resume", "never"], "run.dir: expected a new or empty folder with run.resume never"),
}


@pytest.mark.parametrize("name", IN_THE_WAY)
def test_a_run_is_not_gone_on_with_as_another(name, tiny, capsys):
    (word, *flags), message = IN_THE_WAY[name]
    before = contents(tiny)
    code, out = run(train.main, capsys, word, *([tiny] if word == "resume" else ["--run.dir", tiny]), *flags)
    assert code == 2
    assert message in out.err
    assert out.err.startswith("equisct-train: error: ")  # no note or change is told of a run that does not begin
    assert contents(tiny) == before


def test_a_folder_of_other_things_is_refused(tmp_path, capsys):
    (tmp_path / "thesis.tex").touch()
    code, out = run(train.main, capsys, "tiny", "--run.dir", tmp_path)
    assert code == 2
    assert "run.dir: expected a new or empty folder, or one of equisct-train, found" in out.err
    code, out = run(train.main, capsys, "tiny", "--run.dir", tmp_path / "new", "--run.resume", "must")
    assert code == 2
    assert "run.resume: expected a run in" in out.err
    wrong = {("resume",): "resume: expected a run folder after it, found none",
             ("resume", tmp_path / "a"): "resume: expected the folder of a run of equisct-train, with",
             ("from-config", tmp_path / "a.json"): "config: expected a file, found none at"}  # fmt: skip
    for words, message in wrong.items():
        code, out = run(train.main, capsys, *words)
        assert code == 2
        assert message in out.err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_run_goes_on_with_more_updates_where_that_is_allowed(tiny, tmp_path, capsys):
    place = tmp_path / "run"
    shutil.copytree(tiny, place)
    code, out = run(
        train.main, capsys, "resume", place, "--run.steps", "14", "--run.allow-change", "run.steps",
        "--log.every", "1", "--log.no-tensorboard",
    )  # fmt: skip
    assert code == 0
    assert "changed: run.steps: 12 -> 14\nchanged: log.every: 2 -> 1\n" in out.err
    assert "resuming from step 12 of 14" in out.err
    rows = [json.loads(line) for line in (place / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [2, 4, 6, 8, 10, 12, 13, 14]
    assert len((place / "command.txt").read_text().splitlines()) == 2
    assert json.loads((place / "STATUS.json").read_text())["status"] == "finished"


def test_an_allowed_change_that_the_checkpoint_does_not_fit_is_refused_and_leaves_the_run(tiny, capsys):
    before = contents(tiny)
    code, out = run(
        train.main, capsys, "resume", tiny, "--torso.width", "8", "--run.steps", "14",
        "--run.allow-change", "torso.width", "run.steps",
    )  # fmt: skip
    assert code == 2
    assert "run.allow_change: expected changes that the run's checkpoint fits, found: checkpoint" in out.err
    assert "another model?" in out.err
    assert contents(tiny) == before


def test_a_run_that_cannot_begin_is_noted_as_failed(tiny, tmp_path, capsys):
    """Its checkpoint is of another model than its settings say."""
    place = tmp_path / "run"
    shutil.copytree(tiny, place)
    config = json.loads((place / "config.json").read_text())
    config["torso"]["width"] = 8
    config["run"]["steps"] = 14
    (place / "config.json").write_text(json.dumps(config))
    (place / "STATUS.json").unlink()
    code, out = run(train.main, capsys, "resume", place)
    assert code == 6
    assert "another model?" in out.err
    status = json.loads((place / "STATUS.json").read_text())
    assert (status["status"], status["exit_code"], status["step"]) == ("failed", 6, 12)


def test_default_folders_are_numbered_and_unfinished_runs_gone_on_with(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert folder.choose_folder(presets.TINY) == (pathlib.Path("runs/tiny"), None)
    with folder.locked(pathlib.Path("runs/tiny")):
        folder.write_config(presets.TINY, pathlib.Path("runs/tiny"))
        folder.write_status(pathlib.Path("runs/tiny"), "preempted", step=3)
    assert folder.choose_folder(presets.TINY) == (pathlib.Path("runs/tiny"), presets.TINY)
    other = dataclasses.replace(presets.TINY, optim=config.Optim(lr=0.5))
    assert folder.choose_folder(other) == (pathlib.Path("runs/tiny-2"), None)
    folder.write_status(pathlib.Path("runs/tiny"), "finished", step=12)
    assert folder.choose_folder(presets.TINY) == (pathlib.Path("runs/tiny-2"), None)


def test_a_dry_run_tells_sizes_and_writes_nothing(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = ["--torso.blocks", "1", "--head.blocks", "1", "--run.batch", "8"]
    code, out = run(train.main, capsys, "toy", "--run.dry-run", "--parallel.devices", "1", *small)
    assert code == 0
    text = " ".join(out.out.split())
    assert "21,122 in the consistency model, 33,730 in the head" in text
    assert "100,000 samples of shape (2,)" in text
    assert "10,000 updates of 8 samples: 0.8 epochs of 12,500.0 updates" in text
    assert re.search(r"per device [\d.]+ MiB for state and batch, [\d.]+ MiB while an update runs", text)
    assert not list(tmp_path.iterdir())


def test_averages_are_snapshotted_and_made_again_for_any_width(capsys, tmp_path):
    place = tmp_path / "run"
    flags = ["--ema.stds", "0.1", "0.2", "--ema.decays", "0.5", "--ema.snapshot-every", "3", "--log.no-tensorboard"]
    small = ["--torso.width", "8", "--torso.blocks", "1", "--head.width", "8", "--head.blocks", "1"]
    length = ["--run.steps", "12", "--run.batch", "8", "--sample.n", "4", "--sample.heun-steps", "4"]
    points = tmp_path / "points.npz"
    np.savez(points, images=np.random.default_rng(0).normal(scale=0.5, size=(64, 2)).astype(np.float32))
    words = ["npz", "--data.path", points, "--run.dir", place, "--sample.every", "6", *small, *length, *flags]
    code, _ = run(train.main, capsys, *words)
    assert code == 0
    assert len(list((place / "averages").iterdir())) == 4
    assert {path.name for path in (place / "samples").iterdir()} == {
        f"step_{step:08d}_{name}.png" for step in (6, 12) for name in ("ema", "model")
    }
    code, out = run(sample.main, capsys, place, "--n", "2", "--std", "0.15", "--out", tmp_path / "a.npz")
    assert code == 0
    assert "average of relative width 0.15 from snapshots; its profile is off by" in out.out
    assert np.isfinite(np.load(tmp_path / "a.npz")["samples"]).all()


def test_a_run_leaves_everything_in_its_folder(tiny):
    rows = [json.loads(line) for line in (tiny / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [2, 4, 6, 8, 10, 12]
    assert [row["points"] for row in rows] == [11, 11, 21, 21, 41, 41]
    assert all(np.isfinite(row[name]) for row in rows for name in ("loss", "gradient_norm", "stage_gradient_norm_cv"))
    assert [row["stage"] for row in rows] == [0, 0, 1, 1, 2, 2]
    speed = [json.loads(line) for line in (tiny / "throughput.jsonl").read_text().splitlines()]
    assert [row["step"] for row in speed] == [2, 4, 6, 8, 10, 12]
    assert all(0 <= row["data_wait_share"] <= 1 for row in speed)
    assert speed[0]["compile_seconds"] > 0
    assert [stage["total"]["updates"] for stage in json.loads((tiny / "stages.json").read_text())] == [4, 4, 4]
    assert sorted(path.name for path in (tiny / "checkpoints").iterdir()) == ["12", "6"]
    kinds = [json.loads(line)["kind"] for line in (tiny / "events.jsonl").read_text().splitlines()]
    assert kinds == ["start", "save", "save", "end"]
    status = json.loads((tiny / "STATUS.json").read_text())
    assert (status["status"], status["step"], status["exit_code"]) == ("finished", 12, 0)
    assert json.loads((tiny / "environment.json").read_text())["devices"]["count"] == 2
    with open_png(tiny / "samples" / "step_00000012_ema.png") as picture:
        assert picture.width > 3 * 2 * 8
        settings = hashlib.sha256((tiny / "config.json").read_bytes()).hexdigest()[:12]
        expected = {"step": "12", "weights": "ema", "seed": "0", "preset": "tiny", "settings": settings}
        assert [*json.loads(picture.text.pop("panels"))] == ["data", "one-step", "two-step", "heun-4"]
        assert picture.text == expected
    with open_png(tiny / "curves.png") as picture:
        assert picture.width > 800
    assert (tiny / "command.txt").read_text().startswith("equisct-train tiny --run.dir")
    lines = (tiny / "logs" / "host0.log").read_text().splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z \S", line) for line in lines)
    said = [line.split(" ", 1)[1] for line in lines]
    assert said[0] == "start step=0 devices=2 processes=1"
    assert [line.split(":")[0] for line in said if line.startswith("step ")] == [
        f"step {k}" for k in (2, 4, 6, 8, 10, 12)
    ]
    assert said[-1] == "end status=finished step=12"


def test_a_runs_configuration_comes_back(tiny):
    found = codec.from_json(json.loads((tiny / "config.json").read_text()))
    assert found.run.dir == tiny
    assert dataclasses.replace(found, run=presets.TINY.run) == presets.TINY


@pytest.mark.parametrize(
    "choice", [["--sampler", "two-step"], ["--sampler", "multistep", "--levels", "0.9", "0.3"], ["--weights", "model"]]
)
def test_samples_of_a_run_are_reproducible(tiny, tmp_path, choice, capsys):
    found = []
    for name in ("a.npz", "b.npz"):
        code, _ = run(sample.main, capsys, tiny, "--n", "3", "--out", tmp_path / name, *choice)
        assert code == 0
        found.append(np.load(tmp_path / name)["samples"])
    assert found[0].shape == (3, 1, 8, 8)
    np.testing.assert_array_equal(*found)


def test_samples_as_a_picture(tiny, tmp_path, capsys):
    code, _ = run(sample.main, capsys, tiny, "--n", "4", "--out", tmp_path / "new" / "a.png")
    assert code == 0
    with open_png(tmp_path / "new" / "a.png") as picture:
        assert picture.text["sampler"] == "one-step"


BAD_SAMPLING = {
    "n": (["--n", "0"], "n: expected a finite number >= 1, found 0"),
    "seed": (["--seed", "-1"], "seed: expected a finite number >= 0, found -1"),
    "out": (["--out", "a.gif"], "out: expected a file ending in .png or .npz, found a.gif"),
    "levels of one step": (["--levels", "0.5"], "levels: expected at most 0 with "),
    "no levels": (["--sampler", "multistep"], "levels: expected at least one with multistep, found none"),
    "order": (["--sampler", "multistep", "--levels", "0.3", "0.9"], "levels: expected descending levels between"),
    "steps elsewhere": (
        ["--steps", "5"],
        "steps: expected with --sampler heun, euler or ddim alone, found it with the",
    ),
    "heun": (["--sampler", "heun", "--steps", "1"], "steps: expected a finite number >= 2, found 1"),
    "ddim": (["--sampler", "ddim", "--steps", "1001"], "steps: expected at most 1000, the times of DDPM's schedule"),
    "pairs in a picture": (["--pairs"], "out: expected a file ending in .npz with --pairs, found samples.png"),
    "step": (["--step", "5"], "checkpoint: expected one of the steps [6, 12] in"),
    "no such step": (["--step", "-1"], "step: expected a finite number >= 0, found -1"),
    "std": (["--std", "0.5"], "std: expected a relative width in (0, 0.28), found 0.5"),
    "no snapshots": (["--std", "0.1"], "snapshots: expected files step_NNNNNNNN.safetensors in"),
}


@pytest.mark.parametrize("name", BAD_SAMPLING)
def test_bad_sampling_gets_one_message_and_writes_nothing(name, tiny, capsys, tmp_path, monkeypatch):
    arguments, message = BAD_SAMPLING[name]
    monkeypatch.chdir(tmp_path)
    code, out = run(sample.main, capsys, tiny, *arguments)
    assert code == 2
    assert message in out.err
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_no_run_is_refused(tmp_path, capsys):
    code, out = run(sample.main, capsys, tmp_path)
    assert code == 2
    assert "run: expected the folder of a run of equisct-train, with config.json, found none in" in out.err


def test_a_checkpoint_of_another_model_is_refused(tiny, tmp_path, capsys):
    other = json.loads((tiny / "config.json").read_text())
    other["torso"]["width"] = 8
    (tmp_path / "config.json").write_text(json.dumps(other))
    code, out = run(sample.main, capsys, tmp_path)
    assert code == 2
    assert "run: expected a run with a checkpoint, found none yet in" in out.err
    shutil.copytree(tiny / "checkpoints", tmp_path / "checkpoints")
    code, out = run(sample.main, capsys, tmp_path)
    assert code == 2
    assert "another model?" in out.err


@pytest.mark.parametrize("name", presets.PRESETS)
def test_presets_are_valid_and_survive_the_codec(name):
    _, preset = presets.PRESETS[name]
    check.check(preset)
    assert preset.preset == name
    assert codec.from_json(json.loads(json.dumps(codec.to_json(preset)))) == preset


@given(
    st.floats(1e-6, 1.0), st.none() | st.floats(1e-6, 1.0), st.integers(1, 10**9), st.booleans(),
    st.lists(st.integers(1, 8), min_size=1, max_size=4), st.none() | st.text(min_size=1),
)  # fmt: skip
def test_any_configuration_survives_the_codec(lr, c, steps, decay, multipliers, folder):
    changed = dataclasses.replace(
        presets.TINY,
        optim=config.Optim(lr=lr, decay=decay),
        method=methods.ScoreGuidance(c=c),
        torso=config.Torso(multipliers=tuple(multipliers)),
        run=config.Run(steps=steps, dir=None if folder is None else pathlib.Path(folder)),
    )
    text = json.dumps(codec.to_json(changed))
    again = codec.from_json(json.loads(text))
    assert again == changed
    assert json.dumps(codec.to_json(again)) == text


BROKEN = {
    "unknown field": (lambda c: c | {"extra": 1}, "config.extra: expected one of"),
    "missing field": (
        lambda c: {k: v for k, v in c.items() if k != "optim"},
        "config.optim: expected a value, found none",
    ),
    "wrong type": (lambda c: c | {"run": c["run"] | {"steps": "10"}}, "config.run.steps: expected .*int.*, found '10'"),
    "boolean for a number": (lambda c: c | {"run": c["run"] | {"steps": True}}, "config.run.steps"),
    "wrong kind": (lambda c: c | {"data": {"kind": "os.system"}}, "config.data.kind: expected one of Digits"),
    "wrong choice": (lambda c: c | {"method": c["method"] | {"distance": "l3"}}, "config.method.distance"),
    "not an object": (lambda c: c | {"run": 3}, "config.run: expected an object, found 3"),
}


SECRETS = {
    "the value of a variable in a word": (
        ("--log.wandb-project", "project-canary-1"),
        "log.wandb_project: expected no",
    ),
    "in the folder of the run": (("--run.dir", "runs/canary-1"), "run.dir: expected no secret, since settings are"),
    "in the path of data": (("--data.path", "canary-1/d.npz"), "data.path: expected no secret"),
    "in one of several": (("--run.allow-change", "data.a", "data.canary-1"), "run.allow_change: expected no secret"),
}


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_is_no_setting(name, capsys, tmp_path, monkeypatch):
    """It is refused, not blotted out: config.json holds what a run is made of."""
    monkeypatch.setenv("SOME_TOKEN", "canary-1")
    monkeypatch.chdir(tmp_path)
    words, message = SECRETS[name]
    code, out = run(train.main, capsys, "npz", *words)
    assert (code, message in out.err, "canary-1" in out.err) == (2, True, False), out.err
    assert not list(tmp_path.iterdir())


def test_a_text_in_a_field_named_as_a_secret_is_none_either():
    @dataclasses.dataclass(frozen=True)
    class Mine:
        hub_token: str = ""
        monkey: int = 3

    with pytest.raises(ValueError, match="hub_token: expected no secret, .*, found a text in a field of such a name"):
        check.check_secrets(untyped(Mine("abc")))
    check.check_secrets(untyped(Mine()))


@pytest.mark.parametrize("word", ["digits", "equisct"])
def test_a_variable_that_holds_a_common_word_changes_nothing(word, tmp_path, monkeypatch):
    """Such as the name of a preset in `PROJECT_KEY`: the stored settings are those of the command, bit for bit."""
    monkeypatch.setenv("PROJECT_KEY", word)
    asked = train.parse(["digits", "--run.dir", str(tmp_path / word)])
    folder.write_config(asked, tmp_path)
    assert train.parse(["from-config", str(tmp_path / "config.json"), "--run.dir", str(tmp_path / word)]) == asked
    assert json.loads((tmp_path / "config.json").read_text())["preset"] == "digits"
    folder.write_status(tmp_path, "preempted", step=3, command=f"equisct-train resume runs/{word}")
    assert folder.read_status(tmp_path)["resume"] == f"equisct-train resume runs/{word}"


def test_home_is_meant_by_a_tilde_and_what_is_read_is_stored_with_its_whole_path(tmp_path, monkeypatch):
    """In every command, on the command line and in a file of an older version; the run's own folder stays as named."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "d.npz").touch()
    assert untyped(train.parse(["npz", "--data.path", "none.npz"])).data.path == pathlib.Path("none.npz")
    asked = untyped(train.parse(["npz", "--data.path", "d.npz", "--run.dir", "~/x", "--eval.ref", "~/r.npz"]))
    assert (asked.data.path, asked.run.dir, asked.eval.ref) == (tmp_path / "d.npz", tmp_path / "x", tmp_path / "r.npz")
    assert train.parse(["npz", "--run.dir", "x"]).run.dir == pathlib.Path("x")
    (tmp_path / "x").mkdir()
    old = codec.to_json(dataclasses.replace(asked, data=data_settings.Npz(pathlib.Path("d.npz"))))
    (tmp_path / "x" / "config.json").write_text(json.dumps(old))
    for words in (["resume", "~/x"], ["from-config", "~/x/config.json"]):
        assert untyped(train.parse(words)).data.path == tmp_path / "d.npz"
    assert untyped(evaluate.parse(["images", "~/a", "--ref", "~/r.npz"])).path == tmp_path / "a"
    assert report.parse(["~/x"]).runs == (tmp_path / "x",)
    assert data.parse(["check", "~/a"]).path == tmp_path / "a"


@pytest.mark.parametrize("name", BROKEN)
def test_broken_configuration_files_are_refused(name):
    change, message = BROKEN[name]
    with pytest.raises(ValueError, match=message):
        codec.from_json(change(codec.to_json(presets.TINY)))


def test_plain_progress_has_no_control_characters_and_few_lines(capsys):
    lines = progress.Lines(100, every=3600.0)
    for step in range(1, 101):
        lines.update(step, 0.5, 10.0)
    err = capsys.readouterr().err
    assert err.splitlines() == ["step 100/100, loss 0.5000, 10 images/s, ETA 0:00"]


def test_what_one_waits_for_is_told_with_what_it_found(capsys):
    with progress.telling("measuring") as found:
        assert capsys.readouterr().err == "measuring ...\n"
        found("distance 0.5")
    assert re.fullmatch(r"measuring: distance 0\.5, \d+\.\d s\n", capsys.readouterr().err)
    with progress.telling("measuring", aloud=False):
        pass
    assert capsys.readouterr().err == ""


def test_a_terminal_that_has_gone_ends_nothing(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Full())
    progress.say("lost")
    progress.Lines(10, every=0.0).update(1, 0.5, 10.0)


def test_bar_shows_step_loss_rate_and_time_left(capsys):
    bar = progress.Bar(10)
    bar.update(5, 0.25, 1234.0)
    bar.close()
    err = capsys.readouterr().err
    assert "5/10" in err
    assert "loss 0.2500, 1,234 images/s" in err
    assert "<" in err  # tqdm's time left


def not_finite():
    """The error alone, without a state that it would carry."""
    error = NonFiniteError.__new__(NonFiniteError)
    error.message = "not finite"
    return error


def test_errors_of_a_run_end_with_their_own_codes(capsys):
    for error, code in (
        (not_finite(), 3),
        (KeyboardInterrupt(), 130),
        (folder.FolderInUseError("held"), 4),
        (RuntimeError("RESOURCE_EXHAUSTED: out of memory"), 5),
        (CheckpointError("disk full"), 6),
    ):
        with pytest.raises(SystemExit) as exit_, exits.stopping_cleanly("program"):
            raise error
        assert exit_.value.code == code
        assert capsys.readouterr().err.startswith("program: error: ")
    with pytest.raises(ValueError, match="a bug"), exits.stopping_cleanly("program"):
        raise ValueError("a bug")
    with pytest.raises(RuntimeError, match="another bug"), exits.stopping_cleanly("program"):
        raise RuntimeError("another bug")


def test_a_log_blots_secrets_out_keeps_to_its_size_and_bears_a_full_disk(tmp_path, monkeypatch):
    monkeypatch.setenv("SOME_TOKEN", "canary-1234")
    monkeypatch.setattr(host_log, "MOST_BYTES", 2000)
    log = host_log.HostLog(tmp_path, 3)
    log.write("a canary-1234 b\nc")
    assert (tmp_path / "logs" / "host3.log").read_text().endswith("Z a [redacted] b\\nc\n")
    for k in range(200):
        log.write(f"line {k}")
    assert [path.name for path in sorted((tmp_path / "logs").iterdir())] == [
        f"host3.log{end}" for end in ("", ".1", ".2", ".3")
    ]
    assert all(path.stat().st_size <= 2000 for path in (tmp_path / "logs").iterdir())
    assert "line 199" in (tmp_path / "logs" / "host3.log").read_text()
    log.close()
    full = host_log.HostLog(tmp_path, 4)
    monkeypatch.setattr(untyped(full)._handler, "stream", Full())
    full.write("lost")


class Full(io.StringIO):
    """A file on a full disk."""

    def write(self, text):
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize(
    ("steps", "decay", "left"), [(300, 0.9995, "86%"), (3, 0.9, "73%"), (12, 0.9, None), (12, None, None)]
)
def test_an_average_longer_than_the_run_is_told(steps, decay, left, capsys):
    settings = dataclasses.replace(presets.TINY.run, steps=steps)
    train._note_on_average(dataclasses.replace(presets.TINY, run=settings, ema=config.Ema(decay)))
    told = capsys.readouterr().err
    assert (f"still holds {left} of the random start" in told) if left else told == ""


def test_a_reader_that_leaves_early_gets_no_error():
    words = f"{sys.executable} -m equisct train tiny --help | head -n 1; echo ${{PIPESTATUS[0]}}"
    found = subprocess.run(["bash", "-c", words], capture_output=True, text=True, check=True)
    assert found.stderr == ""
    assert found.stdout.splitlines()[-1] in ("0", "141")


def test_a_file_of_methods_is_imported_once_whatever_its_name(tmp_path, monkeypatch):
    own = sys.modules["json"]
    (tmp_path / "json.py").write_text(
        "import sys\nsys.imported = getattr(sys, 'imported', 0) + 1\nclass Mine:\n  def act(run): ...\n"
    )
    monkeypatch.setenv("EQUISCT_METHODS", str(tmp_path / "json.py"))
    monkeypatch.setattr(sys, "imported", 0, raising=False)
    plugins.load_plugins()
    plugins.load_plugins()
    assert untyped(sys).imported == 1
    assert sys.modules["json"] is own
    (name,) = [
        name for name, module in sys.modules.items() if getattr(module, "__file__", "") == str(tmp_path / "json.py")
    ]
    before = f"EQUISCT_METHODS={tmp_path / 'json.py'} "
    assert plugins.words_before(untyped(sys.modules[name]).Mine()) == before
    assert plugins.words_before(presets.TINY.method) == before  # the file may bring actions, too
    monkeypatch.delenv("EQUISCT_METHODS")
    assert plugins.words_before(untyped(sys.modules[name]).Mine()) == before
    assert plugins.words_before(presets.TINY.method) == ""
    assert plugins.words_before(presets.TINY.method, untyped(sys.modules[name]).Mine.act) == before
    monkeypatch.delitem(sys.modules, name)
