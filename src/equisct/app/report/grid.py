"""Pictures of samples: a panel for the data and one per sampler, image grids or scatter plots."""

import importlib
import io
import json
import math
import os

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from ...data import float_to_images
from .chart import COLOURS, STEPS, columns_of, number_in_words

Place = str | os.PathLike[str] | io.BytesIO

DATA = "data"
"""Title of the panel of real samples."""

MARGIN, TITLE = 14, 26
GAP, GREY = 3, 230
"""Least width between the images of a grid, in pixels, and how bright it is."""

IMAGE, PANEL = 56, 320
"""Smallest side of an image and of a grid, in pixels, where images are enlarged."""

PLOT, DPI = 3.3, 160
"""Side of a scatter plot, in inches, and pixels in one."""


def panel_images(
    panels: dict[str, Float[np.ndarray, "n *shape"]],
    data: Float[np.ndarray, "m *shape"] | None = None,
    *,
    across: int | None = None,
) -> dict[str, Image.Image]:
    """A picture of each panel, without titles, the data's first.

    Args:
        panels: title -> samples, the same shape in each: images `(n, c, h, w)` in [-1, 1], clipped and rounded to 8
            bits here, NaN to -1, enlarged by a whole factor; or vectors `(n, d)`, as points over those of the data: of
            more than two coordinates their two principal components; of one, a histogram.
        data: real samples, or None.
        across: images in a row; by default as many as there are rows.
    """
    real = {} if data is None else {DATA: data}
    if next(iter(panels.values())).ndim == 4:
        return {title: _tile(np.nan_to_num(each, nan=-1.0), across) for title, each in (real | panels).items()}
    plane = Plane(next(iter(panels.values())) if data is None else data)
    shown = {
        title: _scatter(plane, each, data, COLOURS[i % len(COLOURS)]) for i, (title, each) in enumerate(panels.items())
    }
    return {title: _scatter(plane, each, None, COLOURS[-1]) for title, each in real.items()} | shown


def draw_panels(
    panels: dict[str, np.ndarray],
    path: Place,
    *,
    data: np.ndarray | None = None,
    across: int | None = None,
    notes: dict[str, str] | None = None,
) -> None:
    """Writes a PNG of the panels side by side under their titles.

    Args:
        panels: of `panel_images`.
        path: the file, or one in memory.
        data: of `panel_images`.
        across: of `panel_images`.
        notes: texts stored inside the PNG, such as step and seed; `panels` is added, the places of the panels.
    """
    images = panel_images(panels, data, across=across)
    font = ImageFont.load_default(16)
    columns = columns_of(len(images))
    width = max(max(image.width, math.ceil(font.getlength(title))) for title, image in images.items())
    height = max(image.height for image in images.values())
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * (width + MARGIN) + MARGIN, rows * (height + TITLE + MARGIN) + MARGIN), "white")
    draw, places = ImageDraw.Draw(sheet), {}
    for i, (title, image) in enumerate(images.items()):
        left, top = MARGIN + i % columns * (width + MARGIN), MARGIN + i // columns * (height + TITLE + MARGIN)
        draw.text((left, top), title, fill="black", font=font)
        sheet.paste(image, (left, top + TITLE))
        places[title] = [left, top + TITLE, left + image.width, top + TITLE + image.height]
    info = PngImagePlugin.PngInfo()
    for key, value in ((notes or {}) | {"panels": json.dumps(places)}).items():
        info.add_text(key, value)
    sheet.save(path, format="PNG", pnginfo=info)


def read_panel(path: str | os.PathLike[str]) -> tuple[str, Image.Image]:
    """The first panel of samples in a sheet of `draw_panels`, with its title; of another PNG the whole, without."""
    with Image.open(path) as sheet:
        try:
            places = json.loads(sheet.info["panels"])
            title = next(title for title in places if title != DATA)
            return title, sheet.crop(tuple(places[title]))
        except (KeyError, ValueError, TypeError, StopIteration):
            return "", sheet.convert("RGB")


def png(image: Image.Image) -> bytes:
    """The file of a picture."""
    out = io.BytesIO()
    image.save(out, format="PNG")
    return out.getvalue()


def _tile(samples: Float[np.ndarray, "n c h w"], across: int | None) -> Image.Image:
    """A grid of images, square or of so many columns, each enlarged by the same whole factor if it is small."""
    images = float_to_images(samples)
    n, h, w, c = images.shape
    side = across or math.ceil(math.sqrt(n))
    scale = max(1, -(-IMAGE // max(h, w)), PANEL // (side * max(h, w)))
    gap = max(GAP, scale)  # a pixel of the images: less, and what reaches their edges grows together
    down, right = h * scale + gap, w * scale + gap
    canvas = np.full((math.ceil(n / side) * down - gap, side * right - gap, c), GREY, np.uint8)
    for i, image in enumerate(images.repeat(scale, 1).repeat(scale, 2)):
        top, left = i // side * down, i % side * right
        canvas[top : top + h * scale, left : left + w * scale] = image
    return Image.fromarray(canvas if c == 3 else canvas[..., 0]).convert("RGB")


class Plane:
    """Where vectors are drawn: as they are up to two coordinates, else on the first two principal axes of `points`."""

    def __init__(self, points: Float[np.ndarray, "m d"]):
        points = points[np.isfinite(points).all(1)].astype(np.float64)
        points = points if len(points) else np.zeros((1, points.shape[1]))
        d = points.shape[1]
        self.centre, self.axes = np.zeros(d), np.eye(d)[:2]
        self.names = [f"coordinate {i + 1}" for i in range(d)]
        if d > 2:
            self.centre = points.mean(0)
            _, sizes, axes = np.linalg.svd(points - self.centre, full_matrices=False)
            share = np.square(sizes) / max(np.square(sizes).sum(), 1e-30)
            self.axes = axes[:2] * np.sign(axes[:2, np.abs(axes[:2]).argmax(1)].diagonal())[:, None]
            self.names = [f"principal component {i + 1} of {d} ({part:.0%})" for i, part in enumerate(share[:2])]
        low, high = np.percentile(self(points), (0.5, 99.5), axis=0)
        self.middle, self.reach = (low + high) / 2, 0.65 * float((high - low).max()) or 1.0

    def __call__(self, points: np.ndarray) -> np.ndarray:
        return (np.where(np.isfinite(points), points, np.nan) - self.centre) @ self.axes.T


def _scatter(
    plane: Plane, samples: Float[np.ndarray, "n d"], behind: Float[np.ndarray, "m d"] | None, colour: str
) -> Image.Image:
    """Samples over what is behind them, in the window of the plane; how many are outside stands in it."""
    figures = importlib.import_module("matplotlib.figure")  # only now: a second that not every command needs
    figure = figures.Figure(figsize=(PLOT, PLOT), dpi=DPI)
    axis = figure.add_axes((0.17, 0.13, 0.8, 0.84))
    (low, high) = plane.middle - plane.reach, plane.middle + plane.reach
    at = plane(samples)
    inside = ((at > low) & (at < high)).all(1)  # what is not finite is not
    if at.shape[1] == 1:
        edges = np.linspace(low[0], high[0], 65)
        if behind is not None:
            axis.hist(plane(behind)[:, 0], edges, density=True, color="0.8")
        weights = np.full(inside.sum(), 1 / len(at) / (edges[1] - edges[0]))
        axis.hist(at[inside, 0], edges, weights=weights, histtype="step", color=colour)
        axis.set(ylabel="density")
    else:
        if behind is not None:
            axis.scatter(*plane(behind).T, s=3, color="0.78", linewidths=0)
        axis.scatter(*at[inside].T, s=3, alpha=0.6, color=colour, linewidths=0)
        axis.set(ylim=(low[1], high[1]), ylabel=plane.names[1])
    axis.set(xlim=(low[0], high[0]), xlabel=plane.names[0])
    ticker = importlib.import_module("matplotlib.ticker")
    for each in (axis.xaxis, axis.yaxis):
        each.set_major_locator(ticker.MaxNLocator(5, steps=STEPS))
        each.set_major_formatter(ticker.FuncFormatter(number_in_words))
    axis.tick_params(labelsize=8)
    if not inside.all():
        paper = {"color": "white", "alpha": 0.8, "pad": 1}
        words = f"{len(at) - inside.sum():,} of {len(at):,} outside"
        axis.annotate(words, (0.98, 0.98), xycoords="axes fraction", fontsize=7, ha="right", va="top", bbox=paper)
    canvas = importlib.import_module("matplotlib.backends.backend_agg").FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
