r"""The flawed and the full design on samples: two orbits of clusters in the plane, and small nets.

Data are clusters at the eight images of two points under quarter turns. A generator that is not
invariant is trained against an invariant critic; full designs are the same generator with a random
element of the group on its output, and an equivariant one with invariant noise. The loss is the
relativistic average with R1 on data, that of the paper's digits.
"""

from dataclasses import dataclass
from math import pi

import torch
from jaxtyping import Float
from lightning_fabric import Fabric
from scipy.stats import kstest
from torch import Tensor, nn

from lawful.divergences import R1, RelativisticAverage
from lawful.laws import Condition
from lawful.symmetry.discrete import plane_rotations
from lawful.symmetry.invariance import distances, invariance_test
from lawful.symmetry.symmetrize import Symmetrized, randomize
from lawful.training import Adam, Batch, Game, State, adversarial_moves, fit

NOISE, WIDTH, SPREAD = 4, 32, 0.15
STEPS, BATCH, DECAY = 500, 64, 0.98
TESTED, SHOWN = 300, 2_000
PLANE, LATENT = plane_rotations(4, 2), plane_rotations(4, NOISE)
RADII, ANGLES = torch.tensor([1.0, 2.5]), torch.tensor([0.15, 0.35]) * pi
CENTRES = PLANE.orbit(RADII[:, None] * torch.stack([ANGLES.cos(), ANGLES.sin()], 1))


def data(count: int, generator: torch.Generator) -> Float[Tensor, "count 2"]:
    """Samples of the invariant mixture: orbit and pose uniform."""
    orbit = torch.randint(len(RADII), (count,), generator=generator)
    pose = torch.randint(PLANE.order, (count,), generator=generator)
    return CENTRES[pose, orbit] + SPREAD * torch.randn(count, 2, generator=generator)


def shares(x: Float[Tensor, "batch 2"]) -> Float[Tensor, "orbit pose"]:
    """Share of each orbit's samples in each of its poses, by the nearest centre."""
    nearest = distances(x, CENTRES.flatten(0, 1).to(x)).argmin(1)
    counts = nearest.bincount(minlength=8).reshape(PLANE.order, len(RADII)).T.double()
    return counts / counts.sum(1, keepdim=True).clamp_min(1)


def network(inputs: int, outputs: int) -> nn.Module:
    """Two hidden layers."""
    return nn.Sequential(
        nn.Linear(inputs, WIDTH), nn.LeakyReLU(0.2), nn.Linear(WIDTH, WIDTH), nn.LeakyReLU(0.2),
        nn.Linear(WIDTH, outputs),
    )  # fmt: skip


class Generator(nn.Module):
    """`noise` to points; and turned by `element` where the design has a random one."""

    def __init__(self, *, equivariant: bool = False, random_element: bool = False) -> None:
        super().__init__()
        plain = network(NOISE, 2)
        self.layers = Symmetrized(plain, LATENT, PLANE) if equivariant else plain
        self.random_element = random_element

    def forward(self, condition: Condition) -> Float[Tensor, "batch 2"]:
        x: Tensor = self.layers(condition["noise"])
        return PLANE.act_each(x, condition["element"]) if self.random_element else x


class Critic(nn.Module):
    """An invariant critic of points."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = Symmetrized(network(2, 1), PLANE)

    def forward(self, x: Float[Tensor, "batch 2"], condition: Condition) -> Float[Tensor, " batch"]:
        return self.layers(x)[:, 0]


def draw(generator: torch.Generator) -> Batch:
    """Data, noise and elements of one batch; the same whichever a design makes use of."""
    condition = {
        "noise": torch.randn(BATCH, NOISE, generator=generator),
        "element": PLANE.random(BATCH, generator),
    }
    return Batch(condition, data(BATCH, generator))


def trained(seed: int, *, equivariant: bool = False, steps: int = STEPS) -> nn.Module:
    """The averaged generator after training against the invariant critic."""
    adam = Adam(2e-3, clip=None, betas=(0.0, 0.9))
    torch.manual_seed(seed)
    players = {"generator": Generator(equivariant=equivariant), "critic": Critic()}
    loss = RelativisticAverage((R1(0.1),))
    game = Game(adversarial_moves(loss, generator=adam, critic=adam), draw)
    fabric = Fabric(accelerator="cpu", devices=1)
    state = State.create(players, game, fabric, seed=seed, average={"generator": DECAY})
    for _ in fit(game, state, fabric, steps):
        pass
    return state.averages["generator"].module


@dataclass(frozen=True, eq=False)
class Judged:
    """Samples of a design.

    Arguments:
        shares: Share of each orbit's samples in each of its poses.
        off: Median distance from the nearest centre; of data about 1.18 times their spread.
        p_value: Of the test of invariance under quarter turns.
    """

    design: str
    seed: int
    samples: Float[Tensor, "batch 2"]
    shares: Float[Tensor, "orbit pose"]
    off: float
    p_value: float


@torch.no_grad()
def judge(design: str, seed: int, x: Float[Tensor, "batch 2"]) -> Judged:
    """Shares of all samples; the test is of the first three hundred."""
    off = distances(x, CENTRES.flatten(0, 1)).amin(1).median()
    return Judged(design, seed, x, shares(x), float(off),
                  invariance_test(x[:TESTED], PLANE, seed=seed).p_value)  # fmt: skip


@torch.no_grad()
def designs(seeds: int = 3, equivariant_seeds: int = 2, steps: int = STEPS) -> list[Judged]:
    """Every design and seed: data, flawed, its two ways to be full, and a premise left out."""
    rows = [judge("data", 0, data(SHOWN, torch.Generator().manual_seed(1)))]
    for seed in range(seeds):
        random = torch.Generator().manual_seed(100 + seed)
        noise = torch.randn(SHOWN, NOISE, generator=random)
        with torch.enable_grad():
            flawed = trained(seed, steps=steps)
        x = flawed({"noise": noise})
        rows += [
            judge("flawed: plain generator", seed, x),
            judge("full: the same, random element", seed, randomize(x, PLANE, random)),
        ]
        if seed < equivariant_seeds:
            with torch.enable_grad():
                full = trained(seed, equivariant=True, steps=steps)
            moved = noise + torch.eye(NOISE)[0]
            rows += [
                judge("full: equivariant generator", seed, full({"noise": noise})),
                judge("equivariant, noise not invariant", seed, full({"noise": moved})),
            ]
    return rows


@dataclass(frozen=True)
class PValues:
    """p-values of the test of invariance over many seeds.

    Arguments:
        count: Samples of each seed.
        uniform: p-value of Kolmogorov and Smirnov's test that they are uniform.
    """

    what: str
    count: int
    values: tuple[float, ...]
    uniform: float


@torch.no_grad()
def p_values(seeds: int = 100, count: int = 150) -> list[PValues]:
    """Untrained networks and fresh noise a seed: both premises, and each left out."""
    cases = {
        "equivariant, invariant noise": (True, 0.0),
        "equivariant, noise not invariant": (True, 1.0),
        "not equivariant, invariant noise": (False, 0.0),
    }
    return [_p_values(what, seeds, count, *case) for what, case in cases.items()]


def _p_values(what: str, seeds: int, count: int, equivariant: bool, shift: float) -> PValues:
    values = []
    for seed in range(seeds):
        torch.manual_seed(seed)
        generator = Generator(equivariant=equivariant).double()
        noise = torch.randn(count, NOISE, dtype=torch.float64)
        noise[:, 0] += shift
        x = generator({"noise": noise})
        values.append(invariance_test(x, PLANE, draws=199, seed=seed).p_value)
    return PValues(what, count, tuple(values), float(kstest(values, "uniform").pvalue))
