"""Motifs from pictures: which pixels are given, and their values."""

import base64
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import matplotlib.image
import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lawful.errors import InputError

PREFIX = "pixels:"


@dataclass(frozen=True)
class Motif:
    """Values on a set of pixels of a square image."""

    mask: Bool[Tensor, "side side"]
    values: Float[Tensor, "side side"]


def read_motif(path: Path) -> Motif:
    """A square PNG: the opaque pixels where it has transparency, else those that are not black.

    Colours become grey levels in [0, 1] by their mean.

    Raises:
        InputError: The file is missing, no PNG, not square, or without a given pixel.
    """
    if not path.is_file():
        raise InputError(f"motif {path}: expected plus, cross or a PNG file; there is no such file")
    try:
        pixels = np.asarray(matplotlib.image.imread(path, format="png"), dtype=np.float32)
    except (OSError, ValueError, SyntaxError, struct.error) as error:
        reason = " ".join(str(error).split())[:60]
        raise InputError(f"motif {path}: not a PNG file ({reason})") from None
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    if pixels.ndim != 3 or pixels.shape[0] != pixels.shape[1]:
        raise InputError(f"motif {path}: expected a square image, got {pixels.shape[:2]}")
    has_alpha = pixels.shape[2] in (2, 4)
    grey = pixels[..., : pixels.shape[2] - has_alpha].mean(2)
    opaque = pixels[..., -1] > 0.5 if has_alpha else np.ones(grey.shape, dtype=bool)
    mask = grey > 0 if opaque.all() else opaque
    if not mask.any():
        raise InputError(f"motif {path}: no pixel is given; all are black or transparent")
    return Motif(torch.from_numpy(mask), torch.from_numpy(np.where(mask, grey, 0)))


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
        content = zlib.decompress(base64.b64decode(text.removeprefix(PREFIX), validate=True))
        side = round(len(content) ** 0.5)
        level = torch.frombuffer(bytearray(content), dtype=torch.uint8).view(side, side).float()
    except (ValueError, zlib.error, RuntimeError) as error:
        raise InputError(f"motif {text:.20}…: damaged ({error})") from None
    return Motif(level > 0, ((level - 1) / 254).clamp_min(0))
