"""A small U-Net modulated by an embedding."""

from itertools import pairwise

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from lawful.nn.blocks import ResidualBlock


class UNet(nn.Module):
    """Residual blocks on `depth + 1` resolutions, halved by strided convolutions.

    Arguments:
        inputs, outputs: Channels at the two ends; the output starts at zero.
        width: Channels at the finest resolution, doubled at each coarser one.
        depth: Number of halvings; height and width must be divisible by 2**depth.
        embedding: Size of the modulating vector.
    """

    def __init__(self, inputs: int, outputs: int, width: int, depth: int, embedding: int) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(depth + 1)]
        self.stem = nn.Conv2d(inputs, width, 3, padding=1)
        self.encode = nn.ModuleList(ResidualBlock(w, embedding) for w in widths[:-1])
        self.down = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in pairwise(widths))
        self.middle = nn.ModuleList(ResidualBlock(widths[-1], embedding) for _ in range(2))
        self.up = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in pairwise(widths))
        self.decode = nn.ModuleList(ResidualBlock(w, embedding) for w in widths[:-1])
        self.last = ResidualBlock(width, embedding)
        self.head = nn.Conv2d(width, outputs, 3, padding=1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias if self.head.bias is not None else self.head.weight)

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
