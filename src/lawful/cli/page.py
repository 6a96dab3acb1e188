"""What commands write into a folder: figures, and a self-contained HTML page of them.

Figures are embedded; nothing is fetched.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from matplotlib.figure import Figure

from lawful.data.pictures import FIGURE
from lawful.errors import InputError
from lawful.files import write_all

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


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files into a folder; none takes its place before all are complete.

    Raises:
        InputError: One cannot be written.
    """
    try:
        write_all({folder / name: content for name, content in files.items()})
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror})") from None


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
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """An HTML table; every cell is escaped."""
    lines = [("th", head), *(("td", row) for row in rows)]
    body = "".join(
        "<tr>" + "".join(f"<{cell}>{escape(text)}</{cell}>" for text in row) + "</tr>"
        for cell, row in lines
    )
    return f'<div class="wide"><table>{body}</table></div>'


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
