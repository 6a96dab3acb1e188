"""Table 2 and figure 3 of InvNet for a trained model, and the same at conditions of no table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from lawful.errors import InputError
from lawful.laws import Condition
from lawful.metrics.pictures import comparison_figure, scatter_figure
from lawful.metrics.report import relative_error
from lawful.metrics.summary import SPREAD, Spread
from lawful.model import Model, Samples
from lawful.studies.burgers import euler_reference, refined_reference
from lawful.study import places
from lawful.table import Recipe, Result, markdown_table

FREQUENCIES = (2.0, 4.0, 5.5, 6.0)
VISCOSITIES = (0.0, 0.002, 0.006, 0.02, 0.03)
# Relative L2 errors of InvNet and of encoder-decoder networks, table 2 of the paper.
INVNET = {
    0.002: (0.08, 0.13, 0.29, 0.20),
    0.006: (0.08, 0.10, 0.25, 0.15),
    0.02: (0.08, 0.07, 0.18, 0.09),
    0.03: (0.08, 0.06, 0.17, 0.08),
}
ENCODER_DECODER = {
    0.002: (0.04, 0.08, 0.30, 0.15),
    0.006: (0.04, 0.14, 0.29, 0.21),
    0.02: (0.08, 0.14, 0.23, 0.16),
    0.03: (0.09, 0.12, 0.20, 0.12),
}
NOTE = (
    "Relative L2 errors on 64 x 64 cell averages. *Ours* is against WENO5 on 1,024 cells; "
    "*refined* after one step of defect correction; *against Euler* is ours against the "
    "paper's reference, explicit Euler with upwind fluxes on the same 64 cells, whose own "
    "error is in the next column: InvNet's figures are to be held against that column "
    "alone. c = 2 is outside the trained range."
)
FIGURE_CASES = ((2.0, 0.0), (5.5, 0.0), (4.0, 0.002), (5.5, 0.006), (6.0, 0.03))


@dataclass(frozen=True)
class Errors:
    """Relative L2 errors of one set of samples against the refined reference.

    Arguments:
        raw, refined: As generated, and after one correction.
        estimate: The report's own estimate of `raw`, made without a reference.
        samples, reference: What was generated, raw, and what it is held against.
    """

    raw: Float[Tensor, " batch"]
    refined: Float[Tensor, " batch"]
    estimate: Float[Tensor, " batch"]
    samples: Samples
    reference: Float[Tensor, "batch 1 times cells"]


def errors(model: Model, condition: Condition) -> Errors:
    """Errors at given frequencies and viscosities."""
    frequency, viscosity = condition["frequency"], condition["viscosity"]
    raw = model.sample(frequency=frequency, viscosity=viscosity)
    refined = model.sample(frequency=frequency, viscosity=viscosity, refine=1)
    reference = refined_reference(raw.condition)
    if raw.report.error is None:
        raise InputError(f"study {model.study.name!r}: no law estimates errors")
    return Errors(
        relative_error(raw.fields, reference),
        relative_error(refined.fields, reference),
        raw.report.error,
        raw,
        reference,
    )


def table_conditions() -> dict[str, Tensor]:
    """Frequencies and viscosities of the 20 cells, frequency fastest."""
    grid = torch.cartesian_prod(torch.tensor(VISCOSITIES), torch.tensor(FREQUENCIES))
    return {"frequency": grid[:, 1], "viscosity": grid[:, 0]}


def fresh_conditions(count: int, seed: int = 7) -> dict[str, Tensor]:
    """Conditions of no table: c ~ U[3, 6]; a quarter inviscid, the rest log-uniform."""
    generator = torch.Generator().manual_seed(seed)
    frequency = 3 + 3 * torch.rand(count, generator=generator)
    viscosity = 0.001 * 50 ** torch.rand(count, generator=generator)
    viscosity[: count // 4] = 0
    return {"frequency": frequency, "viscosity": viscosity}


def burgers_result(model: Model, fresh: int = 256) -> Result:
    """Table 2 with the inviscid row, a summary at `fresh` other conditions, and figure 3."""
    condition, other = table_conditions(), fresh_conditions(fresh)
    frequency, viscosity = condition["frequency"], condition["viscosity"]
    cells, others = errors(model, condition), errors(model, other)
    nu = other["viscosity"]
    coarse = euler_reference(cells.samples.condition)
    euler = relative_error(cells.samples.fields, coarse)
    floor = relative_error(coarse, cells.reference)
    viscous = (frequency >= 3) & (viscosity > 0)
    summary = _summary(cells, frequency, viscosity) | {
        "table, viscous, c >= 4, against Euler": Spread.of(euler[viscous]),
        "InvNet there, against Euler": Spread.of(_published(INVNET)),
        "fresh viscous, c in [3, 6]": Spread.of(others.raw[nu > 0]),
        "fresh inviscid, c in [3, 6]": Spread.of(others.raw[nu == 0]),
        "fresh viscous, refined once": Spread.of(others.refined[nu > 0]),
        "fresh inviscid, refined once": Spread.of(others.refined[nu == 0]),
    }
    ratio = others.estimate / others.raw
    ratios = {
        "viscous": Spread.of(ratio[nu > 0]).as_dict() | {"least": float(ratio[nu > 0].min())},
        "inviscid": Spread.of(ratio[nu == 0]).as_dict() | {"least": float(ratio[nu == 0].min())},
    }
    rows = [[name, *spread.texts()] for name, spread in summary.items()]
    markdown = "\n\n".join(
        (
            NOTE,
            _cells_markdown(cells, euler, floor),
            markdown_table(("set", *SPREAD), rows),
            "Estimated over true error, at the fresh conditions:",
            markdown_table(
                ["set", "least", "median", "greatest"],
                [
                    [name, *(f"{r[k]:.2f}" for k in ("least", "median", "worst"))]
                    for name, r in ratios.items()
                ],
            ),
        )
    )
    data = {
        "cells": [
            {
                "frequency": float(frequency[i]),
                "viscosity": round(float(viscosity[i]), 6),
                "error": float(cells.raw[i]),
                "refined_once": float(cells.refined[i]),
                "against_euler": float(euler[i]),
                "euler_error": float(floor[i]),
                "estimated": float(cells.estimate[i]),
            }
            for i in range(len(frequency))
        ],
        "summary": {name: spread.as_dict() for name, spread in summary.items()},
        "estimate_over_error": ratios,
        "manifest": dict(model.manifest),
    }
    figures = {"figure-3": figure_3(model), "estimate": scatter_figure(others.raw, others.estimate)}
    return Result("Burgers' equation without data", markdown, data, figures)


def _summary(cells: Errors, frequency: Tensor, viscosity: Tensor) -> dict[str, Spread]:
    inside = frequency >= 3
    return {
        "table, viscous, c >= 4": Spread.of(cells.raw[inside & (viscosity > 0)]),
        "table, inviscid, c >= 4": Spread.of(cells.raw[inside & (viscosity == 0)]),
        "table, c = 2 (unseen)": Spread.of(cells.raw[~inside]),
    }


def _published(table: Mapping[float, Sequence[float]]) -> Tensor:
    """The cells of a published table with c in the trained range."""
    return torch.tensor([row[1:] for row in table.values()]).flatten()


def _cells_markdown(cells: Errors, euler: Tensor, floor: Tensor) -> str:
    head = ["viscosity", "c", "InvNet", "encoder-decoder", "ours", "refined", "estimated",
            "against Euler", "Euler's own"]  # fmt: skip
    rows = []
    condition = table_conditions()
    pairs = zip(condition["frequency"].tolist(), condition["viscosity"].tolist(), strict=True)
    for i, (c, nu) in enumerate(pairs):
        published = [
            f"{table[round(nu, 4)][FREQUENCIES.index(c)]:.2f}" if nu else "–"
            for table in (INVNET, ENCODER_DECODER)
        ]
        ours = (cells.raw, cells.refined, cells.estimate, euler, floor)
        figures = [f"{float(column[i]):.4f}" for column in ours]
        rows.append([f"{nu:g}", f"{c:g}", *published, f"**{figures[0]}**", *figures[1:]])
    return markdown_table(head, rows)


def figure_3(model: Model, cases: Sequence[tuple[float, float]] = FIGURE_CASES) -> Figure:
    """Generated, numerical and their difference, a column a case."""
    samples = model.sample(frequency=[c for c, _ in cases], viscosity=[nu for _, nu in cases])
    titles = [f"c = {c:g}, ν = {nu:g}" for c, nu in cases]
    reference = refined_reference(samples.condition)
    return comparison_figure(
        samples.fields, reference, titles, places(model.study, samples.fields.shape)
    )


RECIPE = Recipe(lambda models: burgers_result(next(iter(models.values()))))
