"""Generators and critics of small images.

Both work at a half and a quarter of the image's side: pixels are moved into channels at the ends
(sub-pixel convolution, Shi et al. 2016), which costs a third of what full resolution does.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from lawful.errors import InputError
from lawful.laws import Condition

SLOPE = 0.2


class ModulatedBlock(nn.Module):
    """Two 3 x 3 convolutions beside the identity; the latent vector modulates between them.

    Arguments:
        channels: Width.
        embedding: Size of the vector that scales and shifts the normalised features.
    """

    def __init__(self, channels: int, embedding: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.modulation = nn.Linear(embedding, 2 * channels)

    def forward(
        self, x: Float[Tensor, "batch channel h w"], embedding: Float[Tensor, "batch embedding"]
    ) -> Float[Tensor, "batch channel h w"]:
        scale, shift = self.modulation(embedding)[:, :, None, None].chunk(2, 1)
        h: Tensor = self.first(F.leaky_relu(x, SLOPE))
        h = h * torch.rsqrt(h.square().mean(1, keepdim=True) + 1e-5)
        out: Tensor = x + self.second(F.leaky_relu(h * (1 + scale) + shift, SLOPE))
        return out


class ImageGenerator(nn.Module):
    """`{"noise": (B, noise)}` to images `(B, 1, side, side)` in [0, 1].

    Arguments:
        side: Divisible by 4.
        noise: Size of the latent vector.
        width: Channels at half the side; twice as many at a quarter.
        embedding: Size of the vector that modulates the blocks.
    """

    def __init__(self, side: int, *, noise: int = 64, width: int = 48, embedding: int = 64) -> None:
        super().__init__()
        self.corner = _quarter("generator", side)
        self.dense = nn.Linear(noise, 2 * width * self.corner**2)
        self.embed = nn.Linear(noise, embedding)
        self.coarse = ModulatedBlock(2 * width, embedding)
        self.widen = nn.Conv2d(2 * width, 4 * width, 1)
        self.fine = ModulatedBlock(width, embedding)
        self.head = nn.Conv2d(width, 4, 3, padding=1)
        if self.head.bias is not None:
            nn.init.constant_(self.head.bias, -2.0)  # images are mostly dark

    def forward(self, condition: Condition) -> Float[Tensor, "batch 1 side side"]:
        noise = condition["noise"]
        embedding = F.leaky_relu(self.embed(noise), SLOPE)
        h: Tensor = self.dense(noise).unflatten(1, (-1, self.corner, self.corner))
        h = F.pixel_shuffle(self.widen(self.coarse(h, embedding)), 2)
        h = self.head(F.leaky_relu(self.fine(h, embedding), SLOPE))
        return torch.sigmoid(F.pixel_shuffle(h, 2))


class ImageCritic(nn.Module):
    """Images `(B, 1, side, side)` to scores `(B,)`, by strided convolutions and no normalisation.

    Arguments:
        side: Divisible by 4.
        width: Channels at half the side; twice as many at a quarter.
        hidden: Units of the dense layer before the score.
    """

    def __init__(self, side: int, *, width: int = 32, hidden: int = 128) -> None:
        super().__init__()
        quarter = _quarter("critic", side)
        self.layers = nn.Sequential(
            nn.Conv2d(1, width, 4, stride=2, padding=1), nn.LeakyReLU(SLOPE),
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=1), nn.LeakyReLU(SLOPE),
            nn.Flatten(), nn.Linear(2 * width * quarter**2, hidden), nn.LeakyReLU(SLOPE),
            nn.Linear(hidden, 1),
        )  # fmt: skip

    def forward(
        self, x: Float[Tensor, "batch 1 side side"], condition: Condition
    ) -> Float[Tensor, " batch"]:
        scores: Tensor = self.layers(x)
        return scores.squeeze(1)


def _quarter(what: str, side: int) -> int:
    if side < 4 or side % 4:
        raise InputError(f"{what}: expected a side divisible by 4, got {side}")
    return side // 4
