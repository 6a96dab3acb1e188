"""Corrections of equations, their balances, and the paper's discretisation."""

from math import pi

import pytest
import torch

from lawful.metrics.report import relative_error
from lawful.pde.equations import AdvectionDiffusion, Burgers
from lawful.pde.grid import Dirichlet, Grid, Inflow, Outflow, Periodic
from lawful.pde.laws import BoundaryLaw, MassLaw, ThetaLaw
from lawful.pde.schemes import FirstOrder, Muscl, Weno5
from lawful.pde.solve import solve
from lawful.studies.burgers import SobelBurgersLaw, raised_cosine

BOUNDARIES = (Dirichlet(0.0), Outflow())
TIMES = torch.linspace(0, 0.2, 64).double()
VISCOSITY = torch.tensor([0.0, 0.0015, 0.01, 0.05]).double()


def make(scheme, cells=64, theta=0.5):
    return ThetaLaw(Burgers(Grid(cells), scheme, *BOUNDARIES), 0.2 / 63, theta)


def start(cells=64):
    """The initial condition, held for all time."""
    waves = raised_cosine(Grid(cells), torch.tensor([3.3, 4.1, 5.2, 5.9]))
    return waves[:, None, None].expand(-1, 1, 64, -1).clone(), {"viscosity": VISCOSITY}


@pytest.mark.parametrize("theta", [0.5, 1.0])
@pytest.mark.parametrize("scheme", [FirstOrder(), Muscl(), Weno5(1e-4)])
def test_corrections_converge_to_a_root_of_the_residual(scheme, theta):
    entry = make(scheme, theta=theta)
    x, c = start()
    before = entry.violation(x, c)
    for _ in range(40):
        x = x + entry.correction(x, c)
    after = entry.violation(x, c)
    assert (after[1:] < 1e-2 * before[1:]).all()
    assert after[0] < 0.1 * before[0]  # shocks of zero width: the limiter may cycle


def test_corrected_fields_approach_the_solver_as_the_grid_is_refined():
    errors = []
    for cells in (64, 128):
        entry = make(Weno5(1e-4), cells)
        x, c = start(cells)
        for _ in range(10):
            x = x + entry.correction(x, c)
        initial = raised_cosine(Grid(256), torch.tensor([3.3, 4.1, 5.2, 5.9]))
        fine = solve(Burgers(Grid(256), Weno5(), *BOUNDARIES), initial, c, TIMES)
        truth = fine.unflatten(-1, (cells, -1)).mean(-1)
        errors.append(relative_error(x[:, 0], truth))
    assert (errors[1] < 0.65 * errors[0]).all()
    assert errors[1].max() < 0.02


def test_correction_is_the_error_for_the_linear_part():
    # With no transport left in M the inverse is exact: at u = 0 the equation is pure diffusion.
    entry = make(FirstOrder())
    c = {"viscosity": torch.tensor([0.03]).double()}
    solution = torch.zeros(1, 1, 64, 64).double()
    x = solution + 1e-7 * torch.sin(torch.arange(64) * pi / 64) * TIMES[:, None]
    torch.testing.assert_close(x + entry.correction(x, c), solution, rtol=0, atol=1e-13)


def ends(u):
    """Boundaries that hold a steady wind u: every kind at each end."""
    kinds = (Dirichlet(u), Inflow(u), Outflow())
    return [(Periodic(), Periodic()), *((a, b) for a in kinds for b in kinds)]


@pytest.mark.parametrize(("scheme", "times"), [(FirstOrder(), 3), (Muscl(), 3), (Weno5(1e-4), 4)])
@pytest.mark.parametrize("wind", [0.6, -0.6])
@pytest.mark.parametrize("kind", [Burgers, AdvectionDiffusion])
def test_corrections_contract_at_every_boundary_in_either_wind(scheme, times, wind, kind):
    # A steady wind is a root of the law; what is added to it is the error.
    shape = torch.sin(torch.arange(32) * 0.7) + 0.5
    error = 1e-3 * (TIMES / 0.2)[:, None] * shape.double()
    thickness = torch.tensor([0.0, 0.01]).double()
    c = {"viscosity": thickness, "diffusivity": thickness, "velocity": torch.full((2,), wind)}
    for boundaries in ends(wind):
        entry = ThetaLaw(kind(Grid(32), scheme, *boundaries), 0.2 / 63)
        x = wind + error.expand(2, 1, -1, -1)
        left = error.abs().max()
        for _ in range(times):
            x = x + entry.correction(x, c)
            before, left = left, (x - wind).abs().max()
            assert left < before, boundaries
        assert left < 0.1 * error.abs().max(), boundaries


def test_substeps_let_corrections_contract_beyond_courant_number_one():
    x = torch.full((1, 1, 16, 32), 1.5, dtype=torch.float64)  # Courant number 3.2
    error = torch.linspace(0, 1, 16)[:, None] * torch.sin(torch.arange(32) * 2 * torch.pi / 32)
    c = {"viscosity": torch.zeros(1)}
    left = {}
    for substeps in (1, 4):
        entry, y = ThetaLaw(Burgers(Grid(32)), 1 / 15, substeps=substeps), x + 1e-3 * error
        for _ in range(6):
            y = y + entry.correction(y, c)
        left[substeps] = float((y - x).abs().max())
    assert left[4] < 1e-4 < left[1]


def test_a_march_is_bounded_by_its_source_whatever_the_wind_at_the_ends():
    rng = torch.Generator().manual_seed(0)
    x = 2 * torch.rand(8, 1, 64, 32, generator=rng).double() - 1
    x[..., -1], x[..., 0] = -x[..., -1].abs(), x[..., 0].abs()  # into the domain at both ends
    for boundaries in ends(0.5):
        entry = ThetaLaw(Burgers(Grid(32), FirstOrder(), *boundaries), 0.2 / 63)
        still = {"viscosity": torch.zeros(8).double()}
        source = (entry.dt * entry(x, still)).abs().sum(-1).cumsum(-1)
        assert (entry.correction(x, still)[:, 0, 1:].abs().sum(-1) <= source + 1e-12).all()
        thick = {"viscosity": torch.full((8,), 0.05).double()}
        assert entry.correction(x, thick).abs().max() < 3, boundaries


def test_correction_loss_has_the_newton_direction_as_gradient():
    entry = make(Muscl())
    x, c = start()
    x = x.requires_grad_()
    (gradient,) = torch.autograd.grad(entry.correction_loss(x, c), x)
    with torch.no_grad():
        expected = -2 * entry.correction(x, c) / x.numel()
    torch.testing.assert_close(gradient, expected, rtol=1e-10, atol=1e-14)


def test_error_estimate_tells_the_size_of_a_known_error():
    entry = make(Weno5(1e-4), 128)
    x, c = start(128)
    for _ in range(20):
        x = x + entry.correction(x, c)
    bump = torch.sin(pi * TIMES / 0.2)[:, None] * torch.sin(2 * pi * Grid(128).centres())
    wrong = x + 0.03 * TIMES[:, None] / 0.2 * bump
    true = relative_error(wrong, x)
    estimate = entry.error_estimate(wrong, c)
    assert "of the discrete law only" in estimate.judge
    ratio = estimate.relative / true
    assert ((ratio > 0.7) & (ratio < 1.4)).all()


def test_mass_law_is_the_integral_balance():
    entry = make(FirstOrder())
    x, c = start()
    x = x * (1 + torch.linspace(0, 0.1, 64).double()[:, None])
    drift = MassLaw(entry)(x, c)
    u, h = x[:, 0], 1 / 64
    faces = entry.equation.fluxes(u, {})
    diffusive = c["viscosity"][:, None] * 2 * u[..., 0] / h  # through the left face; none right
    outflow = faces[..., -1] - faces[..., 0] + diffusive
    through = 0.2 / 63 * ((outflow[:, 1:] + outflow[:, :-1]) / 2).cumsum(-1)
    expected = h * (u[:, 1:] - u[:, :1]).sum(-1) + through
    torch.testing.assert_close(drift, expected, rtol=0, atol=1e-12)


def test_a_boundary_law_speaks_of_either_end():
    x = torch.rand(2, 1, 5, 8).double()
    left, right = (
        BoundaryLaw(0.3).enforce(x, {}),
        BoundaryLaw(0.3, right=True).enforce(x.flip(-1), {}),
    )
    torch.testing.assert_close(right, left.flip(-1), rtol=0, atol=0)


def test_sobel_derivatives_are_exact_on_planes():
    entry = SobelBurgersLaw(1 / 320, 1 / 64)
    t, x = torch.arange(64).double() * entry.dt, torch.arange(64).double() * entry.dx
    plane = (0.3 + 2.0 * t[:, None] - 1.5 * x)[None, None]
    torch.testing.assert_close(entry.by_time(plane), torch.full_like(plane, 2.0))
    torch.testing.assert_close(entry.by_space(plane), torch.full_like(plane, -1.5))
    residual = entry(plane, {"viscosity": torch.zeros(1).double()})
    torch.testing.assert_close(residual, (2.0 - 1.5 * plane)[:, 0])


def test_sobel_is_blind_to_checkerboards_and_finite_volumes_are_not():
    board = (-1.0) ** (torch.arange(64)[:, None] + torch.arange(64)).double()
    x, c = (0.5 + 0.1 * board)[None, None], {"viscosity": torch.zeros(1).double()}
    inner = SobelBurgersLaw(1 / 320, 1 / 64)(x, c)[:, 2:-2, 2:-2]
    assert inner.abs().max() < 1e-12
    assert make(Muscl())(x, c).abs().mean() > 1
