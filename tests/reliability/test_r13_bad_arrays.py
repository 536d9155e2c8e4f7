"""R13: arrays that cannot be meant are refused before JAX is imported: what was found, expected, and what helps."""

import numpy as np
import pytest
from harness import scoring
from inputs import call, files_below, no_jax_in

from equisct.app.cli import train

N = 16
PIXELS = np.random.default_rng(0).integers(0, 256, (N, 8, 8, 3), np.uint8)

WRONG = {
    "float in [0, 255]": {"images": PIXELS.astype(np.float32)},
    "float in [0, 1]": {"images": PIXELS / 255},
    "float in [-1, 1]": {"images": PIXELS / 127.5 - 1},
    "whole numbers of 64 bits": {"images": PIXELS.astype(np.int64)},
    "16 bits": {"images": PIXELS.astype(np.uint16) * 257},
    "channels first": {"images": PIXELS.transpose(0, 3, 1, 2)},
    "an alpha channel": {"images": np.concatenate([PIXELS, PIXELS[..., :1]], -1)},
    "NaN": {"images": np.where(PIXELS > 250, np.nan, PIXELS / 255)},
    "no items": {"images": PIXELS[:0]},
    "fewer than a batch": {"images": PIXELS[:4]},
    "labels too few": {"images": PIXELS, "labels": np.arange(N - 1)},
    "labels below 0": {"images": PIXELS, "labels": np.arange(N) - 1},
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arrays_are_refused(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("mine.npz", **WRONG[name])
    before = files_below(tmp_path)
    with (
        scoring("R13", "wrong arrays in an npz file: found, expected, hint") as score,
        no_jax_in(train),
    ):
        ended = call(train.main, "npz", "--data.path", "mine.npz", "--run.batch", "8")
        assert (ended.code, files_below(tmp_path)) == (2, before)
        assert "Traceback" not in ended.err
        lines = ended.err.splitlines()
        assert "found" in lines[0], ended.err
        assert any(line.startswith("expected: ") for line in lines), ended.err
        hinted = name.startswith("labels") or any(line.startswith("hint: ") for line in lines)
        score(passed=hinted, what=ended.err)
