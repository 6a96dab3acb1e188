"""Rows of features, by any network."""

from collections.abc import Callable, Iterable

import torch
from jaxtyping import Float
from torch import Tensor

from lawful.errors import InputError


@torch.no_grad()
def embed(
    features: Callable[[Tensor], Tensor], images: Iterable[Tensor] | Tensor, chunk: int = 250
) -> Float[Tensor, "n feature"]:
    """Features of images as float64 rows; of a set too large to be kept, batch by batch with
    `gaussian(embed(features, batch) for batch in batches)`.

    Arguments:
        features: Images (B, …) to rows (B, feature).
        images: (n, …), or batches of such.
        chunk: Most images at a time; it bounds memory and changes nothing else.

    Raises:
        InputError: No image, or features of another shape or not finite.
    """
    if chunk < 1:
        raise InputError(f"features: expected chunks of 1 image or more, got {chunk}")
    if isinstance(images, Tensor) and not images.ndim:
        raise InputError("features: expected a batch of images, got a number")
    batches = [images] if isinstance(images, Tensor) else images
    rows = [_rows(features, part) for batch in batches for part in batch.split(chunk) if len(part)]
    if not rows:
        raise InputError("features: expected at least 1 image, got 0")
    return torch.cat(rows)


def _rows(features: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    rows = features(images)
    if rows.ndim != 2 or len(rows) != len(images):
        raise InputError(
            f"features: expected {len(images)} rows for as many images, got {tuple(rows.shape)}"
        )
    if not bool(torch.isfinite(rows).all()):
        raise InputError("features: expected finite features, got NaN or infinity")
    return rows.double()
