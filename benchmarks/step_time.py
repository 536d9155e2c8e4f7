"""How long is one update, what does the head cost, how often is it compiled, and how does plain PyTorch compare?

All contestants of a case are measured in one run, in turn: each has a process of its own, warmed up, and does one block
of updates while the others sleep. So a machine that slows down slows all of them, and ratios are taken block by block.
Every process may use the same cores, `--threads` of them.
"""

import argparse
import dataclasses
import importlib.util
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from equisct.app.methods import ScoreGuidance
from equisct.app.presets import DIGITS
from equisct.app.settings.config import Config, Head, Optim, Run, Torso
from equisct.app.settings.data import CIFAR10


@dataclasses.dataclass(frozen=True)
class Case:
    """A configuration, and the shape of its samples."""

    config: Config
    shape: tuple[int, int, int]


CASES = {
    "digits": Case(DIGITS, (1, 8, 8)),
    "images": Case(
        Config(
            preset="images",
            data=CIFAR10(),
            torso=Torso(width=16, multipliers=(1, 2, 2), blocks=1, attention=(8,), dropout=0.0),
            head=Head(width=16, multipliers=(1, 2, 2), blocks=1, attention=(8,)),
            method=ScoreGuidance(stratify=True),
            optim=Optim(),
            run=Run(steps=400_000, batch=16),
        ),
        (3, 32, 32),
    ),
}

CONTESTANTS = {
    "equisct": "equisct, one CPU device per thread (as equisct-train)",
    "equisct-single": "equisct, one CPU device",
    "equisct-cm": "equisct, one device per thread, without the head",
    "torch": "PyTorch, eager",
    "torch-channels-last": "PyTorch, eager, channels_last",
    "torch-compiled": "PyTorch, torch.compile",
}
REFERENCE = "equisct"


@dataclasses.dataclass(frozen=True)
class Contestant:
    """`run(n)` does n updates and waits for their end; `facts` are printed beside the times."""

    run: Callable[[int], object]
    facts: dict[str, float]


def batches(case: Case) -> Iterator[np.ndarray]:
    """Endless random samples in [-1, 1], a few different batches."""
    generator = np.random.default_rng(0)
    pool = generator.uniform(-1, 1, (8, case.config.run.batch, *case.shape)).astype(np.float32)
    while True:
        yield from pool


def equisct_contestant(case: Case, threads: int, *, sharded: bool, head: bool) -> Contestant:
    """The library's `train_step`, after a visit to every stage of the curriculum."""
    import equinox as eqx
    import jax
    import jax.numpy as jnp
    import jax.random as jr

    from equisct import count, train
    from equisct.app.parts.recipe import build_average, build_optimiser

    config = case.config
    if sharded:
        jax.config.update("jax_num_cpu_devices", math.gcd(threads, config.run.batch))
    compiled: list[float] = []

    def note(event: str, duration_secs: float, **kwargs: str | int) -> None:
        if event.endswith("/backend_compile_duration") and kwargs.get("fun_name") == "jit(_update)":
            compiled.append(duration_secs)

    jax.monitoring.register_event_duration_secs_listener(note)
    system = config.method.build(config, case.shape)
    pair: Any = system.model(jr.key(0))
    guided: Any = system.objective(None, None)
    objective, model = (guided, pair) if head else (guided.base, pair.cm)
    recipe = train.Recipe(objective, build_optimiser(config.optim, config.run.steps), average=build_average(config.ema))
    state = train.init_state(recipe, model, mesh=train.data_mesh() if sharded else None)
    source, key = batches(case), jr.key(1)

    def run(updates: int) -> None:
        nonlocal state
        for i in range(updates):
            state, _ = train.train_step(recipe, state, next(source), jr.fold_in(key, i))
        jax.block_until_ready(state)

    start = time.perf_counter()
    run(1)
    first = time.perf_counter() - start
    stages = jax.vmap(guided.base.curriculum.stage)(jnp.arange(config.run.steps))
    for step in np.unique(np.asarray(stages), return_index=True)[1]:
        placed = jax.device_put(np.int32(step), state.step.sharding)
        state = eqx.tree_at(lambda state: state.step, state, placed)
        run(2)
    return Contestant(run, {
        "parameters": count(model),
        "first": first,
        "compile": sum(compiled),
        "stages": len(guided.base.curriculum.points),
        "compilations": len(compiled),
    })  # fmt: skip


def torch_contestant(case: Case, threads: int, *, channels_last: bool, compiled: bool) -> Contestant:
    """The same update by `torch_reference.py`."""
    import torch  # pyright: ignore[reportMissingImports]

    import torch_reference

    torch.set_num_threads(threads)
    update = torch_reference.Update(case.config, case.shape, channels_last=channels_last, compiled=compiled)
    source = map(torch.from_numpy, batches(case))

    def run(updates: int) -> None:
        for _ in range(updates):
            update(next(source))

    start = time.perf_counter()
    run(1)
    first = time.perf_counter() - start
    run(7)  # RAdam's first five updates are cheaper
    return Contestant(run, {"parameters": sum(p.numel() for p in update.pair.parameters()), "first": first})


def serve(name: str, case: Case, threads: int) -> None:
    """The worker: prints its facts, then for each line `n` the mean milliseconds of n updates, then its memory."""
    if sys.platform == "linux":  # XLA sizes its thread pool by these
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    if name.startswith("torch"):
        contestant = torch_contestant(
            case, threads, channels_last=name == "torch-channels-last", compiled=name == "torch-compiled"
        )
    else:
        contestant = equisct_contestant(case, threads, sharded=name != "equisct-single", head=name != "equisct-cm")
    contestant.run(3)
    print(json.dumps(contestant.facts), flush=True)
    for line in sys.stdin:
        start = time.perf_counter()
        contestant.run(int(line))
        print((time.perf_counter() - start) / int(line) * 1e3, flush=True)
    unit = 1 if sys.platform == "darwin" else 1024
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20)


class Worker:
    """The parent's end of a contestant's process."""

    def __init__(self, name: str, case: str, threads: int):
        command = [sys.executable, __file__, "--worker", name, "--only", case, "--threads", str(threads)]
        environment = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.facts: dict[str, float] = json.loads(self._line())
        self.milliseconds: list[float] = []

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"worker: ended early with status {self._process.wait()}")
        return line

    def block(self, updates: int) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{updates}\n")
        self._process.stdin.flush()
        self.milliseconds.append(float(self._line()))

    def close(self) -> float:
        """Ends the process; its peak memory in MiB."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        memory = float(self._line())
        self._process.wait()
        return memory


def spread(values: list[float], digits: int) -> str:
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def ratios(a: Worker, b: Worker) -> list[float]:
    return [x / y for x, y in zip(a.milliseconds, b.milliseconds, strict=True)]


def measure(name: str, contestants: list[str], *, blocks: int, updates: int, threads: int) -> None:
    """Runs one case and prints its table."""
    batch = CASES[name].config.run.batch
    workers = {contestant: Worker(contestant, name, threads) for contestant in contestants}
    reference = workers[REFERENCE]
    for contestant, worker in workers.items():
        if contestant.startswith("torch") and worker.facts["parameters"] != reference.facts["parameters"]:
            raise RuntimeError(f"parameters: {reference.facts['parameters']} against {worker.facts['parameters']}")
    for _ in range(blocks):
        for worker in workers.values():
            worker.block(updates)
    shape, parameters = CASES[name].shape, reference.facts["parameters"]
    print(f"\n{name}: batch {batch} of {shape}, {parameters:,} parameters, {threads} threads")
    print(f"{blocks} blocks of {updates} updates; median (least-greatest) over blocks\n")
    print("| contestant | ms per update | images/s | first call, s | peak memory, MiB | equisct / this |")
    print("|---|---|---|---|---|---|")
    for contestant, worker in workers.items():
        rate = 1e3 * batch / statistics.median(worker.milliseconds)
        cells = [CONTESTANTS[contestant], spread(worker.milliseconds, 1), f"{rate:.0f}"]
        cells += [f"{worker.facts['first']:.1f}", f"{worker.close():.0f}", spread(ratios(reference, worker), 2)]
        print("| " + " | ".join(cells) + " |")
    head = [1 - ratio for ratio in ratios(workers["equisct-cm"], reference)]
    facts = reference.facts
    print(f"\nshare of the head in an update: {spread(head, 2)}")
    print(f"compilations over {facts['stages']} curriculum stages: {facts['compilations']}")
    print(f"first call: {facts['first']:.1f} s, of which XLA compiles {facts['compile']:.1f} s")


def main() -> None:
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blocks", type=int, default=10)
    parser.add_argument("--updates", type=int, default=20, help="updates in a block")
    parser.add_argument("--threads", type=int, default=cores)
    parser.add_argument("--only", choices=list(CASES))
    parser.add_argument("--torch", choices=["eager", "channels-last", "compiled", "all", "none"], default="eager")
    parser.add_argument("--check", action="store_true", help="only: do both compute the same function?")
    parser.add_argument("--worker", choices=list(CONTESTANTS), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        serve(args.worker, CASES[args.only], args.threads)
        return
    torch_found = importlib.util.find_spec("torch") is not None
    if not torch_found:
        print("no PyTorch here (pip install torch): equisct alone is measured")
    if args.check and torch_found:
        import torch_reference

        for name, case in CASES.items():
            print(f"{name}: {torch_reference.check_same_function(case.config, case.shape)}")
    if args.check:
        return
    rivals = {
        "eager": ["torch"],
        "channels-last": ["torch-channels-last"],
        "compiled": ["torch-compiled"],
        "all": [name for name in CONTESTANTS if name.startswith("torch")],
        "none": [],
    }[args.torch]
    contestants = [name for name in CONTESTANTS if name in rivals and torch_found or not name.startswith("torch")]
    for name in [args.only] if args.only else CASES:
        measure(name, contestants, blocks=args.blocks, updates=args.updates, threads=args.threads)


if __name__ == "__main__":
    main()
