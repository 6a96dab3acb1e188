"""Whether the proven bounds of the Darcy law hold: of the shipped generator's samples, counted.

    python benchmarks/darcy_bounds.py [COUNT]

Half of the coefficients are two-valued and half lognormal, none of them trained. The true error is
against the discrete solution, converged to 1e-11; rounding of 1e-9 is allowed for.
"""

import sys

import torch
from torch import Tensor

import lawful
from lawful.pde.elliptic import EllipticLaw
from lawful.table import markdown_table

CHUNK, ROUNDING = 100, 1e-9


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    model, rng = lawful.load("darcy"), torch.Generator().manual_seed(123_456)
    found = []
    for _ in range(0, count, CHUNK):
        c = model.study.draw(CHUNK, rng)
        with torch.no_grad():
            found.append(ratios(model.network(c).double(), c))
    values = torch.cat(found, 1)
    rows = []
    for name, half in (("two-valued", values[:, ::2]), ("lognormal", values[:, 1::2])):
        plain, sharp, lower = half
        broken = (half[:2] < 1 - ROUNDING).any(0) | (lower > 1 + ROUNDING)
        rows.append(
            [name, f"{half.shape[1]:,}", f"{int(broken.sum())}", *told(plain, sharp, lower)]
        )
    head = ("family", "samples", "broken", "bound / error", "worst", "sharpened", "worst", "lower")
    print(markdown_table(head, rows))


def ratios(x: Tensor, c: dict[str, Tensor]) -> Tensor:
    """Bound, sharpened bound and lower bound of each sample, over its true error."""
    law, c = EllipticLaw(), {name: value.double() for name, value in c.items()}
    error = law.operator(c).energy((x - law.solution(c, 1e-11))[:, 0])
    plain, sharp = law.bound(x, c), law.bound(x, c, corrections=3)
    return torch.stack([plain.value, sharp.value, sharp.lower]) / error


def told(plain: Tensor, sharp: Tensor, lower: Tensor) -> list[str]:
    """Medians and worst of the two upper bounds, and the median of the lower one."""
    figures = (plain.median(), plain.max(), sharp.median(), sharp.max(), lower.median())
    return [f"{float(value):.3f}" for value in figures]


if __name__ == "__main__":
    main()
