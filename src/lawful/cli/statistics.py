"""`lawful stats`: statistics of a two-phase image, as a table, JSON, CSV and PNG."""

import csv
import sys
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Bool
from matplotlib.figure import Figure
from tyro.conf import Positional, arg

from lawful.cli.options import parse, refuse_to_replace
from lawful.cli.page import png, write_folder
from lawful.errors import InputError
from lawful.files import json_bytes
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
)
from lawful.reading import check_memory

LONGEST = 128
FILES = ("statistics.json", "statistics.csv", "statistics.png")
SHOWN = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 127)
CURVES = ("p2", "lineal_path", "p2_down", "p2_across")


@dataclass(frozen=True)
class StatisticsOptions:
    """Two-point correlation, lineal path, surface, chords and components of an image's phase."""

    image: Annotated[Positional[Path], arg(help="a picture, or an array as .npy")]
    threshold: Annotated[float | None, arg(help="grey value [Otsu's]")] = None
    phase: Annotated[Literal["bright", "dark"], arg(help="to describe")] = "bright"
    crop: Annotated[int | None, arg(help="rows at the bottom [a banner's]")] = None
    pixel_size: Annotated[float | None, arg(help="in any unit [the file's]")] = None
    median: Annotated[int, arg(help="side of a filter against noise: 3, 5, …")] = 1
    periodic: Annotated[bool, arg(help="opposite edges of the image meet")] = False
    radii: Annotated[int | None, arg(help="distances, in pixels from 0")] = None
    out: Annotated[Path, arg(help="folder")] = Path("statistics")
    force: Annotated[bool, arg(help="replace the statistics in --out")] = False


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
    read = ("source", "banner", "threshold", "phase", "pixel_size", "notes")
    data = {
        **{name: getattr(micrograph, name) for name in read},
        "unit": None if micrograph.pixel_size is None else micrograph.unit,
        "median": options.median, "periodic": options.periodic,
        "size": micrograph.image.shape, **found,
    }  # fmt: skip
    contents = json_bytes(data), curves_csv(found), png(curves_figure(micrograph, found))
    write_folder(options.out, dict(zip(FILES, contents, strict=True)))
    print(*table(micrograph, found), sep="\n")
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


def statistics_of(
    image: Bool[np.ndarray, "rows columns"], radii: int, *, periodic: bool = False
) -> dict[str, Any]:
    """Measure the phase in which `image` is true; lengths in pixels.

    Returns:
        Figures and curves at 0, 1, 2, … pixels by name. `p2_down` and `p2_across` are two-point
        correlations along a column and along a row; `anisotropy` is the largest difference between
        these two up to a quarter of the shorter side, beyond which there are too few pairs to tell.
    """
    lags = correlation_map(image, radii, periodic=periodic)
    down, across = lags[:radii, 0], lags[0, :radii]
    near = 1 + min(image.shape) // 4
    return {
        "p1": float(image.mean()),
        "specific_surface": float(specific_surface(image, periodic=periodic)),
        "mean_chord": float(mean_chord_length(image, periodic=periodic)),
        "mean_chord_other": float(mean_chord_length(~image, periodic=periodic)),
        "components": int(components(image, periodic=periodic)),
        "components_other": int(components(~image, periodic=periodic)),
        "anisotropy": float((down - across)[:near].abs().max()),
        "p2": radial_mean(lags, radii).tolist(),
        "lineal_path": lineal_path(image, radii, periodic=periodic).tolist(),
        "p2_down": down.tolist(),
        "p2_across": across.tolist(),
    }


def table(micrograph: Micrograph, found: dict[str, Any]) -> list[str]:
    """The statistics as lines of at most 80 columns."""
    size, unit = micrograph.pixel_size or 0.0, micrograph.unit
    units, level = "units" if unit == "unit" else unit, micrograph.threshold

    def length(pixels: float) -> str:
        return f"{pixels:.2f} pixels" + (f" = {pixels * size:.4g} {units}" if size else "")

    surface = found["specific_surface"]
    scaled = f" = {surface / size:.5g} per {unit}" if size else ""
    shape = " x ".join(map(str, micrograph.image.shape))
    lines = {
        "size": f"{shape} pixels" + (f" of {size:g} {units}" if size else ""),
        "banner cut": f"{micrograph.banner} rows",
        "threshold": "none: two values" if level is None else f"{level:g}",
        "volume fraction p1": f"{found['p1']:.5f} ({micrograph.phase} phase)",
        "specific surface": f"{surface:.5f} per pixel{scaled}",
        "mean chord": length(found["mean_chord"]),
        "mean chord, other phase": length(found["mean_chord_other"]),
        "components": f"{found['components']}; other phase {found['components_other']}",
        "anisotropy of p2": f"{found['anisotropy']:.5f} (largest |down - across|)",
    }
    name = micrograph.source if len(micrograph.source) < 80 else f"{micrograph.source[:76]}…"
    text = [name, *(f"{label:<25}{value}" for label, value in lines.items()), ""]
    text.append("  r" + "".join(f"{name.replace('_', ' '):>13}" for name in CURVES))
    for r in (r for r in SHOWN if r < len(found["p2"])):
        text.append(f"{r:>3}" + "".join(f"{found[name][r]:>13.5f}" for name in CURVES))
    return text


def curves_csv(found: dict[str, Any]) -> bytes:
    """The curves as columns of a CSV file."""
    text = StringIO(newline="")
    lines = zip(range(len(found["p2"])), *(found[name] for name in CURVES), strict=True)
    csv.writer(text, lineterminator="\n").writerows([("r", *CURVES), *lines])
    return text.getvalue().encode()


def curves_figure(micrograph: Micrograph, found: dict[str, Any]) -> Figure:
    """The image and its curves."""
    size = micrograph.pixel_size
    p2, down, across, path = (
        np.array(found[name]) for name in ("p2", "p2_down", "p2_across", "lineal_path")
    )
    return statistics_figure(
        micrograph.image, np.arange(len(p2)) * (size or 1.0),
        {"all directions": p2, "down": down, "across": across}, path,
        unit="pixels" if size is None else micrograph.unit,
    )  # fmt: skip
