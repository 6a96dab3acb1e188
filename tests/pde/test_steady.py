"""The generator of steady fields: what it obeys by construction, whatever its weights."""

import pytest
import torch

from lawful.errors import InputError
from lawful.pde.elliptic import Elliptic, solve
from lawful.pde.random_fields import neumann_field
from lawful.pde.steady import SteadyGenerator


def network(rows=16, columns=32, steps=2, **options):
    torch.manual_seed(0)
    made = SteadyGenerator(rows, columns, lengths=(0.5, 1.0), steps=steps, width=8, **options)
    torch.nn.init.normal_(made.net.head.weight, std=0.1)
    return made.double()


def coefficients(rows=16, columns=32):
    noise = torch.randn(4, rows, columns, generator=torch.Generator().manual_seed(1)).double()
    return 3.0 * 4.0 ** neumann_field(noise)


def test_energy_of_the_error_is_no_larger_than_that_of_the_iterate():
    a, made = coefficients(), network()
    operator, f = Elliptic.of(a, (0.5, 1.0)), torch.ones_like(a)
    solution = solve(operator, f, tolerance=1e-12).solution
    start = solve(operator, f, tolerance=0.0, steps=2).solution
    x = made({"coefficient": a})
    assert x.shape == (4, 1, 16, 32)
    assert (x[:, 0] - start).abs().max() > 1e-6
    assert (operator.energy(x[:, 0] - solution) < operator.energy(start - solution)).all()


def test_untrained_it_is_the_iterate_and_of_a_constant_the_solution():
    a, made = coefficients(), network()
    torch.nn.init.zeros_(made.net.head.weight)
    start = solve(Elliptic.of(a, (0.5, 1.0)), torch.ones_like(a), tolerance=0.0, steps=2).solution
    torch.testing.assert_close(made({"coefficient": a})[:, 0], start)
    constant = torch.full((1, 16, 32), 7.0).double()
    solution = solve(Elliptic.of(constant, (0.5, 1.0)), torch.ones_like(constant)).solution
    found = network()({"coefficient": constant})[:, 0]
    torch.testing.assert_close(found, solution, rtol=0, atol=1e-10)


def test_it_scales_as_solutions_do_and_treats_samples_alone():
    a, made = coefficients(), network()
    x = made({"coefficient": a})
    torch.testing.assert_close(made({"coefficient": 40 * a}), x / 40)
    torch.testing.assert_close(made({"coefficient": a[1:2]}), x[1:2])


def test_it_is_differentiable_by_the_coefficient():
    made = network(8, 8)
    a = (1 + torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(2))).double()
    a.requires_grad_()
    mean = lambda a: made({"coefficient": a}).mean((1, 2, 3))  # noqa: E731
    assert torch.autograd.gradcheck(mean, a, fast_mode=True)


def test_sizes_that_cannot_be_are_refused():
    with pytest.raises(InputError, match="rows = 12 and columns = 16 must be divisible by 8"):
        SteadyGenerator(12, 16)
    with pytest.raises(InputError, match="expected at least 1 step to start from, got 0"):
        SteadyGenerator(16, 16, steps=0)
