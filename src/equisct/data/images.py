"""The border between pictures and samples, and the only place that scales pixels.

Outside: `images`, uint8, channel last (n, h, w, c), values 0 to 255. Inside: `x`, float32, channel first (n, c, h, w),
values -1 to 1, with `x = images / 127.5 - 1`.
"""

import numpy as np
from jaxtyping import Float, Float32, UInt8

from .errors import DataError, describe


def images_to_float(images: UInt8[np.ndarray, "n h w c"]) -> Float32[np.ndarray, "n c h w"]:
    """`images / 127.5 - 1`, channel first: 0 becomes -1 and 255 becomes 1.

    Raises:
        DataError: `images` is not uint8 (n, h, w, c).
    """
    if images.dtype != np.uint8 or images.ndim != 4:
        raise DataError("images", f"a {describe(images)}", "a uint8 array (n, h, w, c)")
    x = np.ascontiguousarray(images.transpose(0, 3, 1, 2)).astype(np.float32)
    x /= 127.5
    x -= 1
    return x


def float_to_images(x: Float[np.ndarray, "n c h w"]) -> UInt8[np.ndarray, "n h w c"]:
    """The nearest pixels, channel last: `127.5 x + 127.5` rounded, with values outside [-1, 1] clipped.

    Raises:
        DataError: `x` is not floating point (n, c, h, w), or holds NaN, for which there is no pixel.
    """
    if x.dtype.kind != "f" or x.ndim != 4:
        raise DataError("x", f"a {describe(x)}", "a floating-point array (n, c, h, w) of values -1 to 1")
    pixels = np.clip(127.5 * x.astype(np.float32) + 128, 0, 255)
    if np.isnan(pixels).any():
        raise DataError("x", f"NaN in {int(np.isnan(pixels).any((1, 2, 3)).sum())} of {len(x)} samples", "numbers")
    return np.ascontiguousarray(pixels.astype(np.uint8).transpose(0, 2, 3, 1))


PIXEL_LEVEL = 32
"""Images in [-1, 1] and samples of them stay far below; pixels of 0 to 255 go beyond, unless they are nearly black."""


def check_scale(where: str, x: np.ndarray) -> None:
    """Raises `DataError` if floats (n, c, h, w) are plainly pixels of 0 to 255: none below 0, some above 32."""
    if x.ndim == 4 and x.size and x.dtype.kind == "f" and x.min() >= 0 and x.max() > PIXEL_LEVEL:
        hint = "x / 127.5 - 1; or uint8 images (n, h, w, c) in an ImageSet, which scales them"
        raise DataError(where, f"a {describe(x)}", "images (n, c, h, w) in [-1, 1]", hint)
