"""R3: SIGKILL at any moment; the same command goes on by itself, and the end is that of the unbroken run."""

import random

import pytest

from reliability import harness, storm

WHILE_SAVING = ("kill=save:10", "kill=manifest:20")


def test_killed_while_saving_and_anywhere(tmp_path, arguments, unbroken):
    hooks = [*WHILE_SAVING, f"kill={random.randrange(21, 30)}"]
    with harness.scoring("R3", f"killed at {', '.join(hooks)}; then to the end") as score:
        for hook in hooks:
            ended = harness.train(tmp_path / "run", *arguments, hooks=[hook])
            score(ended.code == -9, f"{hook}: exit {ended.code}, {ended.err[-300:]}")
        last = harness.train(tmp_path / "run", *arguments)
        score(last.code == 0, f"to the end: exit {last.code}, {last.err[-300:]}")
        problems = storm.verdict(unbroken, tmp_path / "run")
        score(problems == [], f"as the unbroken run: {problems}")


@pytest.mark.skipif(not harness.full(), reason="minutes: at full size only")
def test_a_storm(tmp_path):
    steps = 600
    arguments = (*harness.TINY, "--run.steps", str(steps), "--run.save-every", "20", "--method.period", "200")
    kills = [kill | {"signal": "SIGKILL"} for kill in storm.plan(20, steps, seed=3)]
    with harness.scoring("R3", f"20 kills at random moments of {steps} updates") as score:
        assert harness.train(tmp_path / "unbroken", *arguments).code == 0
        log = storm.storm(tmp_path / "broken", arguments, kills, on=harness.core(), say=print)
        for kill in log:
            score(kill["code"] == -9, f"{kill}")
        problems = storm.verdict(tmp_path / "unbroken", tmp_path / "broken")
        score(problems == [], f"as the unbroken run: {problems}")
