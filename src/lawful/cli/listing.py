"""`lawful list`."""

import textwrap
from typing import Any

from lawful.cli.options import ListOptions, parse
from lawful.model import WEIGHTS, load, shipped
from lawful.registry import STUDIES
from lawful.studies.results import COMPUTED
from lawful.study import headline


def run(arguments: list[str]) -> None:
    """`lawful list`."""
    parse(ListOptions, arguments, "list")
    print("studies")
    for name, study in STUDIES.items():
        print(f"  {name:<15}{study.about}")
        presets = (f"{p} ({s.training.steps:,} steps)" for p, s in study.presets().items())
        text = textwrap.fill(f"presets: {', '.join(presets)}", 62)
        print(textwrap.indent(text, " " * 17))
    for name, computed in COMPUTED.items():
        first, *rest = textwrap.wrap(f"{computed.about} (no training)", 62)
        print(f"  {name:<15}{first}", *rest, sep="\n" + " " * 17)
    print("shipped models")
    for name, folder in shipped().items():
        size = (folder / WEIGHTS).stat().st_size / 2**20
        model = load(name)
        print(f"  {name:<15}{size:.1f} MB, {_made(model.manifest)}")
        text = headline(model.study, model.manifest.get("quality", {}))
        print(textwrap.indent(textwrap.fill(text, 62), " " * 17))


def _made(manifest: Any) -> str:
    return f"{manifest['steps']:,} steps, {manifest['training_seconds'] / 60:.0f} min"
