"""R1: the same command in fresh processes gives the same bits."""

import numpy as np

from reliability import harness


def test_fresh_processes_agree(tmp_path, arguments, unbroken):
    count = 3 if harness.full() else 2
    with harness.scoring("R1", f"{count} fresh processes, 30 updates: all arrays and rows") as score:
        for k in range(1, count):
            ended = harness.train(tmp_path / str(k), *arguments)
            assert ended.code == 0, ended.err
            different = harness.differing(harness.leaves(unbroken), harness.leaves(tmp_path / str(k)))
            same_rows = harness.metric_rows(unbroken) == harness.metric_rows(tmp_path / str(k))
            score(not different and same_rows, f"process {k}: {different}, rows equal: {same_rows}")


def test_a_single_bit_is_told_apart(unbroken):
    arrays = harness.leaves(unbroken)
    name = next(name for name, leaf in arrays.items() if leaf.dtype == np.float32)
    touched = arrays[name].copy()
    touched.view(np.uint32).flat[0] ^= 1
    assert harness.differing(arrays, arrays | {name: touched}) == [name]
    assert harness.tree_hash(arrays) != harness.tree_hash(arrays | {name: touched})
