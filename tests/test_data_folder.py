"""Image files in folders and zip archives: every kind of damage counted, every conversion exact, nothing extracted."""

import hashlib
import io
import json
import os
import pickle
import stat
import struct
import zipfile
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from equisct.data import DataError, ImageFolder, ImageSet, float_to_images, images_to_float
from equisct.data._picture_files import picture_files
from equisct.data._picture_index import read_index, scan, survey, write_index
from equisct.data._pictures import PictureError, decode, fit
from strategies import untyped
from tolerances import ONE_GREY_LEVEL, TWO_GREY_LEVELS

SIDE = 8
GENERATOR = np.random.default_rng(0)
PIXELS = GENERATOR.integers(0, 256, (4, SIDE, SIDE, 3), np.uint8)


def encoded(picture: Any, kind="PNG", **options):
    stream = io.BytesIO()
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(stream, kind, **options)
    return stream.getvalue()


def image(mode, content):
    """A Pillow image of one mode from the bytes of its pixels."""
    return Image.frombytes(mode, (SIDE, SIDE), np.ascontiguousarray(content).tobytes())


def chunk(name, content):
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png_header(width, height):
    """A PNG file that claims to be of some size and holds next to nothing."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


GREY16 = np.linspace(0, 65535, SIDE * SIDE).reshape(SIDE, SIDE).astype(np.uint16)
GOOD = encoded(PIXELS[0])


def write(folder, contents):
    for name, content in contents.items():
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    return folder


def pixels_of(dataset):
    return float_to_images(dataset.take(np.arange(dataset.size)))


# --- the fourteen kinds of damage ---

DAMAGED = {
    "d01-truncated.png": (GOOD[: len(GOOD) // 2], "cannot be decoded"),
    "d02-empty.png": (b"", "an empty file"),
    "d03-text.png": (b"this is no picture", "not PNG, JPEG or WEBP: begins with 74 68 69 73"),
    "d04-one-pixel.png": (encoded(PIXELS[0, :1, :1]), "1 x 1 pixels, where the first picture has 8 x 8"),
    "d05-animated.png": (
        encoded(Image.fromarray(PIXELS[0]), save_all=True, append_images=[Image.fromarray(PIXELS[1])]),
        "an animation of 2 frames",
    ),
    "d06-bomb.png": (png_header(12_000, 12_000), "claims 12000 x 12000 pixels, more than 67,108,864"),
    "d07-huge-bomb.png": (png_header(2**31 - 1, 2**31 - 1), "pixels, more than"),
    "d08-wrong-size.png": (encoded(np.zeros((SIDE, SIDE + 1, 3), np.uint8)), "9 x 8 pixels, where the first"),
    "d09-gif.png": (encoded(PIXELS[0], "GIF"), "not PNG, JPEG or WEBP"),
}
LINKS = {
    "e10-loop.png": ("e10-loop.png", "cannot be opened"),
    "e11-nowhere.png": ("missing", "cannot be opened"),
    "e12-up": (".", "a link to a folder, which is not followed"),
    "e13-device.png": (os.devnull, "not a regular file"),
}
DIRECTORY = "e14-directory.png"
ODD_NAMES = [
    "ä-NFC.png",
    "a\u0308-NFD.png",
    "\u202eright-to-left.png",
    "line\nbreak.png",
    "UPPER.PNG",
    "🖼.png",
    "a b/c'd.png",
]
CONVERTED = {
    "c1-cmyk.jpg": encoded(Image.fromarray(PIXELS[0]).convert("CMYK"), "JPEG"),
    "c2-alpha.png": encoded(image("RGBA", np.zeros((SIDE, SIDE, 4), np.uint8))),
    "c3-palette.png": encoded(Image.fromarray(PIXELS[0]).quantize(16)),
    "c4-16-bit.png": encoded(GREY16),
}


@pytest.fixture
def damaged(tmp_path):
    """200 files: 14 that cannot be used, the rest good, some of them unusual."""
    folder = write(tmp_path / "set", {name: content for name, (content, _) in DAMAGED.items()})
    for name, (target, _) in LINKS.items():
        (folder / name).symlink_to(target)
    (folder / DIRECTORY).mkdir()
    write(folder, {f"{DIRECTORY}/inside.png": GOOD, "notes.txt": b"not counted", ".hidden.png": b"neither"})
    write(folder, CONVERTED | dict.fromkeys(ODD_NAMES, GOOD))
    plain = 200 - 14 - len(CONVERTED) - len(ODD_NAMES)
    return write(folder, {f"a{k:03}.png": encoded(PIXELS[k % 4]) for k in range(plain)})


def test_every_kind_of_damage_is_counted(damaged):
    dataset = ImageFolder(damaged, bad="skip", bad_limit=0.07)
    expected = {name: reason for name, (_, reason) in (DAMAGED | LINKS).items()} | {DIRECTORY: "a folder"}
    found = dict(dataset.bad)
    assert len(dataset.bad) == 14
    assert found.keys() == expected.keys()
    assert {name: reason for name, reason in expected.items() if reason not in found[name]} == {}
    assert dataset.size == 200
    assert len(dataset.good) == 186
    assert dataset.shape == (3, SIDE, SIDE)
    assert dataset.name == "set"


def test_skipped_files_give_their_place_to_the_next_good_one(damaged):
    dataset = ImageFolder(damaged, bad="skip", bad_limit=0.07)
    names, bad = picture_files(damaged).names, dict(dataset.bad)
    assert names == sorted(names)
    x = dataset.take(np.arange(200))
    for position, name in enumerate(names):
        good = next(k % 200 for k in range(position, position + 200) if names[k % 200] not in bad)
        assert np.array_equal(x[position], dataset.take(np.array([good]))[0]), name
    assert np.array_equal(x, ImageFolder(damaged, bad="skip", bad_limit=0.07).take(np.arange(200)))


def test_the_last_files_are_replaced_by_the_first(tmp_path):
    write(tmp_path, {"a.png": encoded(PIXELS[0]), "b.png": encoded(PIXELS[1]), "c.png": b"", "d.png": b""})
    assert np.array_equal(pixels_of(ImageFolder(tmp_path, bad="skip", bad_limit=0.5)), PIXELS[[0, 1, 0, 0]])


def test_an_error_names_the_first_bad_file_and_their_number(damaged):
    with pytest.raises(
        DataError, match=r"14 of 200 files that cannot be used; the first is 'd01-truncated.png': cannot"
    ):
        ImageFolder(damaged)
    with pytest.raises(DataError, match=r"14 of 200 files(.|\n)*share of 0.0699 \(bad_limit\)(.|\n)*raise the limit"):
        ImageFolder(damaged, bad="skip", bad_limit=0.0699)


# --- conversions ---


def test_16_bits_are_scaled_and_not_cut(tmp_path):
    dataset = ImageFolder(write(tmp_path, {"a.png": encoded(GREY16)}))
    found = pixels_of(dataset)[0, :, :, 0]
    assert np.array_equal(found, np.round(GREY16 / 257))
    assert abs(found.mean() / 255 - GREY16.mean() / 65535) <= ONE_GREY_LEVEL


def test_16_bit_colour_keeps_its_mean(tmp_path):
    wide = GENERATOR.integers(0, 65536, (SIDE, SIDE, 3), np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in wide)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", SIDE, SIDE, 16, 2, 0, 0, 0))
    content = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    found = pixels_of(ImageFolder(write(tmp_path, {"a.png": content})))
    assert abs(found.mean() / 255 - wide.mean() / 65535) <= ONE_GREY_LEVEL


def test_transparent_pixels_are_laid_on_white():
    colour = np.full((SIDE, SIDE, 4), (200, 100, 0, 0), np.uint8)
    colour[0, :, 3], colour[1, :, 3] = 255, 128
    found = np.asarray(decode(encoded(image("RGBA", colour))))
    assert (found[0] == (200, 100, 0)).all()
    assert (found[2:] == 255).all()
    half = 128 / 255 * np.array([200, 100, 0]) + 127 / 255 * 255
    assert np.abs(found[1] / 255 - half / 255).max() <= ONE_GREY_LEVEL
    grey = decode(encoded(image("LA", colour[..., 2:])))
    assert grey.mode == "L"
    assert (np.asarray(grey)[2:] == 255).all()
    keyed = Image.fromarray(np.zeros((SIDE, SIDE), np.uint8))
    assert (np.asarray(decode(encoded(keyed, transparency=0))) == 255).all()


def test_palettes_and_cmyk_are_colour():
    few = Image.fromarray(PIXELS[0]).quantize(16)
    assert np.array_equal(np.asarray(decode(encoded(few))), np.asarray(few.convert("RGB")))
    flat = np.full((SIDE, SIDE, 3), (200, 100, 50), np.uint8)
    found = decode(encoded(Image.fromarray(flat).convert("CMYK"), "JPEG", quality=100))
    assert found.mode == "RGB"
    assert np.abs(np.asarray(found) / 255 - flat / 255).max() <= TWO_GREY_LEVELS


def test_one_bit_is_black_and_white():
    board = np.indices((SIDE, SIDE)).sum(0) % 2 == 0
    assert np.array_equal(np.asarray(decode(encoded(Image.fromarray(board)))), 255 * board.astype(np.uint8))


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_lossless_formats_come_back_exactly(kind):
    assert np.array_equal(np.asarray(decode(encoded(PIXELS[0], kind, lossless=True))), PIXELS[0])


def test_photographs_are_turned_upright():
    flat = np.zeros((16, 32, 3), np.uint8)
    flat[:, :16] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    found = np.asarray(decode(encoded(flat, "JPEG", exif=exif, quality=100)))
    assert found.shape == (32, 16, 3)
    assert found[:15].min() > 200
    assert found[17:].max() < 50


NOTES = {  # a second entry of the same camera data, which Pillow reads and cannot write
    "a maker's note of another type": struct.pack("<HHI4s", 0x0110, 11, 1, b"\0\0\xc0\x7f"),
    "a place outside": struct.pack("<HHIi", 0x8769, 9, 1, -1),
}


@pytest.mark.parametrize("name", NOTES)
@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_photographs_with_half_broken_camera_data_are_turned_too(form, name):
    entries = struct.pack("<HHHII", 2, 0x0112, 3, 1, 6) + NOTES[name] + bytes(4)
    content = encoded(PIXELS[0, :5], form, exif=b"Exif\0\0II*\0\x08\0\0\0" + entries, lossless=True)
    with pytest.raises((AttributeError, ValueError)):
        ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    assert decode(content).size == (5, SIDE)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_camera_data_that_cannot_be_read_turns_nothing(form):
    content = encoded(PIXELS[0, :5], form, exif=b"Exif\0\0II*\0\xff\xff\xff\xff", lossless=True)
    assert decode(content).size == (SIDE, 5)


def test_grey_stays_grey_and_one_colour_picture_makes_a_set_colour(tmp_path):
    grey = write(tmp_path / "grey", {"a.png": encoded(PIXELS[0, ..., 0]), "b.png": encoded(PIXELS[1, ..., 0])})
    assert np.array_equal(pixels_of(ImageFolder(grey)), PIXELS[:2, ..., :1])
    assert np.array_equal(pixels_of(ImageFolder(grey, channels=3)), np.repeat(PIXELS[:2, ..., :1], 3, 3))
    mixed = write(grey, {"c.png": encoded(PIXELS[2])})
    found = pixels_of(ImageFolder(mixed))
    assert np.array_equal(found, np.concatenate([np.repeat(PIXELS[:2, ..., :1], 3, 3), PIXELS[2:3]]))
    luma = PIXELS[2] @ [0.299, 0.587, 0.114] / 255
    assert np.abs(pixels_of(ImageFolder(mixed, channels=1))[2, ..., 0] / 255 - luma).max() <= ONE_GREY_LEVEL


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 12), st.integers(0, 255))
def test_a_flat_picture_stays_flat_at_any_size(width, height, size, value):
    picture = Image.new("L", (width, height), value)
    assert (fit(picture, size, 1) == value).all()
    assert fit(picture, size, 3).shape == (size, size, 3)
    assert fit(picture, None, 1).shape == (height, width, 1)


def test_the_middle_square_is_reduced(tmp_path):
    wide = np.zeros((16, 40, 3), np.uint8)
    wide[:, 12:28] = np.kron(PIXELS[0, :2, :2], np.ones((8, 8, 1), np.uint8))
    small = np.zeros((7, 99, 3), np.uint8)
    dataset = ImageFolder(
        write(tmp_path, {"a.png": encoded(wide), "b.png": encoded(small)}), size=8, bad="skip", bad_limit=1
    )
    assert dataset.bad == (("b.png", "99 x 7 pixels, too small for 8 x 8: pictures are reduced, never enlarged"),)
    whole = Image.fromarray(wide[:, 12:28]).resize((8, 8), Image.Resampling.LANCZOS)
    assert np.array_equal(pixels_of(dataset)[0], np.asarray(whole))


def test_flips_are_those_of_images_in_memory(tmp_path):
    folder = write(tmp_path, {f"{k}.png": encoded(PIXELS[k]) for k in range(4)})
    order, flip = np.array([2, 0, 2, 3]), np.array([True, False, False, True])
    memory = ImageSet(PIXELS, "memory")
    assert np.array_equal(ImageFolder(folder).take(order, flip), memory.take(order, flip))
    assert ImageFolder(folder).take(order[:0]).shape == (0, 3, SIDE, SIDE)
    assert np.array_equal(ImageFolder(folder).take(order), images_to_float(PIXELS[order]))


@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255))
def test_no_cut_and_no_changed_byte_gives_other_pictures(place, byte):
    for content in (GOOD[:place], GOOD[:place] + bytes([byte]) + GOOD[place + 1 :]):
        try:
            found = decode(content)
        except PictureError:
            continue
        assert np.array_equal(np.asarray(found), PIXELS[0])


# --- the index ---


def test_an_index_saves_reading_and_notices_changes(tmp_path, monkeypatch):
    folder = write(tmp_path / "set", {"a.png": GOOD, "b.png": b"text", "c.png": encoded(PIXELS[1])})
    entries = scan(picture_files(folder))
    assert entries[0].sha256 == hashlib.sha256(GOOD).hexdigest()
    assert [entry.shape for entry in entries] == [(SIDE, SIDE, 3), None, (SIDE, SIDE, 3)]
    write_index(entries, tmp_path / "set.index.json")
    assert list(read_index(tmp_path / "set.index.json").values()) == entries
    monkeypatch.setattr("equisct.data._picture_index.decode", lambda content: pytest.fail("a file was read"))
    for index in (None, tmp_path / "set.index.json"):
        assert ImageFolder(folder, bad="skip", bad_limit=0.5, index=index).bad[0][0] == "b.png"
    monkeypatch.undo()
    os.utime(folder / "a.png", ns=(0, 0))
    (folder / "b.png").write_bytes(encoded(PIXELS[2]))
    (folder / "c.png").unlink()
    write(folder, {"d.png": encoded(PIXELS[3])})
    assert np.array_equal(pixels_of(ImageFolder(folder)), PIXELS[[0, 2, 3]])


def test_a_change_that_keeps_the_size_is_noticed_by_its_time(tmp_path):
    folder = write(tmp_path / "set", {"a.png": GOOD, "b.png": GOOD})
    write_index(scan(picture_files(folder)), tmp_path / "set.index.json")
    (folder / "b.png").write_bytes(bytes(len(GOOD)))
    os.utime(folder / "b.png", ns=(0, 0))
    with pytest.raises(DataError, match="the first is 'b.png': not PNG"):
        ImageFolder(folder)


def test_a_file_changed_after_the_check_is_named(tmp_path):
    dataset = ImageFolder(write(tmp_path, {"a.png": GOOD, "b.png": GOOD}))
    (tmp_path / "b.png").write_bytes(encoded(PIXELS[0, :4]))
    with pytest.raises(DataError, match=r"'b.png': found 8 x 4 pixels\nexpected: the picture of 8 x 8 pixels"):
        dataset.take(np.array([0, 1]))
    (tmp_path / "b.png").unlink()
    with pytest.raises(DataError, match=r"'b.png': found cannot be opened \(No such file"):
        dataset.take(np.array([1]))


ROW = ["a.png", 1, 2, "00", [8, 8, 3], ""]
BAD_INDICES = {
    "text": "hello",
    "a list": [],
    "another format": {"format": "x", "version": 1, "files": []},
    "another version": {"format": "equisct picture index", "version": 2, "files": []},
    "a short row": {"files": [ROW[:5]]},
    "a number for a name": {"files": [[3, *ROW[1:]]]},
    "a negative size": {"files": [[ROW[0], -1, *ROW[2:]]]},
    "two numbers for a shape": {"files": [[*ROW[:4], [8, 8], ""]]},
    "two channels": {"files": [[*ROW[:4], [8, 8, 2], ""]]},
    "neither good nor bad": {"files": [[*ROW[:4], None, ""]]},
    "a nested file": "[" * 100_000,
}


@pytest.mark.parametrize("content", BAD_INDICES.values(), ids=BAD_INDICES)
def test_a_wrong_index_is_refused(tmp_path, content):
    write(tmp_path / "set", {"a.png": GOOD})
    if isinstance(content, dict):
        content = {"format": "equisct picture index", "version": 1} | content
    place = tmp_path / "set.index.json"
    place.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(DataError, match=r"set.index.json: found (.|\n)*hint: delete it, or write it again"):
        ImageFolder(tmp_path / "set")


def test_names_that_are_no_unicode_survive_the_index(tmp_path):
    name = os.fsdecode(b"latin-\xe4.png")
    write(tmp_path / "set", {name: GOOD})
    entries = scan(picture_files(tmp_path / "set"))
    write_index(entries, tmp_path / "i.json")
    assert read_index(tmp_path / "i.json") == {name: entries[0]}


def test_an_empty_survey():
    assert survey([]).shape == (0, 0, 0)


# --- zip archives ---


def zipped(place, contents, method=zipfile.ZIP_STORED):
    with zipfile.ZipFile(place, "w", method) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return place


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_is_the_folder_it_was_made_of(tmp_path, method):
    contents = {f"sub/{k}.png": encoded(PIXELS[k]) for k in (2, 0, 3, 1)} | {
        "bad.png": b"",
        "x.png/": b"",
        "a.txt": b"",
    }
    contents |= {"__MACOSX/._a.png": b"fork", "sub/.a.png": b""}
    place = zipped(tmp_path / "set.zip", contents, method)
    dataset = ImageFolder(place, bad="skip", bad_limit=0.4)
    assert dataset.bad == (("bad.png", "an empty file"), ("x.png/", "a folder"))
    assert np.array_equal(pixels_of(dataset), PIXELS[[0, 0, 1, 2, 3, 0]])
    again = pickle.loads(pickle.dumps(dataset))  # noqa: S301  (our own)
    assert np.array_equal(pixels_of(again), pixels_of(dataset))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set.zip"]


def test_an_archive_that_grows_by_itself_is_stopped_and_a_wrong_checksum_noticed(tmp_path):
    place = zipped(tmp_path / "set.zip", {"a.png": GOOD, "b.png": encoded(PIXELS[1])})
    content = bytearray(place.read_bytes())
    content[content.index(GOOD) + len(GOOD) - 20] ^= 1
    place.write_bytes(bytes(content))
    ((name, reason),) = ImageFolder(place, bad="skip", bad_limit=0.5).bad
    assert (name, "Bad CRC-32" in reason) == ("a.png", True)


def linked(name, target):
    info = zipfile.ZipInfo(name)
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info, target


def attack(place, *members):
    with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("good.png", GOOD)
        for info, content in members:
            archive.writestr(info, content)
    return place


def listed(content, at, number, form="<I"):
    """The same archive, with another number in its list of contents."""
    at += content.rindex(b"PK\x01\x02")
    return content[:at] + struct.pack(form, number) + content[at + struct.calcsize(form) :]


CLIMBING = ["../evil.png", "a/../../evil.png", "/evil.png", "..\\evil.png", "C:/evil.png", "\\evil.png"]


@pytest.mark.parametrize("name", CLIMBING)
def test_climbing_names_are_refused(tmp_path, name):
    place = attack(tmp_path / "set.zip", (name, GOOD))
    with pytest.raises(DataError, match="a name that leaves the archive's folder"):
        ImageFolder(place)
    assert [path.name for path in tmp_path.iterdir()] == ["set.zip"]


def test_links_in_archives_are_refused(tmp_path):
    place = attack(tmp_path / "set.zip", linked("link.png", "../secret.png"))
    with pytest.raises(DataError, match=r"'link.png': found a symbolic link"):
        ImageFolder(place)


CHANGED = {
    "a bomb": (24, 2**32 - 2, "<I", r"claim to unpack to 4,294,967,"),
    "encrypted": (8, 1, "<H", "an encrypted file"),
    "an unusual compression": (10, 12, "<H", "compression method 12"),
}


@pytest.mark.parametrize(("at", "number", "form", "message"), CHANGED.values(), ids=CHANGED)
def test_hostile_archives_are_refused(tmp_path, at, number, form, message):
    place = attack(tmp_path / "set.zip", ("b.png", GOOD))
    place.write_bytes(listed(place.read_bytes(), at, number, form))
    with pytest.raises(DataError, match=message):
        ImageFolder(place)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_doubled_names_are_refused(tmp_path):
    with pytest.raises(DataError, match="two files of one name"):
        ImageFolder(attack(tmp_path / "set.zip", ("good.png", GOOD)))


def test_a_member_that_is_too_long_is_bad(tmp_path):
    place = attack(tmp_path / "set.zip", ("long.png", bytes(2**26 + 1)))
    ((name, reason),) = ImageFolder(place, bad="skip", bad_limit=0.5).bad
    assert (name, reason) == ("long.png", "67,108,865 bytes, more than 67,108,864")


def test_a_member_longer_than_listed_is_cut_off(tmp_path):
    place = attack(tmp_path / "set.zip", ("liar.png", bytes(10_000_000)))
    place.write_bytes(listed(place.read_bytes(), 24, 100))
    ((name, reason),) = ImageFolder(place, bad="skip", bad_limit=0.5).bad
    assert name == "liar.png"
    assert "cannot be unpacked" in reason


# --- wrong calls ---

WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "size": ({"size": 0}, "size: expected at least 1, found 0"),
    "channels": ({"channels": 4}, "channels: expected 1 or 3, found 4"),
    "bad": ({"bad": "ignore"}, "bad: expected error or skip, found ignore"),
    "limit": ({"bad_limit": 1.5}, r"bad_limit: expected a number in \[0, 1\], found 1.5"),
    "nan": ({"bad_limit": float("nan")}, "bad_limit: .* found nan"),
    "no index": ({"index": "nowhere.json"}, "nowhere.json: found a file that cannot be read"),
}


@pytest.mark.parametrize(("settings", "message"), WRONG.values(), ids=WRONG)
def test_wrong_settings(tmp_path, settings, message):
    write(tmp_path, {"a.png": GOOD})
    with pytest.raises(ValueError, match=message):
        untyped(ImageFolder)(tmp_path, **settings)


NOTHING = {
    "an empty folder": ({}, "no picture"),
    "no picture": ({"a.txt": b"x"}, "no picture"),
    "all bad": ({"a.png": b"", "b.png": b""}, "no usable picture among 2 files; the first is 'a.png': an empty file"),
    "two sizes": (
        {"a.png": GOOD, "b.png": encoded(PIXELS[0, :4])},
        r"1 of 2 files that cannot be used(.|\n)*one size for all: size",
    ),
}


@pytest.mark.parametrize(("contents", "message"), NOTHING.values(), ids=NOTHING)
def test_sets_that_cannot_be_used(tmp_path, contents, message):
    with pytest.raises(DataError, match=message):
        ImageFolder(write(tmp_path, contents))


def test_a_missing_folder_and_a_file_that_is_no_archive(tmp_path):
    with pytest.raises(DataError, match=r"nothing at this path(.|\n)*a folder of pictures"):
        ImageFolder(tmp_path / "absent")
    with pytest.raises(DataError, match=r"cannot be read \(BadZipFile"):
        ImageFolder(write(tmp_path, {"a.zip": b"hello"}) / "a.zip")
