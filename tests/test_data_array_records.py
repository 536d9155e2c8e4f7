"""One `.array_record` file: a round trip, any picture by its number, and every other file refused."""

import importlib
import json
import pickle
from typing import Any

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from equisct.data import ArrayRecordSet, DataError, ImageSet, write_array_record

PIXELS = np.random.default_rng(0).integers(0, 256, (7, 4, 5, 3), np.uint8)
sides = st.integers(1, 6)
pictures = hnp.arrays(np.uint8, st.tuples(sides, sides, sides, st.sampled_from([1, 3])))
record_module: Any = importlib.import_module("array_record.python.array_record_module")


@pytest.fixture
def packed(tmp_path):
    write_array_record(tmp_path / "set.array_record", [PIXELS[:3], PIXELS[3:]], count=7)
    return tmp_path / "set.array_record"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pictures, st.data())
def test_pictures_come_back_in_any_order(tmp_path, images, data):
    place = tmp_path / "any.array_record"
    place.unlink(missing_ok=True)
    write_array_record(place, [images], count=len(images))
    order = np.array(data.draw(st.lists(st.integers(0, len(images) - 1), max_size=9)), np.int64)
    flip = np.array(data.draw(st.lists(st.booleans(), min_size=len(order), max_size=len(order))), bool)
    found, memory = ArrayRecordSet(place), ImageSet(images, "memory")
    assert (found.size, found.shape) == (memory.size, memory.shape)
    assert np.array_equal(found.take(order), memory.take(order))
    assert np.array_equal(found.take(order, flip), memory.take(order, flip))


def test_it_travels_to_other_processes_as_a_path(packed):
    dataset = ArrayRecordSet(packed)
    content = pickle.dumps(dataset)
    assert len(content) < 1_000
    again = pickle.loads(content)  # noqa: S301  (our own)
    assert np.array_equal(again.take(np.arange(7)), dataset.take(np.arange(7)))
    assert dataset.name == "set"


@pytest.mark.parametrize("index", [-1, 7])
def test_there_is_nothing_beyond_the_ends(packed, index):
    with pytest.raises(IndexError, match=f"expected 0 to 6, found {index}"):
        ArrayRecordSet(packed).take(np.array([index]))


def test_nothing_is_overwritten_and_nothing_half_written_stays(packed):
    before = packed.read_bytes()
    with pytest.raises(DataError, match="a file that is there already"):
        write_array_record(packed, [PIXELS], count=7)
    other = packed.with_name("other.array_record")

    def failing():
        yield PIXELS
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        write_array_record(other, failing(), count=9)
    assert [path.name for path in packed.parent.iterdir()] == ["set.array_record"]
    assert packed.read_bytes() == before


WRONG_IMAGES = {
    "too few": ([PIXELS], 8, "found 7 pictures\nexpected: count = 8"),
    "none": ([], 0, "found 0 pictures"),
    "two shapes": ([PIXELS, PIXELS[:, :2]], 14, r"shape \(7, 2, 5, 3\)"),
    "floats": ([PIXELS / 255], 7, "float64"),
    "alpha": ([PIXELS[:, :, :4].swapaxes(2, 3)], 7, r"shape \(7, 4, 3, 4\)"),
}


@pytest.mark.parametrize(("images", "count", "message"), WRONG_IMAGES.values(), ids=WRONG_IMAGES)
def test_wrong_pictures_are_refused(tmp_path, images, count, message):
    with pytest.raises((DataError, TypeError), match=message):
        write_array_record(tmp_path / "a.array_record", images, count=count)
    assert list(tmp_path.iterdir()) == []


def raw(place, *records):
    writer = record_module.ArrayRecordWriter(str(place), "group_size:1")
    for record in records:
        writer.write(record)
    writer.close()
    return place


HEADER = {"format": "equisct pictures", "version": 1, "count": 1, "shape": [1, 2, 1]}
BAD_FILES = {
    "no header": ([], "cannot be read"),
    "text for a header": ([b"hello"], r"cannot be read \(JSONDecodeError"),
    "a list": ([b"[]"], "a header of another format"),
    "a nested list": ([b"[" * 100_000], "cannot be read"),
    "another format": ([json.dumps(HEADER | {"format": "x"}).encode()], "a header of another format"),
    "another version": ([json.dumps(HEADER | {"version": 2}).encode()], "a header of another format or version"),
    "no count": ([json.dumps(HEADER | {"count": None}).encode()], "count None"),
    "a true count": ([json.dumps(HEADER | {"count": True}).encode(), b"ab"], "count True"),
    "a count of 0": ([json.dumps(HEADER | {"count": 0}).encode()], "count 0"),
    "a wrong count": ([json.dumps(HEADER).encode(), b"ab", b"cd"], "found 2 pictures\nexpected: 1, as its header says"),
    "two channels": ([json.dumps(HEADER | {"shape": [1, 1, 2]}).encode(), b"ab"], r"shape \[1, 1, 2\]"),
    "a flat shape": ([json.dumps(HEADER | {"shape": 2}).encode(), b"ab"], "shape 2"),
    "a huge shape": ([json.dumps(HEADER | {"shape": [2**31, 2**31, 1]}).encode(), b"ab"], "shape"),
}


@pytest.mark.parametrize(("records", "message"), BAD_FILES.values(), ids=BAD_FILES)
def test_other_files_of_records_are_refused(tmp_path, records, message):
    with pytest.raises(DataError, match=message):
        ArrayRecordSet(raw(tmp_path / "a.array_record", *records))


def test_a_record_of_another_length_is_refused(tmp_path):
    dataset = ArrayRecordSet(raw(tmp_path / "a.array_record", json.dumps(HEADER).encode(), b"abc"))
    with pytest.raises(DataError, match=r"picture 0: found 3 bytes\nexpected: 2 bytes"):
        dataset.take(np.array([0]))


@pytest.mark.parametrize("content", [b"", b"hello" * 1_000])
def test_files_of_anything_else_are_refused(tmp_path, content):
    (tmp_path / "a.array_record").write_bytes(content)
    with pytest.raises(DataError, match="a file without the end of an array_record file"):
        ArrayRecordSet(tmp_path / "a.array_record")
    with pytest.raises(DataError, match="nothing at this path"):
        ArrayRecordSet(tmp_path / "b.array_record")


def test_no_cut_and_no_changed_byte_gives_other_pictures(packed):
    good, whole = packed.read_bytes(), ArrayRecordSet(packed).take(np.arange(7))
    refused = 0
    for place in np.random.default_rng(0).permutation(len(good))[:150].tolist() + list(range(40, 700, 7)):
        for content in (good[:place], good[:place] + bytes([good[place] ^ 0x10]) + good[place + 1 :]):
            packed.unlink()
            packed.write_bytes(content)
            try:
                found = ArrayRecordSet(packed).take(np.arange(7))
            except DataError:
                refused += 1
                continue
            assert np.array_equal(found, whole)
    assert refused > 200
