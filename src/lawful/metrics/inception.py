"""The network of the Fréchet Inception distance: Inception v3 as Heusel et al. (2017) used it.

The network is that of Szegedy et al. (2015) as published in December 2015, with two properties of
its own: average pools do not count their padding, and the last block pools by the maximum. Modules
are named as in the port `pt_inception-2015-12-05` of its weights by Seitzer (pytorch-fid), so that
this state dictionary fits. No weights come with this package.
"""

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

SIDE = 299

Layer = tuple[str, str, int, int, int]  # name, what it reads, channels, height and width of kernel
Pool = Callable[[Tensor], Tensor]
AVERAGE: Pool = partial(F.avg_pool2d, kernel_size=3, stride=1, padding=1, count_include_pad=False)
MAXIMUM: Pool = partial(F.max_pool2d, kernel_size=3, stride=1, padding=1)
HALVING: Pool = partial(F.max_pool2d, kernel_size=3, stride=2)


def _chain(name: str, *kernels: tuple[int, int, int]) -> tuple[Layer, ...]:
    """A layer `name`, or several, `name_1`, `name_2`, …, each of which reads the one before."""
    names = [f"{name}_{k + 1}" for k in range(len(kernels))] if kernels[1:] else [name]
    sources = ["input", *names]
    return tuple((n, s, *kernel) for n, s, kernel in zip(names, sources, kernels, strict=False))


def _block_35(pooled: int) -> tuple[Layer, ...]:
    return (
        *_chain("branch1x1", (64, 1, 1)),
        *_chain("branch5x5", (48, 1, 1), (64, 5, 5)),
        *_chain("branch3x3dbl", (64, 1, 1), (96, 3, 3), (96, 3, 3)),
        ("branch_pool", "pool", pooled, 1, 1),
    )


def _block_17(width: int) -> tuple[Layer, ...]:
    along, down = (width, 1, 7), (width, 7, 1)
    return (
        *_chain("branch1x1", (192, 1, 1)),
        *_chain("branch7x7", (width, 1, 1), along, (192, 7, 1)),
        *_chain("branch7x7dbl", (width, 1, 1), down, along, down, (192, 1, 7)),
        ("branch_pool", "pool", 192, 1, 1),
    )


BLOCK_8: tuple[Layer, ...] = (
    ("branch1x1", "input", 320, 1, 1),
    ("branch3x3_1", "input", 384, 1, 1),
    ("branch3x3_2a", "branch3x3_1", 384, 1, 3),
    ("branch3x3_2b", "branch3x3_1", 384, 3, 1),
    ("branch3x3dbl_1", "input", 448, 1, 1),
    ("branch3x3dbl_2", "branch3x3dbl_1", 384, 3, 3),
    ("branch3x3dbl_3a", "branch3x3dbl_2", 384, 1, 3),
    ("branch3x3dbl_3b", "branch3x3dbl_2", 384, 3, 1),
    ("branch_pool", "pool", 192, 1, 1),
)
FROM_35_TO_17 = (
    *_chain("branch3x3", (384, 3, 3)),
    *_chain("branch3x3dbl", (64, 1, 1), (96, 3, 3), (96, 3, 3)),
)
FROM_17_TO_8 = (
    *_chain("branch3x3", (192, 1, 1), (320, 3, 3)),
    *_chain("branch7x7x3", (192, 1, 1), (192, 1, 7), (192, 7, 1), (192, 3, 3)),
)
BLOCKS: tuple[tuple[str, tuple[Layer, ...], Pool], ...] = (
    ("Mixed_5b", _block_35(32), AVERAGE),
    ("Mixed_5c", _block_35(64), AVERAGE),
    ("Mixed_5d", _block_35(64), AVERAGE),
    ("Mixed_6a", FROM_35_TO_17, HALVING),
    ("Mixed_6b", _block_17(128), AVERAGE),
    ("Mixed_6c", _block_17(160), AVERAGE),
    ("Mixed_6d", _block_17(160), AVERAGE),
    ("Mixed_6e", _block_17(192), AVERAGE),
    ("Mixed_7a", FROM_17_TO_8, HALVING),
    ("Mixed_7b", BLOCK_8, AVERAGE),
    ("Mixed_7c", BLOCK_8, MAXIMUM),
)


def _convolution(inputs: int, outputs: int, height: int, width: int, **options: Any) -> nn.Module:
    """A convolution, batch normalisation and a rectifier."""
    conv = nn.Conv2d(inputs, outputs, (height, width), bias=False, **options)
    parts = {"conv": conv, "bn": nn.BatchNorm2d(outputs, eps=1e-3), "relu": nn.ReLU()}
    return nn.Sequential(OrderedDict(parts))


class Mixed(nn.Module):
    """Convolutions on one input and on its pool; those that no other reads are concatenated.

    Arguments:
        inputs: Number of channels.
        layers: In order; they read the `input`, the `pool` or an earlier one.
        pool: If it halves the resolution, so do the layers that no other reads.
    """

    def __init__(self, inputs: int, layers: tuple[Layer, ...], pool: Pool) -> None:
        super().__init__()
        self.pool = pool
        self.reads = {name: source for name, source, *_ in layers}
        self.leaves = [name for name in (*self.reads, "pool") if name not in self.reads.values()]
        channels = {"input": inputs, "pool": inputs}
        for name, source, outputs, *size in layers:
            halve = pool is HALVING and name in self.leaves
            options = {"stride": 2} if halve else {"padding": "same"}
            self.add_module(name, _convolution(channels[source], outputs, *size, **options))
            channels[name] = outputs
        self.outputs = sum(channels[name] for name in self.leaves)

    def forward(self, x: Float[Tensor, "batch inputs h w"]) -> Float[Tensor, "batch outputs _ _"]:
        values = {"input": x, "pool": self.pool(x)}
        for name, source in self.reads.items():
            values[name] = self.get_submodule(name)(values[source])
        return torch.cat([values[name] for name in self.leaves], 1)


def inception_v3() -> nn.Sequential:
    """Images (B, 3, 299, 299) in [-1, 1] to the 2048 numbers before the classifier."""
    parts = {
        "Conv2d_1a_3x3": _convolution(3, 32, 3, 3, stride=2),
        "Conv2d_2a_3x3": _convolution(32, 32, 3, 3),
        "Conv2d_2b_3x3": _convolution(32, 64, 3, 3, padding=1),
        "pool_1": nn.MaxPool2d(3, 2),
        "Conv2d_3b_1x1": _convolution(64, 80, 1, 1),
        "Conv2d_4a_3x3": _convolution(80, 192, 3, 3),
        "pool_2": nn.MaxPool2d(3, 2),
    }
    channels = 192
    for name, layers, pool in BLOCKS:
        parts[name] = block = Mixed(channels, layers, pool)
        channels = block.outputs
    return nn.Sequential(OrderedDict(**parts, mean=nn.AdaptiveAvgPool2d(1), flat=nn.Flatten()))
