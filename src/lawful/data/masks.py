"""Motifs from pictures: which pixels are given, and their values."""

import base64
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lawful.data.pictures import read_pixels
from lawful.errors import InputError

PREFIX = "pixels:"
LONGEST = 2**20  # pixels of a motif


@dataclass(frozen=True)
class Motif:
    """Values on a set of pixels of a square image."""

    mask: Bool[Tensor, "side side"]
    values: Float[Tensor, "side side"]


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
    grey, opacity = _shares(pixels.values), pixels.opacity
    grey = grey.mean(2) if grey.ndim == 3 else grey
    opaque = np.full(grey.shape, True) if opacity is None else _shares(opacity) > 0.5
    mask = grey > 0 if opaque.all() else opaque
    if not mask.any():
        raise InputError(f"motif {path}: no pixel is given; all are black or transparent")
    return Motif(torch.from_numpy(mask), torch.from_numpy(np.where(mask, grey, 0)))


def _shares(values: np.ndarray) -> np.ndarray:
    """Of the largest number that the type holds."""
    largest = 1 if values.dtype == bool else np.iinfo(values.dtype).max
    return (values / largest).astype(np.float32)


def encode_motif(motif: Motif) -> str:
    """A motif as one word, so that a configuration needs no picture beside it; 255 grey levels."""
    level = 1 + (motif.values * 254).round()
    content = torch.where(motif.mask, level, 0.0).to(torch.uint8).numpy().tobytes()
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
    return Motif(level > 0, ((level - 1) / 254).clamp_min(0))
