"""Files of samples, written in a stream and read.

HDF5, NetCDF and NPZ hold `fields`, `condition/NAME`, `violation/LAW`, `estimated_error` (relative),
`estimated_error_absolute`, `bound`, `corrections_accepted`, `outside/NAME` and `refinement/NAME`,
with a leading sample axis, and the model's manifest as JSON. The others hold fields alone.

What is written is read back, and only a file that was found complete takes its place. HDF5 survives
neither a full disk nor an interrupt while it writes, so that it only lays out its files; they are
filled by plain writes at the places of their arrays.
"""

import json
import re
import shutil
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

import h5py
import numpy as np
import tifffile
import torch
from torch import Tensor

from lawful.data.pictures import FIGURE
from lawful.errors import InputError
from lawful.files import replacing
from lawful.laws import Estimate, Projection
from lawful.metrics.figures import montage_figure
from lawful.metrics.report import LawReport
from lawful.model import CHUNK, Samples, read_manifest
from lawful.reading import (
    check_file,
    dataset,
    dataset_names,
    fixed_text,
    opened_hdf5,
    read_npz,
    read_rows,
    reason,
    text_attribute,
)
from lawful.study import Axis, Study

MONTAGE = 64
HEADER = 2**20  # bytes that are more than what a file holds beside its arrays
REFINEMENT = ("raw", "iterations", "exchanges", "displacement", "reached", "worsened")


class Array(NamedTuple):
    """An array of a file, with the sample axis in front, its unit and its meaning."""

    values: np.ndarray
    unit: str = "1"
    about: str = ""


Arrays = dict[str, Array]


def arrays_of(samples: Samples, study: Study) -> Arrays:
    """The arrays of some samples, by the names they have in a file; binary fields as bytes.

    Raises:
        InputError: Two laws have the same name in a file.
    """
    report, known = samples.report, {q.name: q for q in study.quantities}
    fields = samples.fields.byte() if study.binary else samples.fields
    arrays: dict[str, tuple[Any, ...]] = {"fields": (fields, study.unit, study.about)}
    for name, value in samples.condition.items():
        said = (known[name].unit, known[name].about or name) if name in known else ()
        arrays[f"condition/{quote(name)}"] = value, *said
    for line in report.lines:
        place = "violation/" + re.sub(r"\W+", "_", line.name).strip("_")
        if place in arrays:
            raise InputError(f"laws: two have the name {line.name!r} in a file")
        arrays[place] = line.violation, line.unit, f"root mean square residual of {line.name}"
    for name, mask in report.outside:
        arrays[f"outside/{quote(name)}"] = mask, "1", f"{name} is outside the trained range"
    if (found := report.estimate) is not None:
        arrays["estimated_error"] = found.relative, "1", "estimated relative error"
        absolute = found.absolute, study.unit, "estimated root mean square error"
        arrays["estimated_error_absolute"] = absolute
    if report.bound is not None:
        about = f"proven bound of the distance from the discrete solution, {report.bound_norm} norm"
        arrays["bound"] = report.bound, "1", about
    if report.accepted is not None:
        arrays["corrections_accepted"] = (report.accepted,)
    for name in REFINEMENT if report.projection is not None else ():
        if (value := getattr(report.projection, name)) is not None:
            arrays[f"refinement/{name}"] = (value,)
    return {name: Array(value.numpy(), *said) for name, (value, *said) in arrays.items()}


def quote(name: str) -> str:
    """A quantity's name in a file: percent codes for whatever a path could not hold."""
    return re.sub(r"[^\w-]", lambda c: "".join(f"%{b:02X}" for b in c[0].encode()), name)


@dataclass(frozen=True)
class Layout:
    """What a file will hold beside the values themselves.

    Arguments:
        count: Samples.
        first: Some of the samples: the types, shapes and meanings of all.
        manifest: Of the model.
        images: The fields are pictures, first row on top.
        space: The fields' axes of space.
    """

    count: int
    first: Arrays
    manifest: Mapping[str, Any]
    images: bool
    space: Sequence[Axis]

    @property
    def text(self) -> str:
        """The manifest as JSON."""
        return json.dumps(self.manifest)

    @property
    def size(self) -> int:
        """Bytes of all arrays."""
        return self.count * sum(values[0].nbytes for values, *_ in self.first.values())


def write_samples(path: Path, chunks: Iterator[Arrays], layout: Layout) -> None:
    """Write samples that come in chunks, in the format of the path's ending.

    Raises:
        InputError: The ending is unknown, or the place cannot be written or has no room.
    """
    if path.suffix not in WRITERS:
        raise InputError(f"{path}: expected an ending of {', '.join(WRITERS)}, got {path.suffix!r}")
    if path.is_dir():
        raise InputError(f"{path}: is a folder")
    write, copies = WRITERS[path.suffix]
    needed = 1.05 * copies * layout.size
    try:
        with replacing(path) as temporary:
            if needed > (free := shutil.disk_usage(path.parent).free):
                said = f"needs {needed / 2**20:.0f} MB, only {free / 2**20:.0f} MB are free"
                raise InputError(f"{path}: {said}")
            write(temporary, _counted(chunks, layout.count), layout)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({reason(error)})") from None


def _counted(chunks: Iterator[Arrays], count: int) -> Iterator[Arrays]:
    """The chunks, which must hold as many samples as were announced."""
    for arrays in chunks:
        count -= len(arrays["fields"].values)
        _hold(count >= 0)
        yield arrays
    _hold(count == 0)


def _hold(complete: bool) -> None:
    """Refuse a file that does not hold what was written."""
    if not complete:
        raise OSError("read back, it is not complete")


def _hdf5(path: Path, chunks: Iterator[Arrays], layout: Layout, *, flat: bool = False) -> None:
    """An HDF5 file of arrays with dimension scales.

    Arguments:
        flat: As NetCDF-4 has it: `/` in names is `_`, truth values are bytes.
    """
    label = {name: _plain(name) if flat else name for name in layout.first}
    with path.open("wb") as file:  # says whether there is room, as HDF5 could not
        file.truncate(layout.size + HEADER)
        file.write(bytes(HEADER))
    with h5py.File(path, "w", libver=("v108", "v108")) as file:  # attributes above 64 KB
        file.attrs["lawful"] = fixed_text(layout.text)
        file.attrs["Conventions"] = "CF-1.11"
        places = {name: _lay_out(file, name, label[name], layout, flat) for name in layout.first}
    with path.open("r+b") as file:
        for arrays in chunks:
            for name, array in arrays.items():
                file.seek(places[name])
                places[name] += file.write(array.values.tobytes())
    with h5py.File(path, "r") as file:
        for name, array in arrays.items():
            data = file[label[name]]
            _hold(places[name] == data.id.get_offset() + data.id.get_storage_size())
            _hold(data[-1].tobytes() == array.values[-1].tobytes())


def _lay_out(file: h5py.File, name: str, label: str, layout: Layout, flat: bool) -> int:
    """Make an array without values; returns where in the file they belong."""
    values, unit, about = layout.first[name]
    shape = values.shape[1:]
    kind = "i1" if flat and values.dtype == bool else values.dtype
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    plan.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    data = file.create_dataset(label, (layout.count, *shape), kind, dcpl=plan)
    if about or unit != "1":
        data.attrs.update({"units": unit, "long_name": about or name})
    scales: dict[str, tuple[np.ndarray, str]] = {"sample": (np.arange(layout.count), "1")}
    if name == "fields":
        scales["channel"] = np.arange(shape[0]), "1"
        space = zip(layout.space, shape[1:], strict=True)
        scales |= {axis.name: (axis.places(size), axis.unit) for axis, size in space}
    else:
        # With a dot, which neither an array nor an axis has in its name.
        scales |= {f"{_plain(name)}.{i}": (np.arange(n), "1") for i, n in enumerate(shape, 1)}
    for place, (scale, (places, unit)) in enumerate(scales.items()):
        if scale not in file:
            file.create_dataset(scale, data=places).make_scale(scale)
            file[scale].attrs.update({"units": unit, "long_name": scale})
        data.dims[place].attach_scale(file[scale])
    return int(data.id.get_offset())


def _plain(name: str) -> str:
    return name.replace("/", "_")


def _npz(path: Path, chunks: Iterator[Arrays], layout: Layout) -> None:
    """An archive, which takes one array after the other, by way of an HDF5 file beside it."""
    gathered = path.with_suffix(".h5")
    try:
        _hdf5(gathered, chunks, layout)
        with h5py.File(gathered, "r") as file:
            places = {name: int(file[name].id.get_offset()) for name in layout.first}
        arrays: dict[str, Any] = {
            name: np.memmap(gathered, v.dtype, "r", places[name], (layout.count, *v.shape[1:]))
            for name, (v, *_) in layout.first.items()
        }
        np.savez(path, lawful=np.array(layout.text), **arrays)
    finally:
        gathered.unlink(missing_ok=True)
    with zipfile.ZipFile(path) as archive:
        _hold(archive.testzip() is None)


def _tiff(path: Path, chunks: Iterator[Arrays], layout: Layout) -> None:
    """Pages of the last two axes, for curves of all channels: float32, or 0 and 255 where binary.

    The manifest is in the description, as JSON.
    """
    count, said = 0, {"lawful": layout.text}
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        for arrays in chunks:
            fields = arrays["fields"].values
            scale = fields.dtype.type(255 if fields.dtype == np.uint8 else 1)
            for page in scale * fields.reshape(-1, *fields.shape[-2:]):
                file.write(page, contiguous=True, photometric="minisblack", metadata=said)
                count += 1
    with tifffile.TiffFile(path) as file:
        _hold(len(file.pages) == count)
        _hold(file.pages[-1].asarray().tobytes() == page.tobytes())


def _vtk(path: Path, chunks: Iterator[Arrays], layout: Layout) -> None:
    """A legacy VTK image (structured points), one array of cell values per channel of a sample.

    Dimensions count the corners of cells; x is a field's last axis. The first row of a picture is
    on top, that of another field at the bottom.
    """
    first = layout.first["fields"].values
    kind, number = ("unsigned_char", "u1") if first.dtype == np.uint8 else ("float", ">f4")
    _, channels, *sizes = first.shape
    axes = list(zip(layout.space, sizes, strict=True))[::-1]
    rest = [1.0] * (3 - len(axes))
    table: dict[str, Sequence[float]] = {
        "DIMENSIONS": [size + 1 for _, size in axes] + rest,
        "ORIGIN": [a.places(n)[0] - a.step(n) / 2 for a, n in axes] + [0.0 * one for one in rest],
        "SPACING": [a.step(n) for a, n in axes] + rest,
        "CELL_DATA": [prod(sizes)],
    }
    rows = [" ".join([word, *(f"{n:.17g}" for n in numbers)]) for word, numbers in table.items()]
    head = ["# vtk DataFile Version 3.0", "samples of lawful", "BINARY"]
    head += ["DATASET STRUCTURED_POINTS", *rows, f"FIELD samples {layout.count * channels}\n"]
    upper, done = layout.images and len(sizes) > 1, 0
    with path.open("wb") as file:
        file.write("\n".join(head).encode())
        for arrays in chunks:
            for field in arrays["fields"].values:
                for channel, values in enumerate(field.astype(number)):
                    name = f"sample_{done:06d}" + (f"_{channel}" if channels > 1 else "")
                    file.write(f"{name} 1 {prod(sizes)} {kind}\n".encode())
                    body = (np.flip(values, -2) if upper else values).tobytes() + b"\n"
                    file.write(body)
                done += 1
        end = file.tell()
    with path.open("rb") as file:
        _hold(file.seek(0, 2) == end)
        file.seek(-len(body), 2)
        _hold(file.read() == body)


def _png(path: Path, chunks: Iterator[Arrays], layout: Layout) -> None:
    """A montage of the first 64 samples."""
    shown: list[np.ndarray] = []
    for arrays in chunks:
        if sum(map(len, shown)) < MONTAGE:
            shown.append(arrays["fields"].values.astype(np.float32))
    fields = torch.from_numpy(np.concatenate(shown)[:MONTAGE])
    figure = montage_figure(fields, images=layout.images)
    figure.savefig(path, dpi=120, format="png", metadata=FIGURE)
    _hold(path.read_bytes()[-8:-4] == b"IEND")


# By ending: the writer, and how often it needs room for all arrays.
WRITERS: Mapping[str, tuple[Callable[[Path, Iterator[Arrays], Layout], None], int]] = {
    ".h5": (_hdf5, 1),
    ".hdf5": (_hdf5, 1),
    ".nc": (partial(_hdf5, flat=True), 1),
    ".npz": (_npz, 2),
    ".tif": (_tiff, 1),
    ".tiff": (_tiff, 1),
    ".vtk": (_vtk, 1),
    ".png": (_png, 0),
}
READABLE = (".h5", ".hdf5", ".nc", ".npz")


@contextmanager
def reading(path: Path) -> Iterator[tuple[dict[str, Any], Iterator[Samples]]]:
    """The manifest and the samples of a file that `write_samples` wrote, in chunks.

    Their reports hold what was found of them when they were made, but for violations.

    Raises:
        InputError: The file is missing, truncated, foreign, or of a format without conditions.
    """
    check_file(path)
    if path.suffix not in READABLE:
        raise InputError(f"{path}: a report needs the conditions of .h5, .nc or .npz")
    with ExitStack() as stack:
        if path.suffix == ".npz":
            arrays = read_npz(path, texts=("lawful",))
            text = arrays.pop("lawful", "")
        else:
            file = stack.enter_context(opened_hdf5(path))  # NetCDF-4 files are HDF5 files
            found = {name: dataset(file, name, path) for name in dataset_names(file, path)}
            group = re.compile(r"^(condition|violation|outside|refinement)_")  # as NetCDF has it
            arrays = {group.sub(r"\1/", name): entry for name, entry in found.items()}
            text = text_attribute(file, "lawful", path)
        manifest, fields = read_manifest(text, path), arrays.get("fields")
        lengths = {value.shape[:1] for value in arrays.values()}
        if fields is None or not 3 <= fields.ndim <= 5 or len(lengths) != 1:
            raise InputError(f"{path}: expected fields (N, C, *space) and as many conditions")
        yield manifest, _chunks(arrays, path, manifest.get("sampled", {}))


def _chunks(arrays: Mapping[str, Any], path: Path, sampled: Mapping[str, Any]) -> Iterator[Samples]:
    for first in range(0, len(arrays["fields"]), CHUNK):
        rows = slice(first, first + CHUNK)
        read = {
            name: torch.from_numpy(read_rows(entry, rows, f"{path}: {name}"))
            for name, entry in arrays.items()
        }
        fields = read["fields"].float()
        yield Samples(fields, _group(read, "condition/"), _recorded(read, sampled))


def _group(read: Mapping[str, Tensor], group: str) -> dict[str, Tensor]:
    """The arrays of a group; NetCDF has bytes for truth values."""
    return {
        unquote(name.removeprefix(group)): value.bool() if value.dtype == torch.int8 else value
        for name, value in read.items()
        if name.startswith(group)
    }


def _recorded(read: Mapping[str, Tensor], sampled: Mapping[str, Any]) -> LawReport:
    """What was found of samples when they were made, and done to them."""
    estimate = projection = None
    if {"estimated_error", "estimated_error_absolute"} <= read.keys():
        judge = str(sampled.get("judge", "unknown"))
        estimate = Estimate(read["estimated_error_absolute"], read["estimated_error"], judge)
    if done := _group(read, "refinement/"):
        tolerance = float(sampled.get("tolerance") or 0)
        columns = {name: done[name] for name in REFINEMENT[:-1]}
        worsened = done.get("worsened")
        projection = Projection(tolerance=tolerance, worsened=worsened, **columns)
    return LawReport(
        (), estimate, tuple(_group(read, "outside/").items()), int(sampled.get("refine", 0)),
        read.get("corrections_accepted"), bool(sampled.get("enforce", False)), projection,
    )  # fmt: skip
