"""Four heavy-tailed clusters from few points: the toy of structure-preserving GANs."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from math import inf
from typing import Annotated, ClassVar, Literal, Self

import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor, nn

from lawful.data.mixture import Mixture
from lawful.divergences import Alpha, OneSidedSquared
from lawful.errors import InputError
from lawful.laws import Condition, Law
from lawful.nn.vectors import VectorCritic, VectorGenerator
from lawful.studies.mixture_quality import FRESH, mixture_quality, plane_figure
from lawful.studies.motif_law import MotifLaw
from lawful.study import Quantity, Study, Training
from lawful.symmetry import plane_rotations
from lawful.symmetry.symmetrize import orbit_samples
from lawful.training import Batch, Game, RMSProp, adversarial_moves
from lawful.typed import Count, Positive, Weight, Within
from lawful.weights import device_of

NOISE, TURNS, DATA_SEED = 10, 4, 1_000
MIXTURE = Mixture()


@dataclass(frozen=True)
class MixtureStudy(Study):
    """A generator of vectors of 12 entries whose distribution has the symmetry C4 in a plane.

    Arguments:
        points: Training points.
        generator: `plain`; `random-element`, a plain one between the frame of its noise and back,
            which is a random quarter turn of its output; `equivariant`, the mean over C4. Under
            both of these the generated distribution is invariant.
        critic: `plain`, or `invariant`, the mean over C4.
        alpha: Of the divergence D_α(P‖Q), with the data under f*.
        penalty: Weight of the one-sided penalty on the critic's squared gradient.
        critic_steps: Steps of the critic for one of the generator.
        critic_rate: Rate of the critic; None for the generator's.
        augment: Train on every quarter turn of every point.
    """

    training: Training
    points: Annotated[int, Within(1, 1_000_000)] = 200
    generator: Literal["plain", "random-element", "equivariant"] = "random-element"
    critic: Literal["plain", "invariant"] = "invariant"
    alpha: Positive = 2.0
    penalty: Weight = 10.0
    critic_steps: Count = 5
    critic_rate: Positive | None = None
    augment: bool = False

    name: ClassVar[str] = "mixture"
    about: ClassVar[str] = "clusters from few points (structure-preserving GANs)"
    headline: ClassVar[str] = (
        "energy distance {energy:.3f} in the plane; rarest cluster {least:.0%} of 25%; "
        "{off_plane:.2f} off the plane; invariance p = {p_value:.3f}"
    )
    quantities: ClassVar[tuple[Quantity, ...]] = (
        Quantity("noise", -inf, inf, shape=(NOISE,), distribution="normal", about="latent vector"),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self._divergence()
        self._optimizer("critic_rate")

    @classmethod
    def presets(cls) -> Mapping[str, Self]:
        quick = cls(Training(500, 200, 5e-4, average=0.99), critic_rate=5e-3)
        return {
            "quick": quick,
            "paper": cls(Training(200_000, 1_000, 2e-4, average=0.0, checkpoint=10_000)),
            "smoke": replace(quick, training=Training(20, 50, 5e-4, checkpoint=10), points=50),
        }

    def network(self) -> nn.Module:
        return VectorGenerator(MIXTURE.dimension, noise=NOISE, kind=self.generator, turns=TURNS)

    def players(self) -> dict[str, nn.Module]:
        critic = VectorCritic(MIXTURE.dimension, turns=TURNS if self.critic == "invariant" else 1)
        return {"generator": self.network(), "critic": critic}

    def laws(self) -> tuple[Law, ...]:
        """Coordinates off the plane are constant; in training nothing but the data says so."""
        mask = torch.arange(MIXTURE.dimension)[None] >= 2
        values = torch.full(mask.shape, MIXTURE.offset)
        return (MotifLaw(mask, values, name="embedding", unit="1"),)

    def data(self) -> Float[Tensor, "points 1 1 d"]:
        """The training points of this seed."""
        random = torch.Generator().manual_seed(DATA_SEED + self.training.seed)
        x = MIXTURE.sample(self.points, random)
        group = plane_rotations(TURNS, MIXTURE.dimension)
        return (orbit_samples(x, group) if self.augment else x)[:, None, None]

    def game(self) -> Game:
        moves = adversarial_moves(
            self._divergence(),
            generator=self._optimizer("training.learning_rate"),
            critic=self._optimizer("critic_rate"),
            critic_steps=self.critic_steps,
        )
        return Game(moves, Draw(self.data(), self.training.batch))

    def _divergence(self) -> Alpha:
        return Alpha((OneSidedSquared(self.penalty),), alpha=self.alpha, reverse=True)

    def _optimizer(self, name: str) -> RMSProp:
        own = self.critic_rate if name == "critic_rate" else None
        rate = self.training.learning_rate if own is None else own
        try:
            return RMSProp(rate, "constant", warmup=0.0, clip=None)
        except InputError as error:
            raise InputError(f"{name}: {error}") from None

    def origin(self) -> Mapping[str, str]:
        turned = ", every quarter turn of each" if self.augment else ""
        seed = DATA_SEED + self.training.seed
        return {"points": f"{self.points:,} drawn with seed {seed}{turned}"}

    def measure(self, network: nn.Module) -> Mapping[str, float]:
        """Figures of raw samples, as generated."""
        return asdict(mixture_quality(generate(network), MIXTURE))

    def appendix(self, fields: Tensor, condition: Condition) -> Mapping[str, Figure]:
        return {"In the plane": plane_figure({"samples": fields.flatten(1)}, MIXTURE)}


@dataclass(frozen=True)
class Draw:
    """Independent draws of points, with replacement, each with a latent vector."""

    points: Tensor
    batch: int

    def __call__(self, generator: torch.Generator) -> Batch:
        rows = torch.randint(len(self.points), (self.batch,), generator=generator)
        noise = torch.randn(self.batch, NOISE, generator=generator)
        return Batch({"noise": noise}, self.points[rows])


@torch.no_grad()
def generate(
    network: nn.Module, count: int = FRESH, seed: int = 40_000
) -> Float[Tensor, "count d"]:
    """Vectors of latent vectors drawn with a seed of their own."""
    noise = torch.randn(count, NOISE, generator=torch.Generator().manual_seed(seed))
    device = device_of(network)
    return network({"noise": noise.to(device)}).flatten(1).cpu()
