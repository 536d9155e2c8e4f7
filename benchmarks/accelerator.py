"""What does the full CIFAR-10 update cost on this accelerator, and how does the same update in PyTorch compare?

    python benchmarks/accelerator.py --minutes 9 --out gpu.json    # on an accelerator
    python benchmarks/accelerator.py --tiny --minutes 6            # a rehearsal on a CPU, a small network

Every contestant is a process of its own, so that none holds another's memory, and prints one JSON line; every update is
waited for, by either library. Rows that no longer fit into the minutes are listed as left out, never dropped.
"""

import argparse
import collections
import contextlib
import dataclasses
import glob
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

from equisct.app.presets import CIFAR
from equisct.app.settings.config import Config

Row = tuple[str, str, int]
ROWS: list[Row] = [  # contestant, precision, batch; the most wanted first
    ("peak", "", 0),
    ("equisct", "bfloat16", 512),
    ("torch-compiled", "bfloat16", 512),
    ("sample", "bfloat16", 1024),
    ("torch", "bfloat16", 512),
    ("equisct-cm", "bfloat16", 512),
    ("equisct", "float32", 256),
    ("equisct-dropout", "bfloat16", 512),
    ("equisct", "bfloat16", 1024),
    ("equisct", "bfloat16", 128),
    ("torch-compiled", "float32", 256),
]
SHAPE = (3, 32, 32)


def config(*, tiny: bool, batch: int, precision: str, dropout: float = 0.0) -> Config:
    """The `cifar10` preset, without dropout (PyTorch's reference has none), or with a network of 0.4 M parameters."""
    torso, head = dataclasses.replace(CIFAR.torso, dropout=dropout), CIFAR.head
    if tiny:
        torso = dataclasses.replace(torso, width=16, multipliers=(1, 2), blocks=1, attention=(16,))
        head = dataclasses.replace(head, width=16, multipliers=(1, 2), blocks=1, attention=(16,))
    return dataclasses.replace(
        CIFAR, torso=torso, head=head, run=dataclasses.replace(CIFAR.run, batch=batch),
        parallel=dataclasses.replace(CIFAR.parallel, precision=precision or "float32"),
    )  # fmt: skip


def timed(call: Callable[[], object], wait: Callable[[], object], seconds: float) -> dict[str, float]:
    """Median, least and greatest milliseconds of a call over about `seconds`, after two warm-up calls."""
    call()
    call()
    wait()
    times, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 5:
        start = time.perf_counter()
        call()
        wait()
        times.append(1e3 * (time.perf_counter() - start))
    return {"ms": statistics.median(times), "least": min(times), "most": max(times), "calls": len(times)}


def peak(seconds: float) -> dict[str, Any]:
    """The ceilings: a large matrix product in bfloat16 and float32 (ten in a row), and a device copy."""
    import jax
    import jax.numpy as jnp

    n = 8192 if jax.default_backend() != "cpu" else 1024
    facts: dict[str, Any] = {"device": jax.devices()[0].device_kind, "jax": jax.__version__}
    for dtype in (jnp.bfloat16, jnp.float32):
        a = jax.random.normal(jax.random.key(0), (n, n), dtype) / n**0.5
        products = jax.jit(lambda a: jax.lax.fori_loop(0, 10, lambda _, b: a @ b, a))
        ms = timed(lambda: products(a).block_until_ready(), lambda: None, seconds / 4)["ms"] / 10  # noqa: B023 (called at once)
        facts[f"TFLOP/s {jnp.dtype(dtype).name}"] = 2 * n**3 / ms / 1e9
    x = jnp.ones(n * n * 4, jnp.float32)
    copy = jax.jit(lambda x: x + 1)
    facts["GB/s"] = 2 * x.nbytes / timed(lambda: copy(x).block_until_ready(), lambda: None, seconds / 4)["ms"] / 1e6
    return facts


def ours(contestant: str, settings: Config, seconds: float) -> dict[str, Any]:
    """The library's update, or the consistency model's alone, or one-step samples."""
    import jax
    import jax.numpy as jnp
    import jax.random as jr

    from equisct import count, in_precision, train
    from equisct.app.parts.recipe import build_optimiser

    begin, batch, dtype = time.perf_counter(), settings.run.batch, jnp.dtype(settings.parallel.precision)
    system = settings.method.build(settings, SHAPE)
    model: Any = system.model(jr.key(0))
    objective: Any = system.objective(None, None)
    if contestant == "equisct-cm":
        model, objective = model.cm, objective.base
    if contestant == "sample":
        lowered = in_precision(model, dtype)
        draw = jax.jit(lambda z: jax.vmap(lambda z: lowered.endpoint(80.0 * z, 80.0))(z))
        z = jr.normal(jr.key(1), (batch, *SHAPE))
        start = time.perf_counter()
        draw(z).block_until_ready()
        first = time.perf_counter() - start
        return {"first call s": first, **timed(lambda: draw(z).block_until_ready(), lambda: None, seconds)}
    recipe = train.Recipe(
        objective, build_optimiser(settings.optim, 400_000), average=train.ConstantDecay(0.9999), compute_dtype=dtype
    )
    state = train.init_state(recipe, model)
    x, key, updates = jr.uniform(jr.key(2), (batch, *SHAPE), minval=-1, maxval=1), jr.key(3), 0

    def update() -> None:
        nonlocal state, updates
        state, _ = train.train_step(recipe, state, x, jr.fold_in(key, updates))
        updates += 1

    def wait() -> None:
        jax.block_until_ready(state)

    start = time.perf_counter()
    update()
    wait()
    facts: dict[str, Any] = {"parameters": count(model), "start s": start - begin}
    facts |= {"first call s": time.perf_counter() - start, **timed(update, wait, seconds)}
    facts["peak GiB"] = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0) / 2**30
    if jax.default_backend() == "gpu":
        facts |= profile(update, wait)
    return facts


def profile(call: Callable[[], object], wait: Callable[[], object], calls: int = 3) -> dict[str, Any]:
    """Milliseconds of device time per call, in all and of the kernels that take most."""
    import jax

    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for _ in range(calls):
                call()
            wait()
        data = jax.profiler.ProfileData.from_file(glob.glob(f"{folder}/**/*.xplane.pb", recursive=True)[0])
    kernels: collections.Counter[str] = collections.Counter()
    for plane in data.planes:
        for line in plane.lines if plane.name.startswith("/device:") else ():
            for event in line.events if "Stream" in line.name else ():
                kernels[re.sub(r"_?[0-9]+$", "", event.name)] += event.duration_ns / 1e6 / calls  # type: ignore[assignment]
    return {"device ms": sum(kernels.values()), "kernels": kernels.most_common(40)}


def rival(contestant: str, settings: Config, seconds: float) -> dict[str, Any]:
    """The same update in PyTorch, compiled with channels last, or eager in the better of two layouts."""
    import torch  # pyright: ignore[reportMissingImports]

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_default_device(device)
    import torch_reference

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    low = settings.parallel.precision == "bfloat16"
    best: dict[str, Any] = {}
    compiled = contestant == "torch-compiled"
    for channels_last in (True,) if compiled else (True, False):
        update = torch_reference.Update(settings, SHAPE, channels_last=channels_last, compiled=compiled)
        x = torch.rand(settings.run.batch, *SHAPE) * 2 - 1
        wait = torch.cuda.synchronize if device == "cuda" else (lambda: None)
        with torch.autocast(device, dtype=torch.bfloat16) if low else contextlib.nullcontext():
            start = time.perf_counter()
            update(x)
            wait()
            facts: dict[str, Any] = {"first call s": time.perf_counter() - start, "torch": torch.__version__}
            facts |= timed(lambda: update(x), wait, seconds / 2)  # noqa: B023  (called at once)
        facts |= {
            "layout": "NHWC" if channels_last else "NCHW",
            "parameters": sum(p.numel() for p in update.parameters),
        }
        if device == "cuda":
            facts["peak GiB"] = torch.cuda.max_memory_allocated() / 2**30
        best = facts if not best or facts["ms"] < best["ms"] else best
    return best


def row_facts(row: Row, *, tiny: bool, seconds: float) -> dict[str, Any]:
    """The figures of one row, in the process that measures nothing else."""
    contestant, precision, batch = row
    if contestant == "peak":
        return peak(seconds)
    settings = config(
        tiny=tiny, batch=batch, precision=precision, dropout=0.3 if contestant == "equisct-dropout" else 0.0
    )
    return (rival if contestant.startswith("torch") else ours)(contestant, settings, seconds)


def measured(row: Row, seconds: float, left: float, *, tiny: bool) -> dict[str, Any]:
    """One row's figures by a process of its own, or why there are none."""
    contestant, precision, batch = row[0], row[1], min(row[2], 8) if tiny else row[2]
    found: dict[str, Any] = {"contestant": contestant, "precision": precision, "batch": batch}
    if left < 20:
        return {**found, "left out": "no time"}
    flags = ["--seconds", str(seconds), *(["--tiny"] if tiny else [])]
    command = [sys.executable, __file__, "--row", json.dumps([contestant, precision, batch]), *flags]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=left)
    except subprocess.TimeoutExpired:
        return {**found, "left out": "ran out of time"}
    line = next((line for line in done.stdout.splitlines() if line.startswith("FACTS ")), None)
    if line is None:
        return {**found, "failed": (done.stderr or done.stdout)[-600:]}
    found |= json.loads(line.removeprefix("FACTS "))
    return found | ({"images/s": 1e3 * batch / found["ms"]} if "ms" in found else {})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=9.0, help="after which no row is begun")
    parser.add_argument("--seconds", type=float, default=6.0, help="of timing per row")
    parser.add_argument("--only", action="append", help="contestants to measure (more than once: several)")
    parser.add_argument("--tiny", action="store_true", help="a small network and batches of 8")
    parser.add_argument("--out", help="a JSON file for all figures, with the kernels that take most time")
    parser.add_argument("--row", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.row:
        print("FACTS " + json.dumps(row_facts(tuple(json.loads(args.row)), tiny=args.tiny, seconds=args.seconds)))
        return
    end, table = time.monotonic() + 60 * args.minutes, []
    for row in ROWS:
        if args.only and row[0] not in args.only:
            continue
        table.append(measured(row, args.seconds, end - time.monotonic(), tiny=args.tiny))
        print(json.dumps({name: value for name, value in table[-1].items() if name != "kernels"}), flush=True)
        if args.out:
            with open(args.out, "w") as file:
                json.dump(table, file, indent=1)


if __name__ == "__main__":
    main()
