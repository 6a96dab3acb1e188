"""What solvers are held against is held against closed forms itself."""

from math import pi

import pytest
import torch
from exact_solutions import cole_hopf, riemann

from lawful.pde.grid import Grid
from lawful.studies.burgers import raised_cosine


def test_cole_hopf_reproduces_the_closed_form_of_one_mode():
    # phi = a + exp(-nu k^2 t) cos k x  gives  u = 2 nu k e sin kx / (a + e cos kx).
    grid, nu, k, a = Grid(64), 0.03, 2 * pi, 1.7
    times = torch.tensor([0.0, 0.1, 0.4]).double()
    initial = lambda x: -2 * nu * torch.log(a + torch.cos(k * x))  # noqa: E731
    rows = cole_hopf(grid, initial, nu, times)
    for row, t in zip(rows, times, strict=True):
        decay = torch.exp(-nu * k**2 * t)
        exact = -2 * nu * torch.log(a + decay * torch.cos(k * grid.faces())).diff() / grid.spacing
        torch.testing.assert_close(row, exact, rtol=0, atol=1e-11)


def test_cole_hopf_is_galilean_invariant():
    grid, nu, t = Grid(40), 0.05, torch.tensor([0.25]).double()
    at_rest = lambda x: -torch.cos(2 * pi * x) / (2 * pi)  # noqa: E731
    moving = cole_hopf(grid, lambda x: 0.4 * x + at_rest(x), nu, t)
    still = cole_hopf(grid, at_rest, nu, t)
    torch.testing.assert_close(moving, 0.4 + still.roll(4, -1), rtol=0, atol=1e-10)


@pytest.mark.parametrize(("left", "right"), [(1.0, 0.0), (0.0, 1.0), (-0.5, 1.0), (0.3, 0.3)])
def test_riemann_balances_mass(left, right):
    grid = Grid(50, -2.0, 2.0)
    before, after = (riemann(grid, left, right, 0.1, t) for t in (0.0, 0.7))
    inflow = 0.7 * (left**2 - right**2) / 2
    gained = (after - before).sum() * grid.spacing
    assert float(gained) == pytest.approx(inflow, abs=1e-12)


def test_raised_cosine_has_unit_height_and_mean_half():
    grid = Grid(6000)
    u = raised_cosine(grid, torch.tensor([0.0, 3.0, 4.5]))
    assert u[0].abs().max() == 0
    assert float(u[1].max()) == pytest.approx(1.0, abs=1e-5)
    assert float(u[1].mean()) == pytest.approx(0.5, abs=1e-12)
    x = grid.centres()
    torch.testing.assert_close(u[2], (1 - torch.cos(9 * pi * x)) / 2, rtol=0, atol=1e-5)
