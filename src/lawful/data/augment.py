"""Random changes of images that leave their class as it is."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


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
    """Set a rectangle of at most `largest` pixels a side to zero, anywhere in every image."""
    batch, _, height, width = images.shape
    sizes = torch.randint(1, largest + 1, (2, batch, 1, 1, 1), generator=generator)
    down, along = torch.arange(height)[:, None], torch.arange(width)[None, :]
    top = torch.randint(0, height, (batch, 1, 1, 1), generator=generator)
    left = torch.randint(0, width, (batch, 1, 1, 1), generator=generator)
    inside = (down >= top) & (down < top + sizes[0]) & (along >= left) & (along < left + sizes[1])
    return images.masked_fill(inside, 0.0)
