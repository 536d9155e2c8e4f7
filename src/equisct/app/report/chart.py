"""Charts as data: lines in panels, drawn as SVG for pages, as SVG and PNG for papers, and written as CSV."""

import csv
import dataclasses
import importlib
import io
import math
import pathlib
from collections.abc import Sequence
from typing import Any, Literal
from xml.dom import minidom

import numpy as np

from ..._base.files import atomic_write

Numbers = Sequence[float] | np.ndarray

COLOURS = ("#1b7fc4", "#cf5a00", "#008a5e", "#a8559a", "#8d7100", "#6f6f6f")
"""At least 3:1 against white and against nearly black, and told apart without green and red."""

DASHES = ("-", "--", "-.", ":")

WIDTH, HEIGHT, COLUMNS = 4.4, 3.3, 3
"""Of a panel, in inches; and how many stand side by side, at most."""

INK = "#010203"
"""Of axes and words while drawing; in a page it becomes the colour of the words around."""


@dataclasses.dataclass(frozen=True)
class Line:
    """Points `(x, y)` in order, perhaps with a band from `low` to `high`; a y that is not finite is a gap."""

    label: str
    x: Numbers
    y: Numbers
    low: Numbers = ()
    high: Numbers = ()
    kind: Literal["line", "steps", "points"] = "line"
    """Steps hold each y until the next x; points are joined too."""
    colour: int | None = None
    """Number of its colour; by default its place among the panel's lines."""


@dataclasses.dataclass(frozen=True)
class Panel:
    """One pair of axes."""

    title: str
    xlabel: str
    ylabel: str
    lines: tuple[Line, ...]
    xscale: Literal["linear", "log"] = "linear"
    yscale: Literal["linear", "log"] = "linear"
    ticks: tuple[tuple[float, str], ...] = ()
    """Places and words of the ticks of x, where they are not numbers on an even scale."""
    guides: tuple[tuple[float, str], ...] = ()
    """Upright lines at these x, with words."""


@dataclasses.dataclass(frozen=True)
class Chart:
    """One figure: `name` is that of its files, `alt` says in words what a person who does not see it must know."""

    name: str
    title: str
    caption: str
    alt: str
    panels: tuple[Panel, ...]

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to draw."""
        return not any(math.isfinite(y) for panel in self.panels for line in panel.lines for y in line.y)


def _draw_panel(axis: Any, panel: Panel) -> None:
    for place, line in enumerate(panel.lines):
        number = place if line.colour is None else line.colour
        colour = COLOURS[number % len(COLOURS)]
        dash = DASHES[number // len(COLOURS) % len(DASHES)]
        style: dict[str, Any] = {"color": colour, "linestyle": dash, "linewidth": 1.6}
        if line.kind == "points":
            style["marker"] = "o"
        if line.kind == "steps":
            axis.step(line.x, line.y, where="post", label=line.label, **style)
        else:
            axis.plot(line.x, line.y, label=line.label, **style)
        if len(line.low) and line.kind == "points":
            below = [max(y - low, 0) for y, low in zip(line.y, line.low, strict=True)]
            above = [max(high - y, 0) for y, high in zip(line.y, line.high, strict=True)]
            axis.errorbar(line.x, line.y, [below, above], fmt="none", ecolor=colour, capsize=3)
        elif len(line.low):
            step = "post" if line.kind == "steps" else None
            axis.fill_between(line.x, line.low, line.high, color=colour, alpha=0.2, linewidth=0, step=step)
    for x, words in panel.guides:
        axis.axvline(x, color="0.6", linewidth=0.7, zorder=0)
        axis.annotate(words, (x, 1), xycoords=("data", "axes fraction"), fontsize=7, va="bottom")
    axis.set(xlabel=panel.xlabel, ylabel=panel.ylabel, xscale=panel.xscale, yscale=panel.yscale)
    axis.set_title(panel.title, fontsize=10, pad=14 if panel.guides else 6)
    if panel.ticks:
        axis.set_xticks([x for x, _ in panel.ticks], [words for _, words in panel.ticks])
        axis.minorticks_off()
    if len(panel.lines) > 1 or (panel.lines and panel.lines[0].label):
        axis.legend(frameon=False, fontsize=8)


def _save(name: str, panels: Sequence[Panel], form: Literal["svg", "png"]) -> bytes:
    """The panels in rows, on nothing."""
    matplotlib = importlib.import_module("matplotlib")  # only now: a second that not every command needs
    figures = importlib.import_module("matplotlib.figure")
    inks = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
    look = dict.fromkeys(inks, INK) | {"svg.fonttype": "none", "svg.hashsalt": name, "font.size": 9}
    out = io.BytesIO()
    with matplotlib.rc_context(look):
        columns = min(len(panels), COLUMNS)
        rows = -(-len(panels) // columns)
        width, height = WIDTH * columns, HEIGHT * rows
        figure = figures.Figure(figsize=(width, height))
        figure.subplots_adjust(
            0.95 / width, 0.55 / height, 1 - 0.15 / width, 1 - 0.45 / height, wspace=0.32, hspace=0.45
        )
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for axis, panel in zip(axes, panels, strict=False):
            _draw_panel(axis, panel)
            axis.patch.set_alpha(0)
        for axis in axes[len(panels) :]:
            axis.set_axis_off()
        figure.patch.set_alpha(0 if form == "svg" else 1)
        unsaid = dict.fromkeys(("Creator", "Date", "Format", "Type")) if form == "svg" else None
        figure.savefig(out, format=form, dpi=160, metadata=unsaid)
    return out.getvalue()


def panel_svg(chart: Chart, number: int, label: str) -> str:
    """One panel as an element of a page: its words take the colour of those around, its ids are like no other's."""
    name = f"{chart.name}-{number}"
    svg: Any = minidom.parseString(_save(name, [chart.panels[number]], "svg")).documentElement
    for group in svg.getElementsByTagName("g"):  # counted in each drawing; other ids are hashes with `name`
        if group.hasAttribute("id"):
            group.setAttribute("id", f"{name}-{group.getAttribute('id')}")
    for size in ("width", "height"):
        svg.removeAttribute(size)
    svg.setAttribute("role", "img")
    svg.setAttribute("aria-label", label)
    return svg.toxml().replace(INK, "currentColor")


def chart_csv(chart: Chart) -> str:
    """Every point, one per row: panel, line, x, y, low, high."""
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(["panel", "line", "x", "y", "low", "high"])
    for panel in chart.panels:
        for line in panel.lines:
            bands = (line.low, line.high) if len(line.low) else ([""] * len(line.x),) * 2
            for x, y, low, high in zip(line.x, line.y, *bands, strict=True):
                rows.writerow([panel.title, line.label, *map(_number, (x, y, low, high))])
    return out.getvalue()


def _number(value: Any) -> str:
    return value if isinstance(value, str) else repr(float(value))


def write_chart(chart: Chart, folder: pathlib.Path) -> list[pathlib.Path]:
    """Writes `name.svg`, `name.png` and `name.csv`."""
    contents = {
        "svg": _save(chart.name, chart.panels, "svg").replace(INK.encode(), b"#000000"),
        "png": _save(chart.name, chart.panels, "png"),
        "csv": chart_csv(chart).encode(),
    }
    paths = []
    for ending, content in contents.items():
        paths.append(folder / f"{chart.name}.{ending}")
        atomic_write(paths[-1], content)
    return paths
