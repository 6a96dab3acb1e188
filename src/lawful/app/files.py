"""Sample files: `.h5`, `.nc`, `.npz`, `.tif`, `.png`, written in a stream and read in chunks.

Every format is written beside its place and renamed when complete. HDF5, NetCDF and NPZ hold
`fields`, `condition/NAME`, `violation/LAW`, `estimated_error` and `outside/NAME`, with a
leading sample axis, and the model's manifest as JSON.
"""

import io
import json
import re
import shutil
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import h5py
import numpy as np
import tifffile
import torch
from torch import Tensor

from lawful.condition import Condition
from lawful.errors import InputError
from lawful.evaluation.pictures import montage_figure
from lawful.games.checkpoint import replacing
from lawful.studies.model import CHUNK, Samples

MONTAGE = 64
Arrays = dict[str, np.ndarray]


def arrays_of(samples: Samples) -> Arrays:
    """The arrays of a chunk, by the names they have in a file."""
    report = samples.report
    arrays = {"fields": samples.fields}
    arrays |= {f"condition/{name}": value for name, value in samples.condition.items()}
    for line in report.lines:
        place = f"violation/{_safe(line.name)}"
        if place in arrays:
            raise InputError(f"laws: two have the name {line.name!r} in a file")
        arrays[place] = line.violation
    arrays |= {f"outside/{name}": mask for name, mask in report.outside}
    if report.error is not None:
        arrays["estimated_error"] = report.error
    return {name: value.numpy() for name, value in arrays.items()}


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
    """A stack of float32 pages, one a channel of a sample."""

    def __init__(self, path: Path, manifest: str) -> None:
        self.file = tifffile.TiffWriter(path, bigtiff=True)
        self.manifest = manifest

    def append(self, arrays: Arrays) -> None:
        for page in arrays["fields"].reshape(-1, *arrays["fields"].shape[-2:]):
            self.file.write(page, contiguous=True, description=self.manifest)

    def close(self) -> None:
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
            figure = montage_figure(torch.from_numpy(self.kept), images=self.images)
            figure.savefig(self.path, dpi=120, format="png")


WRITERS: dict[str, Any] = {
    ".h5": HDF5Writer,
    ".hdf5": HDF5Writer,
    ".nc": NetCDFWriter,
    ".npz": NPZWriter,
    ".tif": TIFFWriter,
    ".tiff": TIFFWriter,
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


@dataclass(frozen=True)
class Chunk:
    """Some samples of a file, with the error estimates that were made when they were."""

    fields: Tensor
    condition: Condition
    estimate: Tensor | None


@dataclass(frozen=True)
class SampleFile:
    """An open file of samples."""

    manifest: dict[str, Any]
    count: int
    chunks: Iterator[Chunk]


@contextmanager
def reading(path: Path) -> Iterator[SampleFile]:
    """A file that `writing` wrote.

    Raises:
        InputError: The file is missing, truncated, foreign, or of a format without conditions.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    if path.suffix not in (".h5", ".hdf5", ".nc", ".npz"):
        raise InputError(f"{path}: a report needs the conditions of .h5, .nc or .npz")
    with ExitStack() as stack:
        try:
            manifest, arrays = _open(path, stack)
            fields = arrays["fields"]
            lengths = {len(value) for value in arrays.values()}
        except (OSError, KeyError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
            reason = " ".join(str(error).split())[:100]
            raise InputError(f"{path}: truncated or not of lawful ({reason})") from None
        if fields.ndim != 4 or len(lengths) != 1 or not isinstance(manifest, dict):
            raise InputError(f"{path}: expected fields (N, C, H, W) and as many conditions")
        yield SampleFile(manifest, len(fields), _chunks(arrays))


def _open(path: Path, stack: ExitStack) -> tuple[Any, dict[str, Any]]:
    """The manifest, and the arrays by their names in HDF5 files."""
    if path.suffix == ".npz":
        archive = stack.enter_context(np.load(path, allow_pickle=False))
        names = [name for name in archive.files if name != "lawful"]
        return json.loads(str(archive["lawful"])), {name: archive[name] for name in names}
    file = stack.enter_context(h5py.File(path, "r"))  # NetCDF-4 files are HDF5 files
    arrays: dict[str, Any] = {}

    def take(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and not item.is_scale:
            arrays[re.sub(r"^(condition|violation|outside)_", r"\1/", name)] = item

    file.visititems(take)
    return json.loads(file.attrs["lawful"]), arrays


def _chunks(arrays: Mapping[str, Any]) -> Iterator[Chunk]:
    wanted = {n.partition("/")[2]: v for n, v in arrays.items() if n.startswith("condition/")}
    for first in range(0, len(arrays["fields"]), CHUNK):
        rows = slice(first, first + CHUNK)
        estimate = arrays.get("estimated_error")
        yield Chunk(
            torch.from_numpy(np.asarray(arrays["fields"][rows])),
            {name: torch.from_numpy(np.asarray(value[rows])) for name, value in wanted.items()},
            None if estimate is None else torch.from_numpy(np.asarray(estimate[rows])),
        )


def _safe(name: str) -> str:
    return re.sub(r"\W+", "_", name).strip("_")
