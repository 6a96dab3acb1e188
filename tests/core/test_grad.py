"""Gradients of samples by their condition, against finite differences."""

import pytest
import torch

from lawful import InputError, load

COUNT = 3


@pytest.fixture(scope="module")
def burgers():
    return load("burgers")


def functional(fields):
    """Some function of all values of the fields, summed in double precision."""
    weights = torch.randn(fields.shape, generator=torch.Generator().manual_seed(3)).double()
    return (fields.double() * weights).sum() / 64


CASES = {
    "viscosity": (torch.tensor([0.004, 0.01, 0.03]), 1e-4),
    "initial": (0.5 + 0.4 * torch.sin(torch.linspace(0, 12, 3 * 64)).reshape(3, 64), 1e-2),
    "frequency": (torch.tensor([3.5, 4.0, 5.5]), 1e-3),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("refine", [0, 1])
def test_gradients_by_the_condition_are_those_of_finite_differences(burgers, name, refine):
    value, step = CASES[name]
    other = {} if name == "viscosity" else {"viscosity": 0.01}
    other |= {"frequency": 4.0} if name == "viscosity" else {}

    def at(x, grad=False):
        return functional(burgers.sample(**{name: x}, **other, refine=refine, grad=grad).fields)

    x = value.clone().requires_grad_()
    at(x, grad=True).backward()
    along = torch.randn(x.shape, generator=torch.Generator().manual_seed(4))
    slope = float((x.grad * along).sum())
    ahead, behind = at(value + step * along), at(value - step * along)
    assert slope == pytest.approx(float(ahead - behind) / (2 * step), rel=0.05 if refine else 5e-3)


def test_double_precision_conditions_are_differentiated_too(burgers):
    x = torch.tensor([0.01], dtype=torch.float64, requires_grad=True)
    burgers.sample(viscosity=x, frequency=4.0, grad=True).fields.square().sum().backward()
    assert x.grad.dtype == torch.float64
    assert float(x.grad.abs()) > 0


def test_samples_are_the_same_and_carry_no_graph_where_none_is_asked_for(burgers):
    x = torch.full((COUNT,), 0.01, requires_grad=True)
    plain = burgers.sample(viscosity=x, seed=2)
    graph = burgers.sample(viscosity=x, seed=2, grad=True)
    assert not plain.fields.requires_grad
    assert graph.fields.requires_grad
    assert not graph.report.line("burgers").violation.requires_grad
    torch.testing.assert_close(graph.fields, plain.fields)


def test_a_gradient_that_would_be_cut_is_refused(burgers):
    x = torch.tensor([0.01], requires_grad=True)
    with pytest.raises(InputError, match="tolerance: goes with none"):
        burgers.sample(viscosity=x, grad=True, tolerance=1e-3)
    numbers = load("rotmnist")
    label = torch.tensor([3.0], requires_grad=True)
    with pytest.raises(InputError, match="no derivative by label"):
        numbers.sample(label=label, grad=True)
    with pytest.raises(InputError, match="viscosity: a list of tensors"):
        burgers.sample(viscosity=[x[0], x[0]], grad=True)
