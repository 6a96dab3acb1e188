"""Motifs: a pattern of given values on a set of pixels (InvNet, section 3.1, eq. 3).

They are a plus, a cross, or read from a picture: grey levels of the given pixels, NaN elsewhere.
"""

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
from lawful.laws import AffineLaw, Condition

PREFIX = "pixels:"
LONGEST = 2**20  # pixels of a motif
Field = Float[Tensor, "batch channel *space"]
Motif = Float[Tensor, "side side"]


@dataclass(frozen=True, eq=False)
class MotifLaw(AffineLaw):
    r"""P x = m: the entries of `mask` have the values of `motif`, in every sample and channel.

    .. math:: r(x) = (x_i - m_i)_{i \in \Omega}

    Arguments:
        mask: The set Omega, over the last axes of a field.
        motif: The values; those outside the mask are of no account.
    """

    mask: Bool[Tensor, "*space"]
    motif: Float[Tensor, "*space"]
    name: str = "motif"
    unit: str = "grey level"

    def __post_init__(self) -> None:
        if self.mask.shape != self.motif.shape or not bool(self.mask.any()):
            found = f"{int(self.mask.sum())} pixels of {tuple(self.mask.shape)}"
            raise InputError(
                "motif: expected a mask with at least one pixel and values of its shape, got "
                f"{found} and {tuple(self.motif.shape)}"
            )
        if self.mask.dtype != torch.bool or not bool(torch.isfinite(self.motif[self.mask]).all()):
            raise InputError("motif: expected a mask of truth values and finite values on it")

    def __call__(self, x: Field, c: Condition) -> Float[Tensor, "batch channel pixel"]:
        self._check(x)
        return x[..., self.mask.to(x.device)] - self.motif[self.mask].to(x)

    def enforce(self, x: Field, c: Condition) -> Field:
        self._check(x)
        return torch.where(self.mask.to(x.device), self.motif.to(x), x)

    def hide(self, x: Field, c: Condition) -> Field:
        self._check(x)
        return x.masked_fill(self.mask.to(x.device), 0.0)

    def _check(self, x: Tensor) -> None:
        if x.shape[-self.mask.ndim :] != self.mask.shape:
            raise InputError(
                f"motif: expected fields of {tuple(self.mask.shape)}, got {tuple(x.shape)}"
            )


def plus(side: int, size: int, row: int, column: int) -> Bool[Tensor, "side side"]:
    """A plus of `size` pixels across, centred at (row, column) of a square image.

    Raises:
        InputError: It does not fit into the image, or its size is no odd number.
    """
    return _lines(side, size, row, column, ((0, 1), (1, 0)))


def cross(side: int, size: int, row: int, column: int) -> Bool[Tensor, "side side"]:
    """A cross of two diagonals, otherwise like `plus`."""
    return _lines(side, size, row, column, ((1, 1), (1, -1)))


def _lines(
    side: int, size: int, row: int, column: int, directions: tuple[tuple[int, int], ...]
) -> Bool[Tensor, "side side"]:
    """Lines through a centre, each by its step down and along."""
    if size < 1 or size % 2 == 0:
        raise InputError(f"motif: expected an odd size, got {size}")
    reach = size // 2
    if not (reach <= row < side - reach and reach <= column < side - reach):
        raise InputError(
            f"motif: {size} pixels around ({row}, {column}) do not fit into {side} x {side}"
        )
    mask, steps = torch.zeros(side, side, dtype=torch.bool), torch.arange(-reach, reach + 1)
    for down, along in directions:
        mask[row + down * steps, column + along * steps] = True
    return mask


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
