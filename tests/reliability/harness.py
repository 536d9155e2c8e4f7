"""Runs of the training command as processes of their own, each pinned to one core, and what they leave behind.

Every row of the scoreboard (`docs/reliability.md`) is one test file of this folder. Its small form runs in `make test`;
with `EQUISCT_FULL=1` it runs at full size, and `EQUISCT_SCOREBOARD=FILE` collects what was tried and passed.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from equisct.train.reading import find_checkpoint, load_tree

ROOT = pathlib.Path(__file__).parent.parent.parent
HOOKED = str(pathlib.Path(__file__).parent / "hooked.py")

DRAWING = ("--sample.n", "1", "--sample.heun-steps", "2")
"""Pictures of as little work as can be."""

NOT_DRAWING = ("--sample.n", "0")

SHORT = ("--run.steps", "30", "--run.save-every", "10", "--log.every", "7", "--method.period", "10",
         "--log.no-tensorboard", *(DRAWING if os.environ.get("EQUISCT_FULL") == "1" else NOT_DRAWING))  # fmt: skip
"""30 updates over three curriculum stages, with checkpoints at 10, 20, 30 and rows between; small ones draw nothing."""

TINY = ("tiny", *SHORT)
"""A U-Net with dropout on the digits."""

BATCH = 8
PATIENCE = 5


def full() -> bool:
    """Whether the rows run at full size."""
    return os.environ.get("EQUISCT_FULL") == "1"


def vectors(path: pathlib.Path, count: int = 256, bad: Sequence[int] = ()) -> tuple[str, ...]:
    """Arguments to train a small MLP, quick to compile, on `count` 2-D points; squares of those at `bad` overflow."""
    points = np.random.default_rng(1).normal(size=(count, 2)).astype(np.float32)
    points[list(bad)] = 1e30
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, images=points)
    small = ("--torso.width", "8", "--head.width", "8", "--torso.blocks", "1", "--head.blocks", "1", "--optim.no-decay",
             "--ema.decay", "0.9", "--run.batch", str(BATCH))  # fmt: skip
    return ("npz", "--data.path", str(path), *small, *SHORT)


# --- processes ---


def core(number: int | None = None) -> int:
    """A core of this machine; by default the one of this test process."""
    cores = sorted(os.sched_getaffinity(0))
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    return cores[(worker if number is None else number) % len(cores)]


def environment(**more: str) -> dict[str, str]:
    """The variables of a run: CPU, one device, the shared compile cache with everything in it.

    At full size it is compiled as for users; else by the suite's `XLA_FLAGS`, which takes less time.
    """
    left_out = ("JAX_NUM_CPU_DEVICES", "PYTHONDONTWRITEBYTECODE", *(["XLA_FLAGS"] if full() else []))
    kept = {name: value for name, value in os.environ.items() if name not in left_out}
    cache = os.environ.get("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".cache" / "jax"))
    paths = [str(ROOT / "src"), str(ROOT / "tests"), *filter(None, [os.environ.get("PYTHONPATH")])]
    return kept | {
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": cache,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONUNBUFFERED": "1",
        "PYTHONFAULTHANDLER": "1",
    } | more  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Ended:
    """How a process ended: its exit code (negative: killed by that signal) and what it printed."""

    code: int
    out: str
    err: str


class Running:
    """A process under way, its output in files, so that it never waits for a reader."""

    def __init__(self, words: Sequence[str], log: pathlib.Path, env: dict[str, str], on: int | None):
        log.parent.mkdir(parents=True, exist_ok=True)
        self._out, self._err = log.with_suffix(".out"), log.with_suffix(".err")
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {core(on)})  # of this thread alone; the child inherits it
        try:
            with self._out.open("w") as out, self._err.open("w") as err:
                self.process = subprocess.Popen(words, stdout=out, stderr=err, env=env, cwd=log.parent)
        finally:
            os.sched_setaffinity(0, before)

    def send(self, number: int = signal.SIGTERM) -> None:
        """Sends a signal."""
        self.process.send_signal(number)

    def wait(self, seconds: float = 600) -> Ended:
        """Waits for the end; kills the process and fails if it takes longer."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"still running after {seconds} s; it said {self._err.read_text()[-2000:]}") from None
        return Ended(code, self._out.read_text(), self._err.read_text())

    def until(self, condition: Callable[[], bool], seconds: float = 300) -> None:
        """Waits for a condition while the process runs.

        Raises:
            AssertionError: if the process ends before, or time is up.
        """
        end = time.monotonic() + seconds
        while not condition():
            if self.process.poll() is not None:
                raise AssertionError(f"ended with {self.process.returncode} too early: {self._err.read_text()[-2000:]}")
            if time.monotonic() > end:
                self.process.kill()
                raise AssertionError(f"waited for {seconds} s in vain")
            time.sleep(0.01)


def start(
    folder: pathlib.Path, *arguments: str, hooks: Sequence[str] = (), on: int | None = None, **env: str
) -> Running:
    """Starts the training command on a run folder; `hooks` are those of `hooked.py`."""
    program = [HOOKED, *hooks, "--"] if hooks else ["-m", "equisct", "train"]
    words = [sys.executable, *program, *arguments, "--run.dir", str(folder)]
    return Running(words, folder.with_name(folder.name + ".log"), environment(**env), on)


def train(folder: pathlib.Path, *arguments: str, hooks: Sequence[str] = (), on: int | None = None, **env: str) -> Ended:
    """Starts the training command and waits for its end."""
    return start(folder, *arguments, hooks=hooks, on=on, **env).wait()


# --- what a run leaves ---


def leaves(folder: pathlib.Path, step: int | None = None) -> dict[str, np.ndarray]:
    """Every array of a run's checkpoint by its name: of `step`, or the newest."""
    found = find_checkpoint(folder / "checkpoints", step)
    return {name: np.asarray(leaf) for name, leaf in load_tree(found, found.shapes).items()}


def tree_hash(arrays: dict[str, np.ndarray]) -> str:
    """SHA-256 over the names, types, shapes and bytes of arrays."""
    digest = hashlib.sha256()
    for name, leaf in sorted(arrays.items()):
        digest.update(f"{name} {leaf.dtype} {leaf.shape}".encode() + np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()


def state_hash(folder: pathlib.Path, step: int | None = None) -> str:
    """`tree_hash` of a run's checkpoint: of `step`, or the newest."""
    return tree_hash(leaves(folder, step))


def differing(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> list[str]:
    """Names of the arrays that are not the same bits in both."""
    names = sorted(set(a) | set(b))
    return [
        name for name in names if name not in a or name not in b or tree_hash({"": a[name]}) != tree_hash({"": b[name]})
    ]


def metric_rows(folder: pathlib.Path) -> bytes:
    """The bytes of `metrics.jsonl`."""
    return (folder / "metrics.jsonl").read_bytes()


def rows(path: pathlib.Path) -> list[dict[str, Any]]:
    """The whole rows of a file of a run that may be under way; none where there is no file yet."""
    lines = path.read_text().split("\n")[:-1] if path.is_file() else []
    return [json.loads(line) for line in lines]


def events(folder: pathlib.Path, kind: str) -> list[dict[str, Any]]:
    """The events of one kind."""
    return [row for row in rows(folder / "events.jsonl") if row["kind"] == kind]


def status(folder: pathlib.Path) -> dict[str, Any]:
    """`STATUS.json`, empty where there is none."""
    path = folder / "STATUS.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def steps(folder: pathlib.Path) -> list[int]:
    """The steps whose checkpoints have a manifest."""
    found = (folder / "checkpoints").iterdir() if (folder / "checkpoints").is_dir() else ()
    return sorted(int(path.name) for path in found if path.name.isdecimal() and (path / "MANIFEST.json").is_file())


def leftovers(folder: pathlib.Path) -> list[str]:
    """Temporary files and folders anywhere in a run's folder."""
    words = (".tmp", "-tmp", ".partial", ".deleting")
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if any(w in path.name for w in words))


# --- the scoreboard ---


def record(row: str, *, tried: str, passed: int, of: int, note: str = "") -> None:
    """Appends one line for a row to the file that `EQUISCT_SCOREBOARD` names, if it does; a row may have several."""
    path = os.environ.get("EQUISCT_SCOREBOARD")
    if path:
        entry = {"row": row, "tried": tried, "passed": passed, "of": of, "note": note, "full": full()}
        with pathlib.Path(path).open("a") as file:
            file.write(json.dumps(entry) + "\n")


class Score:
    """The trials of a row: call it with whether one passed and what it was."""

    def __init__(self) -> None:
        self.passed: list[str] = []
        self.failed: list[str] = []

    def __call__(self, passed: Any, what: str) -> None:
        """Counts one trial."""
        (self.passed if passed else self.failed).append(what)


@contextlib.contextmanager
def scoring(row: str, tried: str, note: str = "") -> Iterator[Score]:
    """Records a row's trials at the end, one that raised among the failed; fails if one failed or there was none."""
    score = Score()
    try:
        yield score
    except BaseException as error:
        score(passed=False, what=f"{type(error).__name__}: {error}"[:300])
        raise
    finally:
        of = len(score.passed) + len(score.failed)
        record(row, tried=tried, passed=len(score.passed), of=of, note="; ".join([note, *score.failed]).strip("; "))
    if score.failed or not score.passed:
        raise AssertionError("\n".join([f"{row}: {len(score.passed)} passed, these did not:", *score.failed]))
