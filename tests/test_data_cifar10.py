"""CIFAR-10's binary files: small made-up ones, hostile archives, and the real ones where they are at hand."""

import gzip
import hashlib
import io
import os
import pathlib
import tarfile

import numpy as np
import pytest

from equisct.data import DataError, cifar10, load_cifar10

CIFAR10 = os.environ.get("EQUISCT_CIFAR10", "")
real = pytest.mark.skipif(not CIFAR10, reason="set EQUISCT_CIFAR10 to a directory or archive of the binary version")
FOLDER = "cifar-10-batches-bin"
NAMES = [f"data_batch_{k}.bin" for k in range(1, 6)] + ["test_batch.bin"]
COUNT = 2


def records(seed, count=COUNT):
    """The bytes of one file, and the images and labels in it."""
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 256, (count, 32, 32, 3), np.uint8)
    labels = generator.integers(0, 10, count, np.uint8)
    planes = [[images[k, :, :, c].tobytes() for c in range(3)] for k in range(count)]
    return b"".join(bytes([labels[k]]) + b"".join(planes[k]) for k in range(count)), images, labels


CONTENTS = {name: records(seed)[0] for seed, name in enumerate(NAMES)}
IMAGES = np.concatenate([records(seed)[1] for seed in range(6)])
LABELS = np.concatenate([records(seed)[2] for seed in range(6)])


@pytest.fixture
def small(monkeypatch):
    """Files of two records, with the digests to match."""
    monkeypatch.setattr(cifar10, "RECORDS", COUNT)
    monkeypatch.setattr(cifar10, "DIGESTS", {n: hashlib.sha256(c).hexdigest() for n, c in CONTENTS.items()})


def write(folder, contents):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return folder


def member(name, content=b"", **fields):
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def official(replaced=None, prefix=f"{FOLDER}/"):
    """The members of a good archive; some replaced."""
    good = {name: member(prefix + name, content) for name, content in CONTENTS.items()}
    return [member(FOLDER, type=tarfile.DIRTYPE), *(good | (replaced or {})).values()]


def tar(members):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz", compresslevel=1) as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def check(found, part, name):
    assert np.array_equal(found.images, IMAGES[part])
    assert np.array_equal(found.labels, LABELS[part])
    assert (found.name, found.shape) == (name, (3, 32, 32))


LAYOUTS = {
    "the files": lambda place: write(place, CONTENTS),
    "their folder": lambda place: write(place / FOLDER, CONTENTS).parent,
    "the archive": lambda place: write(place, {"a.tar.gz": tar(official())}) / "a.tar.gz",
    "the archive in a folder": lambda place: write(place, {"cifar-10-binary.tar.gz": tar(official())}),
    "packed again, reversed": lambda place: write(place, {"a.tgz": tar(official(prefix="./")[::-1])}) / "a.tgz",
}


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_every_layout_gives_the_same_pictures_in_order(tmp_path, layout):
    place = layout(tmp_path / "data")
    before = sorted(tmp_path.rglob("*"))
    check(load_cifar10(place), slice(0, 10), "cifar10-train")
    check(load_cifar10(str(place), train=False), slice(10, 12), "cifar10-test")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_file_of_full_size(tmp_path):
    content = np.zeros((10_000, 3_073), np.uint8)
    content[:, 0] = np.arange(10_000) % 10
    content[-1, 1 + 32 + 2] = 7  # red, row 1, column 2
    content[-1, 1 + 2 * 1024 + 31 * 32] = 9  # blue, row 31, column 0
    content.tofile(tmp_path / "test_batch.bin")
    found = load_cifar10(tmp_path, train=False, verify=False)
    assert found.size == 10_000
    assert found.images[-1, 1, 2].tolist() == [7, 0, 0]
    assert found.images[-1, 31, 0].tolist() == [0, 0, 9]
    assert found.images.sum() == 16
    with pytest.raises(
        DataError, match=r"test_batch.bin: found another SHA-256\nexpected: 8e2eb146(.|\n)*verify=False"
    ):
        load_cifar10(tmp_path, train=False)


BAD_FILES = {
    "cut": ({"data_batch_3.bin": CONTENTS["data_batch_3.bin"][:-1]}, "data_batch_3.bin: found only 6,145 bytes"),
    "longer": ({"data_batch_3.bin": CONTENTS["data_batch_3.bin"] + b"x"}, "data_batch_3.bin: found more bytes"),
    "empty": ({"data_batch_5.bin": b""}, "data_batch_5.bin: found only 0 bytes"),
    "label 10": ({"data_batch_1.bin": b"\x0a" + CONTENTS["data_batch_1.bin"][1:]}, "label 10 in record 0"),
    "one bit": ({"data_batch_2.bin": CONTENTS["data_batch_2.bin"][:-1] + b"\0"}, "data_batch_2.bin: .*SHA-256"),
    "swapped": ({"data_batch_2.bin": CONTENTS["data_batch_1.bin"]}, "data_batch_2.bin: .*SHA-256"),
}


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("changed", "message"), BAD_FILES.values(), ids=BAD_FILES)
def test_bad_files_are_refused(tmp_path, changed, message, packed):
    verify = "SHA" in message
    if packed:
        place = tmp_path / "a.tar.gz"
        place.write_bytes(tar(official({n: member(f"{FOLDER}/{n}", c) for n, c in changed.items()})))
    else:
        place = write(tmp_path, CONTENTS | changed)
    with pytest.raises(DataError, match=message):
        load_cifar10(place, verify=verify)


@pytest.mark.usefixtures("small")
def test_a_missing_batch_is_named(tmp_path):
    place = write(tmp_path, {name: content for name, content in CONTENTS.items() if name != "data_batch_4.bin"})
    with pytest.raises(DataError, match="found no data_batch_4.bin, but 'data_batch_1.bin'"):
        load_cifar10(place)
    assert load_cifar10(place, train=False).size == COUNT


ONE = "data_batch_1.bin"
PIXELS = CONTENTS[ONE]
HOSTILE = {
    "a name that climbs": ([member(f"../{ONE}", PIXELS)], r"no data_batch_1.bin, but .*'\.\./data_batch_1.bin'"),
    "an absolute name": ([member(f"/tmp/{ONE}", PIXELS)], "no data_batch_1.bin"),
    "a climb inside": ([member(f"{FOLDER}/../../{ONE}", PIXELS)], "no data_batch_1.bin"),
    "a symbolic link": ([member(f"{FOLDER}/{ONE}", type=tarfile.SYMTYPE, linkname="/etc/passwd")], "as a link"),
    "a hard link": ([member(f"{FOLDER}/{ONE}", type=tarfile.LNKTYPE, linkname="../secret")], "as a link"),
    "a device": ([member(f"{FOLDER}/{ONE}", type=tarfile.CHRTYPE)], "as a link or something else"),
    "a pipe": ([member(f"{FOLDER}/{ONE}", type=tarfile.FIFOTYPE)], "as a link or something else"),
    "a directory": ([member(f"{FOLDER}/{ONE}", type=tarfile.DIRTYPE)], "as a link or something else"),
    "twice": ([member(f"{FOLDER}/{ONE}", PIXELS), member(f"./{FOLDER}/{ONE}", PIXELS)], "a second data_batch_1.bin"),
    "too long": ([member(f"{FOLDER}/{ONE}", PIXELS * 2)], "found more bytes"),
    "too short": ([member(f"{FOLDER}/{ONE}", PIXELS[:-1])], "found only 6,145 bytes"),
    "many members": ([member(f"x{k}") for k in range(200)], "more than 100 members"),
    "a name of control characters": ([member("\x1b[2J")], r"'\\x1b\[2J'"),
    "the Python version": (
        [member("cifar-10-batches-py/data_batch_1", b"\x80\x02cos\nmkdir\n(S'sentinel'\ntR.")],
        "pickles, which can run code: use the binary version",
    ),
}


def refuse(tmp_path, monkeypatch, content, message):
    """Refused, and nothing written: neither beside the archive nor above it."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    pathlib.Path("a.tar.gz").write_bytes(content)
    with pytest.raises(DataError, match=message):
        load_cifar10("a.tar.gz")
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == ["here", "here/a.tar.gz"]


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(("members", "message"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_archives_are_refused_and_leave_nothing(tmp_path, monkeypatch, members, message):
    rest = [good for good in official()[1:] if good[0].name != f"{FOLDER}/{ONE}"]
    refuse(tmp_path, monkeypatch, tar([*members, *rest]), message)


def huge():
    """An archive whose first member claims 8 GB and holds 3 MB of zeros."""
    claim = member("x")[0]
    claim.size = 2**33 - 1
    return gzip.compress(claim.tobuf() + bytes(3_000_000), 1)


DAMAGED = {
    "not an archive": (b"hello", "cannot be read"),
    "nothing": (b"", "cannot be read|no data_batch_1.bin"),
    "gzip of no archive": (gzip.compress(b"hello" * 1000), "cannot be read"),
    "cut": (tar(official())[:-3000], "cannot be read"),
    "a damaged stream": (tar(official())[:9000] + bytes(100) + tar(official())[9100:], "cannot be read"),
    "a member without end": (huge(), "bomb"),
    "a bomb": (gzip.compress(bytes(3_000_000), 1), "cannot be read|no data_batch_1.bin|bomb"),
}


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(("content", "message"), DAMAGED.values(), ids=DAMAGED)
def test_damaged_archives_are_refused(tmp_path, monkeypatch, content, message):
    monkeypatch.setattr(cifar10, "UNPACKED_BYTES", 2_000_000)
    refuse(tmp_path, monkeypatch, content, message)


@pytest.mark.parametrize(
    "names", [["cifar-10-batches-py"], ["data_batch_1", "batches.meta"], ["cifar-10-python.tar.gz"]]
)
def test_the_python_version_is_not_read(tmp_path, names):
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(DataError, match="pickles, which can run code: use the binary version, cifar-10-binary.tar.gz"):
        load_cifar10(tmp_path)


@pytest.mark.parametrize("place", ["absent", "."])
def test_missing_data_says_what_is_accepted(tmp_path, place):
    with pytest.raises(DataError, match=r"data_batch_1.bin(.|\n)*load_cifar10\((.|\n)*equisct-train digits") as caught:
        load_cifar10(tmp_path / place)
    assert len(str(caught.value).splitlines()) < 10


@real
@pytest.mark.parametrize(
    ("train", "per_class", "total", "first"),
    [
        (True, 5000, 18_540_682_003, [6, 9, 9, 4, 1, 1, 2, 7, 8, 3]),
        (False, 1000, 3_733_375_634, [3, 8, 8, 0, 6, 6, 1, 6, 3, 1]),
    ],
)
def test_the_real_cifar10(train, per_class, total, first):
    found = load_cifar10(CIFAR10, train=train)
    assert found.labels is not None
    assert (found.size, found.shape) == (10 * per_class, (3, 32, 32))
    assert np.bincount(found.labels).tolist() == [per_class] * 10
    assert found.labels[:10].tolist() == first
    assert found.images.sum(dtype=np.int64) == total
    if train:  # the mean that the literature prints
        assert np.round(found.images.mean((0, 1, 2)) / 255, 4).tolist() == [0.4914, 0.4822, 0.4465]
