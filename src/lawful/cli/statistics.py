"""`lawful stats`: statistics of a two-phase image, as a table, JSON, CSV and PNG."""

import csv
import sys
from dataclasses import dataclass
from io import StringIO
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


def run(arguments: list[str]) -> None:
    """`lawful stats IMAGE`."""
    options = parse(StatisticsOptions, arguments, "lawful stats")
    micrograph = read_micrograph(
        options.image, threshold=options.threshold, phase=options.phase, crop=options.crop,
        pixel_size=options.pixel_size, median=options.median,
    )  # fmt: skip
    refuse_to_replace([options.out / name for name in FILES], force=options.force)
    radii = _radii(options.radii, micrograph, options.periodic)
    found = statistics_of(micrograph.image, radii, periodic=options.periodic)
    contents = zip(FILES, (_json(micrograph, found, options), _csv(found), _png(micrograph, found)),
                   strict=True)  # fmt: skip
    try:
        write_all({options.out / name: content for name, content in contents})
    except OSError as error:
        raise InputError(f"{options.out}: cannot be written ({error.strerror})") from None
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


def statistics_of(image: np.ndarray, radii: int, *, periodic: bool = False) -> dict[str, Any]:
    """Measure the phase in which the boolean `image` is true; lengths in pixels.

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


def table(micrograph: Micrograph, found: dict[str, Any]) -> str:
    """The statistics as text, at most 80 columns wide."""
    rows, columns = micrograph.image.shape
    size, unit = micrograph.pixel_size, micrograph.unit
    units = "units" if unit == "unit" else unit
    level = "none: two values" if micrograph.threshold is None else f"{micrograph.threshold:g}"
    surface = f"{found['specific_surface']:.5f} per pixel"
    if size is not None:
        surface += f" = {found['specific_surface'] / size:.5g} per {unit}"

    def length(pixels: float) -> str:
        return f"{pixels:.2f} pixels" + ("" if size is None else f" = {pixels * size:.4g} {units}")

    lines = {
        "size": f"{rows} x {columns} pixels" + ("" if size is None else f" of {size:g} {units}"),
        "banner cut": f"{micrograph.banner} rows",
        "threshold": level,
        "volume fraction p1": f"{found['p1']:.5f} ({micrograph.phase} phase)",
        "specific surface": surface,
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
    return "\n".join(text)


def _json(micrograph: Micrograph, found: dict[str, Any], options: StatisticsOptions) -> bytes:
    read = ("source", "banner", "threshold", "phase", "pixel_size")
    said = {name: getattr(micrograph, name) for name in read}
    unit = micrograph.unit if micrograph.pixel_size is not None else None
    asked = {"median": options.median, "periodic": options.periodic}
    shape = {"size": list(micrograph.image.shape), "notes": list(micrograph.notes)}
    return json_bytes({**said, "unit": unit, **asked, **shape, **found})


def _csv(found: dict[str, Any]) -> bytes:
    text = StringIO(newline="")
    lines = zip(range(len(found["p2"])), *(found[name] for name in CURVES), strict=True)
    csv.writer(text, lineterminator="\n").writerows([("r", *CURVES), *lines])
    return text.getvalue().encode()


def _png(micrograph: Micrograph, found: dict[str, Any]) -> bytes:
    size = micrograph.pixel_size
    curves = {"all directions": found["p2"], "down": found["p2_down"], "across": found["p2_across"]}
    figure = statistics_figure(
        micrograph.image, np.arange(len(found['p2'])) * (size or 1.0),
        {name: np.array(curve) for name, curve in curves.items()}, np.array(found['lineal_path']),
        unit="pixels" if size is None else micrograph.unit,
    )  # fmt: skip
    return png(figure)
