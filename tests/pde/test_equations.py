"""Order, conservation, total variation and shock speed of the finite-volume operators."""

from itertools import pairwise
from math import pi

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lawful import InputError, StabilityError
from lawful.pde.boundaries import Boundaries, Dirichlet, Inflow, Outflow
from lawful.pde.equations import Burgers
from lawful.pde.exact import cole_hopf, raised_cosine, riemann
from lawful.pde.grid import Grid
from lawful.pde.schemes import FirstOrder, Muscl, Weno5
from lawful.pde.solve import Diffusion, explicit_euler, forward_euler, solve, ssp_rk3

SCHEMES = [FirstOrder(), Muscl(), Weno5()]
PERIODIC = Boundaries.periodic()


def name(scheme):
    return type(scheme).__name__


def wave(grid):
    """Averages of 1 + sin(2 pi x) / 2."""
    return grid.averages(lambda x: x - torch.cos(2 * pi * x) / (4 * pi))


def slopes(errors):
    return [float(torch.log2(a / b)) for a, b in pairwise(errors)]


@pytest.mark.parametrize("scheme", SCHEMES, ids=name)
def test_reconstruction_has_its_declared_order(scheme):
    # A monotone profile: limiters reduce MUSCL to first order at extrema by design.
    errors = []
    for cells in (40, 80, 160):
        grid = Grid.line(cells)
        u = grid.averages(torch.exp)
        left, right = scheme.states(u)
        faces = grid.faces()[scheme.width : cells + 1 - scheme.width].exp()
        errors.append(max((left - faces).abs().max(), (right - faces).abs().max()))
    assert all(abs(slope - scheme.order) < 0.2 for slope in slopes(errors))


@pytest.mark.parametrize(
    ("scheme", "cells", "order"),
    [(FirstOrder(), (128, 256, 512), 1), (Weno5(1e-4), (32, 64, 128), 5)],
    ids=["FirstOrder", "Weno5"],
)  # fmt: skip
def test_solver_converges_at_the_order_of_the_scheme_before_the_shock(scheme, cells, order):
    time, errors = 0.05, []
    for n in cells:
        grid = Grid.line(n)
        # u = f(x - u t) by Newton's method at the faces; the average is an exact flux integral:
        # the primitive of u at t is F(y) + t f(y)^2 / 2 at the foot y of each characteristic.
        foot = grid.faces().clone()
        for _ in range(60):
            f, slope = 1 + torch.sin(2 * pi * foot) / 2, pi * torch.cos(2 * pi * foot)
            foot = foot - (foot + time * f - grid.faces()) / (1 + time * slope)
        f = 1 + torch.sin(2 * pi * foot) / 2
        primitive = foot - torch.cos(2 * pi * foot) / (4 * pi) + time * f**2 / 2
        exact = primitive.diff() / grid.spacing()
        times = torch.tensor([0.0, time]).double()
        dt = 0.4 * grid.spacing() ** max(1.0, order / 3)
        u = solve(Burgers(grid, scheme, PERIODIC), wave(grid), torch.tensor(0.0), times, dt=dt)[-1]
        errors.append((u - exact).abs().mean())
    assert abs(slopes(errors)[-1] - order) < 0.2


def test_viscous_solver_converges_to_cole_hopf_at_second_order():
    viscosity, errors = 0.02, []
    times = torch.tensor([0.0, 0.15]).double()
    for cells in (64, 128, 256):
        grid = Grid.line(cells)
        exact = cole_hopf(grid, lambda x: x - torch.cos(2 * pi * x) / (4 * pi), viscosity, times)
        torch.testing.assert_close(exact[0], wave(grid), rtol=0, atol=1e-10)
        u = solve(Burgers(grid, Weno5(), PERIODIC), wave(grid), torch.tensor(viscosity), times)
        errors.append((u[-1] - exact[-1]).abs().mean())
    assert all(abs(slope - 2) < 0.2 for slope in slopes(errors))


def test_ssp_rk3_is_of_third_order_and_euler_of_first():
    for stepper, order in ((ssp_rk3, 3), (forward_euler, 1)):
        errors = []
        for count in (40, 80, 160):
            u = torch.tensor(1.0).double()
            step = stepper(lambda v: -v * v, 1 / count)
            for _ in range(count):
                u = step(u)
            errors.append((u - 0.5).abs())
        assert all(abs(slope - order) < 0.2 for slope in slopes(errors))


@pytest.mark.parametrize("scheme", SCHEMES, ids=name)
@given(seed=st.integers(0, 2**31), viscosity=st.sampled_from([0.0, 0.003, 0.05]))
@settings(max_examples=15, deadline=None)
def test_mass_is_conserved_to_rounding(scheme, seed, viscosity):
    grid = Grid.line(64)
    u = torch.rand(4, 64, generator=torch.Generator().manual_seed(seed)).double()
    times = torch.tensor([0.0, 0.05]).double()
    after = solve(Burgers(grid, scheme, PERIODIC), u, torch.full((4,), viscosity), times)
    torch.testing.assert_close(after[:, -1].sum(-1), u.sum(-1), rtol=1e-12, atol=0)


@pytest.mark.parametrize("scheme", [FirstOrder(), Muscl()], ids=name)
@given(seed=st.integers(0, 2**31))
@settings(max_examples=15, deadline=None)
def test_total_variation_does_not_grow(scheme, seed):
    u = torch.randn(4, 48, generator=torch.Generator().manual_seed(seed)).double()
    equation = Burgers(Grid.line(48), scheme, PERIODIC)
    rows = solve(equation, u, torch.zeros(4), torch.linspace(0, 0.1, 9).double())
    variation = (rows - rows.roll(1, -1)).abs().sum(-1)
    assert (variation.diff(dim=-1) <= 1e-12).all()


@pytest.mark.parametrize("scheme", SCHEMES, ids=name)
def test_shock_moves_at_the_mean_of_its_states(scheme):
    grid = Grid.line(200)
    equation = Burgers(grid, scheme, Boundaries(Inflow(1.0), Outflow()))
    start = riemann(grid, 1.0, 0.2, 0.3, 0.0)
    end = solve(equation, start, torch.tensor(0.0), torch.tensor([0.0, 0.5]).double())[-1]
    # The mass that came in gives the place of the front to rounding.
    front = (end.sum() * grid.spacing() - 0.2) / 0.8
    assert float(front) == pytest.approx(0.3 + 0.6 * 0.5, abs=1e-9)
    assert (end - riemann(grid, 1.0, 0.2, 0.3, 0.5)).abs().mean() < 0.8 * 3 * grid.spacing()


@pytest.mark.parametrize("scheme", SCHEMES, ids=name)
def test_transonic_rarefaction_is_the_entropy_solution(scheme):
    errors = []
    for cells in (100, 200):
        grid = Grid.line(cells, -1.0, 1.0)
        equation = Burgers(grid, scheme, Boundaries(Outflow(), Outflow()))
        start, exact = (riemann(grid, -0.5, 1.0, 0.0, t) for t in (0.0, 0.4))
        u = solve(equation, start, torch.tensor(0.0), torch.tensor([0.0, 0.4]).double())[-1]
        errors.append(float((u - exact).abs().mean()))
    assert errors[1] < 0.75 * errors[0] < 0.02


def test_diffusion_is_exact_in_time_and_stable_on_fine_grids():
    grid = Grid.line(1024)
    equation = Burgers(grid, FirstOrder(), Boundaries(Dirichlet(0.0), Dirichlet(0.0)))
    u = torch.sin(pi * grid.centres()).unsqueeze(0)
    step = Diffusion.of(equation, u).flow(torch.tensor([[0.05]]).double(), 0.5)
    rate = 4 / grid.spacing() ** 2 * torch.sin(torch.tensor(pi * grid.spacing() / 2).double()) ** 2
    torch.testing.assert_close(step(u), u * torch.exp(-0.05 * 0.5 * rate), rtol=1e-7, atol=0)


def test_diffusion_with_boundary_values_reaches_the_straight_line():
    grid = Grid.line(32)
    equation = Burgers(grid, FirstOrder(), Boundaries(Dirichlet(1.0), Dirichlet(3.0)))
    u = torch.zeros(1, 32).double()
    end = Diffusion.of(equation, u).flow(torch.tensor([[1.0]]).double(), 100.0)(u)
    torch.testing.assert_close(end[0], 1 + 2 * grid.centres(), rtol=0, atol=1e-10)


def test_theta_step_solves_its_linear_system():
    grid = Grid.line(24)
    equation = Burgers(grid, FirstOrder(), Boundaries(Dirichlet(0.0), Outflow()))
    u, source = torch.rand(2, 3, 24).double().unbind(0)
    nu, dt, theta = torch.tensor([[0.0], [0.01], [0.05]]).double(), 0.02, 0.5
    diffusion = Diffusion.of(equation, u)
    spectrum, new = diffusion.theta_step(nu, dt, theta)(u @ diffusion.modes, source)
    torch.testing.assert_close(spectrum, new @ diffusion.modes, rtol=0, atol=1e-12)
    left = new - theta * dt * nu * equation.implicit(new)
    right = u + (1 - theta) * dt * nu * equation.implicit(u) + source
    torch.testing.assert_close(left, right, rtol=0, atol=1e-12)


def test_batches_are_independent():
    grid = Grid.line(64)
    initial = raised_cosine(grid, torch.tensor([2.0, 3.7, 6.0]))
    viscosity = torch.tensor([0.0, 0.004, 0.05])
    equation = Burgers(grid, Weno5(), Boundaries(Dirichlet(0.0), Outflow()))
    times = torch.linspace(0, 0.2, 5).double()
    together = solve(equation, initial, viscosity, times, dt=0.004)
    for i in range(3):
        alone = solve(equation, initial[i : i + 1], viscosity[i : i + 1], times, dt=0.004)
        torch.testing.assert_close(together[i], alone[0], rtol=0, atol=1e-12)


def test_gradients_of_the_operators():
    equation = Burgers(Grid.line(12), Weno5(1e-2), Boundaries(Dirichlet(0.0), Outflow()))
    u = torch.rand(2, 12).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda v: equation.tendency(v, torch.tensor([0.01])), u)
    smooth = (0.3 + 0.5 * torch.rand(1, 12)).double().requires_grad_()
    muscl = Burgers(Grid.line(12), Muscl(), PERIODIC)
    assert torch.autograd.gradcheck(muscl.explicit, smooth)


def test_the_step_heeds_the_values_at_the_boundary():
    equation = Burgers(Grid.line(50), FirstOrder(), Boundaries(Inflow(3.0), Outflow()))
    end = solve(equation, torch.full((1, 50), 0.1).double(), torch.zeros(1),
                torch.tensor([0.0, 1.0]).double())[0, -1]  # fmt: skip
    torch.testing.assert_close(end, torch.full((50,), 3.0).double(), rtol=1e-6, atol=0)


def test_unstable_steps_and_senseless_input_are_refused():
    equation = Burgers(Grid.line(64), FirstOrder(), PERIODIC)
    u, times = torch.full((1, 64), 2.0).double(), torch.tensor([0.0, 0.2]).double()
    with pytest.raises(StabilityError, match="Courant"):
        solve(equation, u, torch.zeros(1), times, dt=0.1)
    with pytest.raises(StabilityError, match="Courant"):
        explicit_euler(equation, u, torch.zeros(1), times)
    with pytest.raises(StabilityError, match="viscosity"):
        explicit_euler(equation, u / 2, torch.full((1,), 0.05), torch.tensor([0.0, 0.2 / 63]))
    with pytest.raises(InputError, match="negative"):
        solve(equation, u, torch.tensor([-0.1]), times)
    with pytest.raises(InputError, match="finite"):
        solve(equation, u * torch.nan, torch.zeros(1), times)
