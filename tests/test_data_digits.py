"""The digits of scikit-learn as images."""

import importlib

import numpy as np
import pytest

from equisct.data import DataError, load_digits


def test_the_digits_are_whole_and_real():
    digits = load_digits()
    assert (digits.size, digits.shape, digits.name) == (1797, (1, 8, 8), "digits")
    assert digits.labels is not None
    assert np.bincount(digits.labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert digits.images.sum(dtype=np.int64) == 8_953_801
    assert digits.images[0, :, :, 0].tolist()[:3] == [
        [0, 0, 80, 207, 143, 16, 0, 0],
        [0, 0, 207, 239, 159, 239, 80, 0],
        [0, 48, 239, 32, 0, 175, 128, 0],
    ]


def test_the_seventeen_levels_fill_the_range_evenly():
    levels = np.unique(load_digits().images)
    assert len(levels) == 17
    assert np.abs(levels - np.linspace(0, 255, 17)).max() <= 0.5


def test_a_missing_library_is_named_with_its_cure(monkeypatch):
    def absent(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(DataError, match=r"no scikit-learn(.|\n)*hint: pip install scikit-learn$"):
        load_digits()
