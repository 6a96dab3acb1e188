"""Table 2 and figure 3 of InvNet for a trained model, and the same at conditions of no table.

What the columns are is said in docs/burgers.md.
"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from lawful.errors import InputError
from lawful.laws import Condition
from lawful.metrics.figures import comparison_figure, scatter_figure
from lawful.metrics.report import SPREAD, Spread, relative_error
from lawful.model import Model
from lawful.pde.schemes import FirstOrder
from lawful.studies.burgers import BurgersStudy
from lawful.study import places
from lawful.table import Column, Recipe, Record, Result, checked, markdown_table, table

FREQUENCIES = (2.0, 4.0, 5.5, 6.0)
VISCOSITIES = (0.0, 0.002, 0.006, 0.02, 0.03)
FIGURE_3 = {"frequency": [2.0, 5.5, 4.0, 5.5, 6.0], "viscosity": [0.0, 0.0, 0.002, 0.006, 0.03]}
# Relative L2 errors of table 2 of the paper: viscosity by viscosity, at `FREQUENCIES`.
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
CELLS = {
    "InvNet": Column("invnet", ".2f"),
    "encoder-decoder": Column("encoder_decoder", ".2f"),
    "ours": Column("error", ".4f"),
    "corrected": Column("refined_once", ".4f"),
    "estimated": Column("estimated", ".4f"),
    "against Euler": Column("against_euler", ".4f"),
    "Euler's own": Column("euler_error", ".4f"),
}
RATIOS = {
    "least": Column("ratio", ".2f", of=min),
    "median": Column("ratio", ".2f"),
    "greatest": Column("ratio", ".2f", of=max),
}


def euler_reference(
    study: BurgersStudy, condition: Condition
) -> Float[Tensor, "batch 1 times cells"]:
    """The paper's reference: explicit Euler and first-order upwind fluxes on the same grid.

    Its steps are those of the rows, and stable for u up to 5 and viscosities up to 0.038.
    """
    equation, rows = study.equation(study.grid(), FirstOrder()), [condition["initial"].double()]
    c, dt = equation.coefficients(condition, rows[0]), study.law().dt
    for _ in range(study.times - 1):
        rows.append(rows[-1] + dt * equation.tendency(rows[-1], c))
    return torch.stack(rows, -2).unsqueeze(1)


def figures(model: Model, condition: Condition) -> dict[str, Float[Tensor, " batch"]]:
    """Relative L2 errors at given frequencies and viscosities, by the name of the figure.

    Raises:
        InputError: The model is of another study.
    """
    study = checked(model.study, BurgersStudy)
    raw, corrected = (model.sample(condition=condition, refine=k) for k in (0, 1))
    reference, euler = study.reference(raw.condition), euler_reference(study, raw.condition)
    if raw.report.error is None:
        raise InputError(f"study {study.name!r}: no law estimates errors")
    return {
        **condition,
        "error": relative_error(raw.fields, reference),
        "refined_once": relative_error(corrected.fields, reference),
        "estimated": raw.report.error,
        "against_euler": relative_error(raw.fields, euler),
        "euler_error": relative_error(euler, reference),
    }


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
    cells, others = figures(model, table_conditions()), figures(model, fresh_conditions(fresh))
    summary = {name: Spread.of(values) for name, values in _sets(cells, others).items()}
    ratios = [
        {"row": "viscous" if nu else "inviscid", "ratio": float(ratio)}
        for nu, ratio in zip(
            others["viscosity"], others["estimated"] / others["error"], strict=True
        )
    ]
    records = [_record({name: float(v[i]) for name, v in cells.items()}) for i in range(20)]
    parts = (
        table(records, CELLS, "condition"),
        markdown_table(("set", *SPREAD), [[name, *s.texts()] for name, s in summary.items()]),
        "Estimated over true error, at the fresh conditions:",
        table(ratios[::-1], RATIOS, "set"),
    )
    data = {
        "cells": records,
        "summary": {name: spread.as_dict() for name, spread in summary.items()},
        "estimate_over_error": ratios,
        "manifest": dict(model.manifest),
    }
    scatter = scatter_figure(others["error"], others["estimated"])
    pictures = {"figure-3": figure_3(model), "estimate": scatter}
    return Result("Burgers' equation without data", "\n\n".join(parts), data, pictures)


def _record(figures: Mapping[str, float]) -> Record:
    """One cell of table 2 beside what the paper has there."""
    c, nu = figures["frequency"], round(figures["viscosity"], 6)
    published = {
        name: paper[nu][FREQUENCIES.index(c)] if nu else None
        for name, paper in {"invnet": INVNET, "encoder_decoder": ENCODER_DECODER}.items()
    }
    return {"row": f"ν = {nu:g}, c = {c:g}", **figures, "viscosity": nu, **published}


def _sets(cells: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Errors to be summarised, by what they are of."""
    inside, viscous, fresh = (
        cells["frequency"] >= 3,
        cells["viscosity"] > 0,
        others["viscosity"] > 0,
    )
    published = torch.tensor([row[1:] for row in INVNET.values()]).flatten()
    return {
        "table, viscous, c >= 4": cells["error"][inside & viscous],
        "table, inviscid, c >= 4": cells["error"][inside & ~viscous],
        "table, c = 2 (unseen)": cells["error"][~inside],
        "table, viscous, c >= 4, against Euler": cells["against_euler"][inside & viscous],
        "InvNet there, against Euler": published,
        "fresh viscous, c in [3, 6]": others["error"][fresh],
        "fresh inviscid, c in [3, 6]": others["error"][~fresh],
        "fresh viscous, corrected once": others["refined_once"][fresh],
        "fresh inviscid, corrected once": others["refined_once"][~fresh],
    }


def figure_3(model: Model, cases: Mapping[str, Sequence[float]] = FIGURE_3) -> Figure:
    """Generated, numerical and their difference, a column per case."""
    study = checked(model.study, BurgersStudy)
    samples = model.sample(condition=cases)
    pairs = zip(cases["frequency"], cases["viscosity"], strict=True)
    titles = [f"c = {c:g}, ν = {nu:g}" for c, nu in pairs]
    reference, shape = study.reference(samples.condition), samples.fields.shape
    return comparison_figure(samples.fields, reference, titles, places(study, shape))


RECIPE = Recipe(lambda models: burgers_result(next(iter(models.values()))))
