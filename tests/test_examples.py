"""The examples that users copy: their solvers against closed forms, corrections, and a training."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lawful import Training, train
from lawful.metrics.report import relative_error
from lawful.registry import find

EXAMPLES = Path(__file__).parents[1] / "examples"


def study(name):
    return find(str(EXAMPLES / f"{name}.py"))()


def drawn(made, count=4):
    return made.draw(count, torch.Generator().manual_seed(3))


def test_fronts_travel_as_the_closed_form_says():
    made = study("fisher")
    given = {
        "diffusivity": torch.tensor([0.002, 0.01]),
        "growth_rate": torch.tensor([8.0, 2.0]),
        "place": torch.tensor([0.2, 0.45]),
    }
    rows = made.reference(made.condition(given), factor=4)
    speed = 5 * (given["growth_rate"] * given["diffusivity"] / 6).sqrt()
    for n in (21, 42):
        moved = {**given, "place": given["place"] + speed * n / 63}
        exact = made.profile(made.grid(), moved)
        inner = slice(8, -8)  # the front is cut off at the ends
        assert relative_error(rows[:, 0, n, inner], exact[:, inner]).max() < 2e-3


@pytest.mark.parametrize("name", ["fisher", "traffic"])
def test_corrections_lead_to_the_solver_from_a_field_that_rests(name):
    made = study(name)
    c = drawn(made)
    truth = made.reference(c, factor=4)
    law = made.law(made.refinement)
    x = made.network()(c).detach()
    before = relative_error(made.observe(x), truth)
    for _ in range(8):
        x = x + law.correction(x, c)
    after = relative_error(made.observe(x), truth)
    assert (after < 0.02).all(), after
    assert (after < before / 4).all()


@pytest.mark.parametrize("name", ["fisher", "traffic", "heat"])
def test_an_example_trains_and_samples(name, tmp_path):
    made = replace(study(name), training=Training(steps=2, checkpoint=2, batch=2))
    model = train(made, tmp_path / name, quiet=True)
    samples = model.sample(3, seed=1)
    assert samples.fields.isfinite().all()
    assert samples.report.error is not None
