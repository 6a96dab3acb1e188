"""Order, conservation, total variation and shock speed of the finite-volume operators."""

from itertools import pairwise
from math import pi

import pytest
import torch
from exact_solutions import carried_wave, cole_hopf, riemann
from hypothesis import given, settings
from hypothesis import strategies as st

from lawful import InputError, StabilityError
from lawful.pde.equations import AdvectionDiffusion, Burgers
from lawful.pde.grid import Dirichlet, Grid, Inflow, Outflow
from lawful.pde.schemes import FirstOrder, Muscl, Weno5
from lawful.pde.solve import Diffusion, solve, ssp_rk3
from lawful.studies.burgers import raised_cosine

SCHEMES = [FirstOrder(), Muscl(), Weno5()]
INVISCID = {"viscosity": torch.tensor(0.0)}


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
        grid = Grid(cells)
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
        grid = Grid(n)
        # u = f(x - u t) by Newton's method at the faces; the average is an exact flux integral:
        # the primitive of u at t is F(y) + t f(y)^2 / 2 at the foot y of each characteristic.
        foot = grid.faces().clone()
        for _ in range(60):
            f, slope = 1 + torch.sin(2 * pi * foot) / 2, pi * torch.cos(2 * pi * foot)
            foot = foot - (foot + time * f - grid.faces()) / (1 + time * slope)
        f = 1 + torch.sin(2 * pi * foot) / 2
        primitive = foot - torch.cos(2 * pi * foot) / (4 * pi) + time * f**2 / 2
        exact = primitive.diff() / grid.spacing
        times = torch.tensor([0.0, time]).double()
        dt = 0.4 * grid.spacing ** max(1.0, order / 3)
        u = solve(Burgers(grid, scheme), wave(grid), INVISCID, times, dt=dt)[-1]
        errors.append((u - exact).abs().mean())
    assert abs(slopes(errors)[-1] - order) < 0.2


@pytest.mark.parametrize(
    ("scheme", "cells", "order", "velocity"),
    [(FirstOrder(), (128, 256, 512), 1, 1.0), (Weno5(1e-4), (32, 64, 128), 5, -0.7)],
    ids=["FirstOrder", "Weno5"],
)  # fmt: skip
def test_advection_converges_at_the_order_of_the_scheme(scheme, cells, order, velocity):
    times, errors = torch.tensor([0.0, 0.05]).double(), []
    c = {"velocity": torch.tensor(velocity).double(), "diffusivity": torch.tensor(0.0)}
    for n in cells:
        grid = Grid(n)
        exact = carried_wave(grid, velocity, 0.0, times)
        dt = 0.4 * grid.spacing ** max(1.0, order / 3)
        u = solve(AdvectionDiffusion(grid, scheme), exact[0], c, times, dt=dt)[-1]
        errors.append((u - exact[-1]).abs().mean())
    assert abs(slopes(errors)[-1] - order) < 0.2


def test_viscous_solver_converges_to_cole_hopf_at_second_order():
    viscosity, errors = 0.02, []
    times = torch.tensor([0.0, 0.15]).double()
    for cells in (64, 128, 256):
        grid = Grid(cells)
        exact = cole_hopf(grid, lambda x: x - torch.cos(2 * pi * x) / (4 * pi), viscosity, times)
        torch.testing.assert_close(exact[0], wave(grid), rtol=0, atol=1e-10)
        u = solve(Burgers(grid), wave(grid), {"viscosity": torch.tensor(viscosity)}, times)
        errors.append((u[-1] - exact[-1]).abs().mean())
    assert all(abs(slope - 2) < 0.2 for slope in slopes(errors))


def test_each_sample_has_coefficients_of_its_own():
    c = {
        "velocity": torch.tensor([1.0, -0.5, 0.3]).double(),
        "diffusivity": torch.tensor([0.0, 0.01, 0.05]).double(),
    }
    times, errors = torch.tensor([0.0, 0.1, 0.25]).double(), []
    for cells in (64, 128):
        grid = Grid(cells)
        pairs = zip(c["velocity"].tolist(), c["diffusivity"].tolist(), strict=True)
        exact = torch.stack([carried_wave(grid, a, d, times) for a, d in pairs])
        u = solve(AdvectionDiffusion(grid), exact[:, 0], c, times)
        errors.append((u - exact).abs().amax((1, 2)))
    assert (errors[0] < 2e-4).all()
    assert all(slope > 1.8 for slope in torch.log2(errors[0] / errors[1]).tolist())


def test_the_step_is_that_of_the_fastest_wave_and_not_of_the_largest_value():
    # A small value may be fast: as |u| = 0.01 would choose it, the step had Courant number 90.
    grid, times = Grid(32), torch.tensor([0.0, 0.2]).double()
    c = {"velocity": torch.tensor([2.0, -0.1]), "diffusivity": torch.zeros(2)}
    u = solve(AdvectionDiffusion(grid), 0.01 * wave(grid).expand(2, -1), c, times)[:, -1]
    exact = [0.01 * carried_wave(grid, a, 0.0, times)[-1] for a in (2.0, -0.1)]
    torch.testing.assert_close(u, torch.stack(exact), rtol=0, atol=2e-5)


def test_ssp_rk3_is_of_third_order():
    errors = []
    for count in (40, 80, 160):
        u = torch.tensor(1.0).double()
        step = ssp_rk3(lambda v: -v * v, 1 / count)
        for _ in range(count):
            u = step(u)
        errors.append((u - 0.5).abs())
    assert all(abs(slope - 3) < 0.2 for slope in slopes(errors))


@pytest.mark.parametrize("scheme", SCHEMES, ids=name)
@given(seed=st.integers(0, 2**31), viscosity=st.sampled_from([0.0, 0.003, 0.05]))
@settings(max_examples=15, deadline=None)
def test_mass_is_conserved_to_rounding(scheme, seed, viscosity):
    u = torch.rand(4, 64, generator=torch.Generator().manual_seed(seed)).double()
    times = torch.tensor([0.0, 0.05]).double()
    c = {"viscosity": torch.full((4,), viscosity)}
    after = solve(Burgers(Grid(64), scheme), u, c, times)
    torch.testing.assert_close(after[:, -1].sum(-1), u.sum(-1), rtol=1e-12, atol=0)


@pytest.mark.parametrize("scheme", [FirstOrder(), Muscl()], ids=name)
@given(seed=st.integers(0, 2**31))
@settings(max_examples=15, deadline=None)
def test_total_variation_does_not_grow(scheme, seed):
    u = torch.randn(4, 48, generator=torch.Generator().manual_seed(seed)).double()
    c = {"viscosity": torch.zeros(4)}
    rows = solve(Burgers(Grid(48), scheme), u, c, torch.linspace(0, 0.1, 9).double())
    variation = (rows - rows.roll(1, -1)).abs().sum(-1)
    assert (variation.diff(dim=-1) <= 1e-12).all()


class LaxFriedrichs(Burgers):
    """The flux that equations have which state none of their own."""

    face_flux = AdvectionDiffusion.face_flux


@pytest.mark.parametrize("kind", [Burgers, LaxFriedrichs])
@pytest.mark.parametrize("scheme", SCHEMES, ids=name)
def test_shock_moves_at_the_mean_of_its_states(scheme, kind):
    grid = Grid(200)
    equation = kind(grid, scheme, Inflow(1.0), Outflow())
    start = riemann(grid, 1.0, 0.2, 0.3, 0.0)
    end = solve(equation, start, INVISCID, torch.tensor([0.0, 0.5]).double())[-1]
    # The mass that came in gives the place of the front to rounding.
    front = (end.sum() * grid.spacing - 0.2) / 0.8
    assert float(front) == pytest.approx(0.3 + 0.6 * 0.5, abs=1e-9)
    assert (end - riemann(grid, 1.0, 0.2, 0.3, 0.5)).abs().mean() < 0.8 * 3 * grid.spacing


@pytest.mark.parametrize("kind", [Burgers, LaxFriedrichs])
@pytest.mark.parametrize("scheme", SCHEMES, ids=name)
def test_transonic_rarefaction_is_the_entropy_solution(scheme, kind):
    errors = []
    for cells in (100, 200):
        grid = Grid(cells, -1.0, 1.0)
        equation = kind(grid, scheme, Outflow(), Outflow())
        start, exact = (riemann(grid, -0.5, 1.0, 0.0, t) for t in (0.0, 0.4))
        u = solve(equation, start, INVISCID, torch.tensor([0.0, 0.4]).double())[-1]
        errors.append(float((u - exact).abs().mean()))
    assert errors[1] < 0.75 * errors[0] < 0.02


class Growing(AdvectionDiffusion):
    """Carried, and growing by 2 u: the exact solution is the carried one times exp(2 t)."""

    def source(self, u, c):
        return 2 * u


def test_a_source_adds_what_it_makes():
    grid, times = Grid(64), torch.tensor([0.0, 0.1]).double()
    c = {"velocity": torch.tensor(1.0), "diffusivity": torch.tensor(0.02)}
    carried = carried_wave(grid, 1.0, 0.02, times)
    u = solve(Growing(grid), carried[0], c, times)[-1]
    torch.testing.assert_close(u, carried[-1] * torch.exp(2 * times[-1]), rtol=0, atol=2e-4)


def test_diffusion_is_exact_in_time_and_stable_on_fine_grids():
    grid = Grid(1024)
    equation = Burgers(grid, FirstOrder(), Dirichlet(0.0), Dirichlet(0.0))
    u = torch.sin(pi * grid.centres()).unsqueeze(0)
    step = Diffusion.of(equation, u).flow(torch.tensor([[0.05]]).double(), 0.5)
    rate = 4 / grid.spacing**2 * torch.sin(torch.tensor(pi * grid.spacing / 2).double()) ** 2
    torch.testing.assert_close(step(u), u * torch.exp(-0.05 * 0.5 * rate), rtol=1e-7, atol=0)


def test_diffusion_with_boundary_values_reaches_the_straight_line():
    grid = Grid(32)
    equation = Burgers(grid, FirstOrder(), Dirichlet(1.0), Dirichlet(3.0))
    u = torch.zeros(1, 32).double()
    end = Diffusion.of(equation, u).flow(torch.tensor([[1.0]]).double(), 100.0)(u)
    torch.testing.assert_close(end[0], 1 + 2 * grid.centres(), rtol=0, atol=1e-10)


def test_theta_step_solves_its_linear_system():
    equation = Burgers(Grid(24), FirstOrder(), Dirichlet(0.0), Outflow())
    u, source = torch.rand(2, 3, 24).double().unbind(0)
    nu, dt, theta = torch.tensor([[0.0], [0.01], [0.05]]).double(), 0.02, 0.5
    diffusion = Diffusion.of(equation, u)
    spectrum, new = diffusion.theta_step(nu, dt, theta)(u @ diffusion.modes, source)
    torch.testing.assert_close(spectrum, new @ diffusion.modes, rtol=0, atol=1e-12)
    difference = lambda v: equation.pad(v, 1).diff(n=2) * 24**2  # noqa: E731
    left = new - theta * dt * nu * difference(new)
    right = u + (1 - theta) * dt * nu * difference(u) + source
    torch.testing.assert_close(left, right, rtol=0, atol=1e-12)


class Heavy(AdvectionDiffusion):
    """Holds a tensor, and cannot be hashed."""

    __hash__ = None


def test_a_grid_is_diagonalised_once_whatever_an_equation_holds():
    u = torch.zeros(1, 40).double()
    first, again = (Diffusion.of(kind(Grid(40)), u) for kind in (Heavy, Burgers))
    assert first is again
    assert Diffusion.of(Heavy(Grid(40), left=Outflow(), right=Outflow()), u) is not first


def test_batches_are_independent():
    grid = Grid(64)
    initial = raised_cosine(grid, torch.tensor([2.0, 3.7, 6.0]))
    viscosity = torch.tensor([0.0, 0.004, 0.05])
    equation = Burgers(grid, Weno5(), Dirichlet(0.0), Outflow())
    times = torch.linspace(0, 0.2, 5).double()
    together = solve(equation, initial, {"viscosity": viscosity}, times, dt=0.004)
    for i in range(3):
        part = {"viscosity": viscosity[i : i + 1]}
        alone = solve(equation, initial[i : i + 1], part, times, dt=0.004)
        torch.testing.assert_close(together[i], alone[0], rtol=0, atol=1e-12)


def test_gradients_of_the_operators():
    equation = Burgers(Grid(12), Weno5(1e-2), Dirichlet(0.0), Outflow())
    u, c = torch.rand(2, 12).double().requires_grad_(), {"viscosity": torch.tensor([0.01])}
    assert torch.autograd.gradcheck(lambda v: equation.tendency(v, c), u)
    smooth = (0.3 + 0.5 * torch.rand(1, 12)).double().requires_grad_()
    muscl = Burgers(Grid(12), Muscl())
    assert torch.autograd.gradcheck(lambda v: muscl.explicit(v, c), smooth)


def test_the_step_heeds_the_values_at_the_boundary():
    equation = Burgers(Grid(50), FirstOrder(), Inflow(3.0), Outflow())
    end = solve(equation, torch.full((1, 50), 0.1).double(), {"viscosity": torch.zeros(1)},
                torch.tensor([0.0, 1.0]).double())[0, -1]  # fmt: skip
    torch.testing.assert_close(end, torch.full((50,), 3.0).double(), rtol=1e-6, atol=0)


def test_unstable_steps_and_senseless_input_are_refused():
    equation = Burgers(Grid(64), FirstOrder())
    u, times = torch.full((1, 64), 2.0).double(), torch.tensor([0.0, 0.2]).double()
    with pytest.raises(StabilityError, match="Courant"):
        solve(equation, u, {"viscosity": torch.zeros(1)}, times, dt=0.1)
    with pytest.raises(InputError, match=r"diffusivity -0\.1 is negative"):
        solve(equation, u, {"viscosity": torch.tensor([-0.1])}, times)
    with pytest.raises(InputError, match="the initial condition is not finite"):
        solve(equation, u * torch.nan, {"viscosity": torch.zeros(1)}, times)
    with pytest.raises(InputError, match="viscosity is not finite"):
        solve(equation, u, {"viscosity": torch.tensor([torch.inf])}, times)
    with pytest.raises(InputError, match="burgers: expected viscosity; there is no viscosity"):
        solve(equation, u, {"velocity": torch.zeros(1)}, times)
