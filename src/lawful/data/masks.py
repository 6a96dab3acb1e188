"""Motifs from pictures: the grey levels of the given pixels of a square, NaN elsewhere."""

import base64
import zlib
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lawful.data.pictures import read_pixels
from lawful.errors import InputError

PREFIX = "pixels:"
LONGEST = 2**20  # pixels of a motif
Motif = Float[Tensor, "side side"]


def read_motif(path: Path) -> Motif:
    """A square picture: the opaque pixels where it has transparency, else those that are not black.

    Colours become grey levels in [0, 1] by their mean.

    Raises:
        InputError: The file cannot be read, or is not square, not of whole numbers, or without a
            given pixel.
    """
    if not path.is_file():
        raise InputError(f"motif {path}: expected plus, cross or a picture; there is no such file")
    pixels = read_pixels(path, "motif")
    rows, columns = pixels.values.shape[:2]
    if rows != columns:
        raise InputError(f"motif {path}: expected a square image, got {rows} x {columns} pixels")
    if pixels.values.dtype.kind not in "bu":
        raise InputError(f"motif {path}: values of type {pixels.values.dtype}; expected 8 bits")
    grey = _unit(pixels.values)
    grey = grey.mean(2) if grey.ndim == 3 else grey
    opaque = np.ones_like(grey) if pixels.opacity is None else _unit(pixels.opacity)
    given = grey > 0 if (opaque > 0.5).all() else opaque > 0.5
    if not given.any():
        raise InputError(f"motif {path}: no pixel is given; all are black or transparent")
    return torch.from_numpy(np.where(given, grey, np.float32(np.nan)))


def _unit(values: np.ndarray) -> np.ndarray:
    """As a share of the largest number that the type holds."""
    largest = 1 if values.dtype == bool else np.iinfo(values.dtype).max
    return (values / largest).astype(np.float32)


def encode_motif(motif: Motif) -> str:
    """A motif as one word, so that a configuration needs no picture beside it; 255 grey levels."""
    content = (1 + 254 * motif).round().nan_to_num(0).to(torch.uint8).numpy().tobytes()
    return PREFIX + base64.b64encode(zlib.compress(content, 9)).decode()


def decode_motif(text: str) -> Motif:
    """What `encode_motif` wrote.

    Raises:
        InputError: The text is damaged.
    """
    try:
        packed = base64.b64decode(text.removeprefix(PREFIX), validate=True)
        content = zlib.decompressobj().decompress(packed, LONGEST)
        side = round(len(content) ** 0.5)
        level = torch.frombuffer(bytearray(content), dtype=torch.uint8).view(side, side).float()
    except (ValueError, zlib.error, RuntimeError) as error:
        raise InputError(f"motif {text:.20}…: damaged ({error})") from None
    return torch.where(level > 0, (level - 1) / 254, torch.nan)
