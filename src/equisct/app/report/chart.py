"""Charts as data: lines in panels, drawn as SVG for pages, as SVG and PNG for papers, and written as CSV."""

import contextlib
import csv
import dataclasses
import importlib
import io
import math
import pathlib
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any, Literal
from xml.dom import minidom

import numpy as np

from ..._base.files import atomic_write

Numbers = Sequence[float] | np.ndarray

COLOURS = ("#1b7fc4", "#cf5a00", "#008a5e", "#a8559a", "#8d7100", "#6f6f6f")
"""At least 3:1 against white and against nearly black, and told apart without green and red."""

DASHES = ("solid", "dashed", "dotted")
"""Of the first six lines, of the next six, of all others: by their names in matplotlib and in CSS."""

WIDTH, HEIGHT, COLUMNS = 3.5, 2.6, 3
"""Of a panel without its title, in inches; and how many stand side by side, at most."""

LINE, LETTERS = 0.17, 34
"""Height of a line of words, in inches; and the letters that fit into one over a panel."""

STEPS = (1, 2, 2.5, 5, 10)
"""Between ticks."""

FEW = 12
"""A line of so few points shows them as dots."""

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
    """Number of its colour and dash; by default its label's place among those of the chart."""


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

    @property
    def styles(self) -> dict[str, tuple[str, str]]:
        """Colour and dash of each label, the same in all panels, in the order in which the labels come."""
        numbers: dict[str, int] = {}
        for line in (line for panel in self.panels for line in panel.lines):
            numbers.setdefault(line.label, len(numbers) if line.colour is None else line.colour)
        dash = lambda number: DASHES[min(number // len(COLOURS), len(DASHES) - 1)]
        return {label: (COLOURS[number % len(COLOURS)], dash(number)) for label, number in numbers.items()}

    @property
    def legend(self) -> dict[str, tuple[str, str]]:
        """The styles, if there is more than one line to tell apart."""
        return self.styles if len(self.styles) > 1 else {}


def dotted(line: Line) -> list[int]:
    """The points that are drawn as dots: all where they are few or it is asked for, else those that no stroke joins."""
    known = [math.isfinite(y) for y in line.y]
    if line.kind == "points" or (line.kind == "line" and sum(known) <= FEW):
        return [i for i, there in enumerate(known) if there]
    joined = lambda i: any(known[max(i - 1, 0) : i]) or any(known[i + 1 : i + 2])
    return [i for i, there in enumerate(known) if there and not joined(i)]


def number_in_words(value: float, _: Any = None) -> str:
    """A number at an axis, short: 0.05, 20k, 3e-5."""
    size = abs(value)
    if size >= 1e6 or 0 < size < 1e-3:
        return f"{value:.3g}".replace("e-0", "e-").replace("e+0", "e")
    return f"{value / 1000:g}k" if size >= 1e4 else f"{value:.6g}"


def _draw_line(axis: Any, line: Line, colour: str, dash: str) -> None:
    shown = dotted(line)
    style: dict[str, Any] = {"color": colour, "linestyle": dash, "linewidth": 1.6, "markersize": 3.5}
    style |= {"marker": "o", "markevery": shown} if shown else {}
    if line.kind == "steps":
        axis.step(line.x, line.y, where="post", **style)
    else:
        axis.plot(line.x, line.y, **style)
    if len(line.low) and (line.kind == "points" or len(line.y) == 1):
        below = [max(y - low, 0) for y, low in zip(line.y, line.low, strict=True)]
        above = [max(high - y, 0) for y, high in zip(line.y, line.high, strict=True)]
        axis.errorbar(line.x, line.y, [below, above], fmt="none", ecolor=colour, capsize=3)
    elif len(line.low):
        step = "post" if line.kind == "steps" else None
        axis.fill_between(line.x, line.low, line.high, color=colour, alpha=0.2, linewidth=0, step=step)


def _draw_panel(axis: Any, panel: Panel, styles: dict[str, tuple[str, str]], title: str) -> None:
    for line in panel.lines:
        _draw_line(axis, line, *styles[line.label])
    axis.set(xlabel=panel.xlabel, ylabel=panel.ylabel, xscale=panel.xscale, yscale=panel.yscale)
    _set_ticks(axis, panel)
    for x, _ in panel.guides:
        axis.axvline(x, color="0.6", linewidth=0.7, zorder=0)
    (low, high) = axis.get_xlim()
    free = low  # words that would run into those before them are left out
    for x, words in panel.guides:
        if x >= free:
            axis.annotate(words, (x, 1), xycoords=("data", "axes fraction"), fontsize=7, va="bottom")
            free = x + (high - low) * 0.03 * (len(words) + 1)
    axis.set_title(title, fontsize=9.5, loc="left", pad=14 if panel.guides else 5)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    axis.patch.set_alpha(0)


def _set_ticks(axis: Any, panel: Panel) -> None:
    """Round numbers in few letters, whole ones for updates, several in a decade where there are few decades."""
    ticker = importlib.import_module("matplotlib.ticker")
    for scale, one, limits in (
        (panel.xscale, axis.xaxis, axis.get_xlim()), (panel.yscale, axis.yaxis, axis.get_ylim())
    ):  # fmt: skip
        if scale == "log":
            few = limits[1] < 300 * limits[0]
            one.set_major_locator(ticker.LogLocator(subs=(1, 2, 5) if few else (1,), numticks=9))
            one.set_minor_formatter(ticker.NullFormatter())
        else:
            whole = one is axis.xaxis and panel.xlabel == "update"
            one.set_major_locator(ticker.MaxNLocator(5, integer=whole, steps=STEPS, min_n_ticks=1 if whole else 2))
        one.set_major_formatter(ticker.FuncFormatter(number_in_words))
    if panel.ticks:
        axis.set_xticks([x for x, _ in panel.ticks], [words for _, words in panel.ticks])
        axis.minorticks_off()


@contextlib.contextmanager
def figure_of(chart: Chart, only: int | None = None) -> Iterator[Any]:
    """A figure of the panels in rows, with the legend under them; or of one panel `only`, without.

    A panel has its title over it, unless that is the chart's. Inside, matplotlib looks as the figure needs it.
    """
    matplotlib = importlib.import_module("matplotlib")  # only now: a second that not every command needs
    figures = importlib.import_module("matplotlib.figure")
    inks = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
    look = dict.fromkeys(inks, INK) | {"svg.fonttype": "none", "svg.hashsalt": f"{chart.name} {only}", "font.size": 9}
    titles = [textwrap.fill(panel.title, LETTERS) if panel.title != chart.title else "" for panel in chart.panels]
    over = 0.1 + LINE * (max(map(_lines, titles)) + any(panel.guides for panel in chart.panels))
    numbers = range(len(chart.panels)) if only is None else [only]
    columns = columns_of(len(numbers))
    rows, width, each = -(-len(numbers) // columns), WIDTH * columns, HEIGHT + over
    letters = round(12 * width)
    words = [textwrap.fill(label, letters) for label in chart.legend] if only is None else []
    across = max(1, min(len(words), letters // (max(map(len, words), default=0) + 8)))
    height = each * rows + LINE * sum(max(map(_lines, words[i : i + across])) for i in range(0, len(words), across))
    with matplotlib.rc_context(look):
        figure = figures.Figure(figsize=(width, height))
        for place, number in enumerate(numbers):
            row, column = divmod(place, columns)
            left, bottom = column * WIDTH + 0.8, height - each * (row + 1) + 0.5  # room for the words beside the axes
            size = (WIDTH - 0.92) / width, (HEIGHT - 0.5) / height
            axis = figure.add_axes((left / width, bottom / height, *size))
            _draw_panel(axis, chart.panels[number], chart.styles, titles[number])
        if words:
            stroke = importlib.import_module("matplotlib.lines").Line2D
            handles = [stroke([], [], color=colour, linestyle=dash) for colour, dash in chart.legend.values()]
            style = {"frameon": False, "fontsize": 8, "borderaxespad": 0.2, "handlelength": 2.4}
            figure.legend(handles, words, loc="lower left", ncols=across, **style)
        yield figure


def _bytes(figure: Any, form: Literal["svg", "png"]) -> bytes:
    """The file of a figure; an SVG on nothing."""
    figure.patch.set_alpha(0 if form == "svg" else 1)
    unsaid = dict.fromkeys(("Creator", "Date", "Format", "Type")) if form == "svg" else None
    out = io.BytesIO()
    figure.savefig(out, format=form, dpi=160, metadata=unsaid)
    return out.getvalue()


def columns_of(n: int) -> int:
    """In how many columns `n` panels stand so that the rows are equally full."""
    return -(-n // -(-n // COLUMNS))


def _lines(text: str) -> int:
    return text.count("\n") + 1 if text else 0


def panel_svg(chart: Chart, number: int, label: str) -> str:
    """One panel as an element of a page: its words take the colour of those around, its ids are like no other's."""
    name = f"{chart.name}-{number}"
    with figure_of(chart, number) as figure:
        svg: Any = minidom.parseString(_bytes(figure, "svg")).documentElement
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


def chart_png(chart: Chart) -> bytes:
    """The whole chart as a picture."""
    with figure_of(chart) as figure:
        return _bytes(figure, "png")


def write_chart(chart: Chart, folder: pathlib.Path) -> list[pathlib.Path]:
    """Writes `name.svg`, `name.png` and `name.csv`."""
    with figure_of(chart) as figure:
        svg, png = _bytes(figure, "svg").replace(INK.encode(), b"#000000"), _bytes(figure, "png")
    paths = []
    for ending, content in {"svg": svg, "png": png, "csv": chart_csv(chart).encode()}.items():
        paths.append(folder / f"{chart.name}.{ending}")
        atomic_write(paths[-1], content)
    return paths
