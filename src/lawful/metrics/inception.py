"""Features of the Fréchet Inception distance: Inception v3 as Heusel et al. (2017) used it.

The network is that of Szegedy et al. (2015) as published in December 2015, with two properties of
its own: average pools do not count their padding, and the last block pools by the maximum. Modules
are named as in the port `pt_inception-2015-12-05` of its weights by Seitzer (pytorch-fid), so that
this state dictionary, saved as safetensors, fits.

No weights come with this package.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from lawful.errors import InputError
from lawful.metrics.frozen import FrozenFeatures
from lawful.reading import read_tensors, reason

SIDE = 299
UNUSED = ("fc.", "AuxLogits.")  # classifiers

Layer = tuple[str, str, int, int, int]  # name, what it reads, channels, height and width of kernel
Pool = Callable[[Tensor], Tensor]
AVERAGE: Pool = partial(F.avg_pool2d, kernel_size=3, stride=1, padding=1, count_include_pad=False)
MAXIMUM: Pool = partial(F.max_pool2d, kernel_size=3, stride=1, padding=1)
HALVING: Pool = partial(F.max_pool2d, kernel_size=3, stride=2)


def _block_35(pooled: int) -> tuple[Layer, ...]:
    return (
        ("branch1x1", "input", 64, 1, 1),
        ("branch5x5_1", "input", 48, 1, 1),
        ("branch5x5_2", "branch5x5_1", 64, 5, 5),
        ("branch3x3dbl_1", "input", 64, 1, 1),
        ("branch3x3dbl_2", "branch3x3dbl_1", 96, 3, 3),
        ("branch3x3dbl_3", "branch3x3dbl_2", 96, 3, 3),
        ("branch_pool", "pool", pooled, 1, 1),
    )


def _block_17(width: int) -> tuple[Layer, ...]:
    return (
        ("branch1x1", "input", 192, 1, 1),
        ("branch7x7_1", "input", width, 1, 1),
        ("branch7x7_2", "branch7x7_1", width, 1, 7),
        ("branch7x7_3", "branch7x7_2", 192, 7, 1),
        ("branch7x7dbl_1", "input", width, 1, 1),
        ("branch7x7dbl_2", "branch7x7dbl_1", width, 7, 1),
        ("branch7x7dbl_3", "branch7x7dbl_2", width, 1, 7),
        ("branch7x7dbl_4", "branch7x7dbl_3", width, 7, 1),
        ("branch7x7dbl_5", "branch7x7dbl_4", 192, 1, 7),
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
FROM_35_TO_17: tuple[Layer, ...] = (
    ("branch3x3", "input", 384, 3, 3),
    ("branch3x3dbl_1", "input", 64, 1, 1),
    ("branch3x3dbl_2", "branch3x3dbl_1", 96, 3, 3),
    ("branch3x3dbl_3", "branch3x3dbl_2", 96, 3, 3),
)
FROM_17_TO_8: tuple[Layer, ...] = (
    ("branch3x3_1", "input", 192, 1, 1),
    ("branch3x3_2", "branch3x3_1", 320, 3, 3),
    ("branch7x7x3_1", "input", 192, 1, 1),
    ("branch7x7x3_2", "branch7x7x3_1", 192, 1, 7),
    ("branch7x7x3_3", "branch7x7x3_2", 192, 7, 1),
    ("branch7x7x3_4", "branch7x7x3_3", 192, 3, 3),
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


class Convolution(nn.Module):
    """A convolution, batch normalisation and a rectifier."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: tuple[int, int],
        *,
        stride: int = 1,
        padding: tuple[int, int] = (0, 0),
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=1e-3)

    def forward(self, x: Float[Tensor, "batch inputs h w"]) -> Float[Tensor, "batch outputs _ _"]:
        return F.relu(self.bn(self.conv(x)))


class Mixed(nn.Module):
    """Convolutions on one input and on its pool; those that no other reads are concatenated.

    Arguments:
        inputs: Channels.
        layers: In order; they read the `input`, the `pool` or an earlier one.
        pool: If it halves the resolution, so do the layers that no other reads.
    """

    def __init__(self, inputs: int, layers: tuple[Layer, ...], pool: Pool) -> None:
        super().__init__()
        self.pool = pool
        self.reads = {name: source for name, source, *_ in layers}
        self.leaves = [name for name in (*self.reads, "pool") if name not in self.reads.values()]
        channels = {"input": inputs, "pool": inputs}
        for name, source, outputs, height, width in layers:
            halve = pool is HALVING and name in self.leaves
            channels[name] = outputs
            layer = Convolution(
                channels[source], outputs, (height, width), stride=2 if halve else 1,
                padding=(0, 0) if halve else (height // 2, width // 2),
            )  # fmt: skip
            self.add_module(name, layer)
        self.outputs = sum(channels[name] for name in self.leaves)

    def forward(self, x: Float[Tensor, "batch inputs h w"]) -> Float[Tensor, "batch outputs _ _"]:
        values = {"input": x, "pool": self.pool(x)}
        for name, source in self.reads.items():
            values[name] = self.get_submodule(name)(values[source])
        return torch.cat([values[name] for name in self.leaves], 1)


class Inception(nn.Module):
    """Images (B, 3, 299, 299) in [-1, 1] to the 2048 numbers before the classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Convolution(3, 32, (3, 3), stride=2)
        self.Conv2d_2a_3x3 = Convolution(32, 32, (3, 3))
        self.Conv2d_2b_3x3 = Convolution(32, 64, (3, 3), padding=(1, 1))
        self.Conv2d_3b_1x1 = Convolution(64, 80, (1, 1))
        self.Conv2d_4a_3x3 = Convolution(80, 192, (3, 3))
        channels = 192
        for name, layers, pool in BLOCKS:
            block = Mixed(channels, layers, pool)
            self.add_module(name, block)
            channels = block.outputs

    def forward(self, x: Float[Tensor, "batch 3 h w"]) -> Float[Tensor, "batch 2048"]:
        x = HALVING(self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x))))
        x = HALVING(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x)))
        for name, *_ in BLOCKS:
            x = self.get_submodule(name)(x)
        return x.mean((2, 3))


class InceptionFeatures(FrozenFeatures):
    """RGB images in [0, 1] to the 2048 numbers of which the Fréchet Inception distance is made.

    Images are resized to 299 x 299, bilinearly and without antialiasing.

    Arguments:
        path: A safetensors file of the state dictionary `pt_inception-2015-12-05`; the weights of
            its classifier are left aside.

    Raises:
        InputError: The file is missing, truncated, or of another network.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(_network(path))

    def prepare(self, images: Float[Tensor, "batch 3 h w"]) -> Float[Tensor, "batch 3 299 299"]:
        return 2 * F.interpolate(images, size=(SIDE, SIDE), mode="bilinear") - 1

    def pooled(self, images: Float[Tensor, "batch 3 299 299"]) -> Float[Tensor, "batch 2048"]:
        features: Tensor = self.network(images)
        return features


def _network(path: Path) -> Inception:
    try:
        state = {k: v for k, v in read_tensors(path)[0].items() if not k.startswith(UNUSED)}
        with torch.device("meta"):  # nothing is drawn for weights that are replaced
            network = Inception()
        network.load_state_dict(state, assign=True)
        network.float()
    except (InputError, RuntimeError) as error:
        raise InputError(
            f"weights {path}: missing, truncated, or not those of Inception v3 as safetensors "
            f"({reason(error)})"
        ) from None
    return network
