"""Periodic Burgers from random rows: the family, the boost, what is outside of it."""

import pytest
import torch

from lawful import InputError
from lawful.metrics.report import relative_error
from lawful.model import Model
from lawful.pde.grid import Grid, coarsen, shifted
from lawful.studies.burgers_periodic import (
    CELLS,
    MovingLaw,
    PeriodicBurgersStudy,
    energies,
    random_rows,
)
from lawful.study import Training


@pytest.fixture(scope="module")
def study():
    return PeriodicBurgersStudy(Training(steps=1), width=8, depth=1)


@pytest.fixture(scope="module")
def network(study):
    torch.manual_seed(0)
    return study.network().eval()


def family(count, seed=5):
    return random_rows(Grid(CELLS), count, torch.Generator().manual_seed(seed)).float()


def test_rows_have_the_covariance_that_is_stated():
    rows = random_rows(Grid(512), 4_000, torch.Generator().manual_seed(0))
    waves = torch.fft.rfft(rows).abs().square() / 512**2
    k = torch.arange(1, 9)
    expected = (25 / ((2 * torch.pi * k) ** 2 + 25)) ** 2
    assert (waves[:, 0] < 1e-20).all()
    torch.testing.assert_close(waves[:, 1:9].mean(0), expected.double(), rtol=0.06, atol=0)


def test_rows_of_finer_grids_average_to_those_of_coarser_ones():
    fine, coarse = (
        random_rows(Grid(cells), 3, torch.Generator().manual_seed(1)) for cells in (256, CELLS)
    )
    torch.testing.assert_close(coarsen(fine, 4), coarse, rtol=0, atol=1e-12)


def test_a_boost_moves_a_sample_and_adds_its_speed(study, network):
    row, viscosity = family(2), torch.tensor([0.0, 0.01])
    still = network({"initial": row, "viscosity": viscosity})
    moving = network({"initial": row + 0.5, "viscosity": viscosity})
    # On its own grid the field differs by the speed alone; at rest it is carried along.
    torch.testing.assert_close(moving, still + 0.5, rtol=0, atol=1e-4)
    time = torch.linspace(0, 1, study.times)
    expected = study.observe(shifted(still, 0.5 * still.shape[-1] * time)) + 0.5
    torch.testing.assert_close(study.observe(moving), expected, rtol=0, atol=1e-4)


def test_a_boosted_sample_is_corrected_and_judged_as_the_one_at_rest(study, network):
    law = study.law(study.refinement)
    assert isinstance(law, MovingLaw)
    c = {"initial": family(2), "viscosity": torch.tensor([0.003, 0.1])}
    boosted = {**c, "initial": c["initial"] + 0.5}
    step, other = law.correction(network(c), c), law.correction(network(boosted), boosted)
    torch.testing.assert_close(step, other, rtol=0, atol=1e-4)
    estimates = [study.estimate(network, network(k), k).absolute for k in (c, boosted)]
    torch.testing.assert_close(*estimates, rtol=0.02, atol=0)


def test_corrections_lead_to_the_solver(study, network):
    c = {"initial": family(2), "viscosity": torch.tensor([0.003, 0.03])}
    x, law = network(c), study.law(study.refinement)
    truth = study.reference(c, factor=4)
    before = relative_error(study.observe(x), truth)
    for _ in range(12):
        x = x + law.correction(x, c)
    after = relative_error(study.observe(x), truth)
    assert (after < before).all()
    assert before[0] > 0.1
    assert (after < 0.012).all()


@pytest.mark.parametrize(
    ("row", "name"),
    [
        (torch.sign(torch.sin(2 * torch.pi * torch.arange(CELLS) / CELLS)), "a step"),
        (0.2 * (-1.0) ** torch.arange(CELLS), "a checkerboard"),
        (2.9 * torch.sin(2 * torch.pi * torch.arange(CELLS) / CELLS), "one large wave"),
    ],
)
def test_rows_unlike_the_family_are_marked(study, network, row, name):
    c = {"initial": row[None], "viscosity": torch.tensor([0.01])}
    assert study.outside(network, c)["initial"].all(), name


def test_rows_of_the_family_are_not_marked_wherever_their_mean_is(study, network):
    rows = family(400)
    for mean in (0.0, 0.5):
        c = {"initial": rows + mean, "viscosity": torch.full((400,), 0.01)}
        assert study.outside(network, c)["initial"].float().mean() <= 0.01
    torch.testing.assert_close(energies(rows), energies(rows + 0.5), rtol=1e-4, atol=1e-6)


def test_what_is_not_given_is_drawn_from_the_family(study, network):
    samples = Model(study, network, {}).sample(2, seed=1, viscosity=[0.01, 0.0])
    assert samples.fields.shape == (2, 1, study.times, CELLS)
    assert samples.condition["initial"].shape == (2, CELLS)
    assert samples.condition["initial"].mean(1).abs().max() < 1e-6
    torch.testing.assert_close(samples.fields[:, 0, 0], samples.condition["initial"])


def test_the_grids_at_rest_and_moving_must_differ():
    with pytest.raises(InputError, match="refinement"):
        PeriodicBurgersStudy(Training(steps=1), refinement=1)
