from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lawful import InputError
from lawful.pde.grid import Grid, coarsen, refine


def smooth(grid: Grid) -> torch.Tensor:
    return grid.averages(lambda x: torch.sin(5 * x) / 5)


def test_geometry():
    grid = Grid((4, 8), (0.0, -1.0), (2.0, 1.0))
    assert grid.spacing(0) == 0.5
    assert grid.spacing(1) == 0.25
    assert torch.equal(grid.centres(0), torch.tensor([0.25, 0.75, 1.25, 1.75]).double())
    assert grid.refined(2).cells == (8, 16)


def test_averages_are_exact_integrals():
    grid = Grid.line(7, 1.0, 3.0)
    faces = grid.faces()
    expected = (faces[1:] ** 3 - faces[:-1] ** 3) / 3 / grid.spacing()
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
        grid = Grid.line(cells)
        fine = refine(smooth(grid), 4)
        errors.append((fine - smooth(grid.refined(4))).abs().mean())
    slopes = [torch.log2(a / b) for a, b in pairwise(errors)]
    assert all(abs(slope - 5) < 0.25 for slope in slopes)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Grid.line(0),
        lambda: Grid.line(4, 1.0, 1.0),
        lambda: Grid((4,), (0.0, 0.0), (1.0, 1.0)),
        lambda: coarsen(torch.zeros(10), 3),
        lambda: refine(torch.zeros(4), 2),
    ],
)
def test_impossible_grids_are_refused(make):
    with pytest.raises(InputError):
        make()
