"""One picture, decoded: every kind of PNG beside values calculated by hand, notes too long for Pillow, other files."""

import io
import itertools
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from equisct.data._pictures import decode
from test_data_folder import chunk, encoded
from tolerances import ONE_GREY_LEVEL, TWO_GREY_LEVELS

H, W = 3, 5
GENERATOR = np.random.default_rng(1)
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Of PNG's colour types: grey, colour, palette, grey with alpha, colour with alpha."""

DEPTHS = [(0, 1), (0, 2), (0, 4), (0, 8), (0, 16), (2, 8), (2, 16), (3, 1), (3, 2), (3, 4), (3, 8)]
ALPHA = [(4, 8), (4, 16), (6, 8), (6, 16)]
KINDS = [(*kind, keyed) for kind in DEPTHS for keyed in (False, True)] + [(*kind, False) for kind in ALPHA]


def packed(values, depth):
    """Rows of numbers of `depth` bits, each row with its filter byte."""
    rows = values.reshape(len(values), -1)
    if depth == 16:
        return b"".join(b"\0" + row.astype(">u2").tobytes() for row in rows)
    bits = (rows[..., None] >> np.arange(depth)[::-1] & 1).astype(np.uint8).reshape(len(rows), -1)
    return b"".join(b"\0" + np.packbits(row).tobytes() for row in bits)


def png(kind, depth, values, *chunks):
    header = struct.pack(">IIBBBBB", W, H, depth, kind, 0, 0, 0)
    middle = b"".join(itertools.starmap(chunk, chunks))
    image = chunk(b"IDAT", zlib.compress(packed(values, depth)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + middle + image + chunk(b"IEND", b"")


def laid_on_white(colour, alpha):
    """By hand, in numbers from 0 to 1."""
    return alpha[..., None] * colour + 1 - alpha[..., None]


def drawn(kind, depth, keyed):
    """The chunks before the pixels, the numbers of the pixels, and the picture that they are, in [0, 1]."""
    top = 2**depth - 1
    values = GENERATOR.integers(0, top + 1, (H, W, CHANNELS[kind]))
    if kind == 3:
        palette = GENERATOR.integers(0, 256, (top + 1, 3), np.uint8)
        alphas = np.where(np.arange(top + 1) % 2, 255, 85).astype(np.uint8)
        chunks = [(b"PLTE", palette.tobytes())] + ([(b"tRNS", alphas.tobytes())] if keyed else [])
        index = values[..., 0]
        return chunks, values, laid_on_white(palette[index] / 255, alphas[index] / 255 if keyed else np.ones((H, W)))
    if kind in (4, 6):
        values[0, :2, -1] = 0, top
        return [], values, laid_on_white(values[..., :-1] / top, values[..., -1] / top)
    key = values[1, 2]
    values[0, 0], values[2, 4] = key, key
    values[0, 1] = key ^ 1  # differs in the last bit alone
    clear = (values == key).all(-1) if keyed else np.zeros((H, W), bool)
    chunks = [(b"tRNS", np.broadcast_to(key, CHANNELS[kind]).astype(">u2").tobytes())] if keyed else []
    return chunks, values, laid_on_white(values / top, 1.0 - clear)


TURNED = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
    8: lambda x: np.rot90(x),
}
"""What the EXIF standard says of each orientation."""


@pytest.mark.parametrize(("kind", "depth", "keyed"), KINDS)
def test_every_mode_depth_transparency_and_orientation(kind, depth, keyed):
    chunks, values, expected = drawn(kind, depth, keyed)
    for orientation, turned in TURNED.items():
        exif = b"II*\0\x08\0\0\0" + struct.pack("<HHHIII", 1, 0x0112, 3, 1, orientation, 0)
        picture = decode(png(kind, depth, values, *chunks, (b"eXIf", exif)))
        assert picture.mode == ("L" if kind in (0, 4) else "RGB")
        found = np.asarray(picture) / 255
        found = found[..., None] if picture.mode == "L" else found
        near = TWO_GREY_LEVELS if (kind, depth) == (6, 16) else ONE_GREY_LEVEL  # high bytes of colour and alpha
        np.testing.assert_allclose(found, turned(expected), atol=near, err_msg=f"orientation {orientation}")


LONG = b"x" * (2**20 + 1)
XMP = b"<x:xmpmeta><tiff:Orientation>6</tiff:Orientation></x:xmpmeta>"
NOTES = {
    "packed text": [(b"zTXt", b"Comment\0\0" + zlib.compress(LONG))],
    "packed international text": [(b"iTXt", b"Comment\0\1\0\0\0" + zlib.compress(LONG))],
    "plain text": [(b"tEXt", b"Comment\0" + LONG)],
    "XMP": [(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + LONG)],
    "a colour profile": [(b"iCCP", b"icc\0\0" + zlib.compress(LONG))],
    "more text than memory": [(b"zTXt", b"Comment\0\0" + zlib.compress(LONG[2:]))] * 65,
}


@pytest.mark.parametrize("chunks", NOTES.values(), ids=NOTES)
def test_notes_of_any_length_leave_a_picture_good_and_upright(chunks):
    values = GENERATOR.integers(0, 256, (H, W, 3))
    upright = (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP)
    for order in ([*chunks, upright], [upright, *chunks]):
        if b"XML:com" in chunks[0][1]:
            order = [(b"iTXt", chunks[0][1][:22] + XMP + LONG)]  # noqa: PLW2901  (one set of XMP a file)
        assert np.array_equal(np.asarray(decode(png(2, 8, values, *order))), np.rot90(values, -1))


def test_notes_behind_the_pixels_and_in_jpeg():
    flat = np.full((H, W, 3), 200, np.uint8)
    content = encoded(flat)
    assert np.array_equal(np.asarray(decode(content[:-12] + chunk(*NOTES["packed text"][0]) + content[-12:])), flat)
    stream = io.BytesIO()
    Image.fromarray(flat).save(stream, "JPEG", quality=100, icc_profile=LONG)
    np.testing.assert_allclose(np.asarray(decode(stream.getvalue())) / 255, flat / 255, atol=ONE_GREY_LEVEL)
