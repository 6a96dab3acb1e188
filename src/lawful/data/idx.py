"""The IDX format of MNIST: a magic number, big-endian sizes, then unsigned bytes."""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from lawful.errors import InputError

UNSIGNED_BYTE = 0x08


def read_idx(path: Path) -> np.ndarray:
    """The array of a file of unsigned bytes, gzipped or not.

    Raises:
        InputError: The file is missing, truncated, or not of this format.
    """
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
        zero, kind, axes = struct.unpack(">HBB", content[:4])
        shape = struct.unpack(f">{axes}I", content[4 : 4 + 4 * axes])
    except (OSError, EOFError, zlib.error, struct.error) as error:
        raise InputError(f"{path}: cannot be read as IDX ({error})") from None
    if zero != 0 or kind != UNSIGNED_BYTE:
        raise InputError(f"{path}: expected IDX with unsigned bytes, got type {kind:#x}")
    values = np.frombuffer(content, np.uint8, offset=4 + 4 * axes)
    if values.size != math.prod(shape):
        raise InputError(f"{path}: expected {shape} values, got {values.size}: truncated?")
    return values.reshape(shape).copy()
