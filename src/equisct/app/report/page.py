"""One HTML file that needs nothing else: no script, no request, light and dark, for phones and for readers by ear."""

import base64
import dataclasses
from collections.abc import Sequence
from html import escape

from .chart import Chart, chart_csv, panel_svg

STYLE = """
:root{color-scheme:light dark;--ink:#1c1c1e;--paper:#fff;--soft:#5a5a60;--line:#c9c9cf;--link:#0b5cad;--tint:#f4f4f6}
@media(prefers-color-scheme:dark){:root{--ink:#ececef;--paper:#131316;--soft:#a9a9b2;--line:#3c3c44;--link:#7db8ff;
--tint:#1d1d22}}
*{box-sizing:border-box}
body{margin:0;color:var(--ink);background:var(--paper);font:16px/1.55 system-ui,sans-serif}
header,main,footer{max-width:70rem;margin:0 auto;padding:0 1rem}
a{color:var(--link)}
a:focus-visible,[tabindex]:focus-visible,summary:focus-visible{outline:3px solid var(--link);outline-offset:2px}
.skip{position:absolute;left:-99rem}.skip:focus{left:1rem;top:.5rem;background:var(--paper);padding:.5rem}
h1{font-size:1.7rem;margin:1.2rem 0 .2rem}h2{font-size:1.25rem;margin:2.2rem 0 .4rem}
h3{font-size:1rem;margin:1.4rem 0 .3rem}
nav ul{display:flex;flex-wrap:wrap;gap:.3rem 1.1rem;padding:0;list-style:none}
figure{margin:1rem 0}figcaption{color:var(--soft);font-size:.92rem;max-width:52rem}
.panels{display:grid;gap:.6rem;grid-template-columns:repeat(auto-fill,minmax(min(21rem,100%),1fr))}
.panels svg{width:100%;max-width:25rem;height:auto;display:block;overflow:visible}
svg text{font-family:system-ui,sans-serif}
.legend{display:flex;flex-wrap:wrap;gap:.1rem 1.3rem;margin:.2rem 0 .6rem;padding:0;list-style:none;font-size:.88rem}
.legend span{display:inline-block;width:1.8rem;margin-right:.45rem;vertical-align:middle;border-top:3px}
.pictures{display:grid;gap:0 1rem;align-items:start}
.large{grid-template-columns:repeat(auto-fill,minmax(min(33rem,100%),1fr))}
.small{grid-template-columns:repeat(auto-fill,minmax(min(15.5rem,100%),1fr))}
.pictures figure{margin:.5rem 0}
img{max-width:100%;height:auto;background:#fff}
.wide{overflow-x:auto;border:1px solid var(--line);border-radius:4px;width:fit-content;max-width:100%}
table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums}
th,td{padding:.3rem .7rem;text-align:left;vertical-align:top;border-bottom:1px solid var(--line);white-space:nowrap}
tr:last-child>*{border-bottom:0}
td+td,thead th+th{border-left:1px solid var(--line)}
.words td{white-space:normal;overflow-wrap:anywhere;min-width:14rem;max-width:52rem}
thead th{background:var(--tint)}
tbody th{font-weight:600}
details{margin:1.2rem 0}summary{cursor:pointer;font-weight:700}
footer{color:var(--soft);font-size:.88rem;padding-bottom:2rem}
"""


@dataclasses.dataclass(frozen=True)
class Picture:
    """A PNG, what it shows in words, and what stands under it."""

    png: bytes
    alt: str
    caption: str


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of words; the first cell of each is its name."""

    header: Sequence[str]
    """With nothing in it where the first column says it all."""
    rows: Sequence[Sequence[str]]
    caption: str
    of_words: bool = False
    """Whether long cells go over several lines."""
    folded: bool = False
    """Whether it is shown on demand."""


@dataclasses.dataclass(frozen=True)
class Gallery:
    """Pictures side by side: two of them in a wide window, or three if they are `small`."""

    title: str
    pictures: Sequence[Picture]
    small: bool = False


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of the page with what it holds, in order; `parts` that are galleries stand side by side."""

    name: str
    title: str
    words: str
    parts: Sequence[Chart | Table | Gallery]


def _download(content: bytes, kind: str, filename: str, words: str) -> str:
    data = base64.b64encode(content).decode()
    return f'<a download="{escape(filename)}" href="data:{kind};base64,{data}">{escape(words)}</a>'


def _chart(chart: Chart) -> str:
    panels = "".join(panel_svg(chart, i, f"{panel.title}. {chart.alt}") for i, panel in enumerate(chart.panels))
    csv = _download(chart_csv(chart).encode(), "text/csv", f"{chart.name}.csv", f"Data as CSV: {chart.name}")
    strokes = "".join(
        f'<li><span style="border-top-style:{dash};border-top-color:{colour}"></span>{escape(label)}</li>'
        for label, (colour, dash) in chart.legend.items()
    )
    legend = f'<ul class="legend">{strokes}</ul>' if strokes else ""
    return (
        f'<figure id="{chart.name}"><h3>{escape(chart.title)}</h3>{legend}<div class="panels">{panels}</div>'
        f"<figcaption>{escape(chart.caption)} {csv}</figcaption></figure>"
    )


def _gallery(gallery: Gallery) -> str:
    shown = []
    for picture in gallery.pictures:
        source = "data:image/png;base64," + base64.b64encode(picture.png).decode()
        shown.append(
            f'<figure><img alt="{escape(picture.alt)}" src="{source}">'
            f"<figcaption>{escape(picture.caption)}</figcaption></figure>"
        )
    size = "small" if gallery.small else "large"
    return f'<h3>{escape(gallery.title)}</h3><div class="pictures {size}">{"".join(shown)}</div>'


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in table.header)
    head = f"<thead><tr>{head}</tr></thead>" if head else ""
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th>' + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"
        for name, *cells in table.rows
    )
    caption, kind = escape(table.caption), " words" * table.of_words
    shown = (
        f'<div class="wide{kind}" role="region" aria-label="{caption}" tabindex="0"><table>'
        f"{head}<tbody>{rows}</tbody></table></div>"
    )
    return f"<details><summary>{caption}</summary>{shown}</details>" if table.folded else f"<h3>{caption}</h3>{shown}"


def _part(part: Chart | Table | Gallery) -> str:
    match part:
        case Chart():
            return _chart(part)
        case Table():
            return _table(part)
        case Gallery():
            return _gallery(part)


def page(title: str, words: str, sections: Sequence[Section], footer: str) -> str:
    """The whole page."""
    contents = "".join(f'<li><a href="#{each.name}">{escape(each.title)}</a></li>' for each in sections)
    body = "".join(
        f'<section aria-labelledby="{each.name}"><h2 id="{each.name}">{escape(each.title)}</h2>'
        f"<p>{escape(each.words)}</p>{''.join(map(_part, each.parts))}</section>"
        for each in sections
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">"
        f'<title>{escape(title)}</title><link rel="icon" href="data:,"><style>{STYLE}</style></head><body>'
        f'<a class="skip" href="#content">Skip to the content</a><header><h1>{escape(title)}</h1>'
        f'<p>{escape(words)}</p><nav aria-label="Contents"><ul>{contents}</ul></nav></header>'
        f'<main id="content">{body}</main><footer><p>{escape(footer)}</p></footer></body></html>\n'
    )
