"""Conservation, decay of energy, order, another integrator, exact profiles, symmetries."""

from itertools import pairwise
from math import log, log2, pi, sqrt

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from lawful import InputError, StabilityError
from lawful.materials.cahn_hilliard import FIRST, CahnHilliard, evolve, phi, quench

EQUATION = CahnHilliard()


def noise(seed=0, *, runs=2, rows=32, columns=32, mean=0.1, amplitude=0.25):
    generator = torch.Generator().manual_seed(seed)
    return quench(rows, columns, torch.full((runs,), mean), generator, noise=amplitude).double()


def end(initial, time, *, dt=FIRST, equation=EQUATION):
    return next(evolve(equation, initial, [time], dt=dt))


def kinks(spacing=0.5, length=64.0, rows=4):
    """Two interfaces far apart, along the rows."""
    x = spacing * torch.arange(round(length / spacing)).double()
    width = sqrt(2)
    profile = torch.tanh((x - length / 4) / width) - torch.tanh((x - 3 * length / 4) / width) - 1
    return profile.expand(1, rows, -1).contiguous()


@pytest.mark.parametrize(("dtype", "rounding"), [(torch.float64, 1e-15), (torch.float32, 1e-7)])
@given(seed=st.integers(0, 2**31), mean=st.floats(-0.45, 0.45))
@settings(max_examples=15, deadline=None)
def test_mass_is_conserved_to_rounding(dtype, rounding, seed, mean):
    start = noise(seed, mean=mean).to(dtype)
    kept = start.double().mean((1, 2))
    for field in evolve(EQUATION, start, [1.0, 30.0, 200.0]):
        found = field.double().mean((1, 2))
        torch.testing.assert_close(found, kept, rtol=0, atol=rounding)


@pytest.mark.parametrize(("dtype", "rounding"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
@pytest.mark.parametrize("dt", [0.25, FIRST, 1.0])
def test_the_energy_does_not_grow(dt, dtype, rounding):
    """At every step of a quench, through the vanishing of small domains, to steps of 7 dt."""
    mean = torch.linspace(-0.45, 0.45, 7)
    start = quench(32, 32, mean, torch.Generator().manual_seed(1)).to(dtype)
    times = [0.0]
    while times[-1] < 350:
        times.append(times[-1] + dt * max(1, times[-1] / 16) ** (2 / 3))
    energies = torch.stack([EQUATION.energy(c) for c in evolve(EQUATION, start, times, dt=dt)])
    assert (energies.diff(dim=0) <= rounding * energies[0]).all()
    assert (energies[-1] < 0.8 * energies[0]).all()


def test_phi_is_the_mean_over_a_contour():
    """Kassam & Trefethen (2005): what cancels near 0 does not on a circle around it."""
    z = -torch.cat([torch.zeros(1), torch.logspace(-12, 3, 200)]).double()
    circle = z[:, None] + torch.exp(2j * pi * (torch.arange(64).double() + 0.5) / 64)
    first = (torch.exp(circle) - 1) / circle
    second = (first - 1) / circle
    for found, contour in zip(phi(z), (torch.exp(circle), first, second), strict=True):
        torch.testing.assert_close(found, contour.mean(1).real, rtol=1e-13, atol=1e-15)
    for single, double in zip(phi(z.float()), phi(z.float().double()), strict=True):
        torch.testing.assert_close(single, double.float(), rtol=2e-6, atol=0)


@pytest.mark.parametrize("shape", [(8, 8), (7, 9), (6, 5)])
def test_the_energy_is_that_of_its_definition(shape):
    equation = CahnHilliard(gamma=0.7, spacing=0.5)
    c = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0)).double()
    # sum |grad c|^2 = - sum c lap c, with the full spectrum of the Laplacian
    k = [2 * pi * torch.fft.fftfreq(n, 0.5).double() for n in shape]
    k2 = k[0][:, None] ** 2 + k[1] ** 2
    laplacian = torch.fft.ifft2(-k2 * torch.fft.fft2(c)).real
    density = (c**2 - 1) ** 2 / 4 - 0.35 * c * laplacian
    torch.testing.assert_close(equation.energy(c), 0.25 * density.sum((1, 2)))


@pytest.mark.parametrize("time", [4.0, 40.0])
def test_the_method_is_of_second_order_in_time(time):
    start = end(noise(runs=1, rows=16, columns=16), 10.0, dt=0.05)
    exact = end(start, time, dt=0.0125)
    errors = [float((end(start, time, dt=dt) - exact).norm()) for dt in (0.2, 0.1, 0.05)]
    assert all(abs(log2(a / b) - 2) < 0.2 for a, b in pairwise(errors)), errors


def test_another_integrator_finds_the_same():
    """An explicit right-hand side on the full spectrum, by an implicit method of order 5."""
    start = noise(runs=1, rows=6, columns=8)[0]
    k = [2 * pi * np.fft.fftfreq(n) for n in start.shape]
    k2 = k[0][:, None] ** 2 + k[1] ** 2

    def slope(_, values):
        c = values.reshape(start.shape)
        potential = np.fft.fft2(c**3 - c) + k2 * np.fft.fft2(c)
        return np.fft.ifft2(-k2 * potential).real.ravel()

    times = [1.0, 4.0, 12.0]
    other = solve_ivp(slope, (0, 12), start.numpy().ravel(), "Radau", times, rtol=1e-7, atol=1e-9)
    own = torch.stack(list(evolve(EQUATION, start, times, dt=0.005)))
    theirs = torch.from_numpy(other.y.T.reshape(own.shape))
    torch.testing.assert_close(own, theirs, rtol=0, atol=5e-5)


def test_the_interface_profile_is_stationary_and_has_its_tension():
    equation = CahnHilliard(spacing=0.5)
    start = kinks()
    after = end(start, 20.0, equation=equation)
    torch.testing.assert_close(after, start, rtol=0, atol=1e-5)
    height = 4 * 0.5
    assert float(equation.energy(start)) == pytest.approx(2 * height * 2 * sqrt(2) / 3, rel=1e-6)


@pytest.mark.parametrize("waves", [1, 3, 5, 8])
def test_a_small_mode_grows_at_its_linear_rate(waves):
    side, time = 32, 2.0
    k = 2 * pi * waves / side
    mode = torch.cos(k * torch.arange(side).double()).expand(1, side, side)
    start = 1e-5 * mode
    growth = end(start, time, dt=0.002)[0, 0, 0] / start[0, 0, 0]
    assert log(growth) / time == pytest.approx(k**2 * (1 - k**2), rel=0.02)


def test_what_is_looked_at_does_not_change_where_it_ends():
    start = noise(rows=24, columns=17)
    for field in evolve(EQUATION, start, [0.0, 2.0, 2.0, 4.0], dt=0.25):
        last = field
    assert torch.equal(last, end(start, 4.0, dt=0.25))
    *_, last = evolve(EQUATION, start, [0.3, 1 / 3, 1.1, 4.0], dt=0.01)
    torch.testing.assert_close(last, end(start, 4.0, dt=0.01), rtol=0, atol=1e-3)


def test_a_unit_of_length_is_a_unit_of_length():
    """With x in units of sqrt(gamma) and t in units of gamma the equation has no gamma."""
    start = noise()
    finer = CahnHilliard(gamma=0.25, spacing=0.5)
    torch.testing.assert_close(
        end(start, 50.0, equation=finer), end(start, 200.0), rtol=0, atol=1e-9
    )


def test_long_runs_in_single_precision_stay_near_double():
    # The redundant half of a carried spectrum would have overflown by then.
    start = noise(rows=16, columns=16)
    single, double = end(start.float(), 600.0), end(start, 600.0)
    torch.testing.assert_close(single.double(), double, rtol=0, atol=1e-2)


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("mirrored", [False, True])
def test_the_flow_commutes_with_turns_mirrors_and_shifts(turns, mirrored):
    def act(c):
        c = torch.rot90(c, turns, (1, 2)).roll((5, -3), (1, 2))
        return c.flip(2) if mirrored else c

    start = noise()
    torch.testing.assert_close(end(act(start), 15.0), act(end(start, 15.0)), rtol=0, atol=1e-10)


def test_the_flow_is_odd_and_leaves_its_input_alone():
    start = noise(mean=0.0)
    kept = start.clone()
    torch.testing.assert_close(end(-start, 15.0), -end(start, 15.0), rtol=0, atol=1e-10)
    assert torch.equal(start, kept)


def test_batches_are_independent():
    start = noise(runs=4)
    together = end(start, 15.0)
    for i in range(4):
        torch.testing.assert_close(end(start[i], 15.0), together[i], rtol=0, atol=1e-11)


def test_a_quench_has_the_mean_and_the_noise_it_is_given():
    mean = torch.tensor([-0.3, 0.0, 0.45])
    start = quench(64, 64, mean, torch.Generator().manual_seed(1), noise=0.2)
    torch.testing.assert_close(start.mean((1, 2)), mean, rtol=0, atol=1e-6)
    torch.testing.assert_close(start.std((1, 2)), torch.full((3,), 0.2), rtol=0.05, atol=0)


def test_senseless_input_is_refused():
    start = noise()
    for values in (
        {"gamma": 0.0},
        {"spacing": -1.0},
        {"stabilisation": -1.0},
        {"gamma": torch.nan},
    ):
        with pytest.raises(InputError, match=r"Cahn-Hilliard: .*expected"):
            CahnHilliard(**values)
    for dt in (0.0, -1.0, float("nan")):
        with pytest.raises(InputError, match="dt > 0"):
            end(start, 1.0, dt=dt)
    for times in ([2.0, 1.0], [-1.0], [float("nan")]):
        with pytest.raises(InputError, match="increasing"):
            list(evolve(EQUATION, start, times))
    with pytest.raises(InputError, match="finite"):
        end(start * torch.nan, 1.0)
    with pytest.raises(StabilityError, match="composition"):
        end(100 * start, 1.0)
