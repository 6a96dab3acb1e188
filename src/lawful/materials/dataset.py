r"""Data sets of two-phase images: the project's own of spinodal decomposition, a published one.

A quench :math:`c = \bar c + 0.25\,\mathcal N(0, 1)` of the Cahn-Hilliard equation (gamma = 1,
h = 1, periodic) coarsens; the phase c > 0 at a time t is an image. Mean compositions are uniform
in [-0.45, 0.45]; the times of a batch of runs are log-uniform in equal strata of log t. Images
whose volume fraction p1 leaves [0.25, 0.75] are left out.

Runs 2k and 2k + 1 are replicates: composition and times are the same, the noise is another. Their
difference is the natural spread between two samples of one state. Snapshots of a run resemble each
other, so whole pairs are held out, every sixteenth.

Batch b is drawn from a generator seeded by (seed, b) and made on one thread, so on one machine it
is equal bit for bit, whoever makes it. Processors that round differently may give other pixels
where c is near 0.

The published file is `2D_binary_morphologies.h5` (Zenodo): one dataset `morphology` with rows of
101 x 101 values, of which those above the middle of their range are the phase 1. Frames of one
simulation are near-duplicates that follow each other, so whole blocks of rows are held out, and an
eighth of a block on either side is in no part. The fields are taken as not periodic.
"""

import hashlib
import json
import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import cached_property, lru_cache
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any

import h5py
import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from skimage.transform import resize_local_mean
from torch import Tensor
from torch.nn.functional import max_pool1d

from lawful import reading
from lawful.errors import InputError
from lawful.files import cache, replacing, write_all
from lawful.laws import Condition
from lawful.materials.cahn_hilliard import FIRST, CahnHilliard, evolve, quench
from lawful.materials.fields import level_cut
from lawful.materials.statistics import two_point
from lawful.typed import Count, Positive, Seed, Within, build, check_fields

FORMAT = "lawful-microstructures-2"  # another number with another solver
HELD_OUT = 16  # every sixteenth pair of runs, or block of published rows
LANES = 16  # runs advanced at a time: their fields fit into the cache of a core
LEAST, SMALL = 16, 256  # images of a small set at least, and of the one by that name
PER_IMAGE = ("images", "volume_fraction", "time", "pair")
COLUMNS = ("run", "pair", "seed", "composition", "time", "volume_fraction")
PUBLISHED, PUBLISHED_SIDE, BLOCK = "morphology", 101, 256  # dataset, pixels a side, rows of a block
Columns = dict[str, np.ndarray]


@dataclass(frozen=True)
class CoarseningSet:
    """What a set holds; equal recipes give equal sets.

    Arguments:
        images: Number of images.
        side: Pixels per side, of one unit of length each.
        seed: Of all random numbers, with the number of the batch.
        times: First and last time of coarsening.
        composition: Largest |mean composition|.
        fractions: Least and largest volume fraction of an image.
        dt: First time step.
        noise: Standard deviation of the quench.
        snapshots: Images of a run, before those outside `fractions` are left out.
        runs: Runs of a batch, an even number.

    Raises:
        InputError: A value is out of range.
    """

    images: Annotated[int, Within(1, 10_000_000)] = 34_000
    side: Annotated[int, Within(16, 1024)] = 64
    seed: Seed = 0
    times: tuple[float, float] = (30.0, 300.0)
    composition: Annotated[float, Within(0, 1, below=True)] = 0.45
    fractions: tuple[float, float] = (0.25, 0.75)
    dt: Positive = FIRST
    noise: Annotated[float, Within(0, 0.3, above=True)] = 0.25
    snapshots: Count = 4
    runs: Annotated[int, Within(2, 100_000)] = 64

    def __post_init__(self) -> None:
        check_fields(self)
        if not 0 < self.dt <= self.times[0] < self.times[1] < math.inf:
            raise InputError(f"times: expected dt <= first < last, got {self.times}, dt {self.dt}")
        if not 0 <= self.fractions[0] < self.fractions[1] <= 1:
            raise InputError(f"fractions: expected 0 <= least < largest <= 1, got {self.fractions}")
        if self.runs % 2:
            raise InputError(f"runs: expected an even number, got {self.runs}")


@dataclass(frozen=True)
class Microstructures:
    """Two-phase images, and what is known of each.

    Arguments:
        images: 1 in the phase that the volume fraction is of, 0 elsewhere.
        time: Of coarsening; NaN where it is not known.
        pair: Images of different pairs are independent.
        source: Where they come from, for manifests.
        periodic: Whether an image continues at its opposite side.
    """

    images: UInt8[Tensor, "images side side"]
    volume_fraction: Float[Tensor, " images"]
    time: Float[Tensor, " images"]
    pair: Int[Tensor, " images"]
    source: str
    periodic: bool = True

    def __getitem__(self, rows: Tensor) -> "Microstructures":
        """Some of the images."""
        return replace(self, **{name: getattr(self, name)[rows] for name in PER_IMAGE})

    @cached_property
    def statistics(self) -> Condition:
        """Volume fraction and two-point correlation of every image, float32."""
        curves = [two_point(part, periodic=self.periodic) for part in self.images.split(512)]
        phi = self.volume_fraction.float()
        return {"volume_fraction": phi, "two_point": torch.cat(curves).float()}


Parts = tuple[Microstructures, Microstructures]  # what may be trained on, what is held out


def batch(recipe: CoarseningSet, number: int) -> Columns:
    """The images of one batch, run after run, as rows of bits, and the columns beside them.

    Raises:
        InputError: No image of the batch is within the volume fractions asked for.
    """
    state = np.random.SeedSequence([recipe.seed, number]).generate_state(1, np.uint64)
    seed = int(state[0]) >> 1
    generator = torch.Generator().manual_seed(seed)
    pairs = 2 * torch.rand(recipe.runs // 2, generator=generator) - 1
    composition = recipe.composition * pairs.repeat_interleave(2)
    (first, last), count = recipe.times, recipe.snapshots
    place = torch.arange(count) + torch.rand(count, generator=generator)
    times: list[float] = (first * (last / first) ** (place / count)).tolist()
    start = quench(recipe.side, recipe.side, composition, generator, noise=recipe.noise)
    with one_thread():  # the flow amplifies what is rounded differently
        lanes = [
            torch.stack([c > 0 for c in evolve(CahnHilliard(), some, times, dt=recipe.dt)], 1)
            for some in start.split(LANES)
        ]
    phase = torch.cat(lanes).flatten(0, 1)
    fraction = phase.flatten(1).float().mean(1)
    lane = torch.arange(recipe.runs).repeat_interleave(count)
    run = lane + number * recipe.runs
    columns = {
        "run": run,
        "pair": run // 2,
        "seed": torch.full_like(run, seed),
        "composition": composition[lane],
        "time": torch.tensor(times).repeat(recipe.runs),
        "volume_fraction": fraction,
    }
    keep = (fraction >= recipe.fractions[0]) & (fraction <= recipe.fractions[1])
    if not bool(keep.any()):
        raise InputError(f"images: none of a batch has a volume fraction in {recipe.fractions}")
    bits = np.packbits(phase[keep].flatten(1).numpy(), axis=1)
    return {"bits": bits} | {name: value[keep].numpy() for name, value in columns.items()}


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread in the block: transforms by several are rounded differently."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def make(recipe: CoarseningSet, path: Path) -> Iterator[int]:
    """Make the set and write it to `path`; yields the number of images so far.

    Batches are kept in a folder beside `path` until the file is complete, so that the next call
    goes on where this one was interrupted. One that is damaged or of another recipe is made anew.

    Raises:
        InputError: The place cannot be written, or the set does not fit into memory.
    """
    reading.check_memory(3.0 * recipe.images * recipe.side**2, f"images: {recipe.images}")
    # A batch does not depend on the number of images: a larger set goes on with a smaller one's.
    what = [FORMAT, asdict(replace(recipe, images=1)), asdict(CahnHilliard())]
    parts = path.with_name(f".{path.name}.parts")
    own = parts / hashlib.sha256(json.dumps(what).encode()).hexdigest()[:16]
    batches: list[Columns] = []
    count = 0
    try:
        while count < recipe.images:
            batches.append(_kept(recipe, len(batches), own / f"{len(batches)}.npz"))
            count += len(batches[-1]["run"])
            yield min(count, recipe.images)
        write_all({path: _file_image(recipe, _join(recipe, batches))})
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error})") from None
    shutil.rmtree(parts, ignore_errors=True)


def _kept(recipe: CoarseningSet, number: int, path: Path) -> Columns:
    """The batch from its file, else made and put there."""
    with suppress(InputError, KeyError):  # made anew
        found = reading.read_npz(path)
        return {name: found[name] for name in ("bits", *COLUMNS)}
    made: dict[str, Any] = batch(recipe, number)
    with replacing(path) as temporary:
        np.savez(temporary, **made)
    return made


def _join(recipe: CoarseningSet, batches: list[Columns]) -> Columns:
    """All batches, cut after the last image, with `images` in place of bits."""
    names = ("bits", *COLUMNS)
    rows = {n: np.concatenate([part[n] for part in batches])[: recipe.images] for n in names}
    pixels = np.unpackbits(rows.pop("bits"), axis=1, count=recipe.side**2)
    return {"images": pixels.reshape(-1, recipe.side, recipe.side), **rows}


def _file_image(recipe: CoarseningSet, columns: Columns) -> bytes:
    """The HDF5 file, made in memory: HDF5 does not survive a disk that fills up."""
    memory = BytesIO()
    with h5py.File(memory, "w") as file:
        file.attrs["format"] = reading.fixed_text(FORMAT)
        file.attrs["recipe"] = reading.fixed_text(json.dumps(asdict(recipe)))
        file.attrs["equation"] = json.dumps(asdict(CahnHilliard()))
        file.attrs["lawful"] = version("lawful")
        for name, value in {**columns, "held_out": columns["pair"] % HELD_OUT == 0}.items():
            chunks = (min(256 if value.ndim > 1 else 2**14, len(value)), *value.shape[1:])
            file.create_dataset(
                name, data=value, chunks=chunks, compression="gzip", fletcher32=True
            )
    return memory.getvalue()


@lru_cache(maxsize=2)
def open_set(name: str) -> Parts:
    """The set `cahn-hilliard` in the cache, `small`, or that of a file.

    Raises:
        InputError: There is no such file, it cannot be read, or a part of it is empty.
    """
    if name == "small":
        return small(SMALL)
    path = default_path() if name == "cahn-hilliard" else Path(name)
    if name != "cahn-hilliard" and not path.is_file():
        raise InputError(f"data {name!r}: expected cahn-hilliard, small, or an HDF5 file")
    train, held_out = load(path)
    if not len(train.pair) or not len(held_out.pair):
        raise InputError(f"data {train.source}: too few images to train on some, hold out others")
    return train, held_out


def load(path: Path) -> Parts:
    """A set that `make` wrote, or the published one: images to train on, and those held out.

    Raises:
        InputError: The file is missing, truncated, damaged, or of another format.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file; lawful data cahn-hilliard makes it")
    with reading.opened_hdf5(path) as file:
        if PUBLISHED in reading.dataset_names(file, path):
            return _published(file, path)
        recipe = _recipe(file, path)
        image = (recipe.images, recipe.side, recipe.side)
        columns = {name: _column(file, name, image[:1], path) for name in COLUMNS}
        columns["images"] = images = _column(file, "images", image, path)
    exact = np.allclose(images.mean((1, 2)), columns["volume_fraction"], atol=1e-6)
    if images.max() > 1 or not exact:
        raise InputError(f"{path}: the volume fractions are not those of the images: damaged")
    return _split(columns, f"{path.name}: {_source(recipe)}")


def _column(file: Any, name: str, shape: tuple[int, ...], path: Path) -> np.ndarray:
    found, wanted = reading.dataset(file, name, path), "bytes" if len(shape) > 1 else "numbers"
    if found.shape != shape or (wanted == "bytes" and found.dtype != np.uint8):
        raise InputError(
            f"{path}: {name}: expected {shape} {wanted}, got {found.shape} {found.dtype}"
        )
    return reading.read_rows(found, slice(None), f"{path}: {name}")


def read_recipe(path: Path) -> CoarseningSet:
    """The recipe of a set that `make` wrote.

    Raises:
        InputError: The file is missing, truncated, or of another format.
    """
    with reading.opened_hdf5(path) as file:
        return _recipe(file, path)


def _recipe(file: Any, path: Path) -> CoarseningSet:
    if (found := reading.text_attribute(file, "format", path)) != FORMAT:
        own = found.startswith(FORMAT[:-1])
        what = "; of another solver: remove it, and it is made anew" if own else ""
        raise InputError(f"{path}: expected format {FORMAT}, found {found:.60}{what}")
    place = f"{path}: recipe"
    text = reading.text_attribute(file, "recipe", path)
    return build(CoarseningSet, reading.parse_json(text, place), place)


def _split(columns: Columns, source: str) -> Parts:
    kept: dict[str, Any] = {name: torch.from_numpy(columns[name]) for name in PER_IMAGE}
    whole = Microstructures(source=source, **kept)
    held = whole.pair % HELD_OUT == 0
    return whole[~held], whole[held]


def _source(recipe: CoarseningSet) -> str:
    return (
        f"{recipe.images} Cahn-Hilliard images of {recipe.side} x {recipe.side}, "
        f"seed {recipe.seed}, {FORMAT}, lawful {version('lawful')}"
    )


def default_path(recipe: CoarseningSet | None = None) -> Path:
    """Where a set is kept in the cache, by its number of images, side and seed."""
    recipe, usual = recipe or CoarseningSet(), CoarseningSet()
    names = [f"-{n}{getattr(recipe, n)}" for n in ("side", "seed")
             if getattr(recipe, n) != getattr(usual, n)]  # fmt: skip
    return cache() / f"cahn-hilliard-{recipe.images}{''.join(names)}.h5"


def small(images: int, side: int = 64, seed: int = 0) -> Parts:
    """A small set made in memory, with batches no larger than it needs.

    Pairs are numbered without gaps, so that neither part is empty.

    Raises:
        InputError: Fewer than 16 images are asked for.
    """
    usual = CoarseningSet(images=images, side=side, seed=seed)
    if images < LEAST:
        raise InputError(f"images: expected at least {LEAST} for two parts, got {images}")
    recipe = replace(usual, runs=min(usual.runs, 2 * math.ceil(images / usual.snapshots / 1.5) + 2))
    batches: list[Columns] = []
    while sum(len(part["run"]) for part in batches) < images:
        batches.append(batch(recipe, len(batches)))
    columns = _join(recipe, batches)
    columns["pair"] = np.unique(columns["pair"], return_inverse=True)[1]
    return _split(columns, _source(recipe))


def _published(file: Any, path: Path, side: int = 64) -> Parts:
    """Values averaged over the area of each new pixel; as many are 1 as the fraction asks for."""
    data, place = reading.dataset(file, PUBLISHED, path), f"{path}: {PUBLISHED!r}"
    if data.ndim != 2 or data.shape[1] != PUBLISHED_SIDE**2 or len(data) < 2 * HELD_OUT:
        expected = f"(n, {PUBLISHED_SIDE**2}), n at least {2 * HELD_OUT}"
        raise InputError(f"{place} has shape {data.shape}, expected {expected}")
    values = reading.read_rows(data, slice(None), path).astype(np.float32)
    if not (finite := np.isfinite(values).all(1)).all():
        raise InputError(f"{place} is not finite in row {int(finite.argmin())}")
    middle = (values.min() + values.max()) / 2
    if not values.min() < values.max():
        raise InputError(f"{place} has one value, {middle:g}; expected two phases")
    fields = values.reshape(-1, PUBLISHED_SIDE, PUBLISHED_SIDE)
    resized = np.stack([resize_local_mean(field, (side, side)) for field in fields])
    images = level_cut(torch.from_numpy(resized), torch.from_numpy((values > middle).mean(1)))
    length = min(BLOCK, len(images) // HELD_OUT)
    block = torch.arange(len(images)) // length
    held, reach = block % HELD_OUT == 0, length // 8
    # Rows beside those held out may be of their simulations.
    near = max_pool1d(held[None].float(), 2 * reach + 1, 1, reach)[0] > 0
    whole = Microstructures(
        images.byte(), images.float().mean((1, 2)), torch.full((len(images),), torch.nan), block,
        f"{path.name}, {len(images)} images resampled to {side}, above {middle:g}", periodic=False,
    )  # fmt: skip
    return whole[~near], whole[held]
