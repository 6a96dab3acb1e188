"""What makes the data-free generator accurate: recipes trained for the same time, in one table.

    python benchmarks/burgers_recipes.py --minutes 4 --out docs/burgers-recipes.md

Every recipe has the same network family, batch, optimizer and two threads; only what the row says
differs. Errors are relative L2 against WENO5 on 1,024 cells. Nothing else heavy may run meanwhile.
"""

import argparse
import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from lightning_fabric import Fabric

from lawful.files import write_all
from lawful.metrics.report import relative_error
from lawful.model import Model
from lawful.pde.solve import solve
from lawful.studies.burgers import DURATION, BurgersStudy
from lawful.studies.burgers_table import fresh_conditions, table_conditions
from lawful.study import Training
from lawful.table import markdown_table
from lawful.training import Adam, Game, Loss, Move, State, fit

SHIPPED = BurgersStudy(Training(steps=1, learning_rate=1.5e-3))


def windowed(study: BurgersStudy) -> Loss:
    """The residual summed over windows of 1, 4, 16 and 63 steps: a multi-resolution remedy."""
    law = study.law(study.refinement)

    def loss(players, batch):
        x = players["generator"](batch.condition)
        total = F.pad((law.dt * law(x, batch.condition)).cumsum(1), (0, 0, 1, 0))
        terms = [(total[:, k:] - total[:, :-k]).square().mean() for k in (1, 4, 16, 63)]
        return {"windows": torch.stack(terms).sum()}

    return loss


def causal(study: BurgersStudy) -> Loss:
    """Residuals of later rows count once the earlier ones are small (Wang et al. 2024)."""
    law = study.law(study.refinement)

    def loss(players, batch):
        x = players["generator"](batch.condition)
        rows = (law.dt * law(x, batch.condition)).square().mean(-1)
        earlier = F.pad(rows.detach().cumsum(1), (1, -1))
        return {"causal": (torch.exp(-1e3 * earlier) * rows).mean()}

    return loss


def through(study: BurgersStudy) -> Loss:
    """Norm of the correction, differentiated through the residual and the march."""
    law = study.law(study.refinement)

    def loss(players, batch):
        x = players["generator"](batch.condition)
        return {"norm": law.correction(x, batch.condition).square().mean()}

    return loss


def regression(study: BurgersStudy) -> Loss:
    """Regression on fields solved on the fly with the same operators: needs data, a yardstick."""
    equation, rows = study.law(study.refinement).equation, torch.linspace(0, DURATION, study.times)

    def loss(players, batch):
        x = players["generator"](batch.condition)
        with torch.no_grad():
            truth = solve(equation, x[:, 0, 0], batch.condition, rows)
        return {"regression": (x[:, 0] - truth).square().mean()}

    return loss


def change(**changes) -> BurgersStudy:
    return dataclasses.replace(SHIPPED, **changes)


HEAD = """# Recipes compared

    python benchmarks/burgers_recipes.py --minutes {minutes:g} --out docs/burgers-recipes.md

Relative L2 error against WENO5 on 1,024 cells, at the 20 cells of table 2 and 64 other conditions;
{minutes:g} minutes of training each on two CPU cores. Only what a row says differs.
"""

PLAIN = {"variety": 0.0, "speeds": 0}
RECIPES: dict[str, tuple[BurgersStudy, Callable[[BurgersStudy], Loss] | None]] = {
    "paper: image gradients, alternating with the initial condition": (
        change(objective="sobel", initial="alternating", refinement=1, **PLAIN), None),
    "residual, MUSCL, 64 cells": (
        change(objective="residual", scheme="muscl", refinement=1, **PLAIN), None),
    "residual, WENO5, 64 cells": (change(objective="residual", refinement=1, **PLAIN), None),
    "residual, WENO5, 128 cells": (change(objective="residual", **PLAIN), None),
    "+ windows of 1, 4, 16, 63 steps": (change(**PLAIN), windowed),
    "+ causal weights": (change(**PLAIN), causal),
    "residual, WENO5, 128 cells, carried rows, varied waves": (change(objective="residual"), None),
    "correction, differentiated through": (change(), through),
    "correction, no carried rows, no varied waves": (change(**PLAIN), None),
    "**correction (shipped recipe)**": (change(), None),
    "regression on solutions (not data-free)": (change(), regression),
}  # fmt: skip


def train_for(
    seconds: float, study: BurgersStudy, make: Callable | None, steps: int | None = None
) -> tuple[Model, int]:
    """The averaged generator after `seconds` or `steps` of training; the schedule fits them."""
    fabric = Fabric(accelerator="cpu", devices=1)
    game = study.game()
    if make is not None:
        adam = Adam(study.training.learning_rate)
        game = Game((Move("generator", make(study), adam, name="equation"),), game.draw)

    def play(steps: int, decay: float) -> tuple[State, float]:
        torch.manual_seed(0)
        state = State.create(
            {"generator": study.network()}, game, fabric, average={"generator": decay}
        )
        began = time.perf_counter()
        for _ in fit(game, state, fabric, steps):
            pass
        return state, (time.perf_counter() - began) / steps

    if steps is None:
        play(3, 0.9)
        _, pace = play(12, 0.9)
        steps = max(50, round(seconds / pace))
    state, _ = play(steps, 0.995)
    return Model(study, state.averages["generator"].module.eval(), {}), steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=4.0)
    parser.add_argument("--steps", type=int, help="of training, instead of minutes")
    parser.add_argument("--only", default="", help="recipes whose name contains this")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    table, fresh = table_conditions(), fresh_conditions(64)
    given = {name: torch.cat([table[name], fresh[name]]) for name in table}
    c, nu = given["frequency"], given["viscosity"]
    groups = {
        "viscous, c >= 3": (c >= 3) & (nu > 0),
        "inviscid, c >= 3": (c >= 3) & (nu == 0),
        "c = 2": c < 3,
    }
    reference = SHIPPED.reference(SHIPPED.condition(given))
    head = [
        "recipe",
        "steps",
        *(f"{name}: {kind}" for name in groups for kind in ("mean", "worst")),
    ]
    rows = []
    chosen = {name: recipe for name, recipe in RECIPES.items() if options.only in name}
    for name, (study, make) in chosen.items():
        model, steps = train_for(60 * options.minutes, study, make, options.steps)
        error = relative_error(model.sample(**given).fields, reference)
        figures = [f(error[mask]) for mask in groups.values() for f in (torch.mean, torch.amax)]
        rows.append([name, f"{steps:,}", *(f"{float(value):.4f}" for value in figures)])
        print(" | ".join(rows[-1]), flush=True)
    text = f"{HEAD.format(minutes=options.minutes)}\n{markdown_table(head, rows)}\n"
    print(f"\n{text}")
    if options.out:
        write_all({options.out: text.encode()})


if __name__ == "__main__":
    main()
