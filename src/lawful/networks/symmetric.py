r"""Players of a structure-preserving GAN: equivariant generators and invariant critics.

The latent space is that of (z, σ): z normal, σ a uniform element of the group. The group acts on
it by multiplication, :math:`\tau (z, \sigma) = (z, \tau \sigma)`, which leaves the law as it is, so
a generator with :math:`g(z, \tau\sigma) = T_\tau g(z, \sigma)` has invariant samples (Birrell et
al. 2022, theorem on generators). With the trivial group C1 these are plain players.
"""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from lawful.condition import Condition
from lawful.errors import InputError
from lawful.networks.equivariant import (
    SLOPE,
    FieldNorm,
    GroupConv,
    GroupResidual,
    LiftingConv,
    LoweringConv,
    Modulation,
    PixelNorm,
    down,
    pool_group,
    up,
)
from lawful.symmetry.planar import Planar

Pose = Literal["latent", "output", "none"]


class Labels(nn.Module):
    """A learned vector of every class; of one class it is left out."""

    def __init__(self, classes: int, size: int) -> None:
        super().__init__()
        self.size = size if classes > 1 else 0
        self.table = nn.Embedding(classes, size) if classes > 1 else None

    def forward(self, condition: Condition) -> Tensor | None:
        if self.table is None:
            return None
        vector: Tensor = self.table(condition["label"].long())
        return vector


class _Level(nn.Module):
    """Double the sides, then convolve, normalise and modulate."""

    def __init__(
        self, group: Planar, inputs: int, outputs: int, embedding: int, norm: str, smooth: bool
    ) -> None:
        super().__init__()
        self.smooth = smooth
        self.conv = GroupConv(group, inputs, outputs)
        self.norm = FieldNorm(outputs) if norm == "batch" else PixelNorm()
        self.modulation = Modulation(outputs, embedding)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.modulation(self.norm(self.conv(up(x, self.smooth))), embedding)
        return F.leaky_relu(h, SLOPE)


class SymmetricGenerator(nn.Module):
    """Latent vector, class and element of the group to images.

    `noise` (B, noise), `label` (B,) and `element` (B,) to images in [0, 1].

    Arguments:
        group: Whose fields the convolutions work on.
        poses: The group of σ; `group` where not given.
        pose: Where σ acts: on the `latent` image behind the dense layer, which makes the generator
            equivariant if its convolutions are; on the `output`; or nowhere (`none`).
        side: Divisible by two for every width but the first.
        widths: Fields at every resolution, the coarsest first.
        start: Channels of the latent image.
        classes: 1 for no label.
        residual: Residual blocks instead of single convolutions.
        norm: `batch` or `pixel`.
        smooth: Double sides bilinearly, which leaves no blocks in continuous pictures.

    Raises:
        InputError: The side cannot be doubled up to.
    """

    def __init__(
        self,
        group: Planar,
        *,
        poses: Planar | None = None,
        pose: Pose = "latent",
        side: int = 28,
        channels: int = 1,
        widths: Sequence[int] = (24, 12, 8),
        start: int = 32,
        noise: int = 64,
        classes: int = 10,
        embedding: int = 64,
        residual: bool = False,
        norm: Literal["batch", "pixel"] = "pixel",
        smooth: bool = False,
    ) -> None:
        super().__init__()
        self.group, self.poses, self.pose = group, poses or group, pose
        self.corner, rest = divmod(side, 2 ** (len(widths) - 1))
        if rest or not self.corner:
            raise InputError(
                f"generator: side {side} is not a multiple of {2 ** (len(widths) - 1)}, which "
                f"{len(widths)} resolutions need"
            )
        self.labels = Labels(classes, embedding)
        inputs = noise + self.labels.size
        self.start = start
        self.dense = nn.Linear(inputs, start * self.corner**2)
        self.embed = nn.Linear(inputs, embedding)
        self.lift = LiftingConv(group, start, widths[0])
        self.levels = nn.ModuleList(
            GroupResidual(group, a, b, resample="up", embedding=embedding, smooth=smooth)
            if residual
            else _Level(group, a, b, embedding, norm, smooth)
            for a, b in pairwise(widths)
        )
        self.residual = residual
        self.head = LoweringConv(group, widths[-1], channels)

    def forward(self, condition: Condition) -> Float[Tensor, "batch channel side side"]:
        noise, label = condition["noise"], self.labels(condition)
        latent = noise if label is None else torch.cat([noise, label], 1)
        embedding = F.leaky_relu(self.embed(latent), SLOPE)
        x = self.dense(latent).unflatten(1, (self.start, self.corner, self.corner))
        x = self._posed(x, condition, "latent")
        h = F.leaky_relu(self.lift(x), SLOPE)
        for level in self.levels:
            h = level(h, embedding)
        image = torch.sigmoid(self.head(F.leaky_relu(h, SLOPE) if self.residual else h))
        return self._posed(image, condition, "output")

    def _posed(self, x: Tensor, condition: Condition, place: Pose) -> Tensor:
        if self.pose != place or self.poses.order == 1:
            return x
        return self.poses.act_each(x, condition["element"].long())


class SymmetricCritic(nn.Module):
    """Images `(B, channel, side, side)` and their labels to scores (B,), invariant.

    Convolutions and halvings, a last convolution over what is left, the largest response over the
    group, and a projection head: ⟨φ, e_y⟩ + ⟨φ, w⟩ (Miyato & Koyama 2018).

    Arguments:
        side: Divisible by two for every width but the first; a further halving is refused rather
            than cut a row off.
        widths: Fields at every resolution, the finest first.
        features: Fields of the last convolution.
        reach: Size of its filters, what is left of the image is averaged over; 0 for no such
            layer, as in the papers' critic, whose features hold no place.
        spectral: Hold the norm of every moved filter bank at 1.
    """

    def __init__(
        self,
        group: Planar,
        *,
        side: int = 28,
        channels: int = 1,
        widths: Sequence[int] = (8, 16, 32),
        features: int = 32,
        reach: int = 7,
        classes: int = 10,
        residual: bool = False,
        spectral: bool = False,
    ) -> None:
        super().__init__()
        halvings = len(widths) - 1
        if side % 2**halvings or side // 2**halvings < reach:
            raise InputError(
                f"critic: side {side} cannot be halved {halvings} times and still hold {reach} "
                "pixels"
            )
        self.group = group
        self.lift = LiftingConv(group, channels, widths[0], spectral=spectral)
        self.levels = nn.ModuleList(
            GroupResidual(group, a, b, spectral=spectral)
            if residual
            else GroupConv(group, a, b, spectral=spectral)
            for a, b in pairwise(widths)
        )
        last = partial(GroupConv, group, widths[-1], valid=True, spectral=spectral)
        self.last = last(features, reach) if reach else None
        features = features if reach else widths[-1]
        self.own = nn.Linear(features, 1)
        self.labels = Labels(classes, features)

    def features(self, x: Float[Tensor, "batch channel h w"]) -> Float[Tensor, "batch feature"]:
        """The invariant vector φ."""
        h = F.leaky_relu(self.lift(x), SLOPE)
        for level in self.levels:
            h = F.leaky_relu(level(down(h)), SLOPE)
        h = h if self.last is None else F.leaky_relu(self.last(h), SLOPE)
        h = pool_group(h, "max")
        return h.mean((-2, -1))

    def forward(
        self, x: Float[Tensor, "batch channel h w"], condition: Condition
    ) -> Float[Tensor, " batch"]:
        features = self.features(x)
        score: Tensor = self.own(features).squeeze(1)
        label = self.labels(condition)
        return score if label is None else score + (features * label).sum(1)
