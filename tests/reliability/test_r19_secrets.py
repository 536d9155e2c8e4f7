"""R19: no secret is written anywhere, whatever happens to a run: not into its folder, nor to the screen."""

import json
import subprocess
import sys

import pytest
from harness import environment, full, scoring, vectors
from inputs import files_below

VARIABLES = {
    "HF_TOKEN": "hf_canaryAAAAAAAA",
    "WANDB_API_KEY": "canarybbbbbbbb" * 3,
    "MY_SECRET": "canary-cccc/dd",
    "DB_PASSWORD": "canary+ee&ff",
}
"""Environment variables; the values of the third and fourth change in URLs and shells."""

PART = "canaryGGGG1234"
"""A secret that is part of the working folder, of a path and of a project's name: the value of a fifth."""

ALL_AT_ONCE = """if True:
    import json, sys
    from equisct.app.cli import sample, train
    for command, words in json.load(sys.stdin):
        try:
            {"train": train.main, "sample": sample.main}[command](words)
            code = 0
        except SystemExit as end:
            code = end.code
        print("code", code, flush=True)"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs the permissions of POSIX")
def test_no_secret_is_written(tmp_path):
    here, inputs = tmp_path / f"here-{PART}", tmp_path / "data"
    here.mkdir()
    good, bad = vectors(inputs / "good.npz"), vectors(inputs / "bad.npz", bad=range(256))
    wandb, folder = ["--log.wandb"], ["--run.dir", "run"]
    commands = {
        "a secret in a folder": (["train", [*good, "--run.dir", f"run-{PART}"]], 2),
        "a secret in a project": (["train", [*good, *wandb, "--log.wandb-project", f"project-{PART}", *folder]], 2),
        "a dry run": (["train", [*good, "--run.dry-run", *folder]], 0),
        "a run, W&B offline": (["train", [*good, "--log.tensorboard", *wandb, *folder]], 0),
        "samples": (["sample", ["run", "--n", "2", "--out", f"out-{PART}.npz"]], 0),
        "another setting": (["train", [*good, *folder, "--run.batch", "4"]], 2),
        "a run that is finished": (["train", [*good, *folder]], 0),
        "going on": (["train", [*good, *folder, "--run.steps", "34"]], 0),
        "a crash": (["train", [*bad, *wandb, "--run.dir", "crash"]], 3),
        "wrong data": (["train", ["npz", "--data.path", f"no-{PART}.npz", "--run.dir", "none"]], 2),
    }
    if not full():
        commands.pop("going on")
    secrets = VARIABLES | {"SOME_TOKEN": PART, "XLA_FLAGS": ""}
    env = environment(HOME=str(tmp_path / "home"), TMPDIR=str(tmp_path / "tmp"), **secrets)
    (tmp_path / "home").mkdir()
    (tmp_path / "tmp").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", ALL_AT_ONCE], input=json.dumps([words for words, _ in commands.values()]),
        capture_output=True, text=True, cwd=here, env=env, check=False,
    )  # fmt: skip
    codes = [int(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("code ")]
    assert codes == [code for _, code in commands.values()], done.stderr[-3000:]
    written = {name: content for name, content in files_below(tmp_path).items() if not name.startswith("data/")}
    assert any(name.endswith(".wandb") for name in written)
    assert any("tfevents" in name for name in written)
    assert any("nan_report" in name for name in written)
    written |= {"(standard output)": done.stdout.encode(), "(standard error)": done.stderr.encode()}
    with scoring("R19", f"secrets in {len(written)} files and streams of {len(commands)} commands") as score:
        for name, secret in (VARIABLES | {"SOME_TOKEN": PART}).items():
            found = [file for file, content in written.items() if secret.encode() in content]
            lines = [line for line in (done.stdout + done.stderr).splitlines() if secret in line]
            score(passed=not found, what=f"{name} in {found} {lines[:5]}")
        assert b"expected no secret, since settings are written to config.json" in written["(standard error)"]
        assert any(b"[redacted]" in content for name, content in written.items() if name.startswith(f"here-{PART}/"))
