"""Trains a preset while killing it again and again, beside a run that is left alone, and compares every bit.

    python tests/reliability/storm.py FOLDER --preset digits --steps 20000 --kills 24

Each of the two runs has a core of its own. A kill is SIGKILL or SIGTERM, at a random moment after a random update, or
(every fourth) a random moment after the start, when the command still imports and compiles. The same command follows
each. Interrupt the script and run it again: it goes on where it was (the run that is left alone then begins anew).
"""

import argparse
import json
import pathlib
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

sys.path[:0] = [str(pathlib.Path(__file__).parent.parent), str(pathlib.Path(__file__).parent.parent.parent / "src")]

from reliability import harness  # noqa: E402  (a script: the paths come first)


def plan(kills: int, steps: int, seed: int) -> list[dict[str, Any]]:
    """The kills in order: which signal, after which update or how long after the start, and how long to wait then."""
    generator = random.Random(seed)
    targets = sorted(generator.randrange(1, max(int(0.95 * steps), 2)) for _ in range(kills))
    return [
        {
            "signal": generator.choice(["SIGKILL", "SIGTERM"]),
            "after": "start" if k % 4 == 3 else target,
            "wait": generator.uniform(0.2, 12) if k % 4 == 3 else generator.uniform(0, 1),
        }
        for k, target in enumerate(targets)
    ]


def last_row(folder: pathlib.Path) -> int:
    """The step of the last row of a run."""
    found = harness.rows(folder / "metrics.jsonl")
    return found[-1]["step"] if found else 0


def strike(folder: pathlib.Path, arguments: Sequence[str], kill: dict[str, Any], on: int) -> dict[str, Any]:
    """Starts the run and kills it; what happened."""
    started = len(harness.events(folder, "start"))
    running = harness.start(folder, *arguments, on=on)

    def due() -> bool:
        if kill["after"] == "start" or running.process.poll() is not None:
            return True
        return len(harness.events(folder, "start")) > started and last_row(folder) >= kill["after"]

    while not due():
        time.sleep(0.05)
    end = time.monotonic() + kill["wait"]
    while time.monotonic() < end and running.process.poll() is None:
        time.sleep(0.01)
    step = last_row(folder)
    running.send(getattr(signal, kill["signal"]))
    sent = time.monotonic()
    ended = running.wait()
    return kill | {
        "code": ended.code,
        "row": step,
        "seconds": round(time.monotonic() - sent, 2),
        "err": ended.err[-500:],
    }


def expected_codes(kill: dict[str, Any]) -> tuple[int, ...]:
    """How the process may end; SIGTERM while Python still imports ends it, with nothing done that could be lost."""
    return (-9,) if kill["signal"] == "SIGKILL" else (75, -15) if kill["after"] == "start" else (75,)


def storm(
    folder: pathlib.Path, arguments: Sequence[str], kills: list[dict[str, Any]], *, on: int, say: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Kills a run by a plan and lets it end; the log of what happened, also kept beside the run."""
    log = folder.with_name(folder.name + ".storm.jsonl")
    done = harness.rows(log)
    for number, kill in enumerate(kills[len(done) :], len(done) + 1):
        found = strike(folder, arguments, kill, on)
        while found["code"] == 4:  # of an earlier storm: the run of then still holds the folder
            time.sleep(5)
            found = strike(folder, arguments, kill, on)
        with log.open("a") as file:
            file.write(json.dumps(found) + "\n")
        done.append(found)
        say(f"{number}/{len(kills)}: {found['signal']} near update {found['row']}: exit {found['code']}")
    ended = harness.start(folder, *arguments, on=on).wait(24 * 3600)
    say(f"the rest without a kill: exit {ended.code}")
    if ended.code:
        raise AssertionError(ended.err[-2000:])
    return done


def begin_unbroken(folder: pathlib.Path, arguments: Sequence[str], on: int) -> harness.Running | None:
    """The run that is left alone; None if it has finished in an earlier storm."""
    if harness.status(folder).get("status") == "finished":
        return None
    shutil.rmtree(folder, ignore_errors=True)
    return harness.start(folder, *arguments, on=on)


def verdict(unbroken: pathlib.Path, broken: pathlib.Path) -> list[str]:
    """What differs between two finished runs, in words; empty if nothing does."""
    a, b = harness.leaves(unbroken), harness.leaves(broken)
    different = harness.differing(a, b)
    found = [f"{len(different)} of {len(a)} arrays differ, such as {different[0]}"] if different else []
    rows_a, rows_b = harness.metric_rows(unbroken).splitlines(), harness.metric_rows(broken).splitlines()
    unequal = sum(x != y for x, y in zip(rows_a, rows_b, strict=False)) + abs(len(rows_a) - len(rows_b))
    found += [f"{unequal} of {len(rows_a)} rows differ"] if unequal else []
    found += [f"left behind: {harness.leftovers(broken)}"] if harness.leftovers(broken) else []
    return found


def main() -> None:
    """The script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--preset", default="digits")
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--kills", type=int, default=24)
    parser.add_argument("--save-every", type=int, default=500)
    parser.add_argument("--log-every", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    options, more = parser.parse_known_args()
    place = options.folder.absolute()
    place.mkdir(parents=True, exist_ok=True)
    arguments = (options.preset, "--run.steps", str(options.steps), "--run.save-every", str(options.save_every),
                 "--log.every", str(options.log_every), *more)  # fmt: skip
    begun = time.monotonic()

    def say(text: str) -> None:
        hours, seconds = divmod(round(time.monotonic() - begun), 3600)
        print(f"{hours}:{seconds // 60:02d}:{seconds % 60:02d} {text}", flush=True)

    unbroken = begin_unbroken(place / "unbroken", arguments, on=0)
    kills = plan(options.kills, options.steps, options.seed)
    try:
        log = storm(place / "broken", arguments, kills, on=1, say=say)
        if unbroken is not None:
            ended = unbroken.wait(24 * 3600)
            say(f"the run that was left alone: exit {ended.code}")
    finally:
        if unbroken is not None and unbroken.process.poll() is None:
            unbroken.send(signal.SIGKILL)
    unforeseen = [kill for kill in log if kill["code"] not in expected_codes(kill)]
    problems = verdict(place / "unbroken", place / "broken")
    problems += [f"{kill['signal']} near {kill['row']} ended with {kill['code']}: {kill['err']}" for kill in unforeseen]
    saves, restores = (len(harness.events(place / "broken", kind)) for kind in ("save", "start"))
    say(f"{len(log)} kills, {restores} starts, {saves} saves, {len(harness.leaves(place / 'broken'))} arrays")
    say("EQUAL: every array and every row" if not problems else "DIFFERENT:\n" + "\n".join(problems))
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
