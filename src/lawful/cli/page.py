"""A self-contained HTML page: figures are embedded, nothing is fetched."""

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape

from matplotlib.figure import Figure

from lawful.data.pictures import FIGURE

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1c2430; background: #fff;
       max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: .2rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
p.lead { color: #55606f; margin-top: 0; } p.warning { background: #fff4d6; padding: .6rem 1rem;
       border-left: 4px solid #d99a00; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .6rem 0; }
th, td { padding: .25rem .9rem .25rem 0; text-align: right; border-bottom: 1px solid #e3e7ec; }
th:first-child, td:first-child { text-align: left; } th { color: #55606f; font-weight: 600; }
img { max-width: 100%; height: auto; } div.wide { overflow-x: auto; }
dt { float: left; clear: left; width: 12rem; color: #55606f; } dd { margin-left: 12rem; }
"""


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """An HTML table; every cell is escaped."""
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f'<div class="wide"><table><tr>{top}</tr>{body}</table></div>'


def png(figure: Figure) -> bytes:
    """A figure as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata=FIGURE)
    return buffer.getvalue()


def picture(figure: Figure, about: str) -> str:
    """A figure as an embedded PNG."""
    data = base64.b64encode(png(figure)).decode("ascii")
    return f'<img alt="{escape(about, quote=True)}" src="data:image/png;base64,{data}">'


def paragraph(text: str, kind: str = "") -> str:
    """An escaped paragraph, of a style class where given."""
    style = f' class="{kind}"' if kind else ""
    return f"<p{style}>{escape(text)}</p>"


def facts(entries: Mapping[str, str]) -> str:
    """A list of names and values."""
    rows = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in entries.items())
    return f"<dl>{rows}</dl>"


def page(title: str, lead: str, sections: Sequence[tuple[str, str]]) -> str:
    """The whole page; the bodies of sections are HTML already."""
    parts = "".join(f"<h2>{escape(name)}</h2>{body}" for name, body in sections)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>"
        f"<body><h1>{escape(title)}</h1>{paragraph(lead, 'lead')}{parts}</body></html>\n"
    )
