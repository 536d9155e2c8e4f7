"""The border between pictures (uint8, channel last) and samples (float32, channel first)."""

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from equisct.data import DataError, float_to_images, images_to_float

sides = st.integers(1, 4)
pictures = hnp.arrays(np.uint8, st.tuples(sides, sides, sides, st.sampled_from([1, 3])))


@given(pictures)
def test_there_and_back_is_the_identity(images):
    assert np.array_equal(float_to_images(images_to_float(images)), images)


def test_every_pixel_value_survives_in_every_float_width():
    images = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    x = images_to_float(images)
    for dtype in (np.float32, np.float64):
        assert np.array_equal(float_to_images(x.astype(dtype)), images)


@given(pictures)
def test_each_pixel_moves_to_its_place_and_is_scaled(images):
    x = images_to_float(images)
    assert x.dtype == np.float32
    assert x.flags.c_contiguous
    naive = np.empty(x.shape, np.float32)
    for n, i, j, c in np.ndindex(*images.shape):
        naive[n, c, i, j] = np.float32(images[n, i, j, c]) / np.float32(127.5) - np.float32(1)
    assert np.array_equal(x, naive)


def test_the_ends_of_the_range_are_exact():
    images = np.array([0, 255], np.uint8).reshape(1, 1, 2, 1)
    assert images_to_float(images).ravel().tolist() == [-1.0, 1.0]


@given(hnp.arrays(np.float32, (1, 1, 2, 2), elements=st.floats(-4.0, 4.0, width=32)))
def test_floats_go_to_the_nearest_pixel(x):
    exact = np.clip(127.5 * x.astype(np.float64) + 127.5, 0, 255)
    assert np.abs(float_to_images(x)[..., 0] - exact[:, 0]).max() <= 0.5 + 1e-4


@pytest.mark.parametrize(
    ("value", "pixel"),
    [(-1.0, 0), (1.0, 255), (0.0, 128), (-7.0, 0), (7.0, 255), (np.inf, 255), (-np.inf, 0), (-0.9966, 0), (-0.9954, 1)],
)
def test_values(value, pixel):
    assert float_to_images(np.full((1, 1, 1, 1), value, np.float32)).item() == pixel


def test_nan_has_no_pixel():
    x = np.zeros((3, 1, 2, 2), np.float32)
    x[1, 0, 1] = np.nan
    with pytest.raises(DataError, match="NaN in 1 of 3 samples"):
        float_to_images(x)


@pytest.mark.parametrize(
    ("function", "array"),
    [
        (images_to_float, np.zeros((1, 2, 2, 3), np.float32)),
        (images_to_float, np.zeros((2, 2, 3), np.uint8)),
        (float_to_images, np.zeros((1, 3, 2, 2), np.uint8)),
        (float_to_images, np.zeros((3, 2, 2), np.float32)),
    ],
)
def test_other_arrays_are_refused(function, array):
    with pytest.raises((TypeError, DataError)):
        function(array)
