import pytest
import torch

from lawful import InputError
from lawful.pde.boundaries import Boundaries, Dirichlet, Inflow, Outflow, Periodic

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
    padded = Boundaries(left, right).pad(U, 2)
    assert padded.tolist() == [expected]


def test_dirichlet_fixes_the_face():
    padded = Boundaries(Dirichlet(0.25), Dirichlet(-2.0)).pad(U, 1)
    assert (padded[0, 0] + padded[0, 1]) / 2 == 0.25
    assert (padded[0, -1] + padded[0, -2]) / 2 == -2.0


def test_half_periodic_and_narrow_grids_are_refused():
    with pytest.raises(InputError, match="periodic"):
        Boundaries(Periodic(), Outflow())
    with pytest.raises(InputError, match="ghost"):
        Boundaries.periodic().pad(U, 5)
