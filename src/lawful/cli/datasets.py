"""`lawful data`: makes a data set of the project's own, and says what it holds."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
from tyro.conf import Positional, arg

from lawful.cli.options import parse
from lawful.cli.progress import progress
from lawful.errors import InputError
from lawful.materials.dataset import CoarseningSet, default_path, load, make, read_recipe

ENDINGS = (".h5", ".hdf5")
USUAL = CoarseningSet()


@dataclass(frozen=True)
class DataOptions:
    """Make a data set; a call that was interrupted is gone on with by the next."""

    name: Annotated[Positional[Literal["cahn-hilliard"]], arg(help="two-phase images")]
    images: Annotated[int, arg(help="number of images")] = USUAL.images
    side: Annotated[int, arg(help="pixels per side")] = USUAL.side
    seed: Annotated[int, arg(help="of all random numbers")] = USUAL.seed
    out: Annotated[Path | None, arg(help="HDF5 file [in the cache]")] = None


def run(arguments: list[str]) -> None:
    """`lawful data cahn-hilliard`."""
    options = parse(DataOptions, arguments, "data")
    recipe = CoarseningSet(images=options.images, side=options.side, seed=options.seed)
    path = options.out or default_path(recipe)
    if path.suffix not in ENDINGS:
        raise InputError(f"--out {path}: expected an ending of {', '.join(ENDINGS)}")
    if path.is_dir():
        raise InputError(f"--out {path}: is a folder")
    if path.exists():
        if read_recipe(path) != recipe:
            raise InputError(f"{path}: holds another set; remove it or choose another --out")
        print(described(path, "was there already"))
        return
    started = time.perf_counter()
    with progress(recipe.images) as show:
        for count in make(recipe, path):
            show(count)
    print(described(path, f"made in {time.perf_counter() - started:.0f} s"))


def described(path: Path, how: str) -> str:
    """What a set of images holds."""
    parts = load(path)
    fraction, times, pairs = (
        torch.cat([getattr(part, name) for part in parts])
        for name in ("volume_fraction", "time", "pair")
    )
    side, (train, held_out) = parts[0].images.shape[-1], (len(part.pair) for part in parts)
    return (
        f"{path}: {how}, {path.stat().st_size / 2**20:.1f} MB\n"
        f"  images           {len(fraction):,} of {side} x {side}\n"
        f"  runs             {len(pairs.unique()):,} pairs of the same state, other noise\n"
        f"  volume fraction  {fraction.min():.3f} to {fraction.max():.3f}\n"
        f"  time             {times.min():g} to {times.max():g}\n"
        f"  split            {train:,} to train, {held_out:,} held out"
    )
