"""A small U-Net modulated by an embedding, and the embedding of a few scalars."""

from functools import partial
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from lawful.errors import InputError
from lawful.nn.blocks import Conv, Modulation, ResidualBlock, RMSNorm, plain_conv


class UNet(nn.Module):
    """Residual blocks on `depth + 1` resolutions, halved by strided convolutions.

    Arguments:
        inputs, outputs: Channels at the two ends; the output starts at zero.
        width: Channels at the finest resolution, doubled at each coarser one.
        depth: Number of halvings; height and width must be divisible by 2**depth.
        embedding: Size of the modulating vector.
        periodic: Whether the last axis closes on itself.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        width: int,
        depth: int,
        embedding: int,
        *,
        periodic: bool = False,
    ) -> None:
        super().__init__()
        conv: Conv = PeriodicConv2d if periodic else plain_conv
        block = partial(_block, embedding, conv)
        widths = [width * 2**level for level in range(depth + 1)]
        self.stem = conv(inputs, width, 3)
        self.encode = nn.ModuleList(map(block, widths[:-1]))
        self.down = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in pairwise(widths))
        self.middle = nn.ModuleList(block(widths[-1]) for _ in range(2))
        self.up = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in pairwise(widths))
        self.decode = nn.ModuleList(map(block, widths[:-1]))
        self.last = block(width)
        self.head = conv(width, outputs, 3)
        for layer in (self.head, *(m for m in self.modules() if isinstance(m, Modulation))):
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)

    def forward(
        self, x: Float[Tensor, "batch inputs h w"], embedding: Float[Tensor, "batch embedding"]
    ) -> Float[Tensor, "batch outputs h w"]:
        h: Tensor = self.stem(x)
        skips = []
        for block, down in zip(self.encode, self.down, strict=True):
            h = block(h, embedding)
            skips.append(h)
            h = down(h)
        for block in self.middle:
            h = block(h, embedding)
        for level in reversed(range(len(skips))):
            h = F.interpolate(self.up[level](h), scale_factor=2.0) + skips[level]
            h = self.decode[level](h, embedding)
        out: Tensor = self.head(self.last(h, embedding))
        return out


def _block(embedding: int, conv: Conv, width: int) -> ResidualBlock:
    return ResidualBlock(
        width, width, embedding, conv=conv, norm=RMSNorm, first=True, activation=F.gelu
    )


class PeriodicConv2d(nn.Conv2d):
    """A convolution of odd size whose last axis closes on itself; zero beyond the other ends."""

    def __init__(self, inputs: int, outputs: int, size: int) -> None:
        super().__init__(inputs, outputs, size, padding=(size // 2, 0))

    def forward(self, x: Float[Tensor, "batch inputs h w"]) -> Float[Tensor, "batch outputs h w"]:
        reach = self.kernel_size[1] // 2
        return super().forward(F.pad(x, (reach, reach, 0, 0), mode="circular"))


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
