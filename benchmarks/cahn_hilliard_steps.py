"""What the Cahn-Hilliard solver's step costs in accuracy, against a converged one.

    python benchmarks/cahn_hilliard_steps.py [--runs 256]

The same quenches are run to the same times with other steps, in single precision as data sets are.
Bias: the root mean square over 32 radii of the mean difference in p2 over all images with p1 in
[0.3, 0.7], and the relative mean difference of their surface. Pair: the median over images of
their own difference in p2, most of it of interfaces that moved a little. The reference has a
seventh of the default step, so 49 times less of either; half of that step tells what is left in it.
"""

import argparse
from itertools import pairwise

import torch
from torch import Tensor

from lawful.materials.cahn_hilliard import FIRST, CahnHilliard, evolve, quench
from lawful.materials.statistics import RADII, two_point
from lawful.table import markdown_table

LANES, SIDE, NOISE, COMPOSITION, IMAGES = 32, 64, 0.25, 0.45, 4
SHORTEST, LONGEST = 30.0, 300.0
REFERENCE = FIRST / 7
SETTINGS = [
    *((dt, 1.5) for dt in (0.5 * REFERENCE, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0)),
    *((0.7, a) for a in (1.25, 1.75, 2.0)),
]
HEAD = ("first step", "A", "steps", "p2 bias", "surface bias",
        "p2 bias to t = 95, beyond", "surface bias to t = 95, beyond", "p2, pair",
        "worst rise of energy")  # fmt: skip


def quenches(runs: int) -> list[tuple[Tensor, list[float]]]:
    """Batches of starts and the times that they are run to, log-uniform as in the data set."""
    random = torch.Generator().manual_seed(9)
    made = []
    for _ in range(max(1, runs // LANES)):
        mean = COMPOSITION * (2 * torch.rand(LANES, generator=random) - 1)
        places = (torch.arange(IMAGES) + torch.rand(IMAGES, generator=random)) / IMAGES
        times = (SHORTEST * (LONGEST / SHORTEST) ** places).tolist()
        made.append((quench(SIDE, SIDE, mean, random, noise=NOISE), times))
    return made


def run(starts: list[tuple[Tensor, list[float]]], dt: float, a: float) -> Tensor:
    """Phases (image, row, column)."""
    equation, phases = CahnHilliard(stabilisation=a), []
    for start, times in starts:
        phases += [field > 0 for field in evolve(equation, start, times, dt=dt)]
    return torch.cat(phases)


def steps(starts: list[tuple[Tensor, list[float]]], dt: float) -> float:
    """Steps per image in the mean, had each its own run."""

    class Counted(CahnHilliard):
        calls = 0

        def well(self, c: Tensor) -> Tensor:
            Counted.calls += 1
            return super().well(c)

    ends = [end for _, times in starts for end in times]
    for end in ends:
        list(evolve(Counted(), torch.zeros(1, 2, 2), [end], dt=dt))
    return Counted.calls / len(ends) - 1


def rise(dt: float, a: float) -> float:
    """The largest rise of the energy over a step, of its first value; below 0 where it falls."""
    equation, random = CahnHilliard(stabilisation=a), torch.Generator().manual_seed(8)
    mean = torch.linspace(-COMPOSITION, COMPOSITION, LANES // 2)
    start = quench(SIDE, SIDE, mean, random, noise=NOISE)
    times = [0.0]
    while times[-1] < 2 * LONGEST:
        times.append(times[-1] + dt * (min(max(times[-1], 16), 300) / 16) ** (2 / 3))
    energies = [equation.energy(c.double()) for c in evolve(equation, start, times, dt=dt)]
    return max(float(((b - a) / energies[0]).max()) for a, b in pairwise(energies))


def surface(phases: Tensor) -> Tensor:
    """Share of neighbours in different phases."""
    return sum((phases != phases.roll(1, axis)).double().mean((-2, -1)) for axis in (-1, -2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=256)
    options = parser.parse_args()
    torch.set_num_threads(1)
    starts = quenches(options.runs)
    reference = run(starts, REFERENCE, 1.5)
    times = torch.cat([torch.tensor(t).repeat_interleave(LANES) for _, t in starts])
    share = reference.double().mean((1, 2))
    kept = (share >= 0.3) & (share <= 0.7)
    truth, early = two_point(reference[kept].double(), RADII), times[kept] < 95
    groups = (torch.ones_like(early), early, ~early)
    print(f"{int(kept.sum())} images, the reference at a first step of {REFERENCE:g}\n")
    rows = []
    for dt, a in SETTINGS:
        phases = run(starts, dt, a)
        off = two_point(phases[kept].double(), RADII) - truth
        longer = surface(phases[kept]) / surface(reference[kept]) - 1
        p2 = [f"{float(off[g].mean(0).square().mean().sqrt()):.1e}" for g in groups]
        grown = [f"{float(longer[g].mean()):+.2%}" for g in groups]
        pair = float(off.square().mean(1).sqrt().median())
        rows.append([f"{dt:g}", f"{a:g}", f"{steps(starts, dt):.0f}", p2[0], grown[0],
                     ", ".join(p2[1:]), ", ".join(grown[1:]), f"{pair:.1e}",
                     f"{rise(dt, a):.0e}"])  # fmt: skip
    print(markdown_table(HEAD, rows))


if __name__ == "__main__":
    with torch.no_grad():
        main()
