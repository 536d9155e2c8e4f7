"""A user's own `.npz`: good ones, wrong ones, hostile ones."""

import io
import os
import pathlib
import struct
import zipfile

import numpy as np
import pytest

from equisct.data import DataError, ImageSet, VectorSet, load_npz


def pictures(*shape, dtype: type = np.uint8):
    return (np.arange(np.prod(shape)) % 251).reshape(shape).astype(dtype)


@pytest.fixture
def save(tmp_path):
    def write(**arrays):
        np.savez_compressed(tmp_path / "mine.npz", **arrays)
        return tmp_path / "mine.npz"

    return write


@pytest.mark.parametrize("writer", [np.savez, np.savez_compressed])
def test_images_with_labels(tmp_path, writer):
    writer(tmp_path / "mine.npz", images=pictures(3, 4, 5, 3), labels=np.array([2, 0, 1], np.uint8))
    found = load_npz(tmp_path / "mine.npz")
    assert isinstance(found, ImageSet)
    assert found.labels is not None
    assert np.array_equal(found.images, pictures(3, 4, 5, 3))
    assert found.labels.tolist() == [2, 0, 1]
    assert found.name == "mine"


def test_grey_images_get_their_channel(save):
    found = load_npz(str(save(images=pictures(3, 4, 5))))
    assert found.shape == (1, 4, 5)


def test_another_key_and_another_memory_order(save):
    found = load_npz(save(other=np.asfortranarray(pictures(3, 4, 5, 3)), images=pictures(1, 1)), key="other")
    assert isinstance(found, ImageSet)
    assert np.array_equal(found.images, pictures(3, 4, 5, 3))


def test_vectors(save):
    found = load_npz(save(points=np.eye(3, 2, dtype=np.float32)), key="points")
    assert isinstance(found, VectorSet)
    assert found.points.tolist() == [[1, 0], [0, 1], [0, 0]]


WRONG = {
    "float in [0, 255]": (
        {"images": pictures(2, 4, 4, 3, dtype=np.float32)},
        r"float32(.|\n)*np.round\(images\).astype\(np.uint8\)",
    ),
    "float in [0, 1]": ({"images": pictures(2, 4, 4, 3) / 250}, r"values 0 to 0.38(.|\n)*np.round\(images \* 255\)"),
    "float in [-1, 1]": ({"images": pictures(2, 4, 4, 3) / 100 - 0.5}, r"values -0.5(.|\n)*\* 127.5 \+ 127.5"),
    "float with NaN": ({"images": np.full((2, 4, 4, 3), np.nan)}, "NaN or infinite"),
    "channel first": ({"images": pictures(2, 3, 4, 4)}, r"channels come last: images.transpose\(0, 2, 3, 1\)"),
    "alpha": ({"images": pictures(2, 4, 4, 4)}, "alpha channel"),
    "16 bits": ({"images": pictures(2, 4, 4, 3).astype(np.uint16) * 257}, r"uint16(.|\n)*// 257"),
    "one image": ({"images": pictures(4, 4, 3)}, "one image"),
    "0 items": ({"images": pictures(0, 4, 4, 3)}, "at least one image"),
    "0 grey items": ({"images": pictures(0, 4, 4)}, "at least one image"),
    "0 or 1": ({"images": pictures(2, 4, 4, 3) % 2}, r"values 0 to 1\n.*black\n.*np.uint8\(255\)"),
    "no array": ({"pixels": pictures(2, 4, 4, 3), "x": pictures(1)}, "no array 'images', but 'pixels', 'x'\n"),
    "nothing": ({"labels": np.arange(2)}, "no array 'images', but 'labels'\n"),
    "nothing at all": ({}, "no array 'images', but none\n"),
    "labels too few": ({"images": pictures(2, 4, 4, 3), "labels": np.arange(3)}, r"\['labels'\].*shape \(3,\)"),
    "labels negative": ({"images": pictures(2, 4, 4, 3), "labels": np.array([0, -1])}, "values -1 to 0"),
    "labels float": ({"images": pictures(2, 4, 4, 3), "labels": np.zeros(2)}, "float64"),
    "labels huge": ({"images": pictures(2, 4, 4, 3), "labels": np.array([0, 2**64 - 1], np.uint64)}, "labels"),
    "vectors float64": ({"images": np.zeros((4, 2))}, r"float64(.|\n)*points.astype\(np.float32\)"),
    "vectors with NaN": ({"images": np.full((4, 2), np.nan, np.float32)}, "8 NaN or infinite"),
    "vectors of bytes": ({"images": pictures(4, 4)}, r"shape \(4, 4\)"),
    "text": ({"images": np.array(["a", "b"])}, "<U1"),
}


@pytest.mark.parametrize(("arrays", "message"), WRONG.values(), ids=WRONG)
def test_wrong_arrays_are_refused_with_a_hint(save, arrays, message):
    with pytest.raises(DataError, match=message) as caught:
        load_npz(save(**arrays))
    assert "mine.npz" in str(caught.value)
    assert "expected: " in str(caught.value)


class Payload:
    """Leaves a file behind when unpickled."""

    def __reduce__(self):
        return os.mkdir, ("sentinel",)


def npy(array, **options):
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


def zipped(content, method=zipfile.ZIP_DEFLATED, name="images.npy"):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        archive.writestr(name, content)
    return stream.getvalue()


def listed(content, at, number):
    """The same zip file, with another number in its list of contents: 16 the checksum, 24 the unpacked size."""
    at += content.rindex(b"PK\x01\x02")
    return content[:at] + struct.pack("<I", number) + content[at + 4 :]


GOOD = npy(pictures(2, 4, 4, 3))
OBJECTS = npy(np.array([Payload()] * 2, object), allow_pickle=True)
HEADER = "{'descr': '%s', 'fortran_order': False, 'shape': %s, }"


def headed(text):
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + bytes(96)


HOSTILE = {
    "pickled objects": (zipped(OBJECTS), "pickled Python objects"),
    "a bare pickle": (b"\x80\x04" + OBJECTS[-60:], "cannot be read"),
    "a pickle as a member": (zipped(b"\x80\x04" + OBJECTS[-60:]), "cannot be read"),
    "an npy file": (GOOD, "cannot be read.*not a zip"),
    "text": (b"hello", "cannot be read"),
    "nothing": (b"", "cannot be read"),
    "a bomb": (listed(zipped(GOOD), 24, 2**32 - 2), "claim to unpack to 4,294,967,294"),
    "a huge shape": (zipped(headed(HEADER % ("|u1", "(1099511627776, 64, 64, 3)"))), "cannot be read"),
    "an overflowing shape": (zipped(headed(HEADER % ("|u1", f"({2**62}, {2**62})"))), "cannot be read"),
    "a negative shape": (zipped(headed(HEADER % ("|u1", "(-1, 4, 4, 3)"))), "cannot be read|at least one"),
    "code as a header": (zipped(headed("__import__('os').mkdir('sentinel')")), "cannot be read"),
    "a nested header": (zipped(headed("(" * 9000)), "cannot be read"),
    "a strange dtype": (zipped(headed(HEADER % ("O", "(2,)"))), "pickled Python objects"),
    "a lying checksum": (listed(zipped(GOOD), 16, 0), "cannot be read"),
    "another compression": (zipped(GOOD, zipfile.ZIP_BZIP2), "compression method 12"),
    "bytes after the array": (zipped(GOOD + b"more"), "after the array: found more bytes"),
    "a climbing name": (zipped(GOOD, name="../images.npy"), r"no array 'images', but '\.\./images'"),
    "a name of control characters": (zipped(GOOD, name="\x1b[2J.npy"), r"but '\\x1b\[2J'"),
}


@pytest.mark.parametrize(("content", "message"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_files_are_refused_and_leave_nothing(tmp_path, monkeypatch, content, message):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    pathlib.Path("mine.npz").write_bytes(content)
    with pytest.raises(DataError, match=message):
        load_npz("mine.npz")
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == ["here", "here/mine.npz"]


def test_no_cut_and_no_changed_byte_gives_other_pictures(tmp_path):
    path = tmp_path / "mine.npz"
    good = zipped(GOOD)
    for k in range(len(good)):
        for content in (good[:k], good[:k] + bytes([good[k] ^ 0x10]) + good[k + 1 :]):
            path.write_bytes(content)
            try:
                found = load_npz(path)
            except DataError:
                continue
            assert isinstance(found, ImageSet)
            assert np.array_equal(found.images, pictures(2, 4, 4, 3))


@pytest.mark.parametrize("name", ["absent.npz", "."])
def test_a_missing_file_says_what_is_accepted(tmp_path, name):
    with pytest.raises(DataError, match=r"uint8 \(n, h, w, c\)(.|\n)*savez\(") as caught:
        load_npz(tmp_path / name)
    assert len(str(caught.value).splitlines()) < 10
