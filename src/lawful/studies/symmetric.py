"""What studies of structure-preserving GANs share: players, game and treatments of the data.

The compared designs have nearly equal parameter counts: a layer has 1 / √n as many fields over a
group of order n as a plain layer has channels (the papers' rule, C4 against CNN).
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil, inf, sqrt
from typing import Annotated, Any, ClassVar, Literal, Self

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lawful.divergences import R1, Alpha, Divergence, OneSidedSquared, RelativisticAverage
from lawful.errors import InputError
from lawful.laws import Condition
from lawful.metrics.features import embed
from lawful.nn.images import (
    Norm,
    Pose,
    SymmetricCritic,
    SymmetricGenerator,
    latent_entries,
)
from lawful.study import Quantity, Study
from lawful.symmetry.invariance import InvarianceTest, invariance_test
from lawful.symmetry.planar import Planar, planar
from lawful.symmetry.symmetrize import canonicalize, randomize
from lawful.training import Adam, Batch, Game, adversarial_moves
from lawful.typed import Count, Positive, Size, Weight, Within
from lawful.weights import device_of

CHUNK = 250
RENAMED = {"reach": "critic_kernel", "grain": "noise_injection"}  # of November 2026
LEAST = 32  # samples that say anything of their law
Loss = Literal["relativistic", "alpha"]


@dataclass(frozen=True)
class Labelled:
    """Images to learn from, with their classes."""

    images: Float[Tensor, "n channel h w"]
    labels: Int[Tensor, " n"]


@dataclass(frozen=True)
class SymmetricStudy(Study):
    """A generator of images whose law is invariant under a group.

    Arguments:
        generator: `equivariant`, or `plain` convolutions.
        pose: Where a random element of the group acts: on the `latent` image of an equivariant
            generator, on the `output` of any, or nowhere (`none`, the incomplete design).
        critic: `invariant` or `plain`.
        group: `C4`, `D4`, `C8`, …
        treatment: Of the training images: `none`, `augmented` by random elements of the group, or
            `canonical`, each in one pose of its orbit, and samples get a random one.
        loss: `relativistic` average with R1, or Lipschitz-`alpha` with alpha = 2.
        penalty: Weight of the critic's gradient penalty; None for 0.1 and 10. The papers' images
            are in [-1, 1], where gradients are half as large: their R1 of 0.1 is 0.025 here.
        lipschitz: Slope up to which the `alpha` loss has no penalty; 2 is the papers' 1.
        critic_steps: A turn of the game.
        critic_rate: Of the critic's Adam.
        generator_width: Plain channels at the finest resolution.
        critic_width: The same of the critic.
        growth: Channels at every resolution, the finest first, in widths; each halves the side.
        critic_kernel: Size of the critic's last filters, on its coarsest features; 0 for the
            papers' critic, which averages those.
        residual: Residual blocks instead of single convolutions.
        norm: Of the generator's features, at every `pixel` or over the `batch`, whose running
            statistics are those of the last weights, not of averaged ones.
        noise: Entries of the latent vector that the dense layer sees.
        start: Channels of the latent image behind it.
        embedding: Size of a class's vector, and of what modulates the features.
        smooth: The generator doubles sides bilinearly and adds an image at every resolution.
        noise_injection: The generator has noise between its coarsest and its finest resolution
            too. Where
            turns interpolate, turned noise is not white.
        bright: The critic scales images to [-1, 1] and starts with He's weights.
        judged: Samples that figures are taken of.
    """

    generator: Literal["plain", "equivariant"] = "equivariant"
    pose: Pose = "latent"
    critic: Literal["plain", "invariant"] = "invariant"
    group: str = "C4"
    treatment: Literal["none", "augmented", "canonical"] = "none"
    loss: Loss = "relativistic"
    penalty: Weight | None = None
    lipschitz: Positive = 2.0
    critic_steps: Count = 1
    critic_rate: Positive = 4e-4
    generator_width: Size = 12
    critic_width: Size = 16
    critic_kernel: Annotated[int, Within(0, 100)] = 0
    growth: tuple[Size, ...] = (1, 2, 4)
    residual: bool = False
    norm: Norm = "pixel"
    noise: Size = 64
    start: Size = 32
    embedding: Size = 64
    smooth: bool = False
    noise_injection: bool = False
    bright: bool = False
    judged: Annotated[int, Within(LEAST, 1_000_000)] = 5_000

    images: ClassVar[bool] = True
    side: ClassVar[int]
    channels: ClassVar[int]

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.growth:
            raise InputError("growth: expected whole numbers, got none")
        object.__setattr__(self, "growth", tuple(self.growth))
        coarsest, rest = divmod(self.side, 2 ** (len(self.growth) - 1))
        if rest or not coarsest:
            raise InputError(
                f"growth: side {self.side} cannot be halved {len(self.growth) - 1} times"
            )
        if self.pose == "latent" and self.generator == "plain":
            raise InputError("pose latent: a plain generator does not carry it to the output")
        if self.treatment == "canonical" and self.pose != "output":
            raise InputError(f"treatment canonical: needs pose output, got {self.pose}")
        if self.treatment == "canonical" and not self.symmetry.exact:
            raise InputError(f"treatment canonical: needs an exact group, got {self.group}")
        if self.critic_kernel and not (
            self.critic_kernel % 2 and 0 < self.critic_kernel <= coarsest
        ):
            raise InputError(
                f"critic_kernel: expected 0 or an odd number up to {coarsest}, got "
                f"{self.critic_kernel}"
            )
        self.symmetry.check((1, 1, self.side, self.side))

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        return super().from_config({RENAMED.get(name, name): config[name] for name in config})

    @property
    def symmetry(self) -> Planar:
        """The group."""
        return planar(self.group)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return ("",)

    @property
    def quantities(self) -> tuple[Quantity, ...]:  # type: ignore[override]
        """Latent vector, class where there are several, and element of the group."""
        last, order = len(self.classes) - 1, self.symmetry.order
        noise = Quantity(
            "noise", -inf, inf, shape=(self.latent,), distribution="normal", about="latent vector"
        )
        label = Quantity("label", 0, last, distribution="integer", about="class")
        element = Quantity(
            "element", 0, order - 1, distribution="integer",
            about=f"of {self.group}, acts on the {self.pose}",
        )  # fmt: skip
        poses = (element,) if self.pose != "none" and order > 1 else ()
        return (noise, *((label,) if last else ()), *poses)

    def appendix(self, fields: Tensor, condition: Condition) -> Mapping[str, str]:
        group = self.symmetry.exact_part
        if len(fields) < LEAST or group.order == 1:
            return {}
        found = pose_test(fields, group)
        said = (
            f"If the samples' law were invariant, so large a distance between {found.count} "
            f"samples and their orbits had probability {found.p_value:.3f}."
        )
        return {f"Symmetry {group.name}": said}

    @property
    def latent(self) -> int:
        """Entries of the latent vector."""
        return latent_entries(self.noise, self.side, len(self.growth), self.noise_injection)

    @abstractmethod
    def data(self) -> Labelled:
        """The training images.

        Raises:
            InputError: They cannot be had, or a class has none.
        """

    def widths(self, which: Literal["generator", "critic"]) -> tuple[int, ...]:
        """Fields at every resolution, the finest first; parameters nearly equal for all groups."""
        finest = self.generator_width if which == "generator" else self.critic_width
        share = 1 / sqrt(self._acting(which).order)
        # Lifting and modulation grow with the fields, not their square: a generator's are rounded
        # up, so that its count comes nearest to the plain one's.
        whole = ceil if which == "generator" else round
        return tuple(max(1, whole(finest * size * share - 1e-9)) for size in self.growth)

    def _acting(self, which: Literal["generator", "critic"]) -> Planar:
        """The group of a player's convolutions."""
        symmetric = getattr(self, which) in ("equivariant", "invariant")
        return self.symmetry if symmetric else Planar(1)

    def network(self) -> nn.Module:
        return SymmetricGenerator(
            self._acting("generator"), poses=self.symmetry, pose=self.pose, side=self.side,
            channels=self.channels, widths=self.widths("generator")[::-1], noise=self.noise,
            classes=len(self.classes), residual=self.residual, start=self.start,
            embedding=self.embedding, norm=self.norm, smooth=self.smooth,
            injection=self.noise_injection,
        )  # fmt: skip

    def players(self) -> dict[str, nn.Module]:
        widths = self.widths("critic")
        critic = SymmetricCritic(
            self._acting("critic"), side=self.side, channels=self.channels, widths=widths,
            features=widths[-1], kernel=self.critic_kernel, classes=len(self.classes),
            residual=self.residual, bright=self.bright,
        )  # fmt: skip
        return {"generator": self.network(), "critic": critic}

    def divergence(self) -> Divergence:
        """Between data and generator, with its penalty."""
        if self.loss == "alpha":
            weight = 10.0 if self.penalty is None else self.penalty
            return Alpha((OneSidedSquared(weight, lipschitz=self.lipschitz),))
        return RelativisticAverage((R1(0.1 if self.penalty is None else self.penalty),))

    def game(self) -> Game:
        rates = self.training.learning_rate, self.critic_rate
        ours, theirs = (Adam(rate, "constant", 0.0, clip=None, betas=(0.0, 0.9)) for rate in rates)
        moves = adversarial_moves(
            self.divergence(), generator=ours, critic=theirs, critic_steps=self.critic_steps
        )
        data = self.data()
        images = data.images
        if self.treatment == "canonical":
            images = canonicalize(images, self.symmetry)
        return Game(moves, _Draw(self, images, data.labels))


@dataclass(frozen=True)
class _Draw:
    """Independent draws of images, with replacement, each with a latent vector and an element."""

    study: SymmetricStudy
    images: Tensor
    labels: Tensor

    def __call__(self, generator: torch.Generator) -> Batch:
        study, count = self.study, self.study.training.batch
        rows = torch.randint(len(self.images), (count,), generator=generator)
        noise = torch.randn(count, study.latent, generator=generator)
        element = study.symmetry.random(count, generator)
        images = self.images[rows]
        if study.treatment == "augmented":
            images = randomize(images, study.symmetry, generator)
        if study.treatment == "canonical":
            element = torch.zeros_like(element)
        condition = {"noise": noise, "label": self.labels[rows], "element": element}
        return Batch(condition, images)


@dataclass(frozen=True)
class Generated:
    """Samples with what was asked for."""

    images: Float[Tensor, "n channel h w"]
    condition: Condition


@torch.no_grad()
def generate(
    study: SymmetricStudy,
    network: nn.Module,
    count: int,
    seed: int = 40_000,
    *,
    posed: bool = True,
    like: Int[Tensor, " n"] | None = None,
) -> Generated:
    """Samples from a seed of their own.

    Arguments:
        posed: Draw the element of the group; else it is the identity, which makes an incomplete
            generator of a full one.
        like: Labels whose shares the samples' classes have, in random order; where not given,
            classes take turns. What is compared with real images has their shares: a distance would
            measure the difference of the shares else, and a generator that lost a rare class gain.
    """
    random = torch.Generator().manual_seed(seed)
    noise = torch.randn(count, study.latent, generator=random)
    element = study.symmetry.random(count, random)
    if like is None:
        label = torch.arange(count) % len(study.classes)
    else:
        places = ((torch.arange(count) + 0.5) * (len(like) / count)).long()
        label = like.sort().values[places][torch.randperm(count, generator=random)]
    condition = {"noise": noise, "label": label, "element": element if posed else 0 * element}
    device = device_of(network)
    parts = [{k: v[p : p + CHUNK].to(device) for k, v in condition.items()}
             for p in range(0, count, CHUNK)]  # fmt: skip
    return Generated(torch.cat([network(part).cpu() for part in parts]), condition)


def pose_test(
    images: Float[Tensor, "n channel h w"],
    group: Planar,
    features: Callable[[Tensor], Tensor] | None = None,
    count: int = 400,
) -> InvarianceTest:
    """Whether the first few samples' law is invariant, as far as the group moves pixels exactly.

    Arguments:
        features: Not invariant themselves; pixels where not given.
    """
    seen = None if features is None else (lambda x: embed(features, x))
    return invariance_test(images[:count], group.exact_part, features=seen, seed=1)


@torch.no_grad()
def pose_error(study: SymmetricStudy, network: nn.Module, count: int = 16) -> float:
    """Worst relative error of g(z, τσ) = T_τ g(z, σ) over all elements; NaN where σ is not used.

    Where turns interpolate, over the pixels that stay within the image.
    """
    group = study.symmetry
    if study.pose == "none" or group.order == 1:
        return float("nan")
    condition = generate(study, network, count).condition
    device = device_of(network)

    def moved(element: int) -> Tensor:
        turned = group.table[element][condition["element"].long()]
        given = {k: v.to(device) for k, v in {**condition, "element": turned}.items()}
        image: Tensor = network(given).cpu()
        return image

    image = moved(0)
    seen = torch.ones_like(image[0, 0]) if group.exact else inscribed_disc(image.shape[-1])
    errors = [((moved(g) - group.act(image, g)) * seen).abs().max() for g in range(group.order)]
    return float(torch.stack(errors).max() / image.abs().max())


def inscribed_disc(side: int) -> Float[Tensor, "side side"]:
    """1 on the pixels whose turns about the centre stay in the image, by a pixel's margin."""
    line = torch.arange(side) - (side - 1) / 2
    inside = line[:, None].square() + line[None, :].square() <= (side / 2 - 1) ** 2
    return inside.float()
