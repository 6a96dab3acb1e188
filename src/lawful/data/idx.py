"""The IDX format of MNIST: a magic number, big-endian sizes, then unsigned bytes."""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from lawful.errors import InputError
from lawful.reading import SPARSE, check_file

UNSIGNED_BYTE = 0x08


def read_idx(path: Path) -> np.ndarray:
    """The array of a file of unsigned bytes, gzipped or not.

    Raises:
        InputError: The file is missing, truncated, or not of this format.
    """
    most = check_file(path) * (SPARSE if path.suffix == ".gz" else 1)
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            zero, kind, axes = struct.unpack(">HBB", file.read(4))
            if zero != 0 or kind != UNSIGNED_BYTE:
                raise InputError(f"{path}: expected IDX with unsigned bytes, got type {kind:#x}")
            shape = struct.unpack(f">{axes}I", file.read(4 * axes))
            values = np.frombuffer(file.read(min(math.prod(shape), most) + 1), np.uint8)
    except (OSError, EOFError, zlib.error, struct.error, MemoryError) as error:
        raise InputError(f"{path}: cannot be read as IDX ({error})") from None
    if values.size != math.prod(shape):
        raise InputError(f"{path}: expected {shape} values, got another number: truncated?")
    return values.reshape(shape).copy()
