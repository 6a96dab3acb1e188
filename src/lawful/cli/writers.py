"""Writers of sample files: `.h5`, `.nc`, `.npz`, `.tif`, `.vtk`, `.png`, each in a stream.

A format is a function that takes the chunks as they come, writes them to a temporary path and reads
the result back; only a file that was found complete takes its place. HDF5 and NetCDF files are laid
out by HDF5 and filled by plain writes at the places of their arrays: HDF5 survives neither a full
disk nor an interrupt while it writes.
"""

import json
import shutil
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from math import prod
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import tifffile
import torch

from lawful.atomic import replacing
from lawful.data.pictures import FIGURE
from lawful.errors import InputError
from lawful.metrics.pictures import montage_figure
from lawful.reading import fixed_text, reason
from lawful.study import Axis

MONTAGE = 64
HEADER = 2**20  # bytes that are more than what a file holds beside its arrays
Arrays = dict[str, np.ndarray]
Chunks = Iterator[Arrays]


@dataclass(frozen=True)
class Layout:
    """What a file will hold beside the values themselves.

    Arguments:
        count: Samples.
        parts: Type and shape of one sample's entry in each array.
        manifest: Of the model, as JSON.
        images: The fields are pictures, first row on top.
        space: The fields' axes of space.
        about: Attributes of the arrays: `units`, `long_name`.
    """

    count: int
    parts: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]]
    manifest: str
    images: bool
    space: Sequence[Axis]
    about: Mapping[str, Mapping[str, str]]

    @property
    def size(self) -> int:
        """Bytes of all arrays."""
        return self.count * sum(kind.itemsize * prod(shape) for kind, shape in self.parts.values())

    @property
    def shape(self) -> tuple[int, ...]:
        """Channels and axes of space of one field."""
        return self.parts["fields"][1]


def write_samples(path: Path, chunks: Chunks, count: int, **about: Any) -> None:
    """Write `count` samples that come in chunks, in the format of the path's ending.

    Arguments:
        about: The other fields of `Layout`, its manifest as a mapping.

    Raises:
        InputError: The ending is unknown, or the place cannot be written or has no room.
    """
    if path.suffix not in FORMATS:
        raise InputError(f"{path}: expected an ending of {', '.join(FORMATS)}, got {path.suffix!r}")
    if path.is_dir():
        raise InputError(f"{path}: is a folder")
    first = next(chunks)  # what the samples refuse is said before a file is opened
    about["manifest"] = json.dumps(about["manifest"])
    parts = {name: (value.dtype, value.shape[1:]) for name, value in first.items()}
    layout = Layout(count, parts, **about)
    try:
        with replacing(path) as temporary:
            _check_room(path, layout)
            FORMATS[path.suffix](temporary, chain([first], chunks), layout)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({reason(error)})") from None


def _check_room(path: Path, layout: Layout) -> None:
    copies = {".png": 0, ".npz": 2}.get(path.suffix, 1)
    needed, free = 1.05 * copies * layout.size, shutil.disk_usage(path.parent).free
    if needed > free:
        raise InputError(
            f"{path}: needs {needed / 2**20:.0f} MB, only {free / 2**20:.0f} MB are free"
        )


def _hold(complete: bool) -> None:
    """Refuse a file that does not hold what was written."""
    if not complete:
        raise OSError("read back, it is not complete")


def _hdf5(path: Path, chunks: Chunks, layout: Layout) -> None:
    """Arrays with dimension scales; groups for the parts of a name."""
    with path.open("wb") as file:  # says whether there is room, as HDF5 could not
        file.truncate(layout.size + HEADER)
        file.write(bytes(HEADER))
    with h5py.File(path, "w", libver=("v108", "v108")) as file:  # attributes above 64 KB
        file.attrs["lawful"] = fixed_text(layout.manifest)
        file.attrs["Conventions"] = "CF-1.11"
        places = {name: _lay_out(file, name, layout) for name in layout.parts}
    value: Arrays = {}
    with path.open("r+b") as file:
        for value in chunks:
            for name, rows in value.items():
                file.seek(places[name])
                places[name] += file.write(rows.tobytes())
    with h5py.File(path, "r") as file:
        for name, rows in value.items():
            end = file[name].id.get_offset() + file[name].id.get_storage_size()
            last = file[name][-1].tobytes()
            _hold(places[name] == end and last == rows[-1].tobytes())


def _lay_out(file: h5py.File, name: str, layout: Layout) -> int:
    """Make an array without values; returns where in the file they belong."""
    kind, shape = layout.parts[name]
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    plan.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    data = file.create_dataset(name, (layout.count, *shape), kind, dcpl=plan)
    data.attrs.update(layout.about.get(name, {}))
    scales = {"sample": _count(layout.count)}
    if name == "fields":
        scales["channel"] = _count(shape[0])
        space = zip(layout.space, shape[1:], strict=True)
        scales |= {axis.name: (axis.places(size), axis.unit) for axis, size in space}
    else:
        # With a dot, which neither an array nor an axis has in its name.
        scales |= {f"{_plain(name)}.{i}": _count(n) for i, n in enumerate(shape, 1)}
    for place, (label, (values, unit)) in enumerate(scales.items()):
        if label not in file:
            file.create_dataset(label, data=values).make_scale(label)
            file[label].attrs.update({"units": unit, "long_name": label})
        data.dims[place].attach_scale(file[label])
    return int(data.id.get_offset())


def _count(size: int) -> tuple[np.ndarray, str]:
    return np.arange(size), "1"


def _netcdf(path: Path, chunks: Chunks, layout: Layout) -> None:
    """NetCDF-4, which is HDF5 with dimension scales; `/` in names becomes `_`, truth a byte."""
    about = {_plain(name): entry for name, entry in layout.about.items()}
    parts = {_plain(n): (_number(kind), shape) for n, (kind, shape) in layout.parts.items()}
    flat = (
        {_plain(name): value.astype(_number(value.dtype)) for name, value in arrays.items()}
        for arrays in chunks
    )
    _hdf5(path, flat, replace(layout, parts=parts, about=about))


def _plain(name: str) -> str:
    return name.replace("/", "_")


def _number(kind: np.dtype[Any]) -> np.dtype[Any]:
    return np.dtype("i1") if kind.kind == "b" else kind


def _npz(path: Path, chunks: Chunks, layout: Layout) -> None:
    """Arrays are gathered in an HDF5 file beside the target and zipped from there."""
    gathered = path.with_suffix(".h5")
    try:
        _hdf5(gathered, chunks, layout)
        with h5py.File(gathered, "r") as file:
            places = {name: int(file[name].id.get_offset()) for name in layout.parts}
        arrays: dict[str, Any] = {
            name: np.memmap(gathered, kind, "r", places[name], (layout.count, *shape))
            for name, (kind, shape) in layout.parts.items()
        }
        np.savez(path, lawful=np.array(layout.manifest), **arrays)
    finally:
        gathered.unlink(missing_ok=True)
    with zipfile.ZipFile(path) as archive:
        _hold(archive.testzip() is None)


def _tiff(path: Path, chunks: Chunks, layout: Layout) -> None:
    """Pages of the last two axes, for curves of all channels: float32, or 0 and 255 where binary.

    The manifest is in the description, as JSON.
    """
    page, count = np.empty(0), 0
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        for arrays in chunks:
            fields = arrays["fields"]
            for page in fields.reshape(-1, *fields.shape[-2:]):
                page = page * np.uint8(255) if page.dtype == np.uint8 else page
                file.write(page, contiguous=True, photometric="minisblack",
                           metadata={"lawful": layout.manifest})  # fmt: skip
                count += 1
    with tifffile.TiffFile(path) as file:
        _hold(len(file.pages) == count == layout.count * prod(layout.shape[:-2]))
        _hold(file.pages[-1].asarray().tobytes() == page.tobytes())


def _vtk(path: Path, chunks: Chunks, layout: Layout) -> None:
    """A legacy VTK image (structured points), one array of cell values a channel of a sample.

    The first row of a picture is on top, that of another field at the bottom.
    """
    kind = "unsigned_char" if layout.parts["fields"][0] == np.uint8 else "float"
    channels, *sizes = layout.shape
    body, number = b"", 0
    with path.open("wb") as file:
        file.write(_vtk_head(layout))
        for arrays in chunks:
            fields = arrays["fields"]
            fields = fields if kind == "unsigned_char" else fields.astype(">f4")
            fields = np.flip(fields, -2) if layout.images and len(sizes) > 1 else fields
            for sample in fields:
                for channel, values in enumerate(sample):
                    name = f"sample_{number:06d}" + (f"_{channel}" if channels > 1 else "")
                    file.write(f"{name} 1 {prod(sizes)} {kind}\n".encode())
                    body = values.tobytes() + b"\n"
                    file.write(body)
                number += 1
        end = file.tell()
    with path.open("rb") as file:
        _hold(number == layout.count and file.seek(0, 2) == end)
        file.seek(-len(body), 2)
        _hold(file.read() == body)


def _vtk_head(layout: Layout) -> bytes:
    """Dimensions count the corners of cells; x is a field's last axis."""
    sizes = layout.shape[:0:-1]
    axes = list(zip(reversed(layout.space), sizes, strict=True))
    missing = 3 - len(axes)
    points = [size + 1 for size in sizes] + [1] * missing
    steps = [axis.step(size) for axis, size in axes]
    origin = [axis.places(size)[0] - axis.step(size) / 2 for axis, size in axes]
    lines = [
        "# vtk DataFile Version 3.0", "samples of lawful", "BINARY", "DATASET STRUCTURED_POINTS",
        f"DIMENSIONS {_row(points)}", f"ORIGIN {_row([*origin, *[0.0] * missing])}",
        f"SPACING {_row([*steps, *[1.0] * missing])}", f"CELL_DATA {prod(sizes)}",
        f"FIELD samples {layout.count * layout.shape[0]}", "",
    ]  # fmt: skip
    return "\n".join(lines).encode()


def _row(numbers: Sequence[float]) -> str:
    return " ".join(f"{number:.17g}" for number in numbers)


def _png(path: Path, chunks: Chunks, layout: Layout) -> None:
    """A montage of the first 64 samples."""
    kept = np.empty((0, *layout.shape), dtype=np.float32)
    for arrays in chunks:
        kept = np.concatenate([kept, arrays["fields"][: MONTAGE - len(kept)]])
    figure = montage_figure(torch.from_numpy(kept), images=layout.images)
    figure.savefig(path, dpi=120, format="png", metadata=FIGURE)
    _hold(path.read_bytes()[-8:-4] == b"IEND")


FORMATS: dict[str, Callable[[Path, Chunks, Layout], None]] = {
    ".h5": _hdf5,
    ".hdf5": _hdf5,
    ".nc": _netcdf,
    ".npz": _npz,
    ".tif": _tiff,
    ".tiff": _tiff,
    ".vtk": _vtk,
    ".png": _png,
}
