"""Laws of the loader: every sample once an epoch, and nothing but (seed, step) decides."""

import itertools
import json
import os
import pathlib
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import equisct
from equisct.data import DataError, ImageSet, Loader, VectorSet, batch_flips, batch_indices, epoch_permutation

seeds = st.integers(0, 2**64 - 1)
sizes = st.integers(1, 40)


def numbered(size):
    """Vectors that carry their own index."""
    return VectorSet(np.arange(size, dtype=np.float32)[:, None], "numbers")


def lopsided(size):
    """Images whose only bright pixel is on the left, in a row that is their index."""
    images = np.zeros((size, size, 2, 1), np.uint8)
    images[np.arange(size), np.arange(size), 0] = 255
    return ImageSet(images, "lopsided")


@given(seeds, st.integers(0, 2**40), sizes)
def test_an_epoch_visits_every_sample_once(seed, epoch, size):
    assert np.array_equal(np.sort(epoch_permutation(seed, epoch, size)), np.arange(size))


@given(seeds, sizes, st.integers(1, 90), st.integers(0, 12))
def test_batches_are_the_epochs_cut_in_pieces(seed, size, batch, step):
    epochs = (step + 1) * batch // size + 1
    row = np.concatenate([epoch_permutation(seed, epoch, size) for epoch in range(epochs)])
    found = batch_indices(step, batch=batch, size=size, seed=seed)
    assert np.array_equal(found, row[step * batch : (step + 1) * batch])


@given(seeds, sizes, st.data())
def test_random_access_in_any_order_equals_iteration(seed, size, data):
    batch = data.draw(st.integers(1, size))
    start = data.draw(st.integers(0, 50))
    iterated = list(itertools.islice(Loader(numbered(size), batch, seed=seed, start=start), 5))
    fresh = Loader(numbered(size), batch, seed=seed)
    assert np.array_equal(next(fresh.since(start + 1)), iterated[1])
    for k in data.draw(st.permutations(range(5))):
        assert np.array_equal(fresh.batch(start + k), iterated[k])
        assert np.array_equal(fresh.indices(start + k), iterated[k][:, 0])


def test_iteration_can_be_repeated():
    loader = Loader(numbered(5), 3, seed=0)
    assert np.array_equal(next(iter(loader)), next(iter(loader)))


@given(seeds, st.sampled_from([1, 2, 3, 4, 6, 12]), st.integers(0, 20))
def test_processes_share_the_same_batch(seed, processes, step):
    dataset = lopsided(13)
    whole = Loader(dataset, 12, seed=seed, flip=True).batch(step)
    parts = [
        Loader(dataset, 12, seed=seed, flip=True, process=k, processes=processes).batch(step) for k in range(processes)
    ]
    assert np.array_equal(np.concatenate(parts), whole)


def test_flips_go_with_their_items():
    loader = Loader(lopsided(9), 9, seed=5, flip=True)
    flips = batch_flips(4, batch=9, seed=5)
    assert 0 < flips.sum() < 9
    x = loader.batch(4)
    bright = np.argwhere(x[:, 0] == 1)
    assert np.array_equal(bright[:, 1], loader.indices(4))
    assert np.array_equal(bright[:, 2] == 1, flips)
    still = Loader(lopsided(9), 9, seed=5).batch(4)
    assert (still[:, 0, :, 1] == -1).all()


def test_seeds_epochs_and_steps_differ():
    orders = {epoch_permutation(s, e, 50).tobytes() for s in (0, 1, 2**63) for e in range(4)}
    assert len(orders) == 12
    flips = {batch_flips(step, batch=64, seed=s).tobytes() for s in (0, 1, 2**63) for step in range(4)}
    assert len(flips) == 12


def test_every_place_of_the_order_is_uniform():
    size, epochs = 6, 3000
    orders = np.stack([epoch_permutation(3, epoch, size) for epoch in range(epochs)])
    counts = np.stack([np.bincount(column, minlength=size) for column in orders.T])
    expected = epochs / size
    # 25 degrees of freedom: the sum exceeds 60 with probability 1e-4; the draw is fixed, so it never varies
    assert ((counts - expected) ** 2 / expected).sum() < 60
    assert len({order.tobytes() for order in orders}) > 690  # of 720 orders; about 709 are expected


def test_half_of_all_items_are_mirrored_independently_of_the_order():
    flips = np.concatenate([batch_flips(step, batch=100, seed=0) for step in range(100)])
    order = np.concatenate([batch_indices(step, batch=100, size=100, seed=0) for step in range(100)])
    assert abs(flips.mean() - 0.5) < 0.02  # four standard deviations
    assert abs(np.corrcoef(flips, order)[0, 1]) < 0.04


def test_the_numbers_are_frozen():
    assert epoch_permutation(0, 0, 8).tolist() == [0, 2, 1, 5, 4, 3, 6, 7]
    assert epoch_permutation(0, 1, 8).tolist() == [1, 2, 3, 5, 0, 4, 7, 6]
    assert epoch_permutation(2**64 - 1, 0, 8).tolist() == [0, 7, 4, 2, 6, 3, 1, 5]
    assert batch_indices(5, batch=4, size=8, seed=1).tolist() == [3, 6, 1, 2]
    assert batch_flips(3, batch=10, seed=0).tolist() == [True] * 3 + [False] * 5 + [True] * 2


def test_another_process_where_jax_cannot_be_imported_draws_the_same():
    code = """if True:
        import sys
        sys.modules["jax"] = None
        from equisct.data import batch_indices
        print(batch_indices(7, batch=5, size=9, seed=4).tolist())"""
    place = os.environ | {"PYTHONPATH": str(pathlib.Path(equisct.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=place)
    assert json.loads(done.stdout) == batch_indices(7, batch=5, size=9, seed=4).tolist()


def test_a_user_made_dataset_can_be_loaded():
    class Squares:
        size = 10
        shape = (1,)

        def take(self, indices, flip=None):
            return (indices.astype(np.float32) ** 2)[:, None]

    assert sorted(Loader(Squares(), 10, seed=0).batch(0)[:, 0].tolist()) == [k**2 for k in range(10)]


BARE: Any = np.zeros((9, 2), np.float32)
BAD_CALLS = {
    "a bare array": (lambda: Loader(BARE, 2, seed=0), DataError, "dataset: .*(.|\n)*ImageSet"),
    "more than all": (
        lambda: Loader(numbered(5), 6, seed=0),
        DataError,
        "batch: found fewer samples than a batch: 5\n",
    ),
    "no batch": (lambda: Loader(numbered(5), 0, seed=0), ValueError, "batch: expected at least 1, found 0"),
    "negative batch": (lambda: Loader(numbered(5), -4, seed=0), ValueError, "batch: expected at least 1, found -4"),
    "negative start": (lambda: Loader(numbered(5), 2, seed=0, start=-1), ValueError, "start: .* found -1"),
    "negative step": (lambda: Loader(numbered(5), 2, seed=0).batch(-1), ValueError, "step: .* found -1"),
    "negative seed": (lambda: Loader(numbered(5), 2, seed=-1), ValueError, "seed: .* found -1"),
    "wide seed": (lambda: epoch_permutation(2**64, 0, 4), ValueError, "seed: "),
    "vector flip": (lambda: Loader(numbered(5), 2, seed=0, flip=True), DataError, r"flip: found .*\(1,\)"),
    "no processes": (lambda: Loader(numbered(5), 2, seed=0, processes=0), ValueError, "processes: "),
    "process": (
        lambda: Loader(numbered(5), 4, seed=0, process=2, processes=2),
        ValueError,
        "process: .*0 to 1, found 2",
    ),
    "uneven": (lambda: Loader(numbered(5), 3, seed=0, processes=2), ValueError, "batch: .*multiple of processes = 2"),
}


@pytest.mark.parametrize(("call", "error", "message"), BAD_CALLS.values(), ids=BAD_CALLS)
def test_bad_calls(call, error, message):
    with pytest.raises(error, match=message):
        call()
