"""IDX files: small ones of every kind, hostile ones, and the real Fashion-MNIST where it is at hand."""

import gzip
import os
import pathlib
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from equisct.data import DataError, load_idx

FASHION_MNIST = os.environ.get("EQUISCT_FASHION_MNIST", "")
real = pytest.mark.skipif(not FASHION_MNIST, reason="set EQUISCT_FASHION_MNIST to a directory with the four idx files")


def idx(array, kind=0x08):
    return bytes([0, 0, kind, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


IMAGES = (np.arange(5 * 4 * 3) % 256).astype(np.uint8).reshape(5, 4, 3)
LABELS = np.array([3, 1, 4, 1, 5], np.uint8)


@pytest.fixture
def folder(tmp_path):
    """A small training set in gzip and a smaller test set without."""
    place = tmp_path / "small"
    place.mkdir()
    (place / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(IMAGES)))
    (place / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(LABELS)))
    (place / "t10k-images-idx3-ubyte").write_bytes(idx(IMAGES[:2]))
    (place / "t10k-labels-idx1-ubyte").write_bytes(idx(LABELS[:2]))
    return place


@pytest.mark.parametrize(("train", "count", "name"), [(True, 5, "small-train"), (False, 2, "small-test")])
def test_a_directory(folder, train, count, name):
    found = load_idx(folder, train=train)
    assert found.labels is not None
    assert np.array_equal(found.images[..., 0], IMAGES[:count])
    assert found.labels.tolist() == LABELS[:count].tolist()
    assert (found.name, found.shape) == (name, (1, 4, 3))


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte.gz", "t10k-images-idx3-ubyte"])
def test_one_file_of_images(folder, name):
    found = load_idx(str(folder / name))
    assert np.array_equal(found.images[..., 0], IMAGES[: found.size])
    assert found.labels is None


@given(st.integers(1, 3), st.integers(1, 5), st.integers(1, 5), st.booleans())
def test_any_shape_there_and_back(tmp_path_factory, n, h, w, packed):
    images = np.random.default_rng(0).integers(0, 256, (n, h, w), np.uint8)
    path = tmp_path_factory.mktemp("idx") / "a"
    path.write_bytes(gzip.compress(idx(images)) if packed else idx(images))
    assert np.array_equal(load_idx(path).images[..., 0], images)


def bomb():
    """A few kilobytes that unpack to 4 MB, with a header for 60 bytes."""
    return gzip.compress(idx(IMAGES) + bytes(2**22))


BAD = {
    "empty": (b"", "begins with nothing"),
    "text": (b"P6 12 12 255 ...", "begins with 50 36 20 31.*\n.*\n.*IDX file"),
    "labels": (idx(LABELS), "begins with 00 00 08 01.*\n.*\n.*file of labels"),
    "another type": (idx(IMAGES, kind=0x0D), "begins with 00 00 0d 03"),
    "no header": (idx(IMAGES)[:9], "cannot be read"),
    "cut": (idx(IMAGES)[:-1], "found only 59 bytes\nexpected: exactly 60 bytes"),
    "cut and packed": (gzip.compress(idx(IMAGES)[:-7]), "found only 53 bytes"),
    "packed and cut": (gzip.compress(idx(IMAGES))[:-9], "cannot be read"),
    "a wrong checksum": (gzip.compress(idx(IMAGES))[:-8] + bytes(8), "cannot be read"),
    "more": (idx(IMAGES) + b"x", "found more bytes"),
    "a bomb behind the images": (bomb(), "found more bytes"),
    "a bomb by its header": (
        gzip.compress(bytes([0, 0, 8, 3]) + struct.pack(">3I", 2**32 - 1, 2**32 - 1, 2**32 - 1)),
        "bomb",
    ),
    "a lying header": (bytes([0, 0, 8, 3]) + struct.pack(">3I", 2**20, 32, 32) + bytes(100), "found only 100 bytes"),
    "no images": (idx(IMAGES[:0]), "at least one image"),
    "not gzip": (b"\x1f\x8b" + bytes(40), "cannot be read"),
}


@pytest.mark.parametrize(("content", "message"), BAD.values(), ids=BAD)
def test_bad_files_are_refused(tmp_path, content, message):
    path = tmp_path / "images"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        load_idx(path)
    assert "images" in str(caught.value)
    assert [entry.name for entry in tmp_path.iterdir()] == ["images"]


def test_labels_must_be_as_many_as_images(folder):
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(LABELS[:4])))
    with pytest.raises(DataError, match="4 labels\nexpected: one for each of the 5 images"):
        load_idx(folder)


def test_images_in_place_of_labels_are_refused(folder):
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(IMAGES)))
    with pytest.raises(DataError, match="labels-idx1-ubyte.gz: found .*00 00 08 03\nexpected: 00 00 08 01"):
        load_idx(folder)


@pytest.mark.parametrize("place", ["absent", "."])
def test_a_missing_directory_says_what_is_accepted(tmp_path, place):
    with pytest.raises(
        DataError, match=r"train-images-idx3-ubyte(.|\n)*load_idx\((.|\n)*equisct-train digits"
    ) as caught:
        load_idx(tmp_path / place)
    assert len(str(caught.value).splitlines()) < 10


def test_something_that_is_no_file_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="neither a file nor a directory"):
        load_idx(tmp_path / "pipe")


@real
@pytest.mark.parametrize(
    ("train", "per_class", "total", "first"),
    [
        (True, 6000, 3_431_114_169, [9, 0, 0, 3, 0, 2, 7, 2, 5, 5]),
        (False, 1000, 573_469_082, [9, 2, 1, 1, 6, 1, 4, 6, 5, 7]),
    ],
)
def test_the_real_fashion_mnist(train, per_class, total, first):
    found = load_idx(pathlib.Path(FASHION_MNIST), train=train)
    assert found.labels is not None
    assert (found.size, found.shape) == (10 * per_class, (1, 28, 28))
    assert np.bincount(found.labels).tolist() == [per_class] * 10
    assert found.labels[:10].tolist() == first
    assert found.images.sum(dtype=np.int64) == total
