"""Writers of sample files: `.h5`, `.nc`, `.npz`, `.tif`, `.vtk`, `.png`, each in a stream.

Every format is written beside its place and renamed when complete.
"""

import io
import json
import shutil
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import h5py
import numpy as np
import tifffile
import torch

from lawful.atomic import replacing
from lawful.data.pictures import FIGURE
from lawful.errors import InputError
from lawful.evaluation.pictures import montage_figure

MONTAGE = 64
COUNT = 10  # digits of the number of arrays in a VTK file
Arrays = dict[str, np.ndarray]


class Writer(ABC):
    """Takes chunks of samples in order."""

    @abstractmethod
    def append(self, arrays: Arrays) -> None:
        """Add a chunk."""

    @abstractmethod
    def close(self) -> None:
        """Complete the file."""


class _PatientFile(io.FileIO):
    """A file that takes every write and keeps the first error for later.

    HDF5 does not survive a write that fails: it fails again when the file is closed, and crashes
    the interpreter on exit.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "w+b")
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        done = 0
        while done < len(view) and self.error is None:
            try:
                done += super().write(view[done:]) or 0
            except OSError as error:
                self.error = error
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        try:
            return super().truncate(size)
        except OSError as error:
            self.error = self.error or error
            return size or 0

    def check(self) -> None:
        """Raise the first error, if there was one."""
        if self.error is not None:
            raise self.error


class HDF5Writer(Writer):
    """Resizable datasets, one a name."""

    def __init__(self, path: Path, manifest: str) -> None:
        self.stream = _PatientFile(path)
        self.file = h5py.File(self.stream, "w")
        self.file.attrs["lawful"] = manifest

    def append(self, arrays: Arrays) -> None:
        for name, value in arrays.items():
            if name not in self.file:
                self.file.create_dataset(
                    name, data=value, maxshape=(None, *value.shape[1:]), chunks=True
                )
                continue
            data = self.file[name]
            data.resize(len(data) + len(value), axis=0)
            data[-len(value) :] = value
        self.stream.check()

    def close(self) -> None:
        self.file.close()
        self.stream.close()
        self.stream.check()


class NetCDFWriter(Writer):
    """NetCDF-4 with an unlimited sample dimension; `/` in names becomes `_`."""

    def __init__(self, path: Path, manifest: str) -> None:
        try:
            import netCDF4
        except ImportError:
            raise InputError(f"{path.suffix}: needs NetCDF; pip install 'lawful[io]'") from None
        self.file = netCDF4.Dataset(path, "w")
        self.file.lawful = manifest
        self.file.createDimension("sample", None)
        self.count = 0

    def append(self, arrays: Arrays) -> None:
        end = self.count + len(next(iter(arrays.values())))
        for name, value in arrays.items():
            plain = name.replace("/", "_")
            kind = np.dtype("i1") if value.dtype == bool else value.dtype
            if plain not in self.file.variables:
                axes = [f"{plain}_{i}" for i in range(1, value.ndim)]
                for axis, size in zip(axes, value.shape[1:], strict=True):
                    self.file.createDimension(axis, size)
                self.file.createVariable(plain, kind, ("sample", *axes))
            self.file.variables[plain][self.count : end] = value.astype(kind)
        self.count = end

    def close(self) -> None:
        self.file.close()


class NPZWriter(Writer):
    """Arrays grow as raw files beside the target and are zipped in the end."""

    def __init__(self, path: Path, manifest: str) -> None:
        self.path = path
        self.folder = TemporaryDirectory(dir=path.parent, prefix=".lawful-")
        self.layout: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = {}
        self.count = 0
        self.manifest = manifest

    def append(self, arrays: Arrays) -> None:
        for name, value in arrays.items():
            self.layout[name] = (value.dtype, value.shape[1:])
            with self._raw(name).open("ab") as file:
                file.write(np.ascontiguousarray(value).tobytes())
        self.count += len(arrays["fields"])

    def close(self) -> None:
        with self.folder, zipfile.ZipFile(self.path, "w") as archive:
            if not self.layout:
                return
            with archive.open("lawful.npy", "w") as member:
                np.lib.format.write_array(member, np.array(self.manifest), allow_pickle=False)
            for name, (kind, shape) in self.layout.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    header = {
                        "descr": np.lib.format.dtype_to_descr(kind),
                        "fortran_order": False,
                        "shape": (self.count, *shape),
                    }
                    np.lib.format.write_array_header_1_0(member, header)
                    with self._raw(name).open("rb") as raw:
                        while block := raw.read(1 << 22):
                            member.write(block)

    def _raw(self, name: str) -> Path:
        return Path(self.folder.name) / name.replace("/", "_")


class TIFFWriter(Writer):
    """A stack of pages, one a channel of a sample: float32, or 0 and 255 for binary samples."""

    def __init__(self, path: Path, manifest: str) -> None:
        self.file = tifffile.TiffWriter(path, bigtiff=True)
        self.manifest = manifest

    def append(self, arrays: Arrays) -> None:
        fields = arrays["fields"]
        pages = 255 * fields if fields.dtype == np.uint8 else fields
        for page in pages.reshape(-1, *fields.shape[-2:]):
            self.file.write(page, contiguous=True, description=self.manifest)

    def close(self) -> None:
        self.file.close()


class VTKWriter(Writer):
    """A legacy VTK image (structured points), one array of cell values a channel of a sample.

    A pixel is a cell of size 1. The first row of a picture is on top, that of another field at the
    bottom.
    """

    def __init__(self, path: Path, manifest: str) -> None:
        self.file = path.open("w+b")
        self.images = json.loads(manifest).get("images", False)
        self.count, self.place = 0, 0

    def append(self, arrays: Arrays) -> None:
        fields = arrays["fields"]
        kind = "unsigned_char" if fields.dtype == np.uint8 else "float"
        fields = fields if fields.dtype == np.uint8 else fields.astype(">f4")
        rows, columns = fields.shape[-2:]
        if not self.count:
            self._head(rows, columns)
        for number, sample in enumerate(fields, start=self.count // fields.shape[1]):
            for channel, page in enumerate(sample):
                name = f"sample_{number:06d}" + (f"_{channel}" if len(sample) > 1 else "")
                self.file.write(f"{name} 1 {rows * columns} {kind}\n".encode())
                self.file.write(np.ascontiguousarray(page[::-1] if self.images else page).tobytes())
                self.file.write(b"\n")
                self.count += 1

    def _head(self, rows: int, columns: int) -> None:
        lines = [
            "# vtk DataFile Version 3.0", "samples of lawful", "BINARY",
            "DATASET STRUCTURED_POINTS", f"DIMENSIONS {columns + 1} {rows + 1} 1",
            "ORIGIN 0 0 0", "SPACING 1 1 1", f"CELL_DATA {rows * columns}", "FIELD samples ",
        ]  # fmt: skip
        self.file.write("\n".join(lines).encode())
        self.place = self.file.tell()
        self.file.write(b" " * COUNT + b"\n")

    def close(self) -> None:
        self.file.seek(self.place)
        if self.place:
            self.file.write(f"{self.count:{COUNT}d}".encode())
        self.file.close()


class PNGWriter(Writer):
    """A montage of the first 64 samples."""

    def __init__(self, path: Path, manifest: str) -> None:
        self.path, self.kept = path, np.empty(0)
        self.images = json.loads(manifest).get("images", False)

    def append(self, arrays: Arrays) -> None:
        if len(self.kept) < MONTAGE:
            rows = arrays["fields"][: MONTAGE - len(self.kept)]
            self.kept = np.concatenate([self.kept, rows]) if len(self.kept) else rows

    def close(self) -> None:
        if len(self.kept):
            figure = montage_figure(torch.from_numpy(self.kept).float(), images=self.images)
            figure.savefig(self.path, dpi=120, format="png", metadata=FIGURE)


WRITERS: dict[str, Any] = {
    ".h5": HDF5Writer,
    ".hdf5": HDF5Writer,
    ".nc": NetCDFWriter,
    ".npz": NPZWriter,
    ".tif": TIFFWriter,
    ".tiff": TIFFWriter,
    ".vtk": VTKWriter,
    ".png": PNGWriter,
}


@contextmanager
def writing(path: Path, manifest: Mapping[str, Any], first: Arrays, count: int) -> Iterator[Writer]:
    """A writer by the path's ending; the file appears when the block ends without error.

    Arguments:
        first: The arrays of the first chunk; with `count`, they tell the room that is needed.

    Raises:
        InputError: The ending is unknown, or the place cannot be written or has no room.
    """
    if path.suffix not in WRITERS:
        raise InputError(f"{path}: expected an ending of {', '.join(WRITERS)}, got {path.suffix!r}")
    if path.is_dir():
        raise InputError(f"{path}: is a folder")
    try:
        with replacing(path) as temporary:
            _check_room(path, first, count)
            writer: Writer = WRITERS[path.suffix](temporary, json.dumps(manifest))
            try:
                yield writer
            finally:
                writer.close()
    except (OSError, RuntimeError) as error:  # HDF5 says RuntimeError of a full disk
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:80]
        raise InputError(f"{path}: cannot be written ({reason})") from None


def _check_room(path: Path, first: Arrays, count: int) -> None:
    each = sum(value.nbytes for value in first.values()) / len(first["fields"])
    copies = {".png": 0, ".npz": 2}.get(path.suffix, 1)
    needed, free = 1.05 * copies * count * each, shutil.disk_usage(path.parent).free
    if needed > free:
        raise InputError(
            f"{path}: needs {needed / 2**20:.0f} MB, only {free / 2**20:.0f} MB are free"
        )
