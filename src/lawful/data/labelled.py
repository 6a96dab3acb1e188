"""Images with labels, split for training; random changes of them that leave their class as it is.

A rotated set has every image once, turned about the centre by an angle uniform over the circle: its
distribution is invariant under every rotation, a single image's pose is not known.
"""

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from lawful.errors import InputError

Images = Float[Tensor, "batch channel h w"]
MNIST, LEAST = 60_000, 10  # training digits of MNIST, which shares are of; the fewest


@dataclass(frozen=True)
class Labelled:
    """Images in [0, 1] that may be trained on, and those that are held out.

    Arguments:
        classes: Names that the labels count.
        source: Where they come from, for manifests; of a path its last name only.
    """

    train: Float[Tensor, "train channel rows columns"]
    train_labels: Int[Tensor, " train"]
    held_out: Float[Tensor, "test channel rows columns"]
    held_out_labels: Int[Tensor, " test"]
    classes: tuple[str, ...]
    source: str


def jitter(
    images: Images,
    generator: torch.Generator,
    *,
    degrees: float = 12.0,
    scale: float = 0.12,
    shift: float = 0.08,
) -> Images:
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


def drop_patches(images: Images, generator: torch.Generator, *, largest: int = 9) -> Images:
    """Set a rectangle of at most `largest` pixels per side to zero, anywhere in every image."""
    batch, _, height, width = images.shape
    sizes = torch.randint(1, largest + 1, (2, batch, 1, 1, 1), generator=generator)
    down, along = torch.arange(height)[:, None], torch.arange(width)[None, :]
    top = torch.randint(0, height, (batch, 1, 1, 1), generator=generator)
    left = torch.randint(0, width, (batch, 1, 1, 1), generator=generator)
    inside = (down >= top) & (down < top + sizes[0]) & (along >= left) & (along < left + sizes[1])
    return images.masked_fill(inside, 0.0)


def rotated(data: Labelled, seed: int = 0, turns: int = 1) -> Labelled:
    """Every image rotated by an angle of its own, bilinearly; held-out ones `turns` times."""
    random = torch.Generator().manual_seed(seed)
    turn = lambda x: jitter(x, random, degrees=180.0, scale=0.0, shift=0.0)  # noqa: E731
    return replace(
        data,
        train=turn(data.train),
        held_out=turn(data.held_out.repeat(turns, 1, 1, 1)),
        held_out_labels=data.held_out_labels.repeat(turns),
        source=f"{data.source}, rotated (seed {seed})",
    )


def subset(digits: Labelled, share: float, seed: int = 0) -> Labelled:
    """A share of MNIST's 60,000 training digits, drawn without replacement.

    Raises:
        InputError: The source has fewer digits, or a class has none among those drawn.
    """
    count, most = round(share * MNIST), len(digits.train)
    if not LEAST <= count <= most:
        raise InputError(
            f"share: {share:g} of {MNIST:,} digits is {count:,}; expected {LEAST} to {most:,}, "
            f"what {digits.source} has"
        )
    found = _chosen(digits, seed, slice(count))
    present = set(found.train_labels.tolist())
    if empty := [label for label in range(len(digits.classes)) if label not in present]:
        raise InputError(f"digits {digits.source}: no image of class {empty[0]} among {count:,}")
    return found


def others(digits: Labelled, share: float, seed: int = 0) -> Labelled:
    """The training digits that `subset` leaves, in random order; none for the whole set."""
    return _chosen(digits, seed, slice(round(share * MNIST), None))


def _chosen(data: Labelled, seed: int, part: slice) -> Labelled:
    """A part of the training images in an order that is random, but of the seed."""
    random = torch.Generator().manual_seed(seed)
    rows = torch.randperm(len(data.train), generator=random)[part]
    return replace(data, train=data.train[rows], train_labels=data.train_labels[rows])
