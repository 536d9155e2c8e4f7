"""Pictures of samples: panels side by side, one per sampler, image grids or scatter plots."""

import importlib
import io
import math
import os

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from ...data import float_to_images

Place = str | os.PathLike[str] | io.BytesIO

MARGIN = 12
TITLE = 22


def _tile(samples: Float[np.ndarray, "n c h w"], scale: int) -> Image.Image:
    """A square grid of images, each pixel `scale` wide, one pixel of white between."""
    images = float_to_images(samples)
    n, h, w, c = images.shape
    side = math.ceil(math.sqrt(n))
    rows = math.ceil(n / side)
    canvas = np.full((rows * (h + 1) - 1, side * (w + 1) - 1, c), 255, np.uint8)
    for i, image in enumerate(images):
        top, left = i // side * (h + 1), i % side * (w + 1)
        canvas[top : top + h, left : left + w] = image
    picture = Image.fromarray(canvas if c == 3 else canvas[..., 0]).convert("RGB")
    return picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)


def draw_panels(panels: dict[str, np.ndarray], path: Place, *, notes: dict[str, str] | None = None) -> None:
    """Writes a PNG with a panel per entry: a grid of images `(n, c, h, w)`, or a plot of vectors `(n, d)`.

    Args:
        panels: title -> samples, the same n and shape in each. Images are in [-1, 1], clipped and rounded to 8 bits
            here, NaN to -1; of vectors the first two coordinates are shown, or the only one as a histogram.
        path: the file, or one in memory.
        notes: texts stored inside the PNG of images, such as step and seed.
    """
    if next(iter(panels.values())).ndim == 4:
        _draw_grids({title: np.nan_to_num(each, nan=-1.0) for title, each in panels.items()}, path, notes or {})
    else:
        _draw_scatters(panels, path)


def _draw_grids(panels: dict[str, Float[np.ndarray, "n c h w"]], path: Place, notes: dict[str, str]) -> None:
    size = next(iter(panels.values())).shape[-1]
    tiles = {title: _tile(samples, max(1, 48 // size)) for title, samples in panels.items()}
    width = sum(tile.width for tile in tiles.values()) + MARGIN * (len(tiles) + 1)
    height = max(tile.height for tile in tiles.values()) + TITLE + 2 * MARGIN
    sheet = Image.new("RGB", (width, height), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    left = MARGIN
    for title, tile in tiles.items():
        draw.text((left, MARGIN // 2), title, fill="black", font=font)
        sheet.paste(tile, (left, MARGIN + TITLE))
        left += tile.width + MARGIN
    info = PngImagePlugin.PngInfo()
    for key, value in notes.items():
        info.add_text(key, value)
    sheet.save(path, format="PNG", pnginfo=info)


def _draw_scatters(panels: dict[str, Float[np.ndarray, "n d"]], path: Place) -> None:
    matplotlib = importlib.import_module("matplotlib.figure")  # only now: a second that not every command needs
    figure = matplotlib.Figure(figsize=(3.2 * len(panels), 3.4), layout="constrained")
    axes = figure.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False)[0]
    for axis, (title, samples) in zip(axes, panels.items(), strict=True):
        axis.set_title(title)
        if samples.shape[1] == 1:
            axis.hist(samples[:, 0], bins=64)
        else:
            axis.scatter(samples[:, 0], samples[:, 1], s=2, alpha=0.5, linewidths=0)
            axis.set_aspect("equal")
    figure.savefig(path, dpi=120, format="png")
