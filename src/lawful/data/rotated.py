"""Digits rotated by random angles, and seeded subsets of them.

Every digit is rotated once, about the centre, by an angle uniform over the circle: the set's
distribution is invariant under every rotation, a single digit's pose is not known.
"""

from dataclasses import replace

import torch
from jaxtyping import Int
from torch import Tensor

from lawful.data.augment import jitter
from lawful.data.digits import CLASSES, LEAST, Digits
from lawful.errors import InputError

MNIST = 60_000  # training digits of MNIST, which shares are of


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
    chosen = _rows(digits, seed)[:count]
    labels = digits.train_labels[chosen]
    empty = (labels.bincount(minlength=CLASSES) == 0).nonzero().flatten().tolist()
    if empty:
        raise InputError(f"digits {digits.source}: no image of class {empty[0]} among {count:,}")
    return replace(digits, train=digits.train[chosen], train_labels=labels)


def others(digits: Digits, share: float, seed: int = 0) -> Digits:
    """The training digits that `subset` leaves, in random order; none for the whole set."""
    left = _rows(digits, seed)[round(share * MNIST) :]
    return replace(digits, train=digits.train[left], train_labels=digits.train_labels[left])


def _rows(digits: Digits, seed: int) -> Int[Tensor, " train"]:
    random = torch.Generator().manual_seed(seed)
    return torch.randperm(len(digits.train), generator=random)
