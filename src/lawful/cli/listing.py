"""`lawful list`: what is shipped, told without importing it."""

import json
import textwrap

from lawful.catalogue import COMPUTED, MANIFEST, STUDIES, WEIGHTS, shipped
from lawful.cli.options import no_options, parse

LINE = 79
NAMES = max(map(len, (*STUDIES, *COMPUTED, *shipped())))
INDENT = " " * (NAMES + 3)


def run(arguments: list[str]) -> None:
    """`lawful list`."""
    parse(no_options, arguments, "list")
    print("studies")
    for name, study in STUDIES.items():
        print(f"  {name:<{NAMES}} {_wrapped(study.about).lstrip()}")
        presets = (f"{preset} ({steps:,} steps)" for preset, steps in study.presets.items())
        print(_wrapped(f"presets: {', '.join(presets)}"))
    for name, computed in COMPUTED.items():
        print(f"  {name:<{NAMES}} {_wrapped(f'{computed.about} (no training)').lstrip()}")
    print("shipped models")
    for name, folder in shipped().items():
        size = (folder / WEIGHTS).stat().st_size / 2**20
        manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
        minutes = manifest["training_seconds"] / 60
        print(f"  {name:<{NAMES}} {size:.1f} MB, {manifest['steps']:,} steps, {minutes:.0f} min")
        print(_wrapped(manifest["headline"]))


def _wrapped(text: str) -> str:
    return textwrap.fill(text, LINE, initial_indent=INDENT, subsequent_indent=INDENT)
