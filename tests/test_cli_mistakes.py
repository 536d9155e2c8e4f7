"""The usual mistakes on the command line: each gets one short message with the right word; commands as printed."""

import dataclasses
import io
import json
import os
import pathlib
import shlex
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

import numpy as np
import pytest
from PIL import Image

from equisct import __main__ as module
from equisct.app import presets
from equisct.app.cli import data, evaluate, next_step, report, sample, train, values
from equisct.app.cli.words import read
from equisct.app.settings import codec
from equisct.app.settings.config import Optim

SAMPLERS = "one-step, two-step, multistep, heun, euler, ddim, ancestral"
TRAIN = {
    "nothing": ("", "resume RUN", "digits, toy, tiny"),
    "preset digit": ("digit", "found digit", "did you mean digits?"),
    "preset ciafr10": ("ciafr10", "found ciafr10", "did you mean cifar10?"),
    "preset with an underscore": ("fashion_mnist", "did you mean fashion-mnist?"),
    "two presets": ("tiny digits", "found digits too"),
    "a flag before the preset": ("--run.steps 3 tiny", "the flag --run.steps before it", "PRESET"),
    "a run as the preset": (
        "runs/digits --run.steps 9",
        "did you mean equisct-train resume runs/digits --run.steps 9?",
    ),
    "a file as the preset": ("runs/digits/config.json", "equisct-train from-config runs/digits/config.json?"),
    "resume nothing": ("resume", "resume: expected a run folder after it, found none"),
    "resume a slip": ("resume runs/digit", "found nothing at runs/digit; did you mean runs/digits?"),
    "resume below a run": ("resume runs/digits/checkpoints", "did you mean runs/digits?"),
    "from no file": ("from-config nowhere.json", "found none at nowhere.json"),
    "another program's flag": ("tiny --batch-size 4", "found --batch-size; did you mean --run.batch?"),
    "and in a group": ("tiny --optim.learning-rate 1", "did you mean --optim.lr?"),
    "no group": ("tiny --lr 1", "did you mean --optim.lr?"),
    "epochs": ("tiny --epochs 5", "did you mean --run.steps?"),
    "the wrong group": ("tiny --training.seed 5", "did you mean --run.seed?"),
    "a slip in a flag": ("tiny --run.stepz 3", "did you mean --run.steps?"),
    "two of that name": ("tiny --width=8", "did you mean --torso.width or --head.width?"),
    "a flag of other data": ("toy --data.path x", "found --data.path; of data there are --data.modes"),
    "a flag of another method": ("cifar10-edm --method.head-weight 1", "of method there are --method.law-mean"),
    "no dashes": ("tiny run.steps=3", "found run.steps=3 too; did you mean --run.steps 3?"),
    "a flag with True": ("images --data.flip True", "--data.flip: takes no value, found True", "--data.no-flip alone"),
    "a flag with =false": ("images --data.no-flip=false", "--data.no-flip: takes no value, found false"),
    "a flag with 1": ("tiny --log.wandb 1", "--log.wandb: takes no value, found 1"),
    "no value": ("tiny --run.steps", "Missing value for argument '--run.steps'"),
    "no number": ("tiny --run.steps many", "--run.steps", "expected a whole number such as 1000 or 1e3, found many"),
    "no whole number": ("tiny --run.steps 1e-3", "expected a whole number such as 1000 or 1e3, found 1e-3"),
    "a number with a unit": ("tiny --run.steps 10k", "expected a whole number such as 1000 or 1e3, found 10k"),
    "in a list": ("tiny --torso.multipliers 1 x", "--torso.multipliers", "expected a whole number", "found x"),
    "a decimal comma": ("tiny --optim.lr 1,5", "--optim.lr", "expected a number such as 0.5 or 1e-4, found 1,5"),
    "a choice": (
        "tiny --method.distance huber",
        "one of pseudo-huber, pseudo-huber-rms, pseudo-huber-norm, squared-l2",
    ),
    "a slip in a choice": ("tiny --method.distance squared_l2", "found squared_l2; did you mean squared-l2?"),
    "another optimiser": ("tiny --optim.name adamw", "expected one of radam, adam, found adamw; did you mean adam?"),
    "a batch below 1": ("tiny --run.batch -4", "run.batch: expected a finite number >= 1, found -4"),
    "features": ("digits --eval.features pixel", "eval.features", "found pixel; did you mean pixels?"),
    "a change": ("tiny --run.allow-change optim.lrr", "found 'optim.lrr'; did you mean optim.lr?"),
    "a plan": ("tiny --run.dryrun", "did you mean --run.dry-run"),
    "a plan of nan": ("tiny --run.dry-run --optim.lr nan", "optim.lr: expected a finite number, found nan"),
    "an unknown field in a file": ("from-config field.json", "config.optim.lrr", "did you mean lr?"),
    "an unknown choice in a file": ("from-config choice.json", "expected one of radam, adam, found 'adamw'"),
}
OTHERS = {
    sample: {
        "nothing": ("", "Folder of a run"),
        "a slip": ("runs/digit", "run: expected the folder of a run of equisct-train", "did you mean runs/digits?"),
        "no runs beside it": ("photos", "found none in photos; there are runs/digits, runs/mine"),
        "no checkpoint yet": ("runs/digits", "found none yet in runs/digits", "equisct-train resume runs/digits"),
        "one's own method": ("runs/mine", "found 'Mine'", "EQUISCT_METHODS=FILE.py"),
        "a slip in a choice": ("runs/digits --sampler hun", f"one of {SAMPLERS}, found hun; did you mean heun?"),
        "another program's flag": ("runs/digits --num-samples 3", "did you mean --n?"),
        "one dash": ("runs/digits -n 3", "found -n; did you mean --n?"),
        "a number that may be none": ("runs/digits --steps few", "--steps", "expected a whole number", "found few"),
        "another format": ("runs/digits --out a.jpg", "out: expected a file ending in .png or .npz, found a.jpg"),
        "a flag with True": ("runs/digits --pairs True", "--pairs: takes no value, found True"),
    },
    evaluate: {
        "nothing": ("", "{model,images,stats,compare} PATH", "found nothing"),
        "a slip": ("modle runs/digits", "found modle; did you mean model?"),
        "no run": ("model", "Folder of a run of equisct-train."),
        "a slip in the run": ("model runs/digit", "did you mean runs/digits?"),
        "no checkpoint yet": ("model runs/digits", "found none yet in runs/digits"),
        "a metric": ("model runs/digits --metrics frechett", "found frechett; did you mean frechet?"),
        "features": ("stats digits --features digit", "found digit; did you mean digits?"),
        "no reference": ("images photos", "ref: expected a file of equisct-eval stats, found none"),
        "one record": ("compare a.json", "records: expected two or more, found 1"),
    },
    report: {
        "nothing": ("", "runs: expected one or more folders"),
        "a slip": ("runs/digits runs/min", "runs: expected the folder of a run", "did you mean runs/mine?"),
        "another format": ("runs/digits --out a.pdf", "out: expected a file ending in .html"),
        "a flag with False": ("runs/digits --models False", "write --models or --no-models alone"),
    },
    data: {
        "nothing": ("", "{check,preview,pack} PATH"),
        "a slip": ("chek photos", "found chek; did you mean check?"),
        "a slip in a flag": ("check photos --sise 8", "did you mean --size?"),
        "nothing there": ("check nowhere", "nowhere: found nothing at this path"),
        "a choice": ("pack photos --bad skp", "expected one of error, skip, found skp; did you mean skip?"),
        "a flag with True": ("check photos --no-index true", "--no-index: takes no value, found true"),
    },
}  # fmt: skip
MISTAKES = [(train, *row) for row in TRAIN.items()] + [
    (each, *row) for each, table in OTHERS.items() for row in table.items()
]


def call(main, *words) -> tuple[Any, str, str]:
    """Exit code, standard output and standard error of a command in this process."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with redirect_stdout(out), redirect_stderr(err):
        try:
            main(list(words))
        except SystemExit as end:
            code = end.code or 0
    return code, out.getvalue(), err.getvalue()


def plain(text: str) -> str:
    """Without boxes and line breaks."""
    return " ".join(text.replace("│", " ").split())


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> pathlib.Path:
    """A working folder with two runs that have no checkpoint, one of an unknown method, and a picture."""
    place = tmp_path_factory.mktemp("work")
    stored = codec.to_json(presets.DIGITS)
    own = stored | {"method": stored["method"] | {"kind": "Mine"}}
    for name, content in {"runs/digits": stored, "runs/mine": own}.items():
        (place / name / "checkpoints").mkdir(parents=True)
        (place / name / "config.json").write_text(json.dumps(content))
    (place / "field.json").write_text(json.dumps(stored | {"optim": stored["optim"] | {"lrr": 1}}))
    (place / "choice.json").write_text(json.dumps(stored | {"optim": stored["optim"] | {"name": "adamw"}}))
    (place / "photos").mkdir()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(place / "photos" / "a.png")
    return place


@pytest.mark.parametrize(
    ("command", "words", "named"),
    [(command, words, named) for command, _, (words, *named) in MISTAKES],
    ids=[f"{command.__name__.rpartition('.')[2]}: {name}" for command, name, _ in MISTAKES],
)
def test_a_usual_mistake_gets_one_short_message(command, words, named, place, monkeypatch):
    monkeypatch.chdir(place)
    before = sorted(place.rglob("*"))
    code, out, err = call(command.main, *shlex.split(words))
    assert (code, out, "Traceback" in err) == (2, "", False)
    assert len(err.splitlines()) <= 15, err
    for text in named:
        assert text in plain(err)
    assert sorted(place.rglob("*")) == before


@pytest.mark.parametrize(
    ("word", "number"),
    [("7", 7), ("-7", -7), ("1_000", 1000), ("1e4", 10_000), ("1E+4", 10_000), ("2.5e3", 2500), ("3e22", 3 * 10**22)],
)
def test_counts_may_have_an_exponent(word, number):
    assert values.whole(word) == number


@pytest.mark.parametrize(
    "word", ["2.5e0", "1e-3", "1.0", "1e99999999999", "nan", "inf", "1e", "e3", "", "1 000", "0x10"]
)
def test_what_is_exactly_no_whole_number_is_none(word):
    with pytest.raises(ValueError, match="expected a whole number such as 1000 or 1e3, found"):
        values.whole(word)


def test_values_are_read_as_people_write_them(monkeypatch):
    home = pathlib.Path("/") / "elsewhere"
    monkeypatch.setenv("HOME", str(home))
    words = (
        "images --run.steps 1e5 --data.path=~/photos --run.skip-steps 1e1 2e1 --optim.head-lr None --data.size 6.4e1"
    )
    found = train.parse(words.split())
    assert (found.run.steps, found.run.skip_steps) == (100_000, (10, 20))
    assert found.optim == Optim(lr=3e-4)
    assert (untyped_path(found), found.data.size) == (str(home / "photos"), 64)  # type: ignore[union-attr]


def untyped_path(found: Any) -> str:
    return str(found.data.path)


@dataclasses.dataclass(frozen=True)
class Own:
    """Fields that a method of one's own may have, and the library's have not."""

    told: bool | None = None
    several: tuple[bool, ...] = ()
    mixed: tuple[int, float] = (1, 2.0)
    either: int | str = 3
    on: bool = False


@pytest.mark.parametrize(
    ("words", "value"),
    [
        ("--told True", Own(told=True)),
        ("--told None", Own()),
        ("--several True False", Own(several=(True, False))),
        ("--mixed 1e2 1e-2", Own(mixed=(100, 0.01))),
        ("--either 1e2", Own(either=100)),
        ("--either many", Own(either="many")),
        ("--on", Own(on=True)),
        ("--told maybe", None),
        ("--several True maybe", None),
    ],
)
def test_fields_of_ones_own(words, value):
    """Of kinds that our own settings have not."""
    found = []
    code, _, err = call(lambda given: found.append(read(Own, program="p", description="", words=given)), *words.split())
    assert (code, found) == ((2, []) if value is None else (0, [value])), err


def test_help_lists_choices_in_the_order_they_were_written_in():
    """Not in that of a set, which is another in every process; of `Literal` alone and of `Literal` or None."""
    listed = SAMPLERS.replace(", ", ",")
    for main, words in ((sample.main, ["--help"]), (evaluate.main, ["model", "--help"])):
        code, out, _ = call(main, *words)
        assert (code, f"--sampler {{{listed}}}|None" in plain(out)) == (0, True)
    code, out, err = call(train.main, "--help")
    assert (code, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines()[14:] if line[2:3] not in ("", " ")] == [
        *presets.PRESETS,
        *train.STORED,
    ]
    code, out, _ = call(train.main, "resume", "--help")
    assert (code, "--run.steps INT" in out) == (0, True)


def test_the_module_lists_the_commands_and_passes_on(monkeypatch):
    expected = {
        ("--help",): (0, "train   Train a model, or go on with a run."),
        (): (2, "found nothing"),
        ("trian",): (2, "did you mean train?"),
        ("eval", "modle"): (2, "did you mean model?"),
    }
    for words, (code, text) in expected.items():
        monkeypatch.setattr(sys, "argv", ["equisct", *words])
        found, out, err = call(lambda _: module.main())
        assert (found, text in out + err) == (code, True), out + err
    for name, (file, _) in module.COMMANDS.items():
        program = sys.modules[f"equisct.app.cli.{file}"].PROGRAM
        assert program == f"equisct-{name}"


@pytest.mark.parametrize("began", ["bin/equisct-train", "script.py"])
@pytest.mark.parametrize("on_path", [True, False])
def test_a_printed_command_works_where_it_is_printed(began, on_path, tmp_path, monkeypatch):
    """In the folder that it is printed in: from an environment that is on the path or not, or from a script."""
    monkeypatch.chdir(tmp_path)
    pathlib.Path("bin").mkdir()
    program = pathlib.Path("bin/equisct-sample")
    program.write_text('#!/bin/sh\necho "drawn from $1"\n')
    program.chmod(0o755)
    other = tmp_path / "elsewhere"
    monkeypatch.setattr(sys, "argv", [began])
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    monkeypatch.setenv("PATH", os.pathsep.join([str(tmp_path / "bin" if on_path else other), os.environ["PATH"]]))
    told = next_step.as_typed("equisct-sample", pathlib.Path("runs/my digits"))
    assert told.startswith("equisct-sample ") == on_path
    done = subprocess.run(["sh", "-c", told], capture_output=True, text=True, check=True)
    assert done.stdout == "drawn from runs/my digits\n"
