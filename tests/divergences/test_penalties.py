"""Penalties on critics whose gradients are known."""

import pytest
import torch
from torch import nn

from lawful import InputError
from lawful.divergences import (
    R1,
    R2,
    OneSided,
    OneSidedSquared,
    TwoSided,
    spectral_norm,
)

REAL = torch.randn(6, 1, 2, 2, generator=torch.Generator().manual_seed(0)).double()
FAKE = torch.randn(6, 1, 2, 2, generator=torch.Generator().manual_seed(1)).double()


@pytest.mark.parametrize("norm", [0.3, 1.0, 2.5])
def test_closed_forms_for_a_linear_critic(norm):
    slope = torch.full((4,), norm / 2).double()  # of Euclidean norm `norm`
    critic = lambda x: x.flatten(1) @ slope  # noqa: E731
    above = max(0.0, norm - 1)
    expected = {
        TwoSided(3.0): 3 * (norm - 1) ** 2,
        OneSided(3.0): 3 * above**2,
        OneSidedSquared(3.0): 3 * max(0.0, norm**2 - 1),
        OneSidedSquared(3.0, lipschitz=2.0): 3 * max(0.0, norm**2 / 4 - 1),
        R1(3.0): 1.5 * norm**2,
        R2(3.0): 1.5 * norm**2,
    }
    for penalty, value in expected.items():
        assert float(penalty(critic, REAL, FAKE).detach()) == pytest.approx(value, abs=1e-6)


def test_where_the_gradient_is_taken():
    critic = lambda x: x.flatten(1).square().sum(1) / 2  # noqa: E731  gradient x
    square = lambda x: float(x.flatten(1).square().sum(1).mean()) / 2  # noqa: E731
    assert float(R1(1.0)(critic, REAL, FAKE).detach()) == pytest.approx(square(REAL))
    assert float(R2(1.0)(critic, REAL, FAKE).detach()) == pytest.approx(square(FAKE))


def test_interpolates_lie_on_the_segments():
    torch.manual_seed(0)
    points = TwoSided().points(REAL, FAKE)
    share = (points - REAL) / (FAKE - REAL)
    assert bool(((share >= 0) & (share <= 1)).all())
    flat = share.flatten(1)
    torch.testing.assert_close(flat, flat[:, :1].expand_as(flat))
    assert flat[:, 0].std() > 0.1


@pytest.mark.parametrize("penalty", [TwoSided(), OneSided(), OneSidedSquared(), R1(), R2()])
def test_penalties_reach_the_critics_parameters(penalty):
    weight = torch.full((4,), 0.9, dtype=torch.float64, requires_grad=True)

    def value(w):
        torch.manual_seed(3)
        return penalty(lambda x: (x.flatten(1) @ w).square(), REAL, FAKE)

    assert torch.autograd.gradcheck(value, [weight])


def test_a_flat_critic_has_a_finite_two_sided_slope():
    weight = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    TwoSided()(lambda x: x.flatten(1) @ weight, REAL, FAKE).backward()
    assert bool(torch.isfinite(weight.grad).all())


def test_spectral_norm_holds_weights_at_one():
    torch.manual_seed(0)
    critic = spectral_norm(nn.Sequential(nn.Conv2d(1, 3, 2), nn.Flatten(), nn.Linear(3, 1)))
    for _ in range(60):
        critic(REAL.float())
    for module in (critic[0], critic[2]):
        matrix = module.weight.flatten(1)
        assert float(torch.linalg.matrix_norm(matrix, 2).detach()) == pytest.approx(1.0, abs=1e-4)


def test_negative_weights_are_refused():
    with pytest.raises(InputError, match="penalty weight: expected at least 0, got -1"):
        R1(-1.0)
    with pytest.raises(InputError, match="penalty lipschitz: expected above 0, got 0"):
        OneSidedSquared(lipschitz=0.0)


def test_spectral_norm_needs_something_to_hold():
    held = spectral_norm(nn.Sequential(nn.Conv1d(1, 2, 3)))
    for critic in (nn.Tanh(), held):
        with pytest.raises(InputError, match="spectral norm"):
            spectral_norm(critic)


def maps(x):
    """A score of every column of pixels."""
    return x.square().sum(2)


PENALTIES = [TwoSided(), OneSided(), OneSidedSquared(), R1(), R2()]
PAIRS = {
    "unequal numbers": (REAL, FAKE[:4], lambda p: None if p.at != "interpolates" else "6 and 4"),
    "one for all": (REAL[:1], FAKE, lambda p: None if p.at != "interpolates" else "1 and 6"),
    "two precisions": (REAL, FAKE.float(), lambda p: None),
    "integers": (REAL.byte(), FAKE, lambda p: "real floating-point numbers, got torch.uint8"),
    "another shape": (REAL, FAKE[:, :, :1], lambda p: "equal samples"),
}


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("penalty", PENALTIES, ids=lambda p: p.name)
@pytest.mark.parametrize("case", PAIRS)
def test_every_pair_of_batches_works_or_is_refused(case, penalty):
    real, fake, words = PAIRS[case]
    if words(penalty) is None:
        assert float(penalty(maps, real, fake).detach()) >= 0
    else:
        with pytest.raises(InputError, match=words(penalty)):
            penalty(maps, real, fake)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("penalty", PENALTIES, ids=lambda p: p.name)
def test_a_critic_that_sees_nothing_of_the_samples_is_refused(penalty):
    bias = torch.ones(6, requires_grad=True)
    for critic in (lambda x: bias, lambda x: torch.ones(6)):
        with pytest.raises(InputError, match="do not depend on samples"):
            penalty(critic, REAL, FAKE)


def test_of_several_scores_a_sample_the_sum_is_penalised():
    expected = (4 * REAL.square()).flatten(1).sum(1).mean() / 2
    torch.testing.assert_close(R1(1.0)(maps, REAL, FAKE).detach(), expected)
