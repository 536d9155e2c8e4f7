"""Decoding of one picture: PNG, JPEG or WEBP, told by its first bytes alone, made 8-bit grey or colour.

No other decoder of Pillow is ever reached. What cannot be used raises `PictureError`, which says why in a few words.
"""

import contextlib
import importlib
import io
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ._foreign import recognised

if TYPE_CHECKING:
    from PIL.Image import Image as Picture
else:
    Picture: TypeAlias = Any

FILE_BYTES = 2**26
"""The longest file that is read."""

PIXELS = 2**26
"""The most pixels that a header may claim; Pillow itself warns a little above."""

SIGNATURES = (
    (0, b"\x89PNG\r\n\x1a\n", "PIL.PngImagePlugin", "PngImageFile"),
    (0, b"\xff\xd8\xff", "PIL.JpegImagePlugin", "JpegImageFile"),
    (8, b"WEBP", "PIL.WebPImagePlugin", "WebPImageFile"),
)

UPRIGHT = (2, 3, 4, 5, 6, 7, 8)
"""Orientations of EXIF that are not upright already."""

PNG_START = 8
"""Bytes of a PNG file before its first chunk, which tells size, depth and colour type."""


class PictureError(ValueError):
    """Why one picture cannot be used."""


@contextlib.contextmanager
def unusable_if_not(done: str) -> Iterator[None]:
    """Turns every failure inside the block, or the function, into a `PictureError`."""
    try:
        yield
    except PictureError:
        raise
    except Exception as error:  # on damaged or hostile files `zipfile` and Pillow raise nearly anything
        text = " ".join(str(error).split())[:120]
        raise PictureError(f"cannot be {done} ({type(error).__name__}: {text})") from error


@unusable_if_not("decoded")
def decode(content: bytes) -> Picture:
    """A Pillow image of mode L (grey) or RGB (colour), turned upright.

    16 bits a channel become 8 by rounding `v / 257` (grey) or by their high byte (colour or alpha, Pillow's own
    reader); transparent pixels are laid on white; palettes and CMYK become RGB, colour profiles are not applied.

    Raises:
        PictureError: It is not a whole, single picture of one of the three formats, or is too large.
    """
    if not content:
        raise PictureError("an empty file")
    try:
        return _upright(_loaded(content), content)
    except ValueError as error:
        if "MAX_TEXT" not in str(error):
            raise
    content = _without_packed_notes(content)  # of a good picture: Pillow unpacks no long text or colour profile
    return _upright(_loaded(content), content)


def fit(picture: Picture, size: int | None, channels: int) -> np.ndarray:
    """The pixels, uint8 (h, w, c): the middle square reduced to `size` if that is given, else as they are.

    The filter is Lanczos, by which EDM's tool prepares its sets, so that figures compare with theirs.
    """
    if size is not None and picture.size != (size, size):
        width, height = picture.size
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        lanczos = importlib.import_module("PIL.Image").Resampling.LANCZOS
        picture = picture.crop((left, top, left + side, top + side)).resize((size, size), lanczos)
    pixels = np.asarray(picture.convert("L" if channels == 1 else "RGB"))
    return pixels.reshape(*pixels.shape[:2], channels)


def _loaded(content: bytes) -> Picture:
    """The pixels as Pillow's reader gives them."""
    picture = _opened(content)
    width, height = picture.size
    if width * height > PIXELS:
        raise PictureError(f"claims {width} x {height} pixels, more than {PIXELS:,}")
    frames = getattr(picture, "n_frames", 1)
    if frames > 1:
        raise PictureError(f"an animation of {frames} frames")
    picture.load()
    return picture


def _opened(content: bytes) -> Picture:
    """The header alone is read here."""
    for start, signature, module, reader in SIGNATURES:
        if content[start : start + len(signature)] == signature:
            return getattr(importlib.import_module(module), reader)(io.BytesIO(content))
    told = recognised(content)
    raise PictureError("not PNG, JPEG or WEBP: " + (": ".join(told) if told else f"begins with {content[:8].hex(' ')}"))


def _upright(picture: Picture, content: bytes) -> Picture:
    """In 8 bits, turned as its camera data say."""
    orientation = None
    with contextlib.suppress(Exception):  # broken camera data is common, and says nothing about the pixels
        orientation = picture.getexif().get(0x0112)
    eight = _eight_bits(picture, content)
    if orientation not in UPRIGHT:
        return eight
    turn = importlib.import_module("PIL.Image").Transpose
    turns = (turn.FLIP_LEFT_RIGHT, turn.ROTATE_180, turn.FLIP_TOP_BOTTOM, turn.TRANSPOSE)
    turns += (turn.ROTATE_270, turn.TRANSVERSE, turn.ROTATE_90)
    return eight.transpose(turns[UPRIGHT.index(orientation)])


def _eight_bits(picture: Picture, content: bytes) -> Picture:
    image = importlib.import_module("PIL.Image")
    if picture.mode not in ("1", "L", "LA", "I;16", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"):
        raise PictureError(f"pixels of Pillow's mode {picture.mode}")
    png = _png_header(content)
    keyed = png and picture.mode != "P" and "transparency" in picture.info
    transparent = _keyed(picture, content) if keyed else None
    grey = picture.mode in ("1", "L", "LA", "I;16") or png[1:] == (4,)
    if picture.mode == "I;16":  # Pillow's own conversion would cut at 255
        wide = np.asarray(picture).astype(np.uint32)
        picture = image.fromarray(((wide + 128) // 257).astype(np.uint8))
    if transparent is None and (picture.mode in ("LA", "PA", "RGBA") or "transparency" in picture.info):
        picture = picture.convert("RGBA")
        picture = image.alpha_composite(image.new("RGBA", picture.size, "white"), picture)
    picture = picture.convert("L" if grey else "RGB")
    if transparent is not None:
        picture.paste("white", mask=image.fromarray(transparent))
    return picture


def _keyed(picture: Picture, content: bytes) -> np.ndarray:
    """Where a grey or colour PNG has the one value that its tRNS chunk calls transparent, bool (h, w).

    The value is in the file's own depth: Pillow would compare it with pixels scaled to 8 bits.
    """
    depth, _ = _png_header(content)
    key = np.array(picture.info["transparency"]) & (2**depth - 1 if picture.mode != "1" else 255)
    pixels = np.asarray(picture).astype(np.int64)
    if picture.mode == "1":
        pixels = 255 * pixels
    elif depth < 8:
        key = key * (255 // (2**depth - 1))
    elif depth == 16 and picture.mode == "RGB":  # Pillow gives the high bytes; read as of the other order, the low ones
        low: Any = _opened(content)
        low.tile = [tile._replace(args="RGB;16L") for tile in low.tile]
        pixels = 256 * pixels + np.asarray(low)
    found = pixels == key
    return found.all(-1) if found.ndim == 3 else found


def _png_header(content: bytes) -> tuple[int, ...]:
    """Depth and colour type of a PNG file; nothing for others."""
    return tuple(content[24:26]) if content.startswith(SIGNATURES[0][1]) else ()


def _without_packed_notes(content: bytes) -> bytes:
    """A PNG file without its compressed texts and colour profile."""
    kept, place = [content[:PNG_START]], PNG_START
    while place < len(content):
        (length,) = struct.unpack(">I", content[place : place + 4])
        chunk = content[place : place + length + 12]
        if chunk[4:8] not in (b"zTXt", b"iCCP") and not (chunk[4:8] == b"iTXt" and _packed(chunk[8:-4])):
            kept.append(chunk)
        place += len(chunk)
    return b"".join(kept)


def _packed(text: bytes) -> bool:
    """If an iTXt chunk is compressed: its keyword ends with a zero byte, then comes the flag."""
    _, _, rest = text.partition(b"\0")
    return rest[:1] == b"\1"
