"""R10: two processes train like one; one of them told to stop, both save the same update; one goes on alone."""

import contextlib
import json
import os
import pathlib
import socket
import sys
from collections.abc import Sequence

import numpy as np
import pytest

from reliability import harness
from tolerances import FLOAT32_NETWORK

INDEXED = str(pathlib.Path(__file__).parent / "indexed.py")
TOLD, STEPS = 20, 30
WATCHED = ("--log.every", "1", *(("--eval.every", "10", "--eval.n", "16") if harness.full() else ()))
"""At full size samples are measured too, by both processes together; tests/test_evaluator.py looks at one."""


def start(
    folder: pathlib.Path, log: pathlib.Path, *arguments: str, hooks: Sequence[str] = (), on: int = 0
) -> harness.Running:
    """Starts the command on a run folder, its batches noted in `log.indices`."""
    paths = [str(harness.ROOT / "src"), str(harness.ROOT / "tests")]
    words = [sys.executable, INDEXED, f"indices={log.with_suffix('.indices')}", *hooks, "--", *arguments, *WATCHED]
    environment = harness.environment(PYTHONPATH=os.pathsep.join(paths))
    return harness.Running([*words, "--run.dir", str(folder)], log, environment, on)


def start_two(folder: pathlib.Path, *arguments: str, hooks: Sequence[str] = ()) -> list[harness.Running]:
    """Two processes of one run; the hooks are the second one's."""
    with contextlib.closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    joined = ("--parallel.distributed", "--parallel.coordinator", f"127.0.0.1:{port}", "--parallel.processes", "2")
    return [
        start(
            folder,
            folder.with_name(f"{folder.name}-{rank}"),
            *arguments,
            *joined,
            "--parallel.process",
            str(rank),
            hooks=hooks if rank else (),
            on=rank,
        )  # fmt: skip
        for rank in range(2)
    ]


def indices(log: pathlib.Path) -> dict[int, list[int]]:
    """The samples of each update that a process loaded."""
    return {row["step"]: row["indices"] for row in harness.rows(log.with_suffix(".indices"))}


def losses(folder: pathlib.Path) -> np.ndarray:
    """The loss of each update."""
    return np.array([row["loss"] for row in harness.rows(folder / "metrics.jsonl")])


@pytest.mark.parametrize("number", ["stop", "int"] if harness.full() else ["stop"])
def test_two_processes_train_like_one_and_stop_together(tmp_path, arguments, number):
    one, two = tmp_path / "one", tmp_path / "two"
    tried = f"2 processes against 1 with 2 devices; a signal ({number}) to one; 1 goes on with 2 devices"
    with harness.scoring("R10", tried, "CPU, Gloo on one machine") as score:
        # JAX looks for signals once a second, in which small updates would all be done.
        pair = start_two(two, *arguments, hooks=[f"{number}={TOLD}", f"slow={TOLD + 2}:3"])
        ended = [process.wait() for process in pair]
        score([each.code for each in ended] == [75, 75], f"exit {[(each.code, each.err[-1500:]) for each in ended]}")
        kept, state = harness.steps(two), harness.status(two)
        score(state.get("status") == "preempted" and kept[-1] == state["step"] >= TOLD, f"kept {kept}, {state}")
        score("done:" not in ended[1].out, "only the first process speaks")

        # Its samples: each update's are those of one process, shared without an overlap.
        alone = start(one, one, *arguments, "--parallel.devices", "2").wait()
        score(alone.code == 0, f"one process: {alone.err[-500:]}")
        whole, shares = indices(one), [indices(two.with_name(f"two-{rank}")) for rank in range(2)]
        done = range(kept[-1])
        score(all([*shares[0][step], *shares[1][step]] == whole[step] for step in done), "the same samples, in order")
        score(all(len({*shares[0][step], *shares[1][step]}) == harness.BATCH for step in done), "no sample twice")

        again = start(two, tmp_path / "again", *arguments, "--parallel.devices", "2").wait()
        score(
            again.code == 0 and f"resuming from step {kept[-1]}" in again.err,
            f"goes on: exit {again.code}, {again.err[-1500:]}",
        )
        a, b = losses(two), losses(one)
        score(len(a) == len(b) == STEPS, f"{len(a)} and {len(b)} rows")
        worst = float(np.max(np.abs(a - b) / b)) if len(a) == len(b) else np.inf
        score(worst <= FLOAT32_NETWORK, f"losses differ by {worst:.1e}")
        if harness.full():
            measured = [(folder / "evaluations.jsonl").read_bytes() for folder in (one, two)]
            score(measured[0].count(b"\n") == 3, f"measured {measured[0]!r}")
            figures = [[*map(json.loads, each.splitlines())] for each in measured]
            off = [abs(a[name] - b[name]) / a[name] for a, b in zip(*figures, strict=True) for name in a]
            score(max(off) <= FLOAT32_NETWORK, f"figures differ by {max(off):.1e}")
        score(harness.leftovers(two) == [], f"left {harness.leftovers(two)}")
