"""The door for files: whatever is read is a file, of a size that is known before memory is taken.

Text is UTF-8, JSON and YAML are no deeper than the interpreter goes, arrays are of numbers and in
the machine's byte order. Nothing that a file says is evaluated or unpickled, and nothing that it
points to is followed. What is missing, no regular file, damaged, foreign, too large or too deep is
refused by an `InputError` of one line, which names the file and what is wrong with it.
"""

import json
import math
import os
import stat
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import yaml
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from lawful.errors import InputError
from lawful.typed import shown

TEXT = 2**26  # bytes of a text file
LONGEST_YAML = 2**20  # the reader takes a second for it
SPARSE = 2_000  # times the bytes that a file holds, at most, in an array: deflate reaches 1,032
Check = Callable[[tuple[int, ...], int], None]
DAMAGED = (
    OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, IndexError, RuntimeError,
    SyntaxError, MemoryError, ArithmeticError, NotImplementedError, tokenize.TokenError,
    zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def reason(error: BaseException) -> str:
    """What a library or the system says of a file, in one short line."""
    if isinstance(error, RecursionError):
        return "nested too deep"
    said = getattr(error, "strerror", None) or str(error)
    return " ".join(said.split())[:200] or type(error).__name__


@contextmanager
def refusing(said: str) -> Iterator[None]:
    """Whatever a library finds wrong with a file in the block is told in one line."""
    try:
        yield
    except InputError:
        raise
    except (SafetensorError, yaml.YAMLError, RecursionError, *DAMAGED) as error:
        raise InputError(f"{said} ({reason(error)})") from None


def as_path(value: object, place: str) -> Path:
    """A path that a caller gave."""
    if not isinstance(value, str | Path):
        raise InputError(f"{place}: expected a path, got {shown(value)}")
    return Path(value)


def check_file(path: Path, most: int = 2**63) -> int:
    """The size of a regular file of at most so many bytes; a folder, pipe or device is none."""
    try:
        about = path.stat()
    except (OSError, ValueError) as error:
        missing = isinstance(error, FileNotFoundError)
        said = "no such file" if missing else f"cannot be read ({reason(error)})"
        raise InputError(f"{path}: {said}") from None
    if not stat.S_ISREG(about.st_mode):
        kind = "a folder" if stat.S_ISDIR(about.st_mode) else "a pipe or a device"
        raise InputError(f"{path}: expected a file, found {kind}")
    if about.st_size > most:
        raise InputError(f"{path}: {about.st_size:,} bytes; expected at most {most:,}")
    return about.st_size


def check_memory(size: float, place: object) -> None:
    """Refuse what the machine has no memory for."""
    if size > (free := free_memory()):
        raise InputError(
            f"{place}: needs {size / 2**30:,.1f} GB of memory, {free / 2**30:,.1f} are free"
        )


def free_memory() -> float:
    """Bytes that can be had without swapping; where the system does not say, all that it has."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError, AttributeError):
        return math.inf


def read_bytes(path: Path, most: int | None = None) -> bytes:
    """The content of a file, if it fits into memory."""
    size = check_file(path, 2**63 if most is None else most)
    check_memory(size, path)
    with refusing(f"{path}: cannot be read"):
        return path.read_bytes()


def read_text(path: Path, most: int = TEXT) -> str:
    """The text of a file."""
    try:
        return read_bytes(path, most).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from None


def parse_json(text: str | bytes, place: object) -> Any:
    """The plain values of a text in JSON."""
    with refusing(f"{place}: not JSON"):
        return json.loads(text)


def parse_yaml(text: str, place: object) -> Any:
    """The plain values of a text in YAML, without aliases: a page of them can mean a billion."""
    if len(text) > LONGEST_YAML:
        raise InputError(f"{place}: {len(text):,} characters; expected at most {LONGEST_YAML:,}")
    with refusing(f"{place}: not YAML of plain values"):
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text)):
            raise yaml.YAMLError("aliases are not taken")
        return yaml.safe_load(text)


def read_npy(
    path: Path, place: str | None = None, *, own_type: bool = False, check: Check | None = None
) -> np.ndarray:
    """The numbers of a .npy file.

    Arguments:
        place: What messages call it, where not by its path.
        own_type: Keep the file's own type, which torch need not know.
        check: Called with the shape and the bits of a number, before memory is taken.
    """
    size, place = check_file(path), place or str(path)
    with refusing(f"{place}: not a .npy file, or truncated"):
        found = np.lib.format.open_memmap(path, mode="r")
        if found.offset + found.nbytes != size:
            raise ValueError("longer than it says")
    check_numbers(found.dtype, place)
    if check is not None:
        check(found.shape, 8 * found.itemsize)
    check_memory(2 * found.nbytes, place)
    return np.array(found, found.dtype.newbyteorder("=")) if own_type else native(found)


def check_numbers(kind: np.dtype[Any], place: object) -> None:
    """Refuse an array of anything but numbers and truth values."""
    if kind.kind not in "fiub" or kind.itemsize > 16:
        raise InputError(f"{place}: expected numbers, found values of type {shown(str(kind))}")


def native(array: np.ndarray) -> np.ndarray:
    """The same numbers, writable, in the machine's byte order and of a type that torch knows."""
    kind = array.dtype.newbyteorder("=")
    if kind.kind == "f":
        kind = np.dtype("f4" if kind.itemsize <= 4 else "f8")
    elif kind.kind == "u" and kind.itemsize > 1:
        kind = np.dtype("i8")
    return np.array(array, dtype=kind)


def read_npz(path: Path, texts: tuple[str, ...] = ()) -> dict[str, Any]:
    """The arrays of a .npz file by name; those named in `texts` as text."""
    check_file(path)
    found: dict[str, Any] = {}
    with refusing(f"{path}: not a .npz file, or damaged"), zipfile.ZipFile(path) as archive:
        check_memory(2 * sum(entry.file_size for entry in archive.infolist()), path)
        for entry in archive.infolist():
            name = entry.filename.removesuffix(".npy")
            with archive.open(entry) as member:
                array = np.lib.format.read_array(member, allow_pickle=False)
                if member.tell() != entry.file_size:
                    raise ValueError(f"{shown(name)} is not as long as it says")
            if name not in texts:
                check_numbers(array.dtype, f"{path}: {shown(name)}")
            elif array.shape or array.dtype.kind != "U":
                raise InputError(f"{path}: {shown(name)}: expected one text")
            found[name] = str(array) if name in texts else native(array)
    return found


@contextmanager
def opened_hdf5(path: Path) -> Iterator[Any]:
    """An HDF5 file, open for reading in the block."""
    check_file(path)
    with refusing(f"{path}: truncated or damaged, or no HDF5 file"):
        file = h5py.File(path, "r")
    with file:
        yield file


def fixed_text(text: str) -> np.bytes_:
    """Text as `text_attribute` reads it from an HDF5 file: of fixed length."""
    return np.bytes_(text.encode())


def text_attribute(file: Any, name: str, path: Path) -> str:
    """An attribute of an HDF5 file that is text of fixed length.

    Text of any length lies in a heap, on which the HDF5 library does not end where it is damaged.
    """
    with refusing(f"{path}: no attribute {name!r}, damaged or foreign"):
        kind = h5py.h5a.open(file.id, name.encode()).get_type()
        if isinstance(kind, h5py.h5t.TypeStringID) and kind.is_variable_str():
            raise ValueError("its length is not fixed")
        found = file.attrs[name]
        found = found.decode("utf-8") if isinstance(found, bytes) else found
    if not isinstance(found, str):
        raise InputError(f"{path}: expected text in attribute {name!r}, found {shown(found)}")
    return found


def dataset_names(file: Any, path: Path) -> list[str]:
    """The names of all datasets that lie in an HDF5 file, but for scales of axes."""
    names: list[str] = []

    def take(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and not item.is_scale:
            names.append(name)

    with refusing(f"{path}: damaged"):
        file.visititems(take)
    return names


def dataset(file: Any, name: str, path: Path, *, numbers: bool = True) -> Any:
    """A dataset of numbers in an HDF5 file, unread; the file holds all of it that it says."""
    place = f"{path}: {shown(name)}"
    with refusing(f"{place}: damaged, or not in the file"):
        parts = name.split("/")
        links = [file.get("/".join(parts[: i + 1]), getlink=True) for i in range(len(parts))]
        found = file[name] if all(isinstance(link, h5py.HardLink) for link in links) else None
        if not isinstance(found, h5py.Dataset) or found.shape is None:
            raise InputError(f"{place}: no such dataset in this file; damaged or foreign")
        if found.is_virtual or found.external:
            raise InputError(f"{place}: its values are in other files; expected them in this one")
        if numbers:
            check_numbers(found.dtype, place)
        held = found.id.get_storage_size() * (SPARSE if found.chunks else 1)
        if found.nbytes > held + SPARSE:
            raise InputError(f"{place}: says {found.nbytes:,} bytes, of which the file has none")
        check_memory(2 * found.dtype.itemsize * math.prod(found.chunks or ()), place)
        if found.chunks:
            _check_chunks(found, path.stat().st_size, place)
    return found


def _check_chunks(found: Any, size: int, place: str) -> None:
    """Refuse chunks without bytes, or beyond the file: HDF5 does not survive to read them."""
    least = 5 if found.fletcher32 else 1

    def check(chunk: Any) -> None:
        if chunk.size < least or not 0 < chunk.byte_offset <= size - chunk.size:
            raise InputError(f"{place}: damaged; a chunk of it is not in the file")

    found.id.chunk_iter(check)


def read_rows(found: Any, rows: slice, place: object) -> np.ndarray:
    """Some rows of a dataset of numbers."""
    first, last, _ = rows.indices(len(found))
    check_memory(3 * max(last - first, 0) * found.nbytes / max(len(found), 1), place)
    with refusing(f"{place}: damaged"):
        return native(np.asarray(found[rows]))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a safetensors file, and its metadata."""
    content = read_bytes(path)
    with refusing(f"{path}: truncated or foreign"):
        head = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        return load(content), dict(head.get("__metadata__", {}))
