"""Decoding of one picture: PNG, JPEG or WEBP, told by its first bytes alone, made 8-bit grey or colour.

No other decoder of Pillow is ever reached. What cannot be used raises `PictureError`, which says why in a few words.
"""

import contextlib
import importlib
import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

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

    16 bits a channel become 8 by rounding `v / 257` (grey) or by their high byte (colour, Pillow's own reader);
    transparent pixels are laid on white; palettes and CMYK become RGB, colour profiles are not applied.

    Raises:
        PictureError: It is not a whole, single picture of one of the three formats, or is too large.
    """
    if not content:
        raise PictureError("an empty file")
    picture = _opened(content)
    width, height = picture.size
    if width * height > PIXELS:
        raise PictureError(f"claims {width} x {height} pixels, more than {PIXELS:,}")
    frames = getattr(picture, "n_frames", 1)
    if frames > 1:
        raise PictureError(f"an animation of {frames} frames")
    picture.load()
    operations = importlib.import_module("PIL.ImageOps")
    with contextlib.suppress(Exception):  # broken camera data is common, and says nothing about the pixels
        operations.exif_transpose(picture, in_place=True)  # in place: turned before Pillow writes the data anew
    return _eight_bits(picture)


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


def _opened(content: bytes) -> Picture:
    """The header alone is read here."""
    for start, signature, module, reader in SIGNATURES:
        if content[start : start + len(signature)] == signature:
            return getattr(importlib.import_module(module), reader)(io.BytesIO(content))
    raise PictureError(f"not PNG, JPEG or WEBP: begins with {content[:8].hex(' ')}")


def _eight_bits(picture: Picture) -> Picture:
    image = importlib.import_module("PIL.Image")
    if picture.mode == "I;16":  # Pillow's own conversion would cut at 255
        wide = np.asarray(picture).astype(np.uint32)
        return image.fromarray(((wide + 128) // 257).astype(np.uint8))
    if picture.mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"):
        raise PictureError(f"pixels of Pillow's mode {picture.mode}")
    kind = "L" if picture.mode in ("1", "L", "LA") else "RGB"
    if picture.mode in ("LA", "PA", "RGBA") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        picture = image.alpha_composite(image.new("RGBA", picture.size, "white"), picture)
    return picture.convert(kind)
