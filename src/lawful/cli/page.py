"""Sections of sentences, tables and figures, as lines of a terminal or as a self-contained page.

In a page figures are embedded, and nothing is fetched.
"""

import base64
import io
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from textwrap import fill

from matplotlib.figure import Figure

from lawful.data.pictures import FIGURE
from lawful.errors import InputError
from lawful.files import write_all

Table = list[Sequence[str]]  # rows, the first of which is the head
Block = str | Table | tuple[str, Figure]  # a sentence, a table, or a figure under its caption
Section = tuple[str, Sequence[Block]]
WIDTH = 80
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
figure { margin: .6rem 0; } figcaption { color: #55606f; }
"""


def show(sections: Sequence[Section], warnings: Sequence[str] = ()) -> None:
    """Print sections without their figures, and then the warnings."""
    for title, blocks in sections:
        for number, block in enumerate(blocks):
            if isinstance(block, str):
                print(fill(block if number else f"{title}: {block}", WIDTH))
            elif isinstance(block, list):
                print(*_aligned(block), sep="\n")
    for text in warnings:
        print(f"lawful: warning: {text}", file=sys.stderr)


def _aligned(table: Table) -> Iterator[str]:
    first, *others = ([len(cell) for cell in column] for column in zip(*table, strict=True))
    for label, *cells in table:
        parts = (f"{cell:>{max(widths)}}" for cell, widths in zip(cells, others, strict=True))
        yield "  ".join([label.ljust(max(first)), *parts])


def page(title: str, lead: str, warnings: Sequence[str], sections: Sequence[Section]) -> str:
    """Sections as an HTML page; whatever they say is escaped."""
    notes = "".join(f'<p class="warning">{escape(text)}.</p>' for text in warnings)
    parts = "".join(
        f"<h2>{escape(name)}</h2>{''.join(map(_html, blocks))}" for name, blocks in sections
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>"
        f'<body><h1>{escape(title)}</h1><p class="lead">{escape(lead)}</p>{notes}{parts}'
        "</body></html>\n"
    )


def _html(block: Block) -> str:
    if isinstance(block, str):
        return f"<p>{escape(block)}</p>"
    if isinstance(block, tuple):
        caption, figure = block
        data = base64.b64encode(png(figure)).decode("ascii")
        image = f'<img alt="{escape(caption, quote=True)}" src="data:image/png;base64,{data}">'
        return f"<figure>{image}<figcaption>{escape(caption)}</figcaption></figure>"
    kinds = ["th", *["td"] * (len(block) - 1)]
    rows = (
        "".join(f"<{kind}>{escape(cell)}</{kind}>" for cell in row)
        for kind, row in zip(kinds, block, strict=True)
    )
    return f'<div class="wide"><table>{"".join(f"<tr>{row}</tr>" for row in rows)}</table></div>'


def png(figure: Figure) -> bytes:
    """A figure as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata=FIGURE)
    return buffer.getvalue()


def check_folder(folder: Path) -> None:
    """Refuse, before what is to be written is computed, a folder that could not be made.

    Raises:
        InputError: What it would stand in is no folder, or may not be written to.
    """
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise InputError(f"{folder}: cannot be written ({there} is no folder that takes files)")


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files into a folder; none takes its place before all are complete.

    Raises:
        InputError: One cannot be written.
    """
    try:
        write_all({folder / name: content for name, content in files.items()})
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror})") from None
