"""Batches read ahead are those of `Loader`, whatever the number of workers, and nothing is left running."""

import contextlib
import importlib.util
import itertools
import multiprocessing
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

import equisct
from equisct.app import presets
from equisct.app.parts.data import load_data, open_loader
from equisct.app.settings import config
from equisct.app.settings import data as data_settings
from equisct.data import (
    ArrayRecordSet,
    DataError,
    GrainLoader,
    ImageFolder,
    ImageSet,
    Loader,
    grain_loader,
    write_array_record,
)

PIXELS = np.random.default_rng(0).integers(0, 256, (10, 4, 4, 3), np.uint8)
MEMORY = ImageSet(PIXELS, "memory")
SETTINGS = {"seed": 3, "flip": True}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("pictures")
    for k, image in enumerate(PIXELS):
        Image.fromarray(image).save(place / f"{k}.png")
    return place


def first(loader, count):
    """So many batches, after which nothing runs any more."""
    with contextlib.closing(loader):
        return list(itertools.islice(loader, count))


def same(found, expected):
    return len(found) == len(expected) and all(map(np.array_equal, found, expected))


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_batches_are_those_of_the_loader(folder, workers):
    expected = first(Loader(MEMORY, 4, start=5, **SETTINGS), 4)
    loader = GrainLoader(ImageFolder(folder), 4, start=5, workers=workers, **SETTINGS)
    iterator = iter(loader)
    found = [next(iterator) for _ in range(4)]
    assert same(found, expected)
    assert all(type(batch) is np.ndarray and batch.dtype == np.float32 for batch in found)
    assert len(multiprocessing.active_children()) == workers
    loader.close()
    assert multiprocessing.active_children() == []
    with pytest.raises(ValueError, match="closed"):
        next(iterator)
    assert same(found, expected)


def test_starting_at_k_equals_skipping_k(folder):
    dataset = ImageFolder(folder)
    whole = first(GrainLoader(dataset, 3, **SETTINGS), 8)
    for k in (0, 1, 5):
        assert same(first(GrainLoader(dataset, 3, start=k, **SETTINGS), 3), whole[k : k + 3])
    loader = GrainLoader(dataset, 3, start=2, **SETTINGS)
    assert np.array_equal(loader.batch(7), whole[7])
    assert np.array_equal(loader.indices(7), Loader(dataset, 3, **SETTINGS).indices(7))
    assert same(list(itertools.islice(loader, 2)), list(itertools.islice(loader, 2)))
    assert same(list(itertools.islice(loader.since(5), 3)), whole[5:8])
    loader.close()
    assert (loader.start, loader.dataset) == (2, dataset)


def test_processes_share_the_same_batch(folder):
    dataset = ImageFolder(folder)
    parts = [first(GrainLoader(dataset, 4, process=k, processes=2, **SETTINGS), 3) for k in range(2)]
    assert same([np.concatenate(pair) for pair in zip(*parts, strict=True)], first(Loader(MEMORY, 4, **SETTINGS), 3))


def test_a_packed_file_read_by_a_worker(tmp_path):
    write_array_record(tmp_path / "a.array_record", [PIXELS], count=10)
    found = first(GrainLoader(ArrayRecordSet(tmp_path / "a.array_record"), 4, workers=1, **SETTINGS), 3)
    assert same(found, first(Loader(MEMORY, 4, **SETTINGS), 3))


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_while_reading_reaches_the_run(tmp_path, workers):
    Image.fromarray(PIXELS[0]).save(tmp_path / "a.png")
    loader = GrainLoader(ImageFolder(tmp_path), 1, seed=0, workers=workers)
    (tmp_path / "a.png").unlink()
    with contextlib.closing(loader), pytest.raises(DataError, match=r"'a.png': found cannot be opened"):
        next(iter(loader))
    assert multiprocessing.active_children() == []


ORPHANS = """if True:
    import os, signal, sys, time
    from multiprocessing import active_children
    from equisct.data import GrainLoader, ImageFolder
    if __name__ == "__main__":
        loader = GrainLoader(ImageFolder(sys.argv[1]), 4, seed=0, workers=1)
        batches = iter(loader)
        next(batches)
        (worker,) = active_children()
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(worker.pid, number)
        time.sleep(0.3)
        for _ in range(20):
            next(batches)
        print(worker.pid, flush=True)
        if sys.argv[2] == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if sys.argv[2] == "close":
            loader.close()
"""


def alive(process):
    """Whether a process runs; one that has ended and that nobody has waited for does not."""
    state = pathlib.Path(f"/proc/{process}/stat")
    return state.exists() and state.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into the table of processes")
@pytest.mark.parametrize("end", ["kill", "close", "forget"])
def test_workers_leave_signals_to_the_run_and_end_with_it(folder, tmp_path, end):
    script = tmp_path / "run.py"
    script.write_text(ORPHANS)
    place = os.environ | {"PYTHONPATH": str(pathlib.Path(equisct.__file__).parents[1])}
    command = [sys.executable, "-W", "error", str(script), str(folder), end]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=place, timeout=120)
    assert done.returncode == (-signal.SIGKILL if end == "kill" else 0), done.stderr
    if end != "kill":
        assert done.stderr == ""
    deadline = time.monotonic() + 20
    while alive(int(done.stdout)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not alive(int(done.stdout))


def test_wrong_calls(folder, monkeypatch):
    with pytest.raises(ValueError, match="workers: expected at least 0, found -1"):
        GrainLoader(MEMORY, 4, seed=0, workers=-1)
    with pytest.raises(DataError, match="batch: found fewer samples"):
        GrainLoader(MEMORY, 11, seed=0)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"grain: found no package grain(.|\n)*hint: pip install grain$"):
        GrainLoader(MEMORY, 4, seed=0)


def settings(data):
    return config.Config(data=data, method=presets.DIGITS.method, run=config.Run(batch=4, seed=3))


def test_data_in_files_is_read_ahead_and_data_in_memory_is_not(folder, tmp_path):
    files = settings(data_settings.ImageFiles(folder, flip=True))
    dataset = load_data(files.data, seed=0)
    loader = open_loader(dataset, files, start=2, process=1, processes=2)
    assert isinstance(loader, GrainLoader)
    expected = Loader(MEMORY, 4, start=2, process=1, processes=2, **SETTINGS)
    assert same(first(loader, 2), first(expected, 2))
    np.savez(tmp_path / "a.npz", images=PIXELS)
    arrays = settings(data_settings.Npz(tmp_path / "a.npz", flip=True))
    loader = open_loader(load_data(arrays.data, seed=0), arrays, start=2, process=1, processes=2)
    assert isinstance(loader, Loader)
    assert same(first(loader, 2), first(expected, 2))
    assert isinstance(open_loader(MEMORY, settings(data_settings.ImageFiles(folder, workers=1))), GrainLoader)
    tiny = presets.TINY
    assert isinstance(open_loader(load_data(tiny.data, seed=0), tiny), Loader)


def test_a_script_without_a_main_guard_is_told_in_one_sentence(monkeypatch):
    """Each worker imports the script anew, and would start workers of its own before it has begun."""
    monkeypatch.setattr(multiprocessing.current_process(), "_inheriting", True, raising=False)
    with contextlib.closing(GrainLoader(MEMORY, 4, workers=2, **SETTINGS)) as loader, pytest.raises(SystemExit):
        loader.since(0)
    ended = "Worker process was terminated unexpectedly with exit code 1. Search the logs"
    with pytest.raises(DataError, match="put what starts the loader below `if __name__ == '__main__':`"):
        next(grain_loader._Ahead(Broken(ended)))
    with pytest.raises(RuntimeError, match="exit code -9"):
        next(grain_loader._Ahead(Broken(ended.replace("code 1", "code -9"))))


class Broken:
    """An iteration that ends in an error."""

    def __init__(self, message):
        self.message = message

    def __next__(self):
        raise RuntimeError(self.message)

    def close(self):
        pass
