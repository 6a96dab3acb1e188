r"""Players of a structure-preserving GAN: equivariant generators and invariant critics.

The latent space is that of (z, σ): z normal, σ a uniform element of the group. The group acts on
it by multiplication, :math:`\tau (z, \sigma) = (z, \tau \sigma)`, which leaves the law as it is, so
a generator with :math:`g(z, \tau\sigma) = T_\tau g(z, \sigma)` has invariant samples (Birrell et
al. 2022, theorem on generators). With the trivial group C1 these are plain players.
"""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from math import sqrt
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from lawful.errors import InputError
from lawful.laws import Condition
from lawful.nn.equivariant import (
    SLOPE,
    Grain,
    GroupConv,
    GroupResidual,
    LiftingConv,
    LoweringConv,
    Modulation,
    down,
    normalisation,
    pool_group,
    up,
)
from lawful.symmetry.planar import Planar

Pose = Literal["latent", "output", "none"]
Norm = Literal["pixel", "batch"]


def grain_sides(side: int, resolutions: int) -> list[int]:
    """Sides of the images of grain, the coarsest first: resolutions between the ends.

    At the finest, grain is a quick way to a picture's contrasts between pixels, by speckles.
    """
    return [side // 2**k for k in reversed(range(1, resolutions - 1))]


def latent_entries(noise: int, side: int, resolutions: int, grain: bool) -> int:
    """Size of a latent vector: the dense layer's entries, then those of the grain."""
    return noise + (sum(s**2 for s in grain_sides(side, resolutions)) if grain else 0)


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
    """Double the sides, convolve, normalise, add grain and modulate.

    Smoothly, the doubling follows the convolution, which then has a quarter of the pixels.
    """

    def __init__(
        self,
        group: Planar,
        inputs: int,
        outputs: int,
        *,
        embedding: int,
        norm: Norm,
        smooth: bool,
        grain: bool,
    ) -> None:
        super().__init__()
        self.smooth = smooth
        self.conv = GroupConv(group, inputs, outputs)
        self.norm = normalisation(norm, outputs)
        self.grain = Grain(group, outputs) if grain else None
        self.modulation = Modulation(outputs, embedding)

    def forward(self, x: Tensor, embedding: Tensor, noise: Tensor | None) -> Tensor:
        h = self.norm(up(self.conv(x), smooth=True) if self.smooth else self.conv(up(x)))
        h = h if self.grain is None else self.grain(h, noise)
        return F.leaky_relu(self.modulation(h, embedding), SLOPE)


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
        smooth: For continuous pictures: double sides bilinearly, which leaves no blocks, and add
            an image of the fields at every resolution (Karras et al. 2020).
        grain: White noise at the resolutions between the coarsest and the finest (Karras et al.
            2019): images of their own, moved by σ too, which the latent vector holds behind its
            first entries, the coarsest first.

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
        norm: Norm = "pixel",
        smooth: bool = False,
        grain: bool = False,
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
        self.start, self.noise, self.residual = start, noise, residual
        self.sides = grain_sides(side, len(widths)) if grain else []
        self.latent = latent_entries(noise, side, len(widths), grain)
        self.dense = nn.Linear(inputs, start * self.corner**2)
        self.embed = nn.Linear(inputs, embedding)
        self.lift = LiftingConv(group, start, widths[0])
        level = partial(GroupResidual, resample="up") if residual else _Level
        make = partial(level, embedding=embedding, norm=norm, smooth=smooth)
        self.levels = nn.ModuleList(
            make(group, a, b, grain=k < len(self.sides))
            for k, (a, b) in enumerate(pairwise(widths))
        )
        coarser = widths[:-1] if smooth else ()
        self.skips = nn.ModuleList(LoweringConv(group, w, channels, 1) for w in coarser)
        self.head = LoweringConv(group, widths[-1], channels)

    def extra_repr(self) -> str:
        """Groups, and where the random element acts."""
        return f"{self.group}, poses of {self.poses} on the {self.pose}"

    def forward(self, condition: Condition) -> Float[Tensor, "batch channel side side"]:
        noise, *grains = self._latents(condition)
        label = self.labels(condition)
        latent = noise if label is None else torch.cat([noise, label], 1)
        embedding = F.leaky_relu(self.embed(latent), SLOPE)
        x = self.dense(latent).unflatten(1, (self.start, self.corner, self.corner))
        x = self._posed(x, condition, "latent")
        h = F.leaky_relu(self.lift(x), SLOPE)
        coarse: Tensor | None = None
        for k, level in enumerate(self.levels):
            if self.skips:
                own = self.skips[k](h)
                coarse = _doubled(own if coarse is None else coarse + own)
            h = level(h, embedding, grains[k] if k < len(grains) else None)
        image = self.head(F.leaky_relu(h, SLOPE) if self.residual else h)
        image = torch.sigmoid(image if coarse is None else coarse + image)
        return self._posed(image, condition, "output")

    def _latents(self, condition: Condition) -> list[Tensor]:
        """The dense layer's entries, and the images of grain in their pose.

        Raises:
            InputError: The latent vector has another size.
        """
        given = condition["noise"]
        if given.shape[1] != self.latent:
            raise InputError(f"noise: expected {self.latent} entries, got {given.shape[1]}")
        noise, *flat = given.split([self.noise, *(side**2 for side in self.sides)], 1)
        images = [part.unflatten(1, (1, side, side))
                  for part, side in zip(flat, self.sides, strict=True)]  # fmt: skip
        return [noise, *(self._posed(image, condition, "latent") for image in images)]

    def _posed(self, x: Tensor, condition: Condition, place: Pose) -> Tensor:
        if self.pose != place or self.poses.order == 1:
            return x
        return self.poses.act_each(x, condition["element"].long())


def _doubled(image: Tensor) -> Tensor:
    return F.interpolate(image, scale_factor=2.0, mode="bilinear")


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
        bright: For pictures that are not mostly black, and for depth: images are scaled to
            [-1, 1], and the first weights are He's. Without, scores of bright images hardly differ
            at first, and R1 draws the critic to a constant.
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
        bright: bool = False,
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
        self.bright = bright
        if bright:
            _initialise(self)

    def features(self, x: Float[Tensor, "batch channel h w"]) -> Float[Tensor, "batch feature"]:
        """The invariant vector φ."""
        h = F.leaky_relu(self.lift(2 * x - 1 if self.bright else x), SLOPE)
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


def _initialise(critic: nn.Module) -> None:
    """He's variance, which leaky rectifiers keep, for every convolution (He et al. 2015)."""
    gain = nn.init.calculate_gain("leaky_relu", SLOPE) * sqrt(3)
    with torch.no_grad():
        for module in critic.modules():
            if isinstance(module, GroupConv):
                module.weight.mul_(gain)  # from a uniform density of variance 1 / (3 fan)
