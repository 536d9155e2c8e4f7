"""`equisct-data`: every kind of data is told by looking, checked, shown and packed; mistakes get one message."""

import dataclasses
import gzip
import hashlib
import json
import struct

import numpy as np
import pytest
from PIL import Image

from equisct.app.cli import data as command
from equisct.app.parts.data import detect
from equisct.app.settings.data import CIFAR10, IDX, ArrayRecord, ImageFiles, Npz
from equisct.data import ArrayRecordSet, ImageFolder, ImageSet, cifar10, load_npz, write_array_record
from strategies import untyped

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 3), np.uint8)


def run(capsys, *arguments):
    """Exit code, standard output and standard error."""
    try:
        command.main([str(a) for a in arguments])
        code = 0
    except SystemExit as exit_:
        code = exit_.code
    return code, *capsys.readouterr()


@pytest.fixture
def photos(tmp_path):
    """Six good files and a bad one."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for k, image in enumerate(PIXELS):
        Image.fromarray(image).save(folder / f"{k}.png")
    (folder / "3b.png").write_bytes(b"text")
    (folder / "notes.txt").write_bytes(b"text")
    return folder


def idx(pixels):
    return struct.pack(">4B3I", 0, 0, 8, 3, *pixels.shape) + pixels.tobytes()


def make_idx(place):
    place.mkdir()
    grey = PIXELS[..., 0]
    (place / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(grey)))
    (place / "train-labels-idx1-ubyte").write_bytes(struct.pack(">4BI", 0, 0, 8, 1, 6) + bytes(range(6)))


def make_cifar(place):
    place.mkdir()
    for k in range(1, 6):
        (place / f"data_batch_{k}.bin").write_bytes(bytes(3073))


def make_images(place):
    place.mkdir()
    for k, image in enumerate(PIXELS):
        Image.fromarray(image).save(place / f"{k}.webp", lossless=True)


@pytest.mark.parametrize(
    ("name", "options"),
    [("check", command.CheckOptions), ("preview", command.PreviewOptions), ("pack", command.PackOptions)],
)
def test_help_explains_every_option(name, options, capsys):
    code, text, _ = run(capsys, name, "--help")
    assert code == 0
    words = " ".join(text.replace("│", " ").split())
    for field in dataclasses.fields(options):
        flag = "PATH" if field.name == "path" else f"--{field.name.replace('_', '-')}"
        assert flag in words
    assert words.count("(default:") == len(dataclasses.fields(options)) - 1


KINDS = {
    "npz": (Npz, "a.npz", lambda place: np.savez(place, images=PIXELS), "6 images of 4 x 4 pixels, 3 channels"),
    "vectors": (
        Npz,
        "v.npz",
        lambda place: np.savez(place, images=np.eye(9, 2, dtype=np.float32)),
        "9 vectors of 2 numbers",
    ),
    "IDX folder": (IDX, "idx", make_idx, "6 images of 4 x 4 pixels, 1 channel\n"),
    "IDX file": (IDX, "images", lambda place: place.write_bytes(idx(PIXELS[..., 0])), "6 images of 4 x 4"),
    "CIFAR-10": (CIFAR10, "cifar", make_cifar, "5 images of 32 x 32 pixels, 3 channels"),
    "array_record": (
        ArrayRecord,
        "a.array_record",
        lambda place: write_array_record(place, [PIXELS], count=6),
        "6 images of 4 x 4 pixels, 3 channels",
    ),
    "folder": (ImageFiles, "folder", make_images, "6 images of 4 x 4 pixels, 3 channels\nbad files: 0; "),
}


@pytest.mark.parametrize(("kind", "name", "make", "message"), KINDS.values(), ids=KINDS)
def test_every_kind_is_told_by_looking_and_checked(kind, name, make, message, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cifar10, "RECORDS", 1)
    monkeypatch.setattr(cifar10, "DIGESTS", dict.fromkeys(cifar10.DIGESTS, hashlib.sha256(bytes(3073)).hexdigest()))
    place = tmp_path / name
    make(place)
    assert detect(place) is kind
    code, out, err = run(capsys, "check", place, "--no-index")
    assert (code, err) == (0, "")
    assert message in out
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_names_of_archives_tell_them_apart(tmp_path):
    for name, kind in {"cifar-10-binary.tar.gz": CIFAR10, "mine.gz": IDX}.items():
        (tmp_path / name).write_bytes(gzip.compress(b"x"))
        assert detect(tmp_path / name) is kind
    np.savez(tmp_path / "a.npz", images=PIXELS)
    assert detect((tmp_path / "a.npz").rename(tmp_path / "a.zip")) is Npz
    (tmp_path / "python").mkdir()
    (tmp_path / "python" / "data_batch_1").write_bytes(b"")
    assert detect(tmp_path / "python") is CIFAR10


def test_check_names_every_bad_file_and_writes_an_index_that_loading_believes(photos, capsys, monkeypatch):
    code, out, err = run(capsys, "check", photos)
    index = photos.with_name("photos.index.json")
    assert out.splitlines() == [
        "bad: '3b.png': not PNG, JPEG or WEBP: begins with 74 65 78 74",
        "6 images of 4 x 4 pixels, 3 channels",
        "bad files: 1; files of other kinds, left alone: 1",
        f"wrote {index}",
    ]
    assert code == 2
    assert "1 of 7 files that cannot be used; the first is '3b.png'" in err
    assert len(json.loads(index.read_text())["files"]) == 7
    code, out, err = run(capsys, "check", photos, "--bad", "skip", "--bad-limit", "0.2", "--index", photos / "i.json")
    assert (code, err) == (0, "")
    monkeypatch.setattr("equisct.data._picture_index.decode", lambda content: pytest.fail("a file was read"))
    assert len(ImageFolder(photos, bad="skip", bad_limit=0.2).bad) == 1
    for path in (index, photos / "i.json"):
        path.unlink()


def test_check_of_nothing_usable_fails(tmp_path, capsys):
    code, out, err = run(capsys, "check", tmp_path, "--no-index")
    assert code == 2
    assert "0 images of 0 x 0 pixels" in out
    assert "found no picture" in err


def test_preview_draws_the_first_batch_and_measures_it(photos, tmp_path, capsys):
    out = tmp_path / "new.png"
    code, text, _ = run(capsys, "preview", photos, "--bad", "skip", "--bad-limit", "0.2", "--out", out, "--n", 99)
    assert code == 0
    with untyped(Image.open(out)) as picture:
        assert picture.width > 3 * 4 * 12
    x = PIXELS[[0, 1, 2, 3, 4, 4, 5]] / 127.5 - 1  # the bad file's place goes to the next good one
    for channel in range(3):
        part = x[..., channel]
        words = f"{part.min():.4f} to {part.max():.4f}, mean {part.mean():.4f}, standard deviation {part.std():.4f}"
        assert f"channel {channel}: {words}" in text
    assert f"all: standard deviation {x.std():.4f}" in text


def test_preview_of_vectors(tmp_path, capsys):
    KINDS["vectors"][2](tmp_path / "v.npz")
    code, text, _ = run(capsys, "preview", tmp_path / "v.npz", "--out", tmp_path / "v.png")
    assert code == 0
    assert (tmp_path / "v.png").is_file()
    assert text.startswith("9 vectors of 2 numbers\nchannel 0: 0.0000 to 1.0000, mean 0.1111")


@pytest.mark.parametrize("name", ["a.array_record", "a.npz"])
def test_pack_writes_the_good_pictures_and_never_over_another_file(photos, tmp_path, capsys, name):
    settings = ["--bad", "skip", "--bad-limit", "0.2", "--out", tmp_path / name]
    code, text, _ = run(capsys, "pack", photos, *settings)
    assert code == 0
    assert text.startswith("6 images of 4 x 4 pixels, 3 channels\n")
    found = ArrayRecordSet(tmp_path / name) if name.endswith("record") else load_npz(tmp_path / name)
    assert np.array_equal(found.take(np.arange(6)), ImageSet(PIXELS, "").take(np.arange(6)))
    before = (tmp_path / name).read_bytes()
    code, _, err = run(capsys, "pack", photos, *settings)
    assert code == 2
    assert "a file that is there already" in err
    assert (tmp_path / name).read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == [name, "photos"]


def test_pack_keeps_labels_in_npz(tmp_path, capsys):
    make_idx(tmp_path / "idx")
    assert run(capsys, "pack", tmp_path / "idx", "--out", tmp_path / "a.npz")[0] == 0
    found = load_npz(tmp_path / "a.npz")
    assert isinstance(found, ImageSet)
    assert found.labels is not None
    assert found.labels.tolist() == list(range(6))


WRONG = {
    "no command": ([], "check"),
    "nothing there": (["check", "absent"], "absent: found nothing at this path"),
    "size": (["check", ".", "--size", "0"], "size: expected a finite number >= 1, found 0"),
    "limit": (["check", ".", "--bad-limit", "nan"], "bad_limit: expected a number in [0, 1], found nan"),
    "index and none": (["check", ".", "--index", "a", "--no-index"], "index: expected none with --no-index, found a"),
    "n": (["preview", ".", "--n", "0"], "n: expected a finite number >= 1, found 0"),
    "seed": (["preview", ".", "--seed", "-1"], "seed: expected a finite number >= 0, found -1"),
    "kind of preview": (["preview", ".", "--out", "a.gif"], "out: expected a file ending in .png, found a.gif"),
    "kind of pack": (["pack", ".", "--out", "a.tar"], "out: expected a file ending in .array_record or .npz"),
    "folder of pack": (["pack", ".", "--out", "absent/a.npz"], "out: expected a folder at absent, found none"),
    "vectors": (["pack", "v.npz"], "v.npz: found 9 vectors of 2 numbers\nexpected: images"),
    "a bad index": (["preview", "v", "--index", "absent.json"], "absent.json: found a file that cannot be read"),
    "no place for the index": (["check", "v", "--index", "absent/i.json"], "absent/i.json: found a place that cannot"),
}


@pytest.mark.parametrize("name", WRONG)
def test_mistakes_get_one_message_and_nothing_is_written(name, tmp_path, capsys, monkeypatch):
    arguments, message = WRONG[name]
    KINDS["vectors"][2](tmp_path / "v.npz")
    make_images(tmp_path / "v")
    monkeypatch.chdir(tmp_path)
    code, _, err = run(capsys, *arguments)
    assert code == 2
    assert message in err
    assert "Traceback" not in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["v", "v.npz"]
