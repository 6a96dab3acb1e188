"""What `lawful study` writes: a table in Markdown, the same as data, and figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from matplotlib.figure import Figure

LONG = 30


@dataclass(frozen=True)
class Result:
    """A reproduced table or figure.

    Arguments:
        title: Heading.
        markdown: Tables and what they mean.
        data: The same figures as plain values.
        figures: By file name without ending.
    """

    title: str
    markdown: str
    data: Mapping[str, Any]
    figures: Mapping[str, Figure] = field(default_factory=dict)


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first column is text, the others right-aligned where they are short."""
    wide = [any(len(row[i]) > LONG for row in rows) for i in range(len(head))]
    rule = ["---" if i == 0 or wide[i] else "---:" for i in range(len(head))]
    lines = [head, rule, *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
