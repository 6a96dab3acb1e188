"""`lawful list`."""

import textwrap
from dataclasses import dataclass
from typing import Any

from lawful.app.options import parse
from lawful.studies.model import WEIGHTS, load, shipped
from lawful.studies.registry import STUDIES


@dataclass(frozen=True)
class ListOptions:
    """Studies with their presets, shipped models with size and measured quality."""


def run(arguments: list[str]) -> None:
    """`lawful list`."""
    parse(ListOptions, arguments, "lawful list")
    print("studies")
    for name, study in STUDIES.items():
        print(f"  {name:<15}{study.about}")
        presets = (f"{p} ({s.training.steps:,} steps)" for p, s in study.presets().items())
        text = textwrap.fill(f"presets: {', '.join(presets)}", 62)
        print(textwrap.indent(text, " " * 17))
    print("shipped models")
    for name, folder in shipped().items():
        size = (folder / WEIGHTS).stat().st_size / 2**20
        manifest = load(name).manifest
        print(f"  {name:<15}{size:.1f} MB, {manifest['steps']} steps, {_minutes(manifest)}")
        error = manifest.get("quality", {}).get("relative_error")
        if error:
            print(
                f"  {'':<15}relative error: mean {error['mean']:.4f}, "
                f"95th % {error['p95']:.4f}, worst {error['worst']:.4f}"
            )


def _minutes(manifest: Any) -> str:
    return f"trained in {manifest['training_seconds'] / 60:.0f} min"
