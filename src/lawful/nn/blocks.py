"""Convolutional blocks whose response at a pixel depends on its neighbourhood alone.

Normalisation is over channels at each pixel: statistics taken over the whole field would couple
distant places and carry the training conditions' global features into every pixel.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from lawful.errors import InputError


class ChannelNorm(nn.Module):
    """Root-mean-square normalisation over channels at every pixel (Zhang & Sennrich 2019)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(channels, 1, 1))

    def extra_repr(self) -> str:
        """Channels."""
        return str(len(self.gain))

    def forward(self, x: Float[Tensor, "batch channel h w"]) -> Float[Tensor, "batch channel h w"]:
        return x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-5) * self.gain


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions beside the identity, modulated by an embedding (FiLM).

    Arguments:
        channels: Width.
        embedding: Size of the vector that scales and shifts the normalised input.
    """

    def __init__(self, channels: int, embedding: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(channels)
        self.modulation = nn.Linear(embedding, 2 * channels)
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(
        self, x: Float[Tensor, "batch channel h w"], embedding: Float[Tensor, "batch embedding"]
    ) -> Float[Tensor, "batch channel h w"]:
        scale, shift = self.modulation(embedding)[:, :, None, None].chunk(2, 1)
        h = F.gelu(self.norm(x) * (1 + scale) + shift)
        out: Tensor = x + self.second(F.gelu(self.first(h)))
        return out


class ScalarEmbedding(nn.Module):
    """A vector from a few positive scalars of different magnitudes, each allowed to be zero.

    Without any scalar it is a constant that is learnt.

    Arguments:
        ranges: Lower and upper end of each scalar's usual range; lower > 0 sets its log scale.
        size: Length of the vector.

    Raises:
        InputError: A range is not positive or is empty.
    """

    ranges: Tensor

    def __init__(self, ranges: list[tuple[float, float]], size: int) -> None:
        super().__init__()
        if any(not 0 < low < high for low, high in ranges):
            raise InputError(f"embedding: expected 0 < lower < upper, got {ranges}")
        self.register_buffer("ranges", torch.tensor(ranges).reshape(-1, 2), persistent=False)
        self.layers = nn.Sequential(
            nn.Linear(max(3 * len(ranges), 1), size), nn.GELU(), nn.Linear(size, size), nn.GELU()
        )

    def features(self, scalars: Float[Tensor, "batch scalar"]) -> Float[Tensor, "batch feature"]:
        """Each scalar over its upper end, its logarithm, and whether it is zero."""
        if not scalars.shape[1]:
            return scalars.new_ones(len(scalars), 1)
        low, high = self.ranges.to(scalars).unbind(1)
        log = torch.log((scalars + low) / high) / torch.log(high / low)
        return torch.cat([scalars / high, log, (scalars == 0).to(scalars)], 1)

    def forward(self, scalars: Float[Tensor, "batch scalar"]) -> Float[Tensor, "batch embedding"]:
        out: Tensor = self.layers(self.features(scalars))
        return out
