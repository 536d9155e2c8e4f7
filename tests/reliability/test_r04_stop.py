"""R4: SIGTERM and SIGINT, whatever the run is doing: saved, exit 75, nothing lost; a second signal ends at once."""

import time

import pytest

from reliability import harness

PLACES = {
    "compile": ("stop=compile",),
    "an update": ("stop=14",),
    "an update, SIGINT": ("int=15",),
    "data": ("stop=data:13",),
    "sampling": ("stop=sampling",),
    "a save in the background": ("stop=save:20",),
    "the last save": ("stop=save:30",),
}
QUICK = ("sampling",)
"""`test_a_second_signal_ends_at_once` waits for data, and row R2 stops after updates."""


def signalled(err: str) -> float:
    """When the hook sent the signal, in seconds since 1970."""
    (line,) = [line for line in err.splitlines() if line.startswith("signal at ")]
    return float(line.removeprefix("signal at "))


def test_each_place(tmp_path, arguments, unbroken):
    places = [*PLACES] if harness.full() else [*QUICK]
    with harness.scoring(
        "R4", f"a signal in {', '.join(places)}", "an evaluation while training: tests/test_evaluator.py"
    ) as score:
        for place in places:
            folder = tmp_path / place.replace(" ", "-")
            more = (*arguments, *harness.DRAWING, "--sample.every", "15", "--log.every", "1")
            cold = harness.environment(JAX_COMPILATION_CACHE_DIR=str(tmp_path / "cold"))
            cache = (cold if place == "compile" else harness.environment())["JAX_COMPILATION_CACHE_DIR"]
            ended = harness.train(folder, *more, hooks=PLACES[place], JAX_COMPILATION_CACHE_DIR=cache)
            late = time.time() - signalled(ended.err)
            score(ended.code == 75, f"{place}: exit {ended.code}, {ended.err[-300:]}")
            score(late < 10 or place == "compile", f"{place}: ended {late:.1f} s later")
            done = harness.rows(folder / "metrics.jsonl")[-1]["step"]
            kept = harness.steps(folder)[-1]
            state = harness.status(folder)
            score(
                kept == done == state["step"] and state["status"] == "preempted", f"{place}: {done} done, {kept} kept"
            )
            score(f"equisct-train resume {folder}" in ended.err, f"{place}: says how to go on")
            resumed = harness.train(folder, *more)
            score(resumed.code == 0, f"{place}: goes on: {resumed.err[-300:]}")
            score(harness.state_hash(folder) == harness.state_hash(unbroken), f"{place}: same bits")
            score(harness.leftovers(folder) == [], f"{place}: left {harness.leftovers(folder)}")


@pytest.mark.parametrize("number", ["stop", "int"] if harness.full() else ["stop"])
def test_a_second_signal_ends_at_once(tmp_path, arguments, number):
    with harness.scoring("R4", f"a second signal ({number}) while the first waits for data") as score:
        hooks = [f"{number}=data:11", "slow=11:30", "twice=1"]
        ended = harness.start(tmp_path / "run", *arguments, hooks=hooks).wait()
        late = time.time() - signalled(ended.err) - 1
        score(ended.code == 130, f"exit {ended.code}")
        score(late < 2, f"ended {late:.1f} s after the second signal")
        score(harness.steps(tmp_path / "run") == [10], f"left the checkpoints {harness.steps(tmp_path / 'run')}")
