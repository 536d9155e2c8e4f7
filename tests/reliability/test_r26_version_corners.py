"""R26: the suite is green with the newest versions, in an environment made from `constraints.txt` for a later Python.

At full size only, and only where a later Python and an installer are at hand; otherwise the row says "not run" and why.
`EQUISCT_CORNER` may name the interpreter of an environment that is there already.
"""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest
from harness import ROOT, full, record

LATER = ("python3.13", "python3.12")
SUITE = ["tests", "--ignore=tests/reliability"]
IMPORTANT = ("jax", "equinox", "numpy", "scipy", "optax", "orbax-checkpoint")


def run(*words, **named):
    return subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False, **named)


def corner(place: pathlib.Path) -> tuple[pathlib.Path | None, str]:
    """The interpreter of an environment for a later Python, or None and the reason why there is none."""
    if "EQUISCT_CORNER" in os.environ:
        return pathlib.Path(os.environ["EQUISCT_CORNER"]), ""
    if not full():
        return None, "at full size only"
    found = next(
        (path for name in LATER if (path := shutil.which(name)) and run(path, "--version").returncode == 0), None
    )
    if found is None:
        return None, f"no {' or '.join(LATER)} here"
    python = place / "corner" / "bin" / "python"
    for step in (
        [found, "-m", "venv", place / "corner"],
        [python, "-m", "pip", "install", "--quiet", "--require-hashes", "-r", ROOT / "constraints.txt"],
    ):
        done = run(*step)
        if done.returncode:
            return None, f"{' '.join(map(str, step[1:4]))} failed: {done.stderr[-200:]}"
    return python, ""


def test_the_suite_is_green_on_a_later_python(tmp_path):
    python, reason = corner(tmp_path)
    if python is None:
        record("R26", tried="not run", passed=0, of=0, note=reason)
        pytest.skip(reason)
    code = f"import importlib.metadata as m, platform; print(platform.python_version(), *map(m.version, {IMPORTANT!r}))"
    versions = run(python, "-c", code).stdout.strip()
    assert not versions.startswith(f"{sys.version_info.major}.{sys.version_info.minor}."), "the same Python again"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")])}
    for name in ("EQUISCT_FULL", "XLA_FLAGS"):  # flags of this version of XLA may be unknown to another
        environment.pop(name, None)
    done = run(python, "-m", "pytest", "-q", "-n", "2", "-p", "no:cacheprovider", *SUITE, cwd=ROOT, env=environment)
    last = done.stdout.strip().splitlines()[-1:]
    record(
        "R26", tried="the suite on a later Python", passed=int(done.returncode == 0), of=1, note=f"{versions}; {last}"
    )
    assert done.returncode == 0, done.stdout[-4000:]
