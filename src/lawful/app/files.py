"""Sample files: `.h5`, `.nc`, `.npz`, `.tif`, `.png`, written in a stream and read in chunks.

Every format is written beside its place and renamed when complete. HDF5, NetCDF and NPZ hold
`fields`, `condition/NAME`, `violation/LAW`, `estimated_error` and `outside/NAME`, with a
leading sample axis, and the model's manifest as JSON.
"""

import json
import re
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import h5py
import numpy as np
import tifffile
import torch

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
    arrays |= {f"violation/{_safe(line.name)}": line.violation for line in report.lines}
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


class HDF5Writer(Writer):
    """Resizable datasets, one a name."""

    def __init__(self, path: Path, manifest: str) -> None:
        self.file = h5py.File(path, "w")
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

    def close(self) -> None:
        self.file.close()


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

    def append(self, arrays: Arrays) -> None:
        if len(self.kept) < MONTAGE:
            rows = arrays["fields"][: MONTAGE - len(self.kept)]
            self.kept = np.concatenate([self.kept, rows]) if len(self.kept) else rows

    def close(self) -> None:
        if len(self.kept):
            figure = montage_figure(torch.from_numpy(self.kept))
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
def writing(path: Path, manifest: Mapping[str, Any]) -> Iterator[Writer]:
    """A writer by the path's ending; the file appears when the block ends without error.

    Raises:
        InputError: The ending is unknown or the place cannot be written.
    """
    if path.suffix not in WRITERS:
        raise InputError(f"{path}: expected an ending of {', '.join(WRITERS)}, got {path.suffix!r}")
    if path.is_dir():
        raise InputError(f"{path}: is a folder")
    with ExitStack() as stack:
        try:
            temporary = stack.enter_context(replacing(path))
            writer: Writer = WRITERS[path.suffix](temporary, json.dumps(manifest))
        except OSError as error:
            raise InputError(f"{path}: cannot be written ({error.strerror or error})") from None
        stack.callback(writer.close)
        yield writer


@contextmanager
def reading(path: Path) -> Iterator[tuple[dict[str, Any], int, Iterator[tuple[Any, Condition]]]]:
    """Manifest, count, and chunks of (fields, condition) of a file that `writing` wrote.

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
        except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
            reason = " ".join(str(error).split())[:100]
            raise InputError(f"{path}: truncated or not of lawful ({reason})") from None
        yield manifest, len(fields), _chunks(fields, _conditions(arrays))


def _open(path: Path, stack: ExitStack) -> tuple[dict[str, Any], Mapping[str, Any]]:
    if path.suffix == ".npz":
        archive = stack.enter_context(np.load(path, allow_pickle=False))
        return json.loads(str(archive["lawful"])), {name: archive[name] for name in archive.files}
    file = stack.enter_context(h5py.File(path, "r"))  # NetCDF-4 files are HDF5 files
    arrays: dict[str, Any] = {}
    file.visititems(
        lambda name, item: arrays.update({name: item}) if isinstance(item, h5py.Dataset) else None
    )
    return json.loads(file.attrs["lawful"]), arrays


def _conditions(arrays: Mapping[str, Any]) -> dict[str, Any]:
    found = {re.sub(r"^condition[/_]", "", name): value for name, value in arrays.items()
             if re.match(r"condition[/_]", name)}  # fmt: skip
    return {name: value for name, value in found.items() if not re.search(r"_\d+$", name)}


def _chunks(fields: Any, conditions: Mapping[str, Any]) -> Iterator[tuple[Any, Condition]]:
    for first in range(0, len(fields), CHUNK):
        rows = slice(first, first + CHUNK)
        yield (
            torch.from_numpy(np.asarray(fields[rows])),
            {name: torch.from_numpy(np.asarray(v[rows])) for name, v in conditions.items()},
        )


def _safe(name: str) -> str:
    return re.sub(r"\W+", "_", name).strip("_")
