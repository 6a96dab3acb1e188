r"""Two-phase microstructures from their statistics: a spectral field, reshaped by a network.

The generator colours white noise to the Gaussian correlation whose level cut has the asked-for
two-point correlation (`materials.fields`), lets a periodic convolutional network reshape that
latent field, and cuts it at the level that leaves exactly round(phi N) pixels in the phase. It
keeps no memory of the image's size: any multiple of `UNIT` pixels comes from the same weights.
Exchanging the phases is a symmetry of it, since the network sees the minority phase only:

.. math:: G(1 - \phi,\ 1 - 2\phi + p_2,\ z) = 1 - G(\phi, p_2, z).
"""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from lawful.errors import InputError
from lawful.laws import Condition
from lawful.least_squares import Problem, like
from lawful.materials.fields import LevelCut, latent_correlation, random_field, straight_through
from lawful.materials.laws import TwoPoint
from lawful.materials.statistics import Curve, Field, Fraction, Samples, minority
from lawful.materials.targets import TrainedTargets
from lawful.nn.blocks import SLOPE, ResidualBlock, leaky_relu
from lawful.project import Projected, project, unrolled
from lawful.symmetry.planar import Planar
from lawful.symmetry.symmetrize import group_mean

UNIT = 4
STEEPNESS = 6.0  # of the sigmoid behind a level cut, in standard deviations of the latent field
DAMPING = 0.1  # of the law steps inside the sampler; of projection too
ITERATIONS, EXCHANGES = 40, 80
FINE_BLUR = 0.5  # pixels: of the steps of refinement that come second
AT_A_TIME = 64 * 256**2  # pixels of the samples that are made at once
BLUR = 1.5  # pixels: the interfaces of a level cut are as smooth as its field
SHARP = 2.5  # pixels: interfaces nearer to each other than this are blurred less


def target_of(condition: Condition) -> Condition:
    """The statistics that a condition asks for, without its noise."""
    return {name: condition[name] for name in ("volume_fraction", "two_point")}


def periodic_conv(inputs: int, outputs: int, size: int = 3) -> nn.Conv2d:
    """A convolution on the torus."""
    return nn.Conv2d(inputs, outputs, size, padding=size // 2, padding_mode="circular")


class StatisticsEmbedding(nn.Module):
    """A vector from a volume fraction and the normalised correlation at every radius."""

    def __init__(self, radii: int, size: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(radii, 2 * size), nn.SiLU(), nn.Linear(2 * size, size), nn.SiLU()
        )

    def forward(self, phi: Fraction, two_point: Curve) -> Float[Tensor, "batch size"]:
        variance = (phi * (1 - phi))[:, None].clamp_min(1e-4)
        rho = (two_point - phi.square()[:, None]) / variance
        features = torch.cat([4 * (phi[:, None] - 0.35), rho[:, 1:]], 1)
        out: Tensor = self.layers(features)
        return out


class MicrostructureGenerator(nn.Module):
    """`volume_fraction` (B,), `two_point` (B, radius), `noise` (B, N, N) to latent fields.

    The level cut of a latent field at its volume fraction is the sample.

    Arguments:
        radii: Of the two-point correlation.
        width: Channels, at a quarter of the side.
        blocks: Number of residual blocks.
        embedding: Size of the vector that modulates them.
        prior: Noise coloured to the target's spectrum, or only blurred, so that the network has to
            learn the statistics.
        group: Turns and reflections that the generator commutes with, acting on the noise and on
            the field: the network's change is its group mean. White noise has their symmetry, so
            samples are isotropic in law, as far as those elements go.
    """

    def __init__(
        self,
        radii: int = 32,
        *,
        width: int = 48,
        blocks: int = 2,
        embedding: int = 64,
        prior: Literal["spectral", "white"] = "spectral",
        group: Planar | None = None,
    ) -> None:
        super().__init__()
        self.prior, self.group = prior, group or Planar(1)
        self.embed = StatisticsEmbedding(radii, embedding)
        self.stem = periodic_conv(UNIT**2, width)
        self.blocks = nn.ModuleList(
            ResidualBlock(width, width, embedding, conv=periodic_conv) for _ in range(blocks)
        )
        self.head = periodic_conv(width, UNIT**2)
        for parameter in self.head.parameters():
            nn.init.zeros_(parameter)

    def forward(self, condition: Condition, trust: Fraction | None = None) -> Samples:
        """The field whose level cut is the sample; unit variance.

        Arguments:
            trust: Share of the network's change that is added, where it is not all of it.
        """
        noise = condition["noise"]
        if noise.ndim != 3 or any(n % UNIT for n in noise.shape[1:]):
            raise InputError(
                f"microstructure: expected sides divisible by {UNIT}, got {tuple(noise.shape[1:])}"
            )
        phi, two_point, sign = minority(condition["volume_fraction"], condition["two_point"])
        start = self.start(noise, phi, two_point)
        change = self._change(start, self.embed(phi, two_point))
        w = start + (change if trust is None else like(trust, change) * change)
        scale = w.square().mean((1, 2)).rsqrt() * sign
        return (w * like(scale, w)).unsqueeze(1)

    def _change(self, start: Tensor, embedding: Tensor) -> Tensor:
        """What the network adds to a field (B, N, N): the group mean, all elements in one batch."""
        moved = self.group.orbit(start).flatten(0, 1)
        embedding = embedding.repeat(self.group.order, 1)
        h = self.stem(F.pixel_unshuffle(moved.unsqueeze(1), UNIT))
        for block in self.blocks:
            h = block(h, embedding)
        change = F.pixel_shuffle(self.head(leaky_relu(h)), UNIT).squeeze(1)
        return group_mean(change.unflatten(0, (-1, len(start))), self.group)

    def start(self, noise: Field, phi: Fraction, two_point: Curve) -> Field:
        """The field that the network reshapes."""
        if self.prior == "spectral":
            return spectral_field(noise, phi, two_point)
        white = torch.zeros_like(two_point)
        white[:, 0] = 1.0
        return random_field(noise, white, blur=BLUR)


def spectral_field(noise: Field, phi: Fraction, two_point: Curve) -> Field:
    """Noise coloured to the Gaussian correlation of the target, and blurred by `BLUR` pixels.

    Where p2 would fall to phi^2 within `SHARP` pixels at its first slope, the blur shrinks with
    that distance.
    """
    reach = phi * (1 - phi) / (two_point[:, 0] - two_point[:, 1]).clamp_min(1e-6)
    blur = BLUR * (reach / SHARP).clamp_max(1.0)
    return random_field(noise, latent_correlation(two_point, phi), blur=blur)


class MicrostructureCritic(nn.Module):
    """Images and their statistics to scores (B,): periodic, and blind to which phase is which.

    The score is a mean over patches, each judged by itself and against the statistics (projection:
    Miyato & Koyama 2018).

    Arguments:
        width: Channels at half the side; twice at a quarter, three times at an eighth.
    """

    def __init__(self, radii: int = 32, *, width: int = 32, embedding: int = 64) -> None:
        super().__init__()
        self.embed = StatisticsEmbedding(radii, embedding)
        self.layers = nn.Sequential(
            periodic_conv(4, width), nn.LeakyReLU(SLOPE),
            nn.Conv2d(width, 2 * width, 2, stride=2), nn.LeakyReLU(SLOPE),
            periodic_conv(2 * width, 2 * width), nn.LeakyReLU(SLOPE),
            nn.Conv2d(2 * width, 3 * width, 2, stride=2), nn.LeakyReLU(SLOPE),
            periodic_conv(3 * width, 3 * width), nn.LeakyReLU(SLOPE),
        )  # fmt: skip
        self.own = nn.Conv2d(3 * width, 1, 1)
        self.against = nn.Linear(embedding, 3 * width)

    def forward(self, x: Samples, condition: Condition) -> Fraction:
        if any(n % 8 for n in x.shape[2:]):
            raise InputError(
                f"microstructure: expected images of sides divisible by 8, got {tuple(x.shape[2:])}"
            )
        phi, two_point, sign = minority(condition["volume_fraction"], condition["two_point"])
        shown = (x - 0.5) * like(sign, x)
        h = self.layers(F.pixel_unshuffle(shown, 2))
        along = (h * self.against(self.embed(phi, two_point))[:, :, None, None]).mean((1, 2, 3))
        return self.own(h).mean((1, 2, 3)) + along


class MicrostructureSampler(nn.Module):
    """A network for latent fields, some Gauss-Newton steps on the law, and the level cut.

    Gradients pass the steps as if they were not there, and the cut as if it were a sigmoid. In
    training half of a batch goes without steps, or the network drifts to where their linearisation
    fails. Once trained, a network that starts from the target's spectrum is left out of targets far
    from the trained ones: its change is worse than none there.

    Arguments:
        network: Condition to latent fields (B, 1, N, N).
        steps: Gauss-Newton steps on `law`.
        law: The two-point law, in its lowest cosine modes where speed matters.
    """

    def __init__(self, network: MicrostructureGenerator, steps: int, law: TwoPoint) -> None:
        super().__init__()
        self.network, self.steps = network, steps
        self.bank = TrainedTargets()
        self.problem = Problem.of([law], LevelCut(STEEPNESS), 1.0)

    def latent(self, condition: Condition) -> Samples:
        """The field whose level cut is the sample; large ones a few at a time."""
        noise = condition["noise"]
        few = max(1, AT_A_TIME // noise[0].numel())
        if len(noise) > few:
            parts = zip(*(value.split(few) for value in condition.values()), strict=True)
            return torch.cat([self.latent(dict(zip(condition, p, strict=True))) for p in parts])
        target, trust = target_of(condition), None
        if self.network.prior == "spectral" and not self.training:
            trust = (~self.bank.far(**target)).to(noise)
        w: Tensor = self.network(condition, trust)
        if not self.steps:
            return w
        chosen = len(w) // 2 if self.training else len(w)
        targets = {name: value[:chosen] for name, value in target.items()}
        moved = unrolled(self.problem, w[:chosen].detach(), targets, self.steps, DAMPING)
        return torch.cat([w[:chosen] + (moved - w[:chosen]).detach(), w[chosen:]])

    def forward(self, condition: Condition) -> Samples:
        """Binary images of exactly round(phi N^2) pixels in the phase."""
        return straight_through(self.latent(condition), condition["volume_fraction"], STEEPNESS)


def project_latent(w: Samples, condition: Condition, tolerance: float) -> Projected:
    """Samples within the tolerance by moving latent fields, smoothly at first, then where that is
    not enough at a finer scale, and by exchanging pixels at last.

    Neither changes the number of pixels in the phase, which is the nearest there is.
    """
    return project(
        (TwoPoint(),), w, target_of(condition), tolerance=tolerance,
        through=(LevelCut(STEEPNESS), LevelCut(STEEPNESS, blur=FINE_BLUR)), iterations=ITERATIONS,
        damping=DAMPING, least=DAMPING, exchanges=EXCHANGES,
    )  # fmt: skip
