"""Random changes of images that leave their class as it is; rotated digits and subsets of them.

A rotated set has every digit once, turned about the centre by an angle uniform over the circle: the
set's distribution is invariant under every rotation, a single digit's pose is not known.
"""

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from lawful.data.digits import CLASSES, LEAST, Digits
from lawful.errors import InputError

MNIST = 60_000  # training digits of MNIST, which shares are of


def jitter(
    images: Float[Tensor, "batch channel h w"],
    generator: torch.Generator,
    *,
    degrees: float = 12.0,
    scale: float = 0.12,
    shift: float = 0.08,
) -> Float[Tensor, "batch channel h w"]:
    """Rotate, scale and shift every image at random, bilinearly.

    Arguments:
        degrees, scale, shift: Largest angle, relative change of size, and shift as a share of half
            the side; each uniform.
    """
    uniform = lambda: 2 * torch.rand(len(images), generator=generator) - 1  # noqa: E731
    angle, size = uniform() * math.radians(degrees), 1 + scale * uniform()
    rows = [
        torch.stack([angle.cos() * size, -angle.sin() * size, shift * uniform()], 1),
        torch.stack([angle.sin() * size, angle.cos() * size, shift * uniform()], 1),
    ]
    grid = F.affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


def drop_patches(
    images: Float[Tensor, "batch channel h w"], generator: torch.Generator, *, largest: int = 9
) -> Float[Tensor, "batch channel h w"]:
    """Set a rectangle of at most `largest` pixels per side to zero, anywhere in every image."""
    batch, _, height, width = images.shape
    sizes = torch.randint(1, largest + 1, (2, batch, 1, 1, 1), generator=generator)
    down, along = torch.arange(height)[:, None], torch.arange(width)[None, :]
    top = torch.randint(0, height, (batch, 1, 1, 1), generator=generator)
    left = torch.randint(0, width, (batch, 1, 1, 1), generator=generator)
    inside = (down >= top) & (down < top + sizes[0]) & (along >= left) & (along < left + sizes[1])
    return images.masked_fill(inside, 0.0)


def rotated(digits: Digits, seed: int = 0, turns: int = 1) -> Digits:
    """Every digit rotated by an angle of its own, bilinearly; held-out ones `turns` times."""
    random = torch.Generator().manual_seed(seed)
    turn = lambda x: jitter(x, random, degrees=180.0, scale=0.0, shift=0.0)  # noqa: E731
    return replace(
        digits,
        train=turn(digits.train),
        held_out=turn(digits.held_out.repeat(turns, 1, 1, 1)),
        held_out_labels=digits.held_out_labels.repeat(turns),
        source=f"{digits.source}, rotated (seed {seed})",
    )


def subset(digits: Digits, share: float, seed: int = 0) -> Digits:
    """A share of MNIST's 60,000 training digits, drawn without replacement.

    Raises:
        InputError: The source has fewer digits, or a class has none among those drawn.
    """
    count = round(share * MNIST)
    if not LEAST <= count <= len(digits.train):
        raise InputError(
            f"share: {share:g} of {MNIST:,} digits is {count:,}; expected {LEAST} to "
            f"{len(digits.train):,}, what {digits.source} has"
        )
    chosen = _order(digits, seed)[:count]
    labels = digits.train_labels[chosen]
    empty = (labels.bincount(minlength=CLASSES) == 0).nonzero().flatten().tolist()
    if empty:
        raise InputError(f"digits {digits.source}: no image of class {empty[0]} among {count:,}")
    return replace(digits, train=digits.train[chosen], train_labels=labels)


def others(digits: Digits, share: float, seed: int = 0) -> Digits:
    """The training digits that `subset` leaves, in random order; none for the whole set."""
    left = _order(digits, seed)[round(share * MNIST) :]
    return replace(digits, train=digits.train[left], train_labels=digits.train_labels[left])


def _order(digits: Digits, seed: int) -> Int[Tensor, " train"]:
    random = torch.Generator().manual_seed(seed)
    return torch.randperm(len(digits.train), generator=random)
