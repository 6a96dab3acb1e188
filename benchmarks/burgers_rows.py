"""What is said of initial rows unlike the trained ones, held against a solver on 1,024 cells.

    python benchmarks/burgers_rows.py [--each 42] [--seed 0]

Twelve kinds of rows times six viscosities. Every sample with more than 5 % error must be marked as
outside the training or have an estimate within a factor of 2 of the truth; no correction may make
a sample worse; no value may leave the range of its initial row and the boundary value by more than
a tenth of it. Errors are root mean squares over 64 x 64 cell averages, relative to the solution's,
or as they are where that is zero. Most of the time goes into the solver.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

import lawful
from lawful.metrics.report import Spread, relative_error
from lawful.model import Model
from lawful.pde.grid import Grid
from lawful.studies.burgers import CELLS, raised_cosine
from lawful.table import markdown_table

VISCOSITIES = (0.0, 0.0003, 0.001, 0.005, 0.02, 0.05)
LARGE, ROUNDING = 0.05, 1e-6
CORRECTIONS = (0, 1, 2, 4)


def rows(count: int, seed: int = 0) -> dict[str, Tensor]:
    """`count` initial rows `(count, 64)` of each kind, by kind."""
    rng = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(count, *shape, generator=rng)

    def cosines(c: Tensor) -> Tensor:
        return raised_cosine(Grid(CELLS), c).float()

    def bump() -> Tensor:
        return torch.exp(-(((x - uniform(0.1, 0.9, 1)) / uniform(0.03, 0.15, 1)) ** 2))

    x = (torch.arange(CELLS) + 0.5) / CELLS
    left, place = uniform(0, 0.6, 1), uniform(0, CELLS, 1).long()
    tall = uniform(0.2, 1, 1)
    return {
        "random cells": uniform(0, 1, CELLS),
        "steps": tall * ((x > left) & (x < left + uniform(0.1, 0.4, 1))),
        "bumps": tall * torch.maximum(bump(), bump()),
        "one-cell pulses": torch.zeros(count, CELLS).scatter_(1, place, tall),
        "cosines, c = 8, 10, 12": cosines(8.0 + 2 * (torch.arange(count) % 3)),
        "cosines, c in [0.5, 2]": cosines(uniform(0.5, 2)),
        "constants": tall.expand(-1, CELLS).clone(),
        "ramps": tall * (1 - x),
        "cosines times 0.01": 0.01 * cosines(uniform(3, 6)),
        "cosines times 0.001": 0.001 * cosines(uniform(3, 6)),
        "zero": torch.zeros(count, CELLS),
        "trained: cosines": cosines(uniform(3, 6)),
    }


def conditions(kinds: dict[str, Tensor]) -> dict[str, Tensor]:
    """The rows of all kinds, each in turn with the next viscosity."""
    initial = torch.cat(list(kinds.values()))
    viscosity = torch.tensor(VISCOSITIES).repeat(-(-len(initial) // len(VISCOSITIES)))
    return {"initial": initial, "viscosity": viscosity[: len(initial)]}


@dataclass(frozen=True)
class Verdict:
    """Of each sample, after some corrections.

    Arguments:
        error: Relative to the solution.
        ratio: Estimated over true error.
        outside: Whether it is marked as outside the training.
        accepted: How many corrections it has taken.
        worse: Its error is larger than it was after fewer corrections.
        beyond: Some value leaves the range of the maximum principle by more than a tenth of it.
    """

    error: Float[Tensor, " batch"]
    ratio: Float[Tensor, " batch"]
    outside: Bool[Tensor, " batch"]
    accepted: Float[Tensor, " batch"]
    worse: Bool[Tensor, " batch"]
    beyond: Bool[Tensor, " batch"]

    def silent(self) -> Tensor:
        """Whether a large error is neither marked nor estimated within a factor of 2."""
        honest = (self.ratio >= 0.5) & (self.ratio <= 2)
        return (self.error > LARGE) & ~self.outside & ~honest


def verdicts(
    model: Model,
    condition: dict[str, Tensor],
    reference: Tensor,
    corrections: tuple[int, ...] = CORRECTIONS,
) -> Iterator[tuple[int, Verdict]]:
    """A verdict for each number of corrections, beginning with none."""
    initial = condition["initial"]
    low, high = initial.amin(1).clamp_max(0), initial.amax(1).clamp_min(0)
    before = torch.full((len(initial),), torch.inf).double()
    for times in corrections:
        samples = model.sample(**condition, refine=times)
        values, report = samples.fields.flatten(1), samples.report
        over = torch.maximum(values.amax(1) - high, low - values.amin(1))
        error = relative_error(samples.fields, reference)
        estimate, accepted = report.estimate, report.accepted
        if estimate is None:
            raise lawful.InputError("model: its study estimates no error")
        # 0 of 0 is right
        ratio = torch.where(error < ROUNDING, 1.0, estimate.relative / error)
        yield (
            times,
            Verdict(
                error,
                ratio,
                torch.stack([mask for _, mask in report.outside]).any(0),
                torch.zeros(len(error)) if accepted is None else accepted.float(),
                error > before + ROUNDING,
                over > 0.1 * (high - low) + ROUNDING,
            ),
        )
        before = error


def tables(found: list[tuple[int, Verdict]], each: int, kinds: list[str]) -> Iterator[str]:
    """A table by kind for every number of corrections, and what must be zero."""
    head = ["rows", "n", "median", "95th %", "worst", "marked", "taken", "estimate / truth"]
    for times, verdict in found:
        lines = []
        for i, kind in enumerate(kinds):
            part = slice(i * each, (i + 1) * each)
            spread, ratio = Spread.of(verdict.error[part]).as_dict(), verdict.ratio[part]
            lines.append([
                kind, str(each), *(f"{spread[name]:.4f}" for name in ("median", "p95", "worst")),
                f"{float(verdict.outside[part].float().mean()):.0%}",
                f"{float(verdict.accepted[part].mean()):.1f}",
                f"{float(ratio.min()):.2f}–{float(ratio.max()):.2f}",
            ])  # fmt: skip
        yield f"{times} corrections\n\n{markdown_table(head, lines)}\n"
        yield (
            f"Large errors that nothing says: {int(verdict.silent().sum())}; made worse: "
            f"{int(verdict.worse.sum())}; beyond the maximum principle: "
            f"{int(verdict.beyond.sum())}; of {len(verdict.error)}.\n"
        )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--each", type=int, default=42, help="rows of each kind")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    kinds = rows(options.each, options.seed)
    condition = conditions(kinds)
    model = lawful.load("burgers")
    found = list(verdicts(model, condition, model.study.reference(condition)))
    print("\n".join(tables(found, options.each, list(kinds))))


if __name__ == "__main__":
    main()
