r"""Generators and critics of images, symmetric under a group or, with C1, plain.

The latent space is that of (z, σ): z normal, σ a uniform element of the group. The group acts on
it by multiplication, :math:`\tau (z, \sigma) = (z, \tau \sigma)`, which leaves the law as it is, so
a generator with :math:`g(z, \tau\sigma) = T_\tau g(z, \sigma)` has invariant samples (Birrell et
al. 2022, theorem on generators).

`ImageGenerator` and `ImageCritic` are the small plain pair that motifs are planted with. They move
pixels into channels at the ends (sub-pixel convolution, Shi et al. 2016) and work at a half and a
quarter of the side, for a third of the cost of full resolution.
"""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from math import sqrt
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from lawful.errors import InputError
from lawful.laws import Condition
from lawful.nn.blocks import SLOPE, Conv, Modulated, ResidualBlock, leaky_relu, pixel_norm
from lawful.nn.equivariant import (
    FieldNorm,
    GroupConv,
    LiftingConv,
    LoweringConv,
    NoiseInjection,
    down,
    pool_group,
    up,
)
from lawful.symmetry.planar import Planar

Pose = Literal["latent", "output", "none"]
Norm = Literal["pixel", "batch"]
Images = Float[Tensor, "batch channel rows columns"]
EMBEDDING, HIDDEN = 64, 128  # of the small plain pair: what modulates; units before the score


def noise_sides(side: int, resolutions: int) -> list[int]:
    """Sides of the injected images of noise, the coarsest first: resolutions between the ends.

    At the finest, noise is a quick way to a picture's contrasts between pixels, by speckles.
    """
    return [side // 2**k for k in reversed(range(1, resolutions - 1))]


def latent_entries(noise: int, side: int, resolutions: int, injection: bool) -> int:
    """Size of a latent vector: the dense layer's entries, then those of the injected noise."""
    return noise + (sum(s**2 for s in noise_sides(side, resolutions)) if injection else 0)


class ClassEmbedding(nn.Module):
    """A learned vector per class; of one class it is left out."""

    def __init__(self, classes: int, size: int) -> None:
        super().__init__()
        self.size = size if classes > 1 else 0
        self.table = nn.Embedding(classes, size) if classes > 1 else None

    def forward(self, condition: Condition) -> Tensor | None:
        return None if self.table is None else self.table(condition["label"].long())


class _Level(Modulated):
    """Double the sides, convolve, normalise, add noise and modulate.

    Smoothly, the doubling follows the convolution, which then has a quarter of the pixels.
    """

    def __init__(
        self, inputs: int, outputs: int, embedding: int, *, conv: Conv, smooth: bool, **layers: Any
    ) -> None:
        super().__init__()
        self.conv, self.smooth = conv(inputs, outputs, 3), smooth
        self.modulate_with(outputs, embedding, **layers)

    def forward(self, x: Tensor, embedding: Tensor, noise: Tensor | None) -> Tensor:
        h = up(self.conv(x), smooth=True) if self.smooth else self.conv(up(x))
        return leaky_relu(self.modulated(h, embedding, noise))


class SymmetricGenerator(nn.Module):
    """Latent vector, class and element of the group to images.

    `noise` (B, noise), `label` (B,) and `element` (B,) to images in [0, 1].

    Arguments:
        group: The group of the convolutions.
        poses: The group of σ; `group` where not given.
        pose: Where σ acts: on the `latent` image behind the dense layer, which makes the generator
            equivariant if its convolutions are; on the `output`; or nowhere (`none`).
        widths: Fields at every resolution, the coarsest first; each but one doubles the side.
        start: Channels of the latent image.
        classes: 1 for no label.
        residual: Residual blocks instead of single convolutions.
        norm: Over every `pixel`, or over the `batch`.
        smooth: For continuous pictures: double sides bilinearly, which leaves no blocks, and add
            an image of the fields at every resolution (Karras et al. 2020).
        injection: White noise between the coarsest and the finest resolution (Karras et al. 2019):
            images that the latent vector holds behind its first entries and that σ moves too.

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
        injection: bool = False,
    ) -> None:
        super().__init__()
        self.group, self.poses, self.pose = group, poses or group, pose
        self.corner, rest = divmod(side, 2 ** (len(widths) - 1))
        if rest or not self.corner:
            raise InputError(
                f"generator: side {side} is not a multiple of {2 ** (len(widths) - 1)}, which "
                f"{len(widths)} resolutions need"
            )
        self.labels = ClassEmbedding(classes, embedding)
        inputs = noise + self.labels.size
        self.start, self.noise, self.residual, self.smooth = start, noise, residual, smooth
        self.sides = noise_sides(side, len(widths)) if injection else []
        self.latent = latent_entries(noise, side, len(widths), injection)
        self.dense = nn.Linear(inputs, start * self.corner**2)
        self.embed = nn.Linear(inputs, embedding)
        self.lift = LiftingConv(group, start, widths[0])
        level = partial(
            ResidualBlock if residual else partial(_Level, smooth=smooth),
            embedding=embedding,
            conv=partial(GroupConv, group),
            norm=FieldNorm if norm == "batch" else pixel_norm,
        )
        injected = partial(NoiseInjection, group)
        self.levels = nn.ModuleList(
            level(a, b, noise=injected if k < len(self.sides) else None)
            for k, (a, b) in enumerate(pairwise(widths))
        )
        coarser = widths[:-1] if smooth else ()
        self.skips = nn.ModuleList(LoweringConv(group, w, channels, 1) for w in coarser)
        self.head = LoweringConv(group, widths[-1], channels)

    def extra_repr(self) -> str:
        """Groups, and where the random element acts."""
        return f"{self.group}, poses of {self.poses} on the {self.pose}"

    def forward(self, condition: Condition) -> Images:
        noise, *injected = self._latents(condition)
        label = self.labels(condition)
        latent = noise if label is None else torch.cat([noise, label], 1)
        embedding = leaky_relu(self.embed(latent))
        x = self.dense(latent).unflatten(1, (self.start, self.corner, self.corner))
        h = leaky_relu(self.lift(self._posed(x, condition, "latent")))
        coarse: Tensor | None = None
        for k, level in enumerate(self.levels):
            if self.skips:
                own = self.skips[k](h) if coarse is None else coarse + self.skips[k](h)
                coarse = F.interpolate(own, scale_factor=2.0, mode="bilinear")
            h = up(h, self.smooth) if self.residual else h
            h = level(h, embedding, injected[k] if k < len(injected) else None)
        image = self.head(leaky_relu(h) if self.residual else h)
        image = torch.sigmoid(image if coarse is None else coarse + image)
        return self._posed(image, condition, "output")

    def _latents(self, condition: Condition) -> list[Tensor]:
        """The dense layer's entries, and the images of noise in their pose.

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


class SymmetricCritic(nn.Module):
    """Images `(B, channel, side, side)` and their labels to scores (B,), invariant.

    Convolutions and halvings, a last convolution over what is left, the largest response over the
    group, and a projection head: ⟨φ, e_y⟩ + ⟨φ, w⟩ (Miyato & Koyama 2018).

    Arguments:
        widths: Fields at every resolution, the finest first; each but one halves the side, which
            is refused where it would cut a row off.
        features: Fields of the last convolution.
        kernel: Size of its filters, what is left of the image is averaged over; 0 for no such
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
        kernel: int = 7,
        classes: int = 10,
        residual: bool = False,
        spectral: bool = False,
        bright: bool = False,
    ) -> None:
        super().__init__()
        halvings = len(widths) - 1
        if side % 2**halvings or side // 2**halvings < kernel:
            raise InputError(
                f"critic: side {side} cannot be halved {halvings} times and still hold {kernel} "
                "pixels"
            )
        conv = partial(GroupConv, group, spectral=spectral)
        self.lift = LiftingConv(group, channels, widths[0], spectral=spectral)
        self.levels = nn.ModuleList(
            ResidualBlock(a, b, conv=conv) if residual else conv(a, b) for a, b in pairwise(widths)
        )
        self.last = conv(widths[-1], features, kernel, valid=True) if kernel else None
        features = features if kernel else widths[-1]
        self.own = nn.Linear(features, 1)
        self.labels = ClassEmbedding(classes, features)
        self.bright = bright
        if bright:
            # He's variance, which leaky rectifiers keep (He et al. 2015), from a uniform density
            # of variance 1 / (3 fan).
            gain = nn.init.calculate_gain("leaky_relu", SLOPE) * sqrt(3)
            for module in self.modules():
                if isinstance(module, GroupConv):
                    module.weight.data.mul_(gain)

    def features(self, x: Images) -> Float[Tensor, "batch feature"]:
        """The invariant vector φ."""
        h = leaky_relu(self.lift(2 * x - 1 if self.bright else x))
        for level in self.levels:
            h = leaky_relu(level(down(h)))
        h = h if self.last is None else leaky_relu(self.last(h))
        return pool_group(h).mean((-2, -1))

    def forward(self, x: Images, condition: Condition) -> Float[Tensor, " batch"]:
        features = self.features(x)
        score: Tensor = self.own(features).squeeze(1)
        label = self.labels(condition)
        return score if label is None else score + (features * label).sum(1)


class ImageGenerator(nn.Module):
    """`{"noise": (B, noise)}` to images `(B, 1, side, side)` in [0, 1].

    Arguments:
        side: Divisible by 4.
        noise: Size of the latent vector.
        width: Channels at half the side; twice as many at a quarter.
    """

    def __init__(self, side: int, *, noise: int = 64, width: int = 48) -> None:
        super().__init__()
        self.corner = _quarter("generator", side)
        self.dense = nn.Linear(noise, 2 * width * self.corner**2)
        self.embed = nn.Linear(noise, EMBEDDING)
        self.coarse = ResidualBlock(2 * width, 2 * width, EMBEDDING, norm=pixel_norm)
        self.widen = nn.Conv2d(2 * width, 4 * width, 1)
        self.fine = ResidualBlock(width, width, EMBEDDING, norm=pixel_norm)
        self.head = nn.Conv2d(width, 4, 3, padding=1)
        if self.head.bias is not None:
            nn.init.constant_(self.head.bias, -2.0)  # images are mostly dark

    def forward(self, condition: Condition) -> Float[Tensor, "batch 1 side side"]:
        noise = condition["noise"]
        embedding = leaky_relu(self.embed(noise))
        h: Tensor = self.dense(noise).unflatten(1, (-1, self.corner, self.corner))
        h = F.pixel_shuffle(self.widen(self.coarse(h, embedding)), 2)
        h = self.head(leaky_relu(self.fine(h, embedding)))
        return torch.sigmoid(F.pixel_shuffle(h, 2))


class ImageCritic(nn.Module):
    """Images `(B, 1, side, side)` to scores `(B,)`, by strided convolutions and no normalisation.

    Arguments:
        side: Divisible by 4.
        width: Channels at half the side; twice as many at a quarter.
    """

    def __init__(self, side: int, *, width: int = 32) -> None:
        super().__init__()
        quarter = _quarter("critic", side)
        self.layers = nn.Sequential(
            nn.Conv2d(1, width, 4, stride=2, padding=1), nn.LeakyReLU(SLOPE),
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=1), nn.LeakyReLU(SLOPE),
            nn.Flatten(), nn.Linear(2 * width * quarter**2, HIDDEN), nn.LeakyReLU(SLOPE),
            nn.Linear(HIDDEN, 1),
        )  # fmt: skip

    def forward(self, x: Images, condition: Condition) -> Float[Tensor, " batch"]:
        scores: Tensor = self.layers(x)
        return scores.squeeze(1)


def _quarter(what: str, side: int) -> int:
    if side < 4 or side % 4:
        raise InputError(f"{what}: expected a side divisible by 4, got {side}")
    return side // 4
