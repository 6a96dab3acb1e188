"""Measure a model anew, where what it is measured against has changed, and say so in its manifest.

    python benchmarks/remeasure.py microstructure [--dry]

The weights and what the manifest says of the training stay. A shipped model of a working tree is
changed in place. `microstructure` needs `lawful data cahn-hilliard` before.
"""

import argparse
import json

import torch

import lawful
from lawful.files import json_bytes, write_all
from lawful.model import MANIFEST
from lawful.run import quality
from lawful.study import headline


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="shipped model or run folder")
    parser.add_argument("--dry", action="store_true", help="only print")
    options = parser.parse_args()
    model = lawful.load(options.model)
    with torch.no_grad():
        found = quality(model)
    print(json.dumps(found, indent=2))
    print(f"\nbefore: {headline(model.study, model.manifest['quality'])}")
    now = headline(model.study, found)
    print(f"now:    {now}")
    if not options.dry:
        measured = {"quality": found, "headline": now}
        write_all({model.folder / MANIFEST: json_bytes({**model.manifest, **measured})})


if __name__ == "__main__":
    main()
