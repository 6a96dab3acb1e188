from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lawful import InputError
from lawful.pde.equations import Burgers
from lawful.pde.grid import (
    Dirichlet,
    Grid,
    Inflow,
    Outflow,
    Periodic,
    coarsen,
    pad,
    refine,
    shifted,
)


def smooth(grid: Grid) -> torch.Tensor:
    return grid.averages(lambda x: torch.sin(5 * x) / 5)


def test_geometry():
    grid = Grid(4, 0.0, 2.0)
    assert grid.spacing == 0.5
    assert torch.equal(grid.centres(), torch.tensor([0.25, 0.75, 1.25, 1.75]).double())


def test_averages_are_exact_integrals():
    grid = Grid(7, 1.0, 3.0)
    faces = grid.faces()
    expected = (faces[1:] ** 3 - faces[:-1] ** 3) / 3 / grid.spacing
    torch.testing.assert_close(grid.averages(lambda x: x**3 / 3), expected, rtol=0, atol=1e-14)


@given(st.integers(5, 40), st.integers(1, 5), st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_refine_keeps_averages(cells, factor, seed):
    u = torch.rand(3, cells, generator=torch.Generator().manual_seed(seed)).double()
    for nonnegative in (False, True):
        fine = refine(u, factor, nonnegative=nonnegative)
        torch.testing.assert_close(coarsen(fine, factor), u, rtol=0, atol=1e-12)
    assert fine.min() >= -1e-15


def test_refine_is_of_fifth_order():
    errors = []
    for cells in (64, 128, 256):
        grid = Grid(cells)
        fine = refine(smooth(grid), 4)
        errors.append((fine - smooth(Grid(4 * cells))).abs().mean())
    slopes = [torch.log2(a / b) for a, b in pairwise(errors)]
    assert all(abs(slope - 5) < 0.25 for slope in slopes)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Grid(0),
        lambda: Grid(4, 1.0, 1.0),
        lambda: coarsen(torch.zeros(10), 3),
        lambda: refine(torch.zeros(4), 2),
    ],
)
def test_impossible_grids_are_refused(make):
    with pytest.raises(InputError):
        make()


U = torch.tensor([[1.0, 2.0, 4.0, 8.0]])


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        (Inflow(7.0), Outflow(), [7, 7, 1, 2, 4, 8, 8, 8]),
        (Dirichlet(0.5), Dirichlet(3.0), [-1, 0, 1, 2, 4, 8, -2, 2]),
        (Periodic(), Periodic(), [4, 8, 1, 2, 4, 8, 1, 2]),
        (Outflow(), Inflow(-1.0), [1, 1, 1, 2, 4, 8, -1, -1]),
    ],
)
def test_ghost_cells(left, right, expected):
    assert pad(U, 2, left, right).tolist() == [expected]


def test_dirichlet_fixes_the_face():
    padded = pad(U, 1, Dirichlet(0.25), Dirichlet(-2.0))
    assert (padded[0, 0] + padded[0, 1]) / 2 == 0.25
    assert (padded[0, -1] + padded[0, -2]) / 2 == -2.0


def test_half_periodic_and_narrow_grids_are_refused():
    with pytest.raises(InputError, match="periodic"):
        Burgers(Grid(8), right=Outflow())
    with pytest.raises(InputError, match="ghost"):
        pad(U, 5, Periodic(), Periodic())


@given(st.integers(-40, 40), st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_whole_cells_are_shifted_exactly(cells, seed):
    u = torch.rand(3, 16, generator=torch.Generator().manual_seed(seed)).double()
    moved = shifted(u, torch.tensor([cells, 0, -cells]).double())
    assert torch.equal(moved[0], u[0].roll(cells))
    assert torch.equal(moved[1], u[1])
    assert torch.equal(moved[2], u[2].roll(-cells))


@given(st.floats(-20, 20), st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_a_shift_keeps_the_mass_and_makes_no_extremum(distance, seed):
    u = torch.randn(2, 32, generator=torch.Generator().manual_seed(seed)).double()
    moved = shifted(u, torch.tensor([distance, -distance]).double())
    torch.testing.assert_close(moved.sum(1), u.sum(1), rtol=0, atol=1e-12)
    assert (moved.amax(1) <= u.amax(1) + 1e-12).all()
    assert (moved.amin(1) >= u.amin(1) - 1e-12).all()


def test_a_shift_is_of_second_order():
    errors = []
    for cells in (64, 128, 256):
        grid = Grid(cells)
        wave = lambda at: lambda x: torch.sin(2 * torch.pi * (x - at))  # noqa: E731
        moved = shifted(grid.averages(wave(0.0)), torch.tensor(0.3).double() * cells)
        errors.append((moved - grid.averages(wave(0.3))).abs().mean())
    assert all(torch.log2(a / b) > 1.8 for a, b in pairwise(errors))
