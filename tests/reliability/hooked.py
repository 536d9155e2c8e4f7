"""The training command with something done to it: `python hooked.py HOOK=VALUE ... -- ARGUMENTS`; for the tests alone.

`stop=PLACE` sends SIGTERM to the process itself at a place, `int=PLACE` SIGINT, `kill=PLACE` SIGKILL. Places: a number
(after that update), `compile`, `data:K` (while batch K is loaded), `sampling`, `save:K` (while the checkpoint of update
K is written in the background), `manifest:K` (when its files are there and its manifest is not), `prune:K` (when its
manifest is there and old checkpoints are not yet deleted). `twice=SECONDS` sends a second signal so much later.
`slow=K:SECONDS` lets batch K wait. `count=FILE` writes compilations and memory after each row. `limit=K:BYTES` lets no
file grow beyond so many bytes after update K. `watch=FILE` writes the hash of the restored state and the samples of
each batch. `ready=yes` imports everything first and says when that is done.
"""

import importlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
from typing import Any

SIGNALS = {"stop": signal.SIGTERM, "int": signal.SIGINT, "kill": signal.SIGKILL}


def replace(module: str, name: str, make: Any) -> None:
    """Puts `make(original)` in the place of a function or method, `Class.method`, of a module of the package."""
    owner = importlib.import_module(module)
    *parents, last = name.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    setattr(owner, last, make(getattr(owner, last)))


def hit(number: int, hooks: dict[str, str]) -> None:
    """Sends the signal once, waits until it is noted, and says when, for whoever measures."""
    if hooks.pop("armed", None) is None:
        return
    print(f"signal at {time.time():.3f}", file=sys.stderr, flush=True)
    if "twice" in hooks:
        threading.Timer(float(hooks["twice"]), os.kill, (os.getpid(), number)).start()
    os.kill(os.getpid(), number)
    time.sleep(0.2)


def at_place(place: str, number: int, hooks: dict[str, str]) -> None:
    """Arranges for the signal at a place."""
    where, _, k = place.partition(":")
    hooks["armed"] = "yes"

    def before(original: Any, due: Any = lambda *args: True) -> Any:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            if due(*args):
                hit(number, hooks)
            return original(*args, **kwargs)

        return wrapped

    def after(original: Any, due: Any) -> Any:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            if due(*args):
                hit(number, hooks)
            return result

        return wrapped

    def of_step(step: str) -> Any:
        return lambda store, folder, *args: step in ("", folder.name)

    store = "equisct.train.checkpoint"
    if where.isdecimal():
        replace(
            "equisct.app.runs.interrupt",
            "Interruption.told",
            lambda f: before(f, lambda self, step=None: step == int(where)),
        )
    elif where == "compile":
        replace("equisct.train.step", "batch_gradient", before)
    elif where == "data":
        replace("equisct.data", "Loader.batch", lambda f: before(f, lambda self, step: step == int(k)))
    elif where == "sampling":
        replace("equisct.app.parts.sampling", "_draw_chunk", before)
    elif where == "save":
        replace(store, "CheckpointStore._finish", lambda f: before(f, of_step(k)))
    elif where == "manifest":
        replace(store, "write_manifest", lambda f: before(f, lambda folder, notes: folder.name == k))
    elif where == "prune":
        replace(store, "write_manifest", lambda f: after(f, lambda folder, notes: folder.name == k))
    else:
        raise ValueError(f"place: expected one of those above, found {place}")


def slow(value: str) -> None:
    """Lets one batch wait."""
    k, seconds = value.split(":")

    def make(original: Any) -> Any:
        def batch(self: Any, step: int) -> Any:
            if step == int(k):
                print("waiting for data", file=sys.stderr, flush=True)
                time.sleep(float(seconds))
            return original(self, step)

        return batch

    replace("equisct.data", "Loader.batch", make)


def count(value: str) -> None:
    """Appends `{step, compilations, resident}` to a file at each row of the metrics."""
    path, compilations = pathlib.Path(value), [0]
    monitoring = importlib.import_module("jax.monitoring")

    def note(name: str, seconds: float, **others: Any) -> None:
        compilations[0] += name == "/jax/core/compile/backend_compile_duration"

    monitoring.register_event_duration_secs_listener(note)

    def make(original: Any) -> Any:
        def row(self: Any, step: int, stage: int) -> None:
            original(self, step, stage)
            resident = int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
            with path.open("a") as file:
                file.write(json.dumps({"step": step, "compilations": compilations[0], "resident": resident}) + "\n")

        return row

    replace("equisct.app.runs.recorder", "Recorder._write_row", make)


def limit(value: str) -> None:
    """Lets files grow no further than a size after an update."""
    resource = importlib.import_module("resource")
    k, size = value.split(":")
    apart = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=2)  # what is printed may be a long file
    assert apart.stdin is not None
    os.dup2(apart.stdin.fileno(), 2)

    def make(original: Any) -> Any:
        def told(self: Any, step: int | None = None) -> bool:
            if step == int(k):
                resource.setrlimit(resource.RLIMIT_FSIZE, (int(size), int(size)))
            return original(self, step)

        return told

    replace("equisct.app.runs.interrupt", "Interruption.told", make)


def watch(value: str) -> None:
    """Appends `{restored: hash}` and `{step, samples}` to a file."""
    path = pathlib.Path(value)

    def write(row: dict[str, Any]) -> None:
        with path.open("a") as file:
            file.write(json.dumps(row) + "\n")

    def hashed(original: Any) -> Any:
        def restore(self: Any, like: Any) -> Any:
            found = original(self, like)
            if found is not None:
                harness = importlib.import_module("reliability.harness")
                arrays = importlib.import_module("equisct.train.weights").named_arrays(found[1])
                numpy = importlib.import_module("numpy")
                write({"restored": harness.tree_hash({name: numpy.asarray(leaf) for name, leaf in arrays.items()})})
            return found

        return restore

    def listed(original: Any) -> Any:
        def batch(self: Any, step: int) -> Any:
            write({"step": step, "samples": self.indices(step).tolist()})
            return original(self, step)

        return batch

    replace("equisct.train.checkpoint", "CheckpointStore.restore", hashed)
    replace("equisct.data", "Loader.batch", listed)


def main() -> None:
    """Sets the hooks and runs the command."""
    split = sys.argv.index("--")
    hooks = dict(word.split("=", 1) for word in sys.argv[1:split])
    xla = importlib.import_module("equisct.app.cli.xla")
    xla.prefer_quick_compilation()  # before JAX comes in, as the command itself does
    for name, set_hook in {"slow": slow, "count": count, "limit": limit, "watch": watch}.items():
        if name in hooks:
            set_hook(hooks[name])
    for name, value in list(hooks.items()):
        if name in SIGNALS:
            at_place(value, SIGNALS[name], hooks)
    command = importlib.import_module("equisct.app.cli.train")
    if "ready" in hooks:
        importlib.import_module("equisct.app.runs.run")
        print(f"ready at {time.time():.3f}", file=sys.stderr, flush=True)
    command.main(sys.argv[split + 1 :])


if __name__ == "__main__":
    main()
