"""`ImageSet`, `VectorSet` and the words of `DataError`."""

import ast
import pathlib
import pickle
import sys

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import equisct
from equisct.data import DataError, Dataset, ImageSet, VectorSet, images_to_float

PACKAGE = pathlib.Path(equisct.__file__).parent / "data"


def pictures(*shape, dtype: type = np.uint8):
    return (np.arange(np.prod(shape)) % 251).reshape(shape).astype(dtype)


@st.composite
def selections(draw):
    images = draw(hnp.arrays(np.uint8, (5, 2, 3, draw(st.sampled_from([1, 3])))))
    indices = draw(hnp.arrays(np.int64, st.integers(1, 6), elements=st.integers(0, 4)))
    flip = draw(st.none() | hnp.arrays(np.bool_, len(indices)))
    return images, indices, flip


@given(selections())
def test_take_gathers_mirrors_and_scales_each_item_alone(selection):
    images, indices, flip = selection
    before = images.copy()
    taken = ImageSet(images, "a").take(indices, flip)
    for k, index in enumerate(indices):
        picture = images[index]
        mirrored = flip is not None and flip[k]
        expected = np.stack([row[::-1] for row in picture]) if mirrored else picture
        assert np.array_equal(taken[k], images_to_float(expected[None])[0])
    assert np.array_equal(images, before)


def test_size_and_shape_are_those_of_the_samples():
    images = ImageSet(pictures(5, 2, 4, 3), "a", np.arange(5))
    assert (images.size, images.shape) == (5, (3, 2, 4))
    assert images.take(np.array([1, 1])).shape == (2, *images.shape)
    points = VectorSet(np.zeros((7, 2), np.float32), "b")
    assert (points.size, points.shape) == (7, (2,))


def test_images_are_kept_in_one_block():
    images = ImageSet(pictures(3, 5, 4, 2).transpose(3, 2, 1, 0), "a")
    assert images.images.flags.c_contiguous
    assert images.images[1, 2, 3, 0] == pictures(3, 5, 4, 2)[0, 3, 2, 1]


def test_vectors_are_copied_as_they_are():
    points = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)
    taken = VectorSet(points, "a").take(np.array([1, 0, 1]))
    taken[0] = 0
    assert taken.tolist() == [[0, 0], [1, 2], [3, 4]]
    assert points.tolist() == [[1, 2], [3, 4]]


def test_both_records_are_datasets():
    assert isinstance(ImageSet(pictures(1, 1, 1, 1), "a"), Dataset)
    assert isinstance(VectorSet(np.zeros((1, 2), np.float32), "a"), Dataset)
    assert not isinstance([1, 2, 3], Dataset)


BAD_IMAGES = {
    "float in [0, 255]": (pictures(2, 4, 4, 3, dtype=np.float32), r"float32.*values 0 to 95\n.*\n.*np.round\(images\)"),
    "float in [0, 1]": (pictures(2, 4, 4, 3) / 255.0, r"float64 array of shape \(2, 4, 4, 3\).*\n.*\n.*images \* 255"),
    "float in [-1, 1]": (pictures(2, 4, 4, 3) / 48.0 - 1, r"values -1 to .*\n.*\n.*images \* 127.5 \+ 127.5"),
    "float beyond": (pictures(2, 4, 4, 3) * 10.0, r"scale to \[0, 255\] first"),
    "NaN": (np.full((2, 4, 4, 3), np.nan), r"96 NaN or infinite.*\n.*\n.*come from"),
    "16 bits": (pictures(2, 4, 4, 3).astype(np.uint16) * 257, r"uint16.*values 0 to 24415\n.*\n.*// 257"),
    "wide integers": (pictures(2, 4, 4, 3, dtype=np.int64), r"int64.*\n.*\n.*images.astype\(np.uint8\)"),
    "booleans": (np.ones((2, 4, 4, 3), bool), r"bool.*\n.*\n.*\* 255"),
    "text": (np.full((2, 4, 4, 3), "a"), r"<U1.*\n.*\n.*are numbers"),
    "channel first": (pictures(2, 3, 4, 4), r"\(2, 3, 4, 4\).*\n.*\n.*transpose\(0, 2, 3, 1\)"),
    "alpha": (pictures(2, 4, 4, 4), r"\(2, 4, 4, 4\).*\n.*\n.*alpha channel: images\[\.\.\., :3\]"),
    "grey and alpha": (pictures(2, 4, 4, 2), r"alpha channel: images\[\.\.\., :1\]"),
    "one image": (pictures(4, 4, 3), r"one image: images\[None\]"),
    "rank 2": (pictures(4, 4), r"\(n, h, w\)"),
    "rank 5": (pictures(1, 1, 4, 4, 3), r"\(1, 1, 4, 4, 3\)"),
    "five channels": (pictures(2, 4, 4, 5), r"\(2, 4, 4, 5\)"),
    "empty": (pictures(0, 4, 4, 3), r"\(0, 4, 4, 3\).*\n.*at least one image.*\n.*empty"),
    "no pixels": (pictures(2, 0, 4, 3), r"\(2, 0, 4, 3\).*\n.*\n.*empty"),
}


@pytest.mark.parametrize(("images", "message"), BAD_IMAGES.values(), ids=BAD_IMAGES)
def test_bad_images_are_refused(images, message):
    with pytest.raises(DataError, match=message) as caught:
        ImageSet(images, "mine")
    assert str(caught.value).startswith("mine: images: found ")
    assert len(str(caught.value).splitlines()) <= 3


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.arange(3), r"shape \(3,\).*\n.*shape \(2,\)"),
        (np.zeros((2, 1), np.int64), r"shape \(2, 1\)"),
        (np.array([0, -1]), "values -1 to 0"),
        (np.zeros(2, np.int32), "int32"),
        (np.zeros(2), "float64"),
    ],
)
def test_bad_labels_are_refused(labels, message):
    with pytest.raises(DataError, match=message):
        ImageSet(pictures(2, 4, 4, 3), "mine", labels)


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (np.zeros((4, 2)), r"float64.*\n.*\n.*points.astype\(np.float32\)"),
        (np.zeros(4, np.float32), r"shape \(4,\)"),
        (np.zeros((0, 2), np.float32), r"\(0, 2\)"),
        (np.array([[0, np.nan], [1, np.inf]], np.float32), "values 0 to 1, 2 NaN or infinite"),
    ],
)
def test_bad_points_are_refused(points, message):
    with pytest.raises(DataError, match=message):
        VectorSet(points, "mine")


def test_vectors_cannot_be_mirrored():
    with pytest.raises(DataError, match="mine: flip: .*vectors"):
        VectorSet(np.zeros((4, 2), np.float32), "mine").take(np.array([0]), np.array([True]))


def test_the_error_keeps_its_words_between_processes():
    error = DataError("a", "b", "c", "d")
    assert str(error) == "a: found b\nexpected: c\nhint: d"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)  # noqa: S301  (our own bytes)
    assert str(DataError(pathlib.Path("a"), "b", "c")) == "a: found b\nexpected: c"


def test_the_package_stands_on_numpy_alone():
    allowed = {"numpy", "jaxtyping", *sys.stdlib_module_names}
    below = {"_base.batch": "batch.py", "_base.explain": "explain.py", "_base.files": "files.py"}
    for path in (*PACKAGE.glob("*.py"), *(PACKAGE.parent / "_base" / name for name in below.values())):
        tree = ast.parse(path.read_text())
        tree.body = [node for node in tree.body if ast.unparse(node).split(":")[0] != "if TYPE_CHECKING"]  # never runs
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                assert {alias.name.split(".")[0] for alias in node.names} <= allowed, path.name
            if isinstance(node, ast.ImportFrom):
                known = (node.module or "").split(".")[0] in allowed or (node.level == 2 and node.module in below)
                assert node.level == 1 or known, path.name
