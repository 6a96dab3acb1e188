"""`lawful stats`: the morphology of a two-phase image, as a table, JSON, CSV and PNG."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from lawful.cli.options import parse, refuse_to_replace
from lawful.cli.page import png
from lawful.errors import InputError
from lawful.files import json_bytes, write_all
from lawful.materials.figures import statistics_figure
from lawful.materials.images import Micrograph, read_micrograph
from lawful.materials.statistics import (
    components,
    correlation_map,
    lag_memory,
    lineal_path,
    mean_chord_length,
    radial_mean,
    specific_surface,
    volume_fraction,
)
from lawful.reading import check_memory

LONGEST = 128
FILES = ("statistics.json", "statistics.csv", "statistics.png")
SHOWN = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 127)
CURVES = ("p2", "lineal_path", "p2_down", "p2_across")


@dataclass(frozen=True)
class StatisticsOptions:
    """Two-point correlation, lineal path, surface, chords and components of an image's phase."""

    image: Annotated[
        tyro.conf.Positional[Path], tyro.conf.arg(help="a picture, or an array as .npy")
    ]
    threshold: Annotated[float | None, tyro.conf.arg(help="grey value [Otsu's]")] = None
    phase: Annotated[Literal["bright", "dark"], tyro.conf.arg(help="to describe")] = "bright"
    crop: Annotated[int | None, tyro.conf.arg(help="rows at the bottom [a banner's]")] = None
    pixel_size: Annotated[float | None, tyro.conf.arg(help="in any unit [the file's]")] = None
    median: Annotated[int, tyro.conf.arg(help="side of a filter against noise: 3, 5, …")] = 1
    periodic: Annotated[bool, tyro.conf.arg(help="opposite edges of the image meet")] = False
    radii: Annotated[int | None, tyro.conf.arg(help="distances, in pixels from 0")] = None
    out: Annotated[Path, tyro.conf.arg(help="folder")] = Path("statistics")
    force: Annotated[bool, tyro.conf.arg(help="replace the statistics in --out")] = False


@dataclass(frozen=True)
class Statistics:
    """What is said of an image; lengths in pixels, curves at 0, 1, 2, … pixels.

    Arguments:
        p2_down, p2_across: Two-point correlation along a column and along a row of the image.
        anisotropy: Largest difference between these two, up to a quarter of the shorter side:
            beyond it there are too few independent pairs to tell.
    """

    p1: float
    specific_surface: float
    mean_chord: float
    mean_chord_other: float
    components: int
    components_other: int
    anisotropy: float
    p2: list[float]
    lineal_path: list[float]
    p2_down: list[float]
    p2_across: list[float]


def run(arguments: list[str]) -> None:
    """`lawful stats IMAGE`."""
    options = parse(StatisticsOptions, arguments, "stats")
    micrograph = read_micrograph(
        options.image, threshold=options.threshold, phase=options.phase, crop=options.crop,
        pixel_size=options.pixel_size, median=options.median,
    )  # fmt: skip
    refuse_to_replace([options.out / name for name in FILES], force=options.force)
    radii = _radii(options.radii, micrograph, options.periodic)
    found = statistics_of(micrograph.image, radii, periodic=options.periodic)
    _write(micrograph, found, options)
    print(table(micrograph, found))
    print(f"written: {options.out}")
    for note in micrograph.notes:
        print(f"lawful: warning: {micrograph.source}: {note}", file=sys.stderr)


def _radii(asked: int | None, micrograph: Micrograph, periodic: bool) -> int:
    side = min(micrograph.image.shape)
    most = side // 2 + 1 if periodic else side
    if asked is None:
        return min(LONGEST, side // 2 + 1)
    check_memory(lag_memory(micrograph.image.shape, asked), f"--radii {asked}")
    if not 2 <= asked <= most:
        size = " x ".join(map(str, micrograph.image.shape))
        raise InputError(f"--radii {asked}: expected 2 to {most} for an image of {size} pixels")
    return asked


def statistics_of(image: np.ndarray, radii: int, *, periodic: bool = False) -> Statistics:
    """Measure the phase in which the boolean `image` is true."""
    lags = correlation_map(image, radii, periodic=periodic)
    down, across = lags[:radii, 0], lags[0, :radii]
    near = 1 + min(image.shape) // 4
    return Statistics(
        p1=float(volume_fraction(image)),
        specific_surface=float(specific_surface(image, periodic=periodic)),
        mean_chord=float(mean_chord_length(image, periodic=periodic)),
        mean_chord_other=float(mean_chord_length(~image, periodic=periodic)),
        components=int(components(image, periodic=periodic)),
        components_other=int(components(~image, periodic=periodic)),
        anisotropy=float((down - across)[:near].abs().max()),
        p2=radial_mean(lags, radii).tolist(),
        lineal_path=lineal_path(image, radii, periodic=periodic).tolist(),
        p2_down=down.tolist(),
        p2_across=across.tolist(),
    )


def table(micrograph: Micrograph, found: Statistics) -> str:
    """The statistics as text, at most 80 columns wide."""
    rows, columns = micrograph.image.shape
    size, unit = micrograph.pixel_size, micrograph.unit
    units = "units" if unit == "unit" else unit
    level = "none: two values" if micrograph.threshold is None else f"{micrograph.threshold:g}"
    surface = f"{found.specific_surface:.5f} per pixel"
    if size is not None:
        surface += f" = {found.specific_surface / size:.5g} per {unit}"
    lines = {
        "size": f"{rows} x {columns} pixels" + ("" if size is None else f" of {size:g} {units}"),
        "banner cut": f"{micrograph.banner} rows",
        "threshold": level,
        "volume fraction p1": f"{found.p1:.5f} ({micrograph.phase} phase)",
        "specific surface": surface,
        "mean chord": _length(found.mean_chord, size, units),
        "mean chord, other phase": _length(found.mean_chord_other, size, units),
        "components": f"{found.components}; other phase {found.components_other}",
        "anisotropy of p2": f"{found.anisotropy:.5f} (largest |down - across|)",
    }
    name = micrograph.source if len(micrograph.source) < 80 else f"{micrograph.source[:76]}…"
    text = [name, *(f"{label:<25}{value}" for label, value in lines.items()), ""]
    return "\n".join([*text, *_curve_rows(found)])


def _length(pixels: float, size: float | None, units: str) -> str:
    return f"{pixels:.2f} pixels" + ("" if size is None else f" = {pixels * size:.4g} {units}")


def _curve_rows(found: Statistics) -> list[str]:
    heads = ("p2", "lineal path", "p2 down", "p2 across")
    rows = ["  r" + "".join(f"{head:>13}" for head in heads)]
    for r in (r for r in SHOWN if r < len(found.p2)):
        rows.append(f"{r:>3}" + "".join(f"{getattr(found, name)[r]:>13.5f}" for name in CURVES))
    return rows


def _write(micrograph: Micrograph, found: Statistics, options: StatisticsOptions) -> None:
    """`statistics.png`, `statistics.csv` and `statistics.json`."""
    folder, size = options.out, micrograph.pixel_size
    r = np.arange(len(found.p2))
    curves = {"all directions": found.p2, "down": found.p2_down, "across": found.p2_across}
    figure = statistics_figure(
        micrograph.image, r * (size or 1.0),
        {name: np.array(curve) for name, curve in curves.items()}, np.array(found.lineal_path),
        unit="pixels" if size is None else micrograph.unit,
    )  # fmt: skip
    columns = zip(*(getattr(found, name) for name in CURVES), strict=True)
    lines = [",".join(("r", *CURVES))]
    lines += [",".join([str(i), *(repr(v) for v in row)]) for i, row in enumerate(columns)]
    data = json_bytes(_data(micrograph, found, options))
    contents = (data, "\n".join([*lines, ""]).encode(), png(figure))
    files = dict(zip((folder / name for name in FILES), contents, strict=True))
    try:
        write_all(files)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror})") from None


def _data(micrograph: Micrograph, found: Statistics, options: StatisticsOptions) -> dict[str, Any]:
    return {
        "source": micrograph.source,
        "size": list(micrograph.image.shape),
        "banner": micrograph.banner,
        "threshold": micrograph.threshold,
        "phase": micrograph.phase,
        "median": options.median,
        "periodic": options.periodic,
        "notes": list(micrograph.notes),
        "pixel_size": micrograph.pixel_size,
        "unit": micrograph.unit if micrograph.pixel_size is not None else None,
        **vars(found),
    }
