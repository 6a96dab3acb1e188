"""What studies of structure-preserving GANs share: players, game and figures.

The compared designs have nearly equal parameter counts: a layer has 1 / √n as many fields over a
group of order n as a plain layer has channels (the papers' rule, C4 against CNN).
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from math import ceil, nan, sqrt
from typing import Annotated, Any, ClassVar, Literal, Self

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lawful.data.labelled import Labelled
from lawful.divergences import R1, Alpha, Divergence, OneSidedSquared, RelativisticAverage
from lawful.errors import InputError
from lawful.laws import Condition
from lawful.metrics.distances import compare
from lawful.nn.images import Norm, Pose, SymmetricCritic, SymmetricGenerator, latent_entries
from lawful.studies.latent import SEED, draws, generate, latent_quantity
from lawful.study import Quantity, Study
from lawful.symmetry.invariance import invariance_test
from lawful.symmetry.planar import Planar, planar
from lawful.symmetry.symmetrize import canonicalize, randomize
from lawful.training import Adam, Batch, Game, adversarial_moves
from lawful.typed import Count, Positive, Size, Weight, Within

RENAMED = {"reach": "critic_kernel", "grain": "noise_injection"}  # of November 2026
Images = Float[Tensor, "n channel h w"]
Features = Float[Tensor, "n feature"]
LEAST = 32  # samples that say anything of their law
Loss = Literal["relativistic", "alpha"]


@dataclass(frozen=True)
class SymmetricStudy(Study):
    """A generator of images whose law is invariant under a group.

    Arguments:
        generator: `equivariant`, or `plain` convolutions.
        pose: Where a random element of the group acts: on the `latent` image of an equivariant
            generator, on the `output` of any, or nowhere (`none`, the incomplete design).
        critic: `invariant` or `plain`.
        group: `C4`, `D4`, `C8`, …
        treatment: What is done to training images: `none`, `augmented` by random elements of the
            group, or `canonical`, each in one pose of its orbit; samples get a random one.
        loss: `relativistic` average with R1, or Lipschitz-`alpha` with alpha = 2.
        penalty: Weight of the critic's gradient penalty; None for 0.1 and 10. The papers' images
            are in [-1, 1], where gradients are half as large: their R1 of 0.1 is 0.025 here.
        lipschitz: Slope up to which the `alpha` loss has no penalty; 2 is the papers' 1.
        critic_steps: Steps of the critic per turn of the game.
        critic_rate: Constant rate of the critic's Adam.
        generator_width: Plain channels at the finest resolution.
        critic_width: Plain channels of the critic there.
        growth: Channels at every resolution, the finest first, in widths; each halves the side.
        critic_kernel: Size of the critic's last filters, on its coarsest features; 0 for the
            papers' critic, which averages those.
        residual: Residual blocks instead of single convolutions.
        norm: Normalisation in the generator, at every `pixel` or over the `batch`; the running
            statistics are those of the last weights, not of averaged ones.
        noise: Entries of the latent vector that the dense layer sees.
        start: Channels of the latent image behind it.
        embedding: Size of a class's vector, and of what modulates the features.
        smooth: The generator doubles sides bilinearly and adds an image at every resolution.
        noise_injection: The generator has noise between its coarsest and its finest resolution
            too. Where turns interpolate, turned noise is not white.
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
    decisive: ClassVar[str]  # the distance that is watched
    watched: ClassVar[int]  # samples it is watched by
    tested: ClassVar[int] = 400  # most samples that are tested for invariance

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "growth", tuple(self.growth))
        halvings, group = len(self.growth) - 1, self.symmetry
        coarsest, rest = divmod(self.side, 2 ** max(halvings, 0))
        kernel, canonical = self.critic_kernel, self.treatment == "canonical"
        odd = kernel % 2 == 1 and kernel <= coarsest
        for wrong, said in (
            (halvings < 0, "growth: expected whole numbers, got none"),
            (rest or not coarsest,
             f"growth: side {self.side} cannot be halved {halvings} times"),
            (self.pose == "latent" and self.generator == "plain",
             "pose latent: a plain generator does not carry it to the output"),
            (canonical and self.pose != "output",
             f"treatment canonical: needs pose output, got {self.pose}"),
            (canonical and not group.exact,
             f"treatment canonical: needs an exact group, got {self.group}"),
            (kernel and not odd,
             f"critic_kernel: expected 0 or an odd number up to {coarsest}, got {kernel}"),
        ):  # fmt: skip
            if wrong:
                raise InputError(said)
        group.check((1, 1, self.side, self.side))

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
        label = Quantity("label", 0, last, distribution="integer", about="class")
        element = Quantity(
            "element", 0, order - 1, distribution="integer",
            about=f"of {self.group}, acts on the {self.pose}",
        )  # fmt: skip
        poses = (element,) if self.pose != "none" and order > 1 else ()
        return (latent_quantity(self.latent), *((label,) if last else ()), *poses)

    def appendix(self, fields: Tensor, condition: Condition) -> Mapping[str, str]:
        group = self.symmetry.exact_part
        if len(fields) < LEAST or group.order == 1:
            return {}
        found = invariance_test(fields[: self.tested], group, seed=1)
        said = "If the samples' law were invariant, so large a distance between "
        said += f"{found.count} samples and their orbits had probability {found.p_value:.3f}."
        return {f"Symmetry {group.name}": said}

    @property
    def latent(self) -> int:
        """Entries of the latent vector."""
        return latent_entries(self.noise, self.side, len(self.growth), self.noise_injection)

    @abstractmethod
    def data(self) -> Labelled:
        """The images that are trained on, and those that are held out.

        Raises:
            InputError: They cannot be had, or a class has none.
        """

    @abstractmethod
    def embed(self, images: Images) -> Features:
        """Features that distances are taken on; they are not invariant themselves."""

    @abstractmethod
    def held_out(self, random: torch.Generator) -> Features:
        """Features of held-out images; of many a random choice."""

    @abstractmethod
    def distance(self, features: Features) -> float:
        """The decisive distance of features to those of all held-out images."""

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
        return Planar(1) if getattr(self, which) == "plain" else self.symmetry

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
        data, canonical = self.data(), self.treatment == "canonical"
        images = canonicalize(data.train, self.symmetry) if canonical else data.train
        draw = draws(images, self.training.batch, self.latent, data.train_labels)
        return Game(moves, partial(self._posed, draw))

    def _posed(self, draw: Callable[[torch.Generator], Batch], generator: torch.Generator) -> Batch:
        """A batch with an element of the group for every image."""
        batch = draw(generator)
        element, images = self.symmetry.random(self.training.batch, generator), batch.data
        if self.treatment == "augmented" and images is not None:
            images = randomize(images, self.symmetry, generator)
        if self.treatment == "canonical":
            element = torch.zeros_like(element)
        return Batch({**batch.condition, "element": element}, images)

    def conditions(
        self, count: int, seed: int = SEED, like: Int[Tensor, " n"] | None = None
    ) -> dict[str, Tensor]:
        """What to generate: latent vectors, classes and elements, from a seed of their own.

        Arguments:
            like: Labels whose shares the classes have, in random order; where not given, classes
                take turns. What is compared with real images has their shares: a distance would
                measure the difference of the shares else, and a generator that lost a rare class
                gain.
        """
        random = torch.Generator().manual_seed(seed)
        noise = torch.randn(count, self.latent, generator=random)
        element = self.symmetry.random(count, random)
        if like is None:
            label = torch.arange(count) % len(self.classes)
        else:
            places = ((torch.arange(count) + 0.5) * (len(like) / count)).long()
            label = like.sort().values[places][torch.randperm(count, generator=random)]
        return {"noise": noise, "label": label, "element": element}

    def watch(self, network: nn.Module) -> Mapping[str, float]:
        count = min(self.watched, self.judged)
        images = generate(network, self.conditions(count, like=self.data().held_out_labels))
        return {self.decisive: self.distance(self.embed(images))}

    def measure(self, network: nn.Module, *, posed: bool = True) -> dict[str, float]:
        """Figures of samples that have the held-out images' shares of classes.

        Arguments:
            posed: With random elements of the group; else with the identity, which makes an
                incomplete generator of a full one.
        """
        condition = self.conditions(self.judged, like=self.data().held_out_labels)
        if not posed:
            condition["element"] = torch.zeros_like(condition["element"])
        error = pose_error(self, network) if posed else nan
        return self.evaluate(generate(network, condition), condition["label"], error)

    @torch.no_grad()
    def evaluate(
        self, images: Images, labels: Int[Tensor, " n"], equivariance: float = nan
    ) -> dict[str, float]:
        """Figures of any images held against held-out ones: those of `compare`, and others.

        The decisive distance `…_symmetrized` is of the same images, each moved by a random element
        of the group: where it is much smaller, poses are missing. `invariance` is the p-value of
        the images' law being invariant.

        Arguments:
            labels: Classes that the images are to be of.
            equivariance: Worst relative error of their generator over the group.
        """
        random = torch.Generator().manual_seed(3)
        group, key = self.symmetry.exact_part, self.decisive
        real, ours = self.held_out(random), self.embed(images)
        moved = self.embed(randomize(images, group, random))
        tested = images[: min(self.tested, self.judged)]
        test = invariance_test(tested, group, features=self.embed, seed=1)
        return {
            **compare(real, ours), key: self.distance(ours),
            f"{key}_symmetrized": self.distance(moved), "invariance": test.p_value,
            "equivariance": equivariance,
        }  # fmt: skip


@torch.no_grad()
def pose_error(study: SymmetricStudy, network: nn.Module, count: int = 16) -> float:
    """Worst relative error of g(z, τσ) = T_τ g(z, σ) over all elements; NaN where σ is not used.

    Where turns interpolate it is taken over the pixels whose turns about the centre stay in the
    image, by a pixel's margin.
    """
    group = study.symmetry
    if study.pose == "none" or group.order == 1:
        return nan
    condition = study.conditions(count)
    products = group.table[:, condition["element"].long()]
    images = [generate(network, {**condition, "element": moved}) for moved in products]
    line = torch.arange(study.side) - (study.side - 1) / 2
    disc = line[:, None].square() + line.square() <= (study.side / 2 - 1) ** 2
    seen = torch.ones_like(disc) if group.exact else disc
    errors = [((x - group.act(images[0], g)) * seen).abs().max() for g, x in enumerate(images)]
    return float(torch.stack(errors).max() / images[0].abs().max())
