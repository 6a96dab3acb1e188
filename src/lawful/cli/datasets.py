"""`lawful data`: makes a data set of the project's own, and says what it holds."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro

from lawful.cli.options import parse
from lawful.cli.progress import progress
from lawful.errors import InputError
from lawful.materials.dataset import (
    CoarseningSet,
    Parts,
    default_path,
    load,
    make,
    read_recipe,
)

ENDINGS = (".h5", ".hdf5")
USUAL = CoarseningSet()


@dataclass(frozen=True)
class DataOptions:
    """Make a data set; a call that was interrupted is gone on with by the next."""

    name: Annotated[
        tyro.conf.Positional[Literal["cahn-hilliard"]], tyro.conf.arg(help="two-phase images")
    ]
    images: Annotated[int, tyro.conf.arg(help="number of images")] = USUAL.images
    side: Annotated[int, tyro.conf.arg(help="pixels a side")] = USUAL.side
    seed: Annotated[int, tyro.conf.arg(help="of all random numbers")] = USUAL.seed
    out: Annotated[Path | None, tyro.conf.arg(help="HDF5 file [in the cache]")] = None


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
        _describe(load(path), path, "was there already")
        return
    started = time.perf_counter()
    make_with_progress(recipe, path)
    _describe(load(path), path, f"made in {time.perf_counter() - started:.0f} s")


def make_with_progress(recipe: CoarseningSet, path: Path) -> None:
    """Make the set, with a bar and the time left, or lines where there is no terminal."""
    with progress(recipe.images) as show:
        for count in make(recipe, path):
            show(count)


def _describe(found: Parts, path: Path, how: str) -> None:
    train, held_out = found
    fraction = torch.cat([train.volume_fraction, held_out.volume_fraction])
    times = torch.cat([train.time, held_out.time])
    pairs = torch.cat([train.pair, held_out.pair]).unique()
    side = train.images.shape[-1]
    print(f"{path}: {how}, {path.stat().st_size / 2**20:.1f} MB")
    print(f"  images           {len(fraction):,} of {side} x {side}")
    print(f"  runs             {len(pairs):,} pairs of the same state, other noise")
    print(f"  volume fraction  {fraction.min():.3f} to {fraction.max():.3f}")
    print(f"  time             {times.min():g} to {times.max():g}")
    print(f"  split            {len(train.pair):,} to train, {len(held_out.pair):,} held out")
