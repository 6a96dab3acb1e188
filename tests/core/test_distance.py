"""The distance from the solution is the true one where laws determine it, and none elsewhere."""

import pytest
import torch

from lawful import law
from lawful.data.masks import MotifLaw
from lawful.project import distance_to_solution

CELLS = 12
PLACES = torch.arange(1, CELLS + 1).double() / (CELLS + 1)


def laplacian(x):
    u = torch.nn.functional.pad(x, (1, 1, 1, 1))
    around = u[..., 1:-1, :-2] + u[..., 1:-1, 2:] + u[..., :-2, 1:-1] + u[..., 2:, 1:-1]
    return (around - 4 * u[..., 1:-1, 1:-1]) * (x.shape[-1] + 1) ** 2


def poisson(x, c):
    return laplacian(x) - c["f"]


def cubic(x, c):
    return x**3 + x - 0.02 * laplacian(x) - c["f"]


def exact():
    waves = torch.sin(torch.pi * torch.arange(1, 4)[:, None] * PLACES)
    return torch.stack([waves[0].outer(waves[1]), 3 * waves[2].outer(waves[0])])[:, None]


def samples(residual, dtype, size=0.1):
    """Fields that are off by smooth and rough errors, their condition, and those errors' size."""
    x = exact()
    rough = torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).double()
    error = size * (torch.sin(torch.pi * PLACES).outer(PLACES) + 0.1 * rough)
    c = {"f": residual(x, {"f": 0.0}).to(dtype)}
    return (x + error).to(dtype), c, error.flatten(1).square().mean(1).sqrt()


def found(residual, x, c, **options):
    return distance_to_solution([law(residual)], x, c, lambda: (x, c), **options)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("residual", [poisson, cubic])
def test_the_estimate_is_the_true_error_of_linear_and_nonlinear_laws(residual, dtype):
    x, c, error = samples(residual, dtype)
    estimate = found(residual, x, c)
    torch.testing.assert_close(estimate.absolute.double(), error, rtol=0.05, atol=0)
    scale = exact().flatten(1).square().mean(1).sqrt()
    torch.testing.assert_close(estimate.relative.double(), error / scale, rtol=0.05, atol=0)
    assert "of the discrete law only" in estimate.judge


def test_what_is_kept_counts_and_is_not_corrected():
    """The equation on the cells within, values given on the rim: each alone leaves fields free."""
    rim = torch.ones(CELLS, CELLS, dtype=torch.bool)
    rim[1:-1, 1:-1] = False
    within = lambda x, c: poisson(x, c)[..., 1:-1, 1:-1]  # noqa: E731
    x, c, _ = samples(poisson, torch.float64)
    held = MotifLaw(rim, exact()[0, 0])
    x, c = held.enforce(x[:1], {}), {"f": c["f"][:1]}
    error = (x - exact()[:1]).flatten(1).square().mean(1).sqrt()
    estimate = found(within, x, c, kept=[held])
    torch.testing.assert_close(estimate.absolute, error, rtol=1e-3, atol=0)
    assert found(within, x, c) is None


def mean(x, c):
    return x.mean((1, 2, 3)) - 0.5


def periodic(x, c):
    """As many residuals as entries, and blind to a constant."""
    return x - (x.roll(1, -1) + x.roll(-1, -1) + x.roll(1, -2) + x.roll(-1, -2)) / 4


def blind(x, c):
    """As many residuals as entries, but of one entry none."""
    y = x.flatten(1)
    return torch.cat([y[:, :1], y[:, :-1]], 1)


def counted(x, c):
    return (x > 0).to(x) - 0.5


@pytest.mark.parametrize("residual", [mean, periodic, blind, counted])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_estimate_where_laws_leave_a_field_free_or_have_no_derivative(residual, dtype):
    x, _, _ = samples(poisson, dtype)
    assert found(residual, x, {}) is None


def broken(message):
    """A law that fails where it is to be differentiated."""

    def residual(x, c):
        if x.requires_grad:
            raise RuntimeError(message)
        return x - 0.5

    return residual


def test_only_a_missing_derivative_is_no_estimate_and_other_failures_are_told():
    x, _, _ = samples(poisson, torch.float32)
    assert found(lambda x, c: torch.from_numpy(x.numpy()) - 0.5, x, {}) is None
    assert found(lambda x, c: Once.apply(x), x, {}) is None
    for message in ("CUDA out of memory. Tried to allocate 2.00 GiB", "shapes must match"):
        with pytest.raises(RuntimeError, match=message[:9]):
            found(broken(message), x, {})


class Once(torch.autograd.Function):
    """A residual with a first derivative alone."""

    @staticmethod
    def forward(ctx, x):
        return x - 0.5

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        return gradient


def test_a_sample_does_not_change_the_estimate_of_another_and_broken_ones_have_none():
    x, c, _ = samples(cubic, torch.float64)
    alone = found(cubic, x[:1], {"f": c["f"][:1]})
    x[1, 0, 3, 3] = torch.nan
    both = distance_to_solution([law(cubic)], x, c, lambda: (x[:1], {"f": c["f"][:1]}))
    torch.testing.assert_close(both.absolute[:1], alone.absolute, rtol=1e-6, atol=0)
    assert not bool(both.absolute[1] < torch.inf)
    solved = exact()[:1].to(torch.float32)
    c = {"f": cubic(solved, {"f": 0.0})}
    assert float(found(cubic, solved, c).relative) < 1e-6


def test_pictures_do_not_pay_for_it():
    calls = []

    def few(x, c):
        calls.append(len(x))
        return x.flatten(1)[:, :5]

    assert found(few, torch.zeros(7, 1, 8, 8), {}) is None
    assert calls == [1]


LEVELS = {"a": torch.tensor([1.0, 4.0, 9.0])}


def level(function):
    return lambda x, c: function(x, c["a"].view(-1, 1, 1, 1).to(x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("function", "solution", "least"),
    [
        (lambda x, a: torch.atan(x - a), lambda a: a, 2),
        (lambda x, a: x.exp() - a, torch.log, 3),
        (lambda x, a: x**3 - a, lambda a: a ** (1 / 3), 1),
        (lambda x, a: torch.tanh(x - a), lambda a: a, 1),
        (lambda x, a: x.sqrt() - a, lambda a: a**2, 0),  # the samples are negative in places
    ],
)
def test_where_full_steps_diverge_the_estimate_is_the_true_error_or_none(
    function, solution, least, dtype
):
    c = {"a": LEVELS["a"].to(dtype)}
    x = torch.randn((3, 1, 4, 4), generator=torch.Generator().manual_seed(1)).to(dtype) / 4
    near = solution(c["a"])[:1].view(1, 1, 1, 1).expand(1, 1, 4, 4)
    probe = near, {"a": c["a"][:1]}
    estimate = distance_to_solution([law(level(function))], x, c, lambda: probe)
    true = (x - solution(c["a"]).view(3, 1, 1, 1)).flatten(1).square().mean(1).sqrt()
    known = ~estimate.absolute.isnan()
    torch.testing.assert_close(estimate.absolute[known], true[known], rtol=0.05, atol=0)
    assert int(known.sum()) >= least
    assert torch.equal(known, ~estimate.relative.isnan())
