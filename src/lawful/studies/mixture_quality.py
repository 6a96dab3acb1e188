"""How near samples are to a heavy-tailed mixture that has no moments.

Distances are of the plane's two coordinates on the scale of arcsinh, which commutes with quarter
turns, is linear near the axes and logarithmic in the tails; on it the distribution has all moments.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from statistics import median

import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from lawful.data.mixture import Mixture
from lawful.symmetry import plane_rotations
from lawful.symmetry.invariance import distances, invariance_test
from lawful.symmetry.symmetrize import orbit_samples

FRESH, TESTED, BLOCK, SEED = 5_000, 300, 500, 90_000
PLANE = plane_rotations(4, 2)


@dataclass(frozen=True)
class MixtureQuality:
    """Figures of a set of samples against fresh ones of the distribution.

    Arguments:
        energy: Energy distance in the plane, on the scale of arcsinh.
        symmetrized: The same of the samples' whole orbits: what an invariant critic sees.
        least: Share of samples nearest to the rarest of the four centres; 0.25 of the distribution.
        radius, tail: Median and 90th percentile of the distance from the nearest centre.
        off_plane: Median over samples of the largest error of a constant coordinate.
        p_value: Of the test of invariance under quarter turns.
    """

    energy: float
    symmetrized: float
    least: float
    radius: float
    tail: float
    off_plane: float
    p_value: float

    @classmethod
    def median(cls, several: Sequence["MixtureQuality"]) -> "MixtureQuality":
        """Figure by figure."""
        return cls(
            **{name: median(asdict(q)[name] for q in several) for name in asdict(several[0])}
        )


@torch.no_grad()
def mixture_quality(x: Float[Tensor, "batch d"], mixture: Mixture) -> MixtureQuality:
    """Judge samples by five thousand fresh ones; the first three hundred for invariance."""
    plane = x[:, :2].double().asinh()
    few = plane[: FRESH // PLANE.order]
    orbits = orbit_samples(few, PLANE)
    truth, within = _truth(mixture)
    radius = mixture.radius(x)
    return MixtureQuality(
        energy=energy_distance(plane, truth, within),
        # Elements are isometries: of an orbit's distances from the others one image tells all.
        symmetrized=2 * _mean(orbits, truth) - _mean(few, orbits) - within,
        least=float(mixture.cluster(x).bincount(minlength=4).min()) / len(x),
        radius=float(radius.median()),
        tail=float(radius.quantile(0.9)),
        off_plane=float((x[:, 2:] - mixture.offset).abs().amax(1).median()),
        p_value=invariance_test(plane[:TESTED], PLANE).p_value,
    )


@lru_cache(maxsize=4)
def _truth(mixture: Mixture) -> tuple[Tensor, float]:
    """Fresh samples in the plane, and their mean distance from each other."""
    fresh = mixture.sample(FRESH, torch.Generator().manual_seed(SEED))[:, :2].double().asinh()
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
    total = sum(float(distances(part, y).sum()) for part in x.split(BLOCK))
    return total / (len(x) * len(y))


def plane_figure(sets: Mapping[str, Float[Tensor, "_ d"]], mixture: Mixture) -> Figure:
    """Sets of samples in the plane, both axes on the scale of arcsinh; centres as crosses."""
    figure = Figure(figsize=(2.3 * len(sets) + 0.4, 2.9), layout="constrained")
    ticks = torch.tensor([-1000.0, -100, -10, 0, 10, 100, 1000])
    for axis, (name, x) in zip(figure.subplots(1, len(sets), squeeze=False)[0], sets.items(),
                               strict=True):  # fmt: skip
        axis.plot(*x[:1000, :2].asinh().T.tolist(), ".", ms=2, alpha=0.4)
        axis.plot(*mixture.centres.asinh().T.tolist(), "k+", ms=8)
        axis.set(xlim=(-8, 8), ylim=(-8, 8), aspect="equal")
        for set_ticks in (axis.set_xticks, axis.set_yticks):
            set_ticks(ticks.asinh().tolist(), [f"{tick:g}" for tick in ticks.tolist()])
        axis.tick_params(labelsize=5)
        axis.set_title(name.replace(", ", "\n"), fontsize=7)
    return figure
