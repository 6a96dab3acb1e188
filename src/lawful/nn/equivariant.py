r"""Layers that commute with a planar group, on fields `(batch, field, order, rows, columns)`.

Group convolution (Cohen & Welling 2016): a filter w is moved by every element of the group,

.. math:: y_{o, g} = \sum_{i, h} (T_g w_{o, i, g^{-1} h}) * x_{i, h} + b_o ,

so that moving the input by T moves the output by the regular representation
(:meth:`~lawful.symmetry.Group.fields`). The moved filters are read from one index table and go
into an ordinary convolution; `export` leaves that convolution alone. The trivial group C1 gives
ordinary layers. For rotations finer than quarter turns the layers are approximate.
"""

import copy
import math
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from lawful.errors import InputError
from lawful.symmetry.planar import Planar

Fields = Float[Tensor, "batch field order h w"]


class GroupConv(nn.Module):
    r"""Fields to fields; zero padding keeps the size unless `valid`.

    As `LiftingConv` from images `(batch, channel, rows, columns)`, where h is the identity alone;
    as `LoweringConv` to images that move with the input,

    .. math:: y_o = \sum_{i, h} (T_h w_{o, i}) * x_{i, h} + b_o ,

    every linear equivariant map between the two, as far as a filter of this size goes.

    Arguments:
        inputs, outputs: Numbers of fields, or of an image's channels.
        size: Side of the filters; odd.
        spectral: Divide by the largest singular value of the moved filters as one matrix, not of
            the stored ones, which understates it by up to the root of the order; one step of the
            power iteration per forward pass in training (Miyato et al. 2018).
        lifts, lowers: Whether the input, or the output, is an image.

    Raises:
        InputError: The size is even.
    """

    index: Tensor
    moves: Tensor
    owners: Tensor
    left: Tensor

    def __init__(
        self,
        group: Planar,
        inputs: int,
        outputs: int,
        size: int = 3,
        *,
        valid: bool = False,
        spectral: bool = False,
        lifts: bool = False,
        lowers: bool = False,
    ) -> None:
        super().__init__()
        self.group, self.inputs, self.outputs, self.size = group, inputs, outputs, size
        self.padding, self.spectral = 0 if valid else size // 2, spectral
        self.lifts, self.lowers = lifts, lowers
        self.layers = 1 if lowers else group.order  # of an output field
        origins = 1 if lifts or lowers else group.order  # layers of a stored filter
        self.weight = nn.Parameter(torch.empty(outputs, inputs * origins * size**2))
        self.bias = nn.Parameter(torch.zeros(outputs))
        filters, elements = group.filters(size), torch.arange(group.order)
        # What moves a filter from layer h to layer g, and the layer of it that is moved.
        mover = elements[None, :] if lowers else elements[:, None]
        origin = torch.zeros_like(mover) if lifts or lowers else group.table[group.inverse]
        mover = mover.expand(origin.shape)
        index = self._index(filters, mover, origin, origins)
        self.register_buffer("index", index, persistent=False)
        bound = 1 / math.sqrt(len(index) / self.layers)  # that of the ordinary convolution
        nn.init.uniform_(self.weight, -bound, bound)
        moves = torch.empty(0) if group.exact_filters else filters.float()[mover]
        self.register_buffer("moves", moves, persistent=False)
        owners = torch.arange(outputs).repeat_interleave(self.layers)
        self.register_buffer("owners", owners, persistent=False)
        # Not of equal entries: each moved filter bank maps such a vector onto itself, and the
        # power iteration would never leave it.
        start = torch.randn(outputs * self.layers, generator=torch.Generator().manual_seed(0))
        self.register_buffer("left", F.normalize(start, dim=0))

    def extra_repr(self) -> str:
        """Group, fields, filters."""
        ends = [name for name in ("lifts", "lowers", "spectral") if getattr(self, name)]
        sizes = f"{self.inputs} to {self.outputs}, {self.size} x {self.size}"
        return ", ".join([str(self.group), sizes, f"padding {self.padding}", *ends])

    def _index(self, filters: Tensor, mover: Tensor, origin: Tensor, origins: int) -> Tensor:
        """Where entry (g, q, i, h) of the moved filters is read from.

        By g and q that is the entry which is moved to q; q itself where several are mixed.
        """
        entries = self.size**2
        exact = self.group.exact_filters
        places = filters.argmax(2) if exact else torch.arange(entries).expand(len(filters), -1)
        fields = torch.arange(self.inputs)[:, None] * origins * entries
        moved = places[mover].transpose(1, 2)[:, :, None, :]
        return (moved + fields + entries * origin[:, None, None, :]).flatten()

    def expanded(self) -> Float[Tensor, "out in size size"]:
        """The moved filters, as the weight of an ordinary convolution."""
        rows = self.weight.index_select(1, self.index)  # a faster backward pass than indexing has
        if not self.group.exact_filters:  # interpolated at the places that no entry moves onto
            parts = rows.unflatten(1, (self.layers, self.size**2, self.inputs, -1))
            rows = torch.einsum("ghqp,ogpih->ogqih", self.moves.to(rows), parts)
        channels = self.outputs * self.layers
        rows = rows / self._norm(rows.reshape(channels, -1)) if self.spectral else rows
        return rows.reshape(channels, self.size, self.size, -1).movedim(3, 1)

    def _norm(self, matrix: Tensor) -> Tensor:
        with torch.no_grad():
            right = F.normalize(matrix.T @ self.left, dim=0)
            if self.training:
                self.left.copy_(F.normalize(matrix @ right, dim=0))
                right = F.normalize(matrix.T @ self.left, dim=0)
        return self.left.clone() @ matrix @ right

    def forward(self, x: Float[Tensor, "batch *field h w"]) -> Float[Tensor, "batch *out h2 w2"]:
        if self.lifts:
            self.group.check(tuple(x.shape))
            # Convolutions are faster with channels last, and what follows keeps the order.
            x = x.contiguous(memory_format=torch.channels_last)
        else:
            x = x.flatten(1, 2)
        bias = self.bias.index_select(0, self.owners)
        y = F.conv2d(x, self.expanded(), bias, padding=self.padding)
        return y if self.lowers else y.unflatten(1, (self.outputs, self.layers))

    def export(self) -> nn.Sequential:
        """An ordinary convolution with the same outputs, bit for bit, in evaluation mode."""
        training = self.training
        with torch.no_grad():
            weight = self.eval().expanded()
            bias = self.bias.index_select(0, self.owners)
        self.train(training)
        conv = nn.Conv2d(weight.shape[1], len(weight), self.size, padding=self.padding)
        conv.weight, conv.bias = nn.Parameter(weight), nn.Parameter(bias)
        before = () if self.lifts else (nn.Flatten(1, 2),)
        after = () if self.lowers else (nn.Unflatten(1, (self.outputs, self.layers)),)
        return nn.Sequential(*before, conv, *after).eval()


LiftingConv = partial(GroupConv, lifts=True)
LoweringConv = partial(GroupConv, lowers=True)


def export(network: nn.Module) -> nn.Module:
    """A copy for inference in which every group convolution is an ordinary one, bit for bit."""
    copied = copy.deepcopy(network).eval()
    if isinstance(copied, GroupConv):
        return copied.export()
    for name, child in list(copied.named_modules(remove_duplicate=False)):
        if isinstance(child, GroupConv):
            place, _, last = name.rpartition(".")
            setattr(copied.get_submodule(place), last, child.export())
    return copied


class FieldNorm(nn.Module):
    """Batch normalisation of every field over batch, group and pixels; no gain of its own.

    Statistics are over the group too, so the layer is equivariant in training and in evaluation.
    A batch enters the running statistics with weight 0.1 (in the papers, with 0.9).
    """

    def __init__(self, fields: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm3d(fields, affine=False)

    def forward(self, x: Fields) -> Fields:
        out: Tensor = self.norm(x)
        return out


class NoiseInjection(nn.Module):
    """x + w * n: an image n of noise, lifted by one filter per field; little at first."""

    def __init__(self, group: Planar, fields: int) -> None:
        super().__init__()
        self.lift = LiftingConv(group, 1, fields)
        nn.init.uniform_(self.lift.weight, -0.1, 0.1)

    def forward(self, x: Fields, noise: Float[Tensor, "batch 1 h w"] | None) -> Fields:
        return x if noise is None else x + self.lift(noise)


def pool_group(x: Fields) -> Float[Tensor, "batch field h w"]:
    """Fields to an image that moves with the input: the largest over the group."""
    return x.amax(2)


def down(x: Fields) -> Float[Tensor, "batch field order h2 w2"]:
    """Means of 2 x 2 pixels.

    Raises:
        InputError: A side is odd: a row or a column would be dropped, and a quarter turn of the
            input would drop another.
    """
    rows, columns = x.shape[-2:]
    if rows % 2 or columns % 2:
        raise InputError(
            f"pooling: {rows} x {columns} pixels; halving an odd side breaks the symmetry"
        )
    return F.avg_pool2d(x.flatten(1, 2), 2).unflatten(1, x.shape[1:3])


def up(x: Fields, smooth: bool = False) -> Float[Tensor, "batch field order h2 w2"]:
    """Every pixel repeated 2 x 2; or, smoothly, sides doubled bilinearly."""
    mode = "bilinear" if smooth else "nearest"
    large = F.interpolate(x.flatten(1, 2), scale_factor=2.0, mode=mode)
    return large.unflatten(1, x.shape[1:3])
