"""Divergences with a critic: closed forms of Gaussians at the best critic, bounds at any other."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from lawful import InputError
from lawful.divergences import (
    DIVERGENCES,
    KL,
    R1,
    R2,
    Alpha,
    FGamma,
    Hellinger,
    Hinge,
    JensenShannon,
    LeastSquares,
    MinMax,
    NonSaturating,
    RelativisticAverage,
    RelativisticPairing,
    ReverseKL,
    Wasserstein,
    r3gan,
)

M, S = 0.7, 0.9  # the data are N(M, S²), the generator N(0, 1)
LEVELS = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
FAKE = torch.special.ndtri(LEVELS)
REAL = M + S * FAKE
RENYI = lambda a: a + (1 - a) * S**2  # noqa: E731


def log_ratio(x):
    """log q / p."""
    return -((x - M) ** 2) / (2 * S**2) - math.log(S) + x**2 / 2


def integral(function):
    """Of function(q(x), p(x))."""
    q = lambda x: math.exp(-((x - M) ** 2) / (2 * S**2)) / (S * math.sqrt(2 * math.pi))  # noqa: E731
    p = lambda x: math.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)  # noqa: E731
    return quad(lambda x: function(q(x), p(x)), -12, 12, epsabs=1e-12, limit=400)[0]


def power(a):
    """∫ q^a p^(1-a), by Rényi's divergence of Gaussians."""
    renyi = -math.log(S) - math.log(RENYI(a)) / (2 * (a - 1)) + a * M**2 / (2 * RENYI(a))
    return math.exp((a - 1) * renyi)


def alpha_divergence(a):
    return (power(a) - 1) / (a * (a - 1))


KL_QP = (S**2 + M**2 - 1) / 2 - math.log(S)
KL_PQ = (1 / S**2 + M**2 / S**2 - 1) / 2 + math.log(S)
AFFINITY = math.sqrt(2 * S / (1 + S**2)) * math.exp(-(M**2) / (4 * (1 + S**2)))
JS2 = integral(lambda q, p: q * math.log(2 * q / (q + p)) + p * math.log(2 * p / (q + p)))

# Divergence, its values forwards and backwards, the best raw score as a function of log dQ/dP.
FAMILY = {
    "kl": (KL, {}, KL_QP, KL_PQ, lambda t: 1 + t),
    "reverse-kl": (ReverseKL, {}, KL_PQ, KL_QP, lambda t: t),
    "jensen-shannon": (JensenShannon, {}, JS2, JS2, lambda t: t),
    "hellinger": (Hellinger, {}, 2 - 2 * AFFINITY, 2 - 2 * AFFINITY, lambda t: t / 2),
    "alpha-2": (Alpha, {"alpha": 2.0}, alpha_divergence(2), None, lambda t: t.exp()),
    "alpha-1.5": (
        Alpha, {"alpha": 1.5}, alpha_divergence(1.5), alpha_divergence(-0.5),
        lambda t: 2 * (t / 2).exp(),
    ),
}  # fmt: skip
every = pytest.mark.parametrize("name", FAMILY)


@every
@pytest.mark.parametrize("shift", [False, True])
def test_the_best_critic_gives_the_divergence_of_gaussians(name, shift):
    kind, options, forward, _, best = FAMILY[name]
    value = kind(shift=shift, **options).generator_loss(
        best(log_ratio(REAL)), best(log_ratio(FAKE))
    )
    assert float(value) == pytest.approx(forward, rel=2e-3)


@every
@pytest.mark.parametrize("shift", [False, True])
def test_reverse_exchanges_the_sides(name, shift):
    kind, options, _, backward, best = FAMILY[name]
    if backward is None:
        pytest.skip("infinite for these two Gaussians")
    entry = kind(shift=shift, reverse=True, **options)
    value = entry.generator_loss(best(-log_ratio(REAL)), best(-log_ratio(FAKE)))
    assert float(value) == pytest.approx(backward, rel=5e-3)


@every
@given(a=st.floats(-1, 1), b=st.floats(-0.4, 0.1), c=st.floats(-1, 1))
@settings(max_examples=15, deadline=None)
def test_no_critic_exceeds_the_divergence_and_the_shift_never_hurts(name, a, b, c):
    kind, options, forward, _, _ = FAMILY[name]
    scores = [a * x + b * x**2 + c for x in (REAL[::50], FAKE[::50])]
    plain, shifted = (kind(shift=s, **options).generator_loss(*scores) for s in (False, True))
    assert float(plain) <= float(shifted) + 1e-9
    assert float(shifted) <= forward * 1.01 + 1e-3


@pytest.mark.parametrize("name", ["kl", "alpha-2", "alpha-1.5"])
def test_with_the_shift_a_constant_makes_no_difference(name):
    kind, options, *_ = FAMILY[name]
    entry = kind(shift=True, **options)
    scores = REAL[::97].sin(), FAKE[::97].sin()
    moved = entry.generator_loss(scores[0] + 3.0, scores[1] + 3.0)
    torch.testing.assert_close(moved, entry.generator_loss(*scores), rtol=0, atol=1e-9)


@every
def test_the_conjugate_is_fenchels(name):
    """f*(f'(x)) = x f'(x) - f(x), and the slope there is x."""
    kind, options, *_, best = FAMILY[name]
    entry = kind(**options)
    x = torch.linspace(0.3, 3.0, 7, dtype=torch.float64)
    f = {
        "kl": x * x.log(), "reverse-kl": -x.log(), "hellinger": (x.sqrt() - 1).square(),
        "jensen-shannon": x * x.log() - (x + 1) * ((x + 1) / 2).log(),
        "alpha-2": (x**2 - 1) / 2, "alpha-1.5": (x**1.5 - 1) / 0.75,
    }[name]  # fmt: skip
    slope = entry.activation(best(x.log()))
    torch.testing.assert_close(entry.conjugate(slope), x * slope - f)
    torch.testing.assert_close(entry.slope(slope), x)


@every
@pytest.mark.parametrize("reverse", [False, True])
def test_gradients_see_the_shift_as_they_should(name, reverse):
    kind, options, *_ = FAMILY[name]
    entry = kind(shift=True, reverse=reverse, **options)
    scores = [x.clone().requires_grad_() for x in (0.5 * REAL[::20011], 0.5 * FAKE[::20011])]
    assert torch.autograd.gradcheck(entry.generator_loss, scores, atol=1e-5)


@every
def test_generator_and_critic_play_for_the_same_value(name):
    kind, options, *_ = FAMILY[name]
    entry, scores = kind(**options), (REAL[::999], FAKE[::999])
    assert entry.critic_loss(*scores) == -entry.generator_loss(*scores)


def test_wasserstein_is_optimal_transport_on_the_line():
    turn = M / (1 - S)  # where the monotone map meets the identity
    potential = lambda x: -(x - turn).abs()  # noqa: E731
    exact = float((REAL - FAKE).abs().mean())
    entry = Wasserstein()
    assert -float(entry.critic_loss(potential(REAL), potential(FAKE))) == pytest.approx(exact)
    assert float(entry.generator_loss(potential(REAL), potential(FAKE))) == pytest.approx(exact)


def test_hinge_at_its_best_is_the_total_variation():
    variation = integral(lambda q, p: abs(q - p)) / 2
    loss = Hinge().critic_loss(log_ratio(REAL).sign(), log_ratio(FAKE).sign())
    assert float(loss) == pytest.approx(2 - 2 * variation, abs=1e-4)


@pytest.mark.parametrize("kind", [MinMax, NonSaturating])
def test_the_min_max_critic_at_its_best_is_jensen_shannon(kind):
    loss = kind().critic_loss(log_ratio(REAL), log_ratio(FAKE))
    assert float(loss) == pytest.approx(2 * math.log(2) - JS2, abs=1e-4)


def test_generators_of_the_min_max_game():
    fake = torch.tensor([-2.0, 0.5, 3.0]).double()
    probability = torch.sigmoid(fake)
    saturating, other = (
        MinMax().generator_loss(fake, fake),
        NonSaturating().generator_loss(fake, fake),
    )
    torch.testing.assert_close(saturating, (1 - probability).log().mean())
    torch.testing.assert_close(other, -probability.log().mean())


def test_least_squares_at_its_best():
    best = lambda x: torch.sigmoid(log_ratio(x))  # noqa: E731
    exact = integral(lambda q, p: q * p / (q + p)) / 2
    assert float(LeastSquares().critic_loss(best(REAL), best(FAKE))) == pytest.approx(
        exact, abs=1e-4
    )
    assert float(LeastSquares().generator_loss(best(REAL), torch.tensor([1.0, 3.0]))) == 1.0


@given(st.integers(0, 10**6), st.floats(-5, 5))
@settings(max_examples=20, deadline=None)
def test_relativistic_losses_know_differences_only_and_are_antisymmetric(seed, constant):
    random = torch.Generator().manual_seed(seed)
    real, fake = torch.randn(2, 9, generator=random, dtype=torch.float64)
    for entry in (RelativisticAverage(), RelativisticPairing()):
        loss = entry.critic_loss(real, fake)
        torch.testing.assert_close(entry.critic_loss(real + constant, fake + constant), loss)
        torch.testing.assert_close(entry.generator_loss(fake, real), loss)


def test_relativistic_losses_of_equal_scores():
    same = torch.full((5,), 1.7)
    assert float(RelativisticPairing().critic_loss(same, same)) == pytest.approx(math.log(2))
    assert float(RelativisticAverage().critic_loss(same, same)) == pytest.approx(2 * math.log(2))


def test_r3gan_is_a_setting():
    assert r3gan(0.5) == RelativisticPairing((R1(0.5), R2(0.5)))
    with pytest.raises(InputError, match="r3gan"):
        r3gan(0.0)
    with pytest.raises(InputError, match="alpha: expected above 1, got 1"):
        Alpha(alpha=1.0)


@pytest.mark.parametrize("kind", [KL, ReverseKL, JensenShannon, Hellinger])
def test_single_precision_agrees_with_double_far_out(kind):
    """At scores where exp and log of them lose every digit."""
    reach = 30 if kind is KL else 60
    v = torch.linspace(-reach, reach, 241)
    for reverse in (False, True):
        entry = kind(reverse=reverse)
        single, double = v.clone().requires_grad_(), v.double().requires_grad_()
        found, exact = entry.generator_loss(single, single), entry.generator_loss(double, double)
        found.backward()
        exact.backward()
        assert bool(torch.isfinite(single.grad).all())
        torch.testing.assert_close(found.double(), exact, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(single.grad.double(), double.grad, rtol=1e-4, atol=1e-4)


EVERY = {name: replace(make(1.0), penalties=()) for name, make in DIVERGENCES.items()}
FAMILIES = {name: entry for name, entry in EVERY.items() if isinstance(entry, FGamma)}
EVERY |= {f"{name}, shifted": replace(entry, shift=True) for name, entry in FAMILIES.items()}
EVERY |= {"kl, reversed": KL(shift=True, reverse=True), "kl, not shifted": KL()}
SHAPES = {
    "one a sample": ((6,), (6,), None),
    "a column": ((6, 1), (6, 1), None),
    "patches": ((2, 1, 3, 4), (2, 1, 3, 4), None),
    "unequal numbers": ((6, 1), (4, 1), None),
    "one for all": ((1,), (6,), None),
    "column and vector": ((6, 1), (6,), "equal samples"),
    "other patches": ((2, 1, 3, 4), (2, 1, 4, 3), "equal samples"),
    "none": ((0,), (6,), "a side"),
    "no batch": ((), (), "a side"),
}


def test_every_f_divergence_has_its_closed_form():
    assert set(FAMILIES) == {name.removesuffix("-2").removesuffix("-1.5") for name in FAMILY}


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("case", SHAPES)
@pytest.mark.parametrize("name", EVERY)
def test_scores_of_every_shape_count_each_by_itself_or_are_refused(name, case):
    *shapes, words = SHAPES[case]
    random = torch.Generator().manual_seed(0)
    real, fake = (torch.randn(shape, generator=random) for shape in shapes)
    entry = EVERY[name]
    if real.numel() != fake.numel() and name == "r3gan" and not words:
        words = "as many real as generated"
    for loss in (entry.critic_loss, entry.generator_loss):
        if words is None:
            assert loss(real, fake).shape == ()
            assert torch.equal(loss(real, fake), loss(real.flatten(), fake.flatten()))
        else:
            with pytest.raises(InputError, match=words):
                loss(real, fake)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", EVERY)
def test_whole_numbers_are_no_scores(name):
    with pytest.raises(InputError, match=r"real floating-point numbers, got torch\.int64"):
        EVERY[name].critic_loss(torch.arange(3), torch.rand(3))


def test_a_critics_loss_has_its_penalties_or_is_refused():
    weight = torch.tensor([0.6, 0.8], dtype=torch.float64)
    real, fake = (torch.randn(5, 2, dtype=torch.float64) for _ in range(2))
    entry = NonSaturating((R1(1.0), R2(3.0)))
    terms = entry.critic_terms(lambda x: x @ weight, real, fake)
    plain = NonSaturating().critic_loss(real @ weight, fake @ weight)
    assert {name: float(value.detach()) for name, value in terms.items()} == {
        "critic": pytest.approx(float(plain)), "R1": pytest.approx(0.5), "R2": pytest.approx(1.5)
    }  # fmt: skip
    with pytest.raises(InputError, match="scores alone do not give R1, R2; call critic_terms"):
        entry.critic_loss(real @ weight, fake @ weight)
    assert entry.generator_loss(real @ weight, fake @ weight).shape == ()


def test_misuse_is_named():
    with pytest.raises(InputError, match="one of a kind"):
        Wasserstein((R1(1.0), R1(100.0)))
    with pytest.raises(InputError, match="alpha"):
        Alpha(alpha=float("inf"))
