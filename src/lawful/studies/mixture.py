r"""Four heavy-tailed clusters from few points: the toy of structure-preserving GANs.

Each is a two-dimensional Student t distribution of :math:`\nu` degrees of freedom and unit scale
about one of :math:`(\pm c, \pm c)`; all other coordinates are constant. The distance r from the
centre has :math:`P(r > t) = (1 + t^2 / \nu)^{-\nu / 2}`: no mean exists for :math:`\nu \le 1`.
Quarter turns of the plane permute the clusters and leave the distribution as it is.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Annotated, Any, ClassVar, Literal, Self

import torch
from jaxtyping import Float, Int
from matplotlib.figure import Figure
from torch import Tensor, nn

from lawful.data.masks import MotifLaw
from lawful.divergences import Alpha, OneSidedSquared
from lawful.divergences.critics import Order
from lawful.laws import Condition, Law
from lawful.model import Model
from lawful.nn.vectors import VectorCritic, VectorGenerator
from lawful.studies.latent import draws, generate, latent_quantity, latent_vectors
from lawful.study import Quantity, Study, Training
from lawful.symmetry import plane_rotations
from lawful.symmetry.invariance import distances, invariance_test
from lawful.symmetry.symmetrize import orbit_samples
from lawful.table import Column, Recipe, Result, Row, checked, ratios, records_of, runs_of, table
from lawful.training import Game, RMSProp, adversarial_moves
from lawful.typed import Count, Positive, Weight, Within, check_fields, typed

NOISE, TURNS, DATA_SEED = 10, 4, 1_000
FRESH, TESTED = 5_000, 300


@dataclass(frozen=True)
class Mixture:
    """The distribution.

    Arguments:
        centre: c.
        freedom: ν.
        dimension: Number of coordinates; the first two coordinates are those of the plane.
        offset: Value of the others.

    Raises:
        InputError: A parameter is out of its range.
    """

    centre: Positive = 10.0
    freedom: Positive = 0.5
    dimension: Annotated[int, Within(2, 4096)] = 12
    offset: float = 1.0

    def __post_init__(self) -> None:
        check_fields(self, "mixture: ")

    @property
    def centres(self) -> Float[Tensor, "4 2"]:
        """Counter-clockwise, a quarter turn apart."""
        signs = [[1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0], [1.0, -1.0]]
        return self.centre * torch.tensor(signs)

    def sample(
        self, count: int, generator: torch.Generator | None = None
    ) -> Float[Tensor, "count dimension"]:
        """Independent samples, the radii by inversion of their distribution function."""
        beyond = 1 - torch.rand(count, generator=generator, dtype=torch.float64)
        radius = (self.freedom * (beyond ** (-2 / self.freedom) - 1)).sqrt()
        angle = 2 * math.pi * torch.rand(count, generator=generator, dtype=torch.float64)
        cluster = torch.randint(4, (count,), generator=generator)
        x = torch.full((count, self.dimension), self.offset)
        away = radius[:, None] * torch.stack([angle.cos(), angle.sin()], 1)
        x[:, :2] = (self.centres[cluster] + away).float()
        return x

    def cluster(self, x: Float[Tensor, "batch _"]) -> Int[Tensor, " batch"]:
        """Index of the centre that is nearest in the plane: the quadrant."""
        right, up = x[:, 0] >= 0, x[:, 1] >= 0
        return torch.where(up, torch.where(right, 0, 1), torch.where(right, 3, 2))

    def radius(self, x: Float[Tensor, "batch _"]) -> Float[Tensor, " batch"]:
        """Distance from the nearest centre, in the plane."""
        return (x[:, :2].abs() - self.centre).norm(dim=1)


MIXTURE = Mixture()
PLANE = plane_rotations(TURNS, 2)


@dataclass(frozen=True)
class MixtureStudy(Study):
    """A generator of vectors of 12 entries whose distribution has the symmetry C4 in a plane.

    Arguments:
        points: Training points.
        generator: `plain`; `random-element`, a plain one between the frame of its noise and back,
            which is a random quarter turn of its output; `equivariant`, the mean over C4. Under
            both of these the generated distribution is invariant.
        critic: `plain`, or `invariant`, the mean over C4.
        alpha: Order of the divergence D_α(P‖Q), which has the data under f*.
        penalty: Weight of the one-sided penalty on the critic's squared gradient.
        critic_steps: Steps of the critic for one of the generator.
        critic_rate: Rate of the critic; None for the generator's.
        augment: Train on every quarter turn of every point.
    """

    training: Training
    points: Annotated[int, Within(1, 1_000_000)] = 200
    generator: Literal["plain", "random-element", "equivariant"] = "random-element"
    critic: Literal["plain", "invariant"] = "invariant"
    alpha: Order = 2.0
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
    quantities: ClassVar[tuple[Quantity, ...]] = (latent_quantity(NOISE),)

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
        ours = self.training.learning_rate
        theirs = ours if self.critic_rate is None else self.critic_rate
        generator, critic = (RMSProp(r, "constant", warmup=0.0, clip=None) for r in (ours, theirs))
        divergence = Alpha((OneSidedSquared(self.penalty),), alpha=self.alpha, reverse=True)
        moves = adversarial_moves(
            divergence, generator=generator, critic=critic, critic_steps=self.critic_steps
        )
        return Game(moves, draws(self.data(), self.training.batch, NOISE))

    def origin(self) -> Mapping[str, str]:
        turned = ", every quarter turn of each" if self.augment else ""
        seed = DATA_SEED + self.training.seed
        return {"points": f"{self.points:,} drawn with seed {seed}{turned}"}

    def measure(self, network: nn.Module) -> Mapping[str, float]:
        """Figures of raw samples, as generated."""
        return mixture_quality(_samples(network, FRESH))

    def appendix(self, fields: Tensor, condition: Condition) -> Mapping[str, Figure]:
        return {"In the plane": plane_figure({"samples": fields.flatten(1)})}


def _samples(network: nn.Module, count: int) -> Float[Tensor, "count d"]:
    return generate(network, {"noise": latent_vectors(count, NOISE)}).flatten(1)


# Quality. Distances are of the plane's two coordinates on the scale of arcsinh, which commutes with
# quarter turns, is linear near the axes and logarithmic in the tails: there all moments exist.


@torch.no_grad()
def mixture_quality(x: Float[Tensor, "batch d"]) -> dict[str, float]:
    """Figures of samples held against five thousand fresh ones.

    `energy` is the energy distance in the plane, `symmetrized` that of whole orbits, which is what
    an invariant critic sees; `least` the share of samples nearest to the rarest centre; `radius`
    and `tail` the median and the 90th percentile of the distance from the nearest centre;
    `off_plane` the median of the largest error of a constant coordinate; `p_value` that of the
    test of invariance on the first three hundred samples.
    """
    plane = x[:, :2].double().asinh()
    few = plane[: FRESH // TURNS]
    orbits = orbit_samples(few, PLANE)
    truth, within = _truth()
    radius = MIXTURE.radius(x)
    return {
        "energy": energy_distance(plane, truth, within),
        # Elements are isometries: of an orbit's distances from the others one image tells all.
        "symmetrized": 2 * _mean(orbits, truth) - _mean(few, orbits) - within,
        "least": float(MIXTURE.cluster(x).bincount(minlength=4).min()) / len(x),
        "radius": float(radius.median()),
        "tail": float(radius.quantile(0.9)),
        "off_plane": float((x[:, 2:] - MIXTURE.offset).abs().amax(1).median()),
        "p_value": invariance_test(plane[:TESTED], PLANE).p_value,
    }


@lru_cache(maxsize=1)
def _truth() -> tuple[Tensor, float]:
    """Fresh samples in the plane, and their mean distance from each other."""
    fresh = MIXTURE.sample(FRESH, torch.Generator().manual_seed(90_000))[:, :2].double().asinh()
    return fresh, _mean(fresh, fresh)


def energy_distance(
    x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], within: float | None = None
) -> float:
    """2 E‖X - Y‖ - E‖X - X'‖ - E‖Y - Y'‖ of two empirical distributions (Székely & Rizzo 2013).

    Arguments:
        within: The last mean, where it is known.
    """
    return 2 * _mean(x, y) - _mean(x, x) - (_mean(y, y) if within is None else within)


def _mean(x: Tensor, y: Tensor) -> float:
    total = sum(float(distances(part, y).sum()) for part in x.split(500))
    return total / (len(x) * len(y))


def plane_figure(sets: Mapping[str, Float[Tensor, "_ d"]]) -> Figure:
    """Sets of samples in the plane, both axes on the scale of arcsinh; centres as crosses."""
    figure = Figure(figsize=(2.3 * len(sets) + 0.4, 2.9), layout="constrained")
    axes = figure.subplots(1, len(sets), squeeze=False)[0]
    ticks = torch.tensor([-1000.0, -100, -10, 0, 10, 100, 1000])
    for axis, (name, x) in zip(axes, sets.items(), strict=True):
        axis.plot(*x[:1000, :2].asinh().T.tolist(), ".", ms=2, alpha=0.4)
        axis.plot(*MIXTURE.centres.asinh().T.tolist(), "k+", ms=8)
        axis.set(xlim=(-8, 8), ylim=(-8, 8), aspect="equal")
        for set_ticks in (axis.set_xticks, axis.set_yticks):
            set_ticks(ticks.asinh().tolist(), [f"{tick:g}" for tick in ticks.tolist()])
        axis.tick_params(labelsize=5)
        axis.set_title(name.replace(", ", "\n"), fontsize=7)
    return figure


# Table: plain, flawed and full pairs of players


def _words(generator: str, critic: str) -> str:
    return f"{generator} generator, {critic} critic"


def _row(players: tuple[str, str], more: str = "", seeds: int = 1, **changes: Any) -> Row:
    """A row with everything that rows differ in stated, but for the number of points."""
    stated = {"generator": players[0], "critic": players[1], "alpha": 2.0, "augment": False}
    return Row(_words(*players) + more, {**stated, **changes}, seeds)


PLAIN, FULL = ("plain", "plain"), ("random-element", "invariant")
FLOOR = "fresh samples (the floor)"
ROWS = (
    _row(PLAIN, seeds=3),
    _row(PLAIN, ", augmented points", seeds=3, augment=True),
    _row(("plain", "invariant"), seeds=3),
    _row(("random-element", "plain"), seeds=3),
    _row(FULL, seeds=3),
    _row(("equivariant", "invariant"), seeds=3),
    *(_row(pair, f", α = {a:g}", alpha=a) for a in (5.0, 10.0, 100.0) for pair in (PLAIN, FULL)),
    *(_row(pair, ", 10,000 points", points=10_000) for pair in (PLAIN, FULL)),
)
COLUMNS = {
    "energy distance": Column("energy", ".3f", ranged=True),
    "of the orbits": Column("symmetrized", ".3f"), "rarest cluster": Column("least", ".1%"),
    "median radius": Column("radius", ".1f"), "90th percentile": Column("tail", ".0f"),
    "off the plane": Column("off_plane", ".2f"), "p": Column("p_value", ".3f"),
}  # fmt: skip


def _measured(model: Model, names: Sequence[str]) -> dict[str, float]:
    """Figures of the manifest, which a file may hold in any type."""
    place = f"manifest of {model.folder}: quality"
    quality = typed(model.manifest.get("quality"), dict[str, Any], place)
    return {name: typed(quality.get(name), float, f"{place}.{name}") for name in names}


def mixture_result(models: Mapping[str, Model]) -> Result:
    """The table over all models, by what was measured when they were made, and samples."""
    studies = [checked(model.study, MixtureStudy) for model in models.values()]
    first = min(studies, key=lambda study: study.points)
    names = [column.figure for column in COLUMNS.values()]
    records = records_of(models, ROWS, partial(_measured, names=names))
    sets = _references(first)
    shown = {"fresh samples": sets[FLOOR]}
    for entry in records:
        if entry["row"] not in shown and len(shown) < 7:
            shown[entry["row"]] = _samples(models[entry["run"]].network, 1_000)
    records += [{"row": name, **mixture_quality(x)} for name, x in sets.items()]
    records[-1]["p_value"] = None  # turns of the same points are not independent, as the test asks
    text = (
        f"{first.points:,} training points where not said otherwise; {first.training.steps:,} "
        f"steps, batches of {first.training.batch:,}, reverse α = 2 where not said otherwise.",
        table(records, COLUMNS, "players"),
        ratios(records, "energy", (_words(*FULL), _words(*PLAIN)), ".3f", "energy distance"),
    )
    return Result(
        "Heavy-tailed clusters from few points", "\n\n".join(filter(None, text)),
        {"records": records}, {"plane": plane_figure(shown)},
    )  # fmt: skip


def _references(study: MixtureStudy) -> dict[str, Tensor]:
    """Sets of points that need no training."""
    plain, turned = (replace(study, augment=flag).data().flatten(1) for flag in (False, True))
    fresh = MIXTURE.sample(FRESH, torch.Generator().manual_seed(70_000))
    named = f"the {study.points:,} training points"
    return {FLOOR: fresh, named: plain, "their quarter turns": turned}


RECIPE = Recipe(mixture_result, partial(runs_of, ROWS))
