"""Statistics as laws: cosine modes, units of the violation, and what is refused."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lawful import InputError
from lawful.laws import Law
from lawful.materials.laws import TwoPoint, VolumeFraction
from lawful.materials.statistics import two_point

RADII = 8
seeds = st.integers(0, 10**6)


def fields(seed=0, batch=3, side=18):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(batch, 1, side, side, generator=generator).double()


def off_by(x, difference):
    """The condition from which the curves of `x` differ by `difference`."""
    return {"two_point": two_point(x[:, 0], RADII) - difference}


def rms(values):
    return values.square().mean(1).sqrt()


def exactly(found, expected, atol=1e-12):
    torch.testing.assert_close(found, expected, rtol=0, atol=atol)


def test_the_violation_of_a_fraction_is_its_absolute_error():
    phi = torch.tensor([0.2, 0.5, 0.9]).double()
    x = fields()
    exactly(VolumeFraction().violation(x, {"volume_fraction": phi}),
            (x.mean((1, 2, 3)) - phi).abs())  # fmt: skip


@given(seed=seeds)
@settings(max_examples=15, deadline=None)
def test_the_violation_of_a_curve_is_the_rms_of_its_error(seed):
    x = fields(seed)
    difference = torch.randn(3, RADII, generator=torch.Generator().manual_seed(seed)).double()
    exactly(TwoPoint(RADII).violation(x, off_by(x, difference)), rms(difference))
    exactly(TwoPoint(RADII).worst(x, off_by(x, difference)), difference.abs().amax(1))


def test_each_sample_has_its_own_target():
    x, law = fields(), TwoPoint(RADII)
    own = law.violation(x, off_by(x, torch.zeros(3, RADII)))
    exactly(own, torch.zeros(3).double())
    others = law.violation(x, {"two_point": two_point(x[:, 0], RADII).roll(1, 0)})
    assert float(others.min()) > 1e-3


@given(seed=seeds)
@settings(max_examples=15, deadline=None)
def test_a_part_of_the_curve_can_be_the_law(seed):
    x = fields(seed)
    difference = torch.randn(3, RADII, generator=torch.Generator().manual_seed(seed)).double()
    exactly(TwoPoint(5)(x, off_by(x, difference)), difference[:, :5])


@given(seed=seeds)
@settings(max_examples=15, deadline=None)
def test_radii_of_weight_zero_are_left_out(seed):
    x = fields(seed)
    difference = torch.randn(3, RADII, generator=torch.Generator().manual_seed(seed)).double()
    weights = (1.0, 1.0, 0.0, 0.5, 0.0, 0.0, 2.0, 0.0)
    law = TwoPoint(RADII, weights=weights)
    kept = [r for r in range(RADII) if weights[r]]
    weighted = difference[:, kept] * torch.tensor([weights[r] for r in kept])
    exactly(law(x, off_by(x, difference)), weighted)
    exactly(law.violation(x, off_by(x, difference)), rms(weighted))
    difference[:, [2, 4, 5, 7]] += 10.0
    exactly(law.violation(x, off_by(x, difference)), rms(weighted), 1e-10)


@pytest.mark.parametrize("weights", [None, (1.0, 0.0, 1.0, 0.5, 1.0, 0.0, 3.0, 1.0)])
@given(seed=seeds)
@settings(max_examples=10, deadline=None)
def test_all_modes_have_the_violation_of_the_curve(seed, weights):
    """Parseval: the cosines are an orthonormal basis."""
    x = fields(seed)
    difference = torch.randn(3, RADII, generator=torch.Generator().manual_seed(seed)).double()
    count = RADII if weights is None else sum(w > 0 for w in weights)
    plain, modal = TwoPoint(RADII, weights=weights), TwoPoint(RADII, weights=weights, modes=count)
    c = off_by(x, difference)
    exactly(modal.violation(x, c), plain.violation(x, c))
    exactly(modal.loss(x, c), plain.loss(x, c))


@pytest.mark.parametrize("modes", [1, 3, 5])
@given(seed=seeds)
@settings(max_examples=10, deadline=None)
def test_curves_within_the_modes_keep_their_violation_and_others_vanish(seed, modes):
    x = fields(seed)
    generator = torch.Generator().manual_seed(seed)
    place = (torch.arange(RADII).double() + 0.5) / RADII
    cosines = torch.cos(torch.pi * torch.arange(RADII).double()[:, None] * place)
    inside = torch.randn(3, modes, generator=generator).double() @ cosines[:modes]
    beyond = torch.randn(3, RADII - modes, generator=generator).double() @ cosines[modes:]
    law = TwoPoint(RADII, modes=modes)
    assert law(x, off_by(x, inside)).shape == (3, modes)
    exactly(law.violation(x, off_by(x, inside)), rms(inside))
    exactly(law.violation(x, off_by(x, beyond)), torch.zeros(3).double(), 1e-12)
    exactly(law.violation(x, off_by(x, inside + beyond)), rms(inside))


def test_the_jacobian_of_a_shifted_field_is_shifted():
    x = fields()
    c = {"two_point": torch.zeros(3, RADII).double()}
    for law in (TwoPoint(RADII), TwoPoint(RADII, modes=3)):
        exactly(law.jacobian(x.roll((5, -3), (2, 3)), c),
                law.jacobian(x, c).roll((5, -3), (3, 4)), 1e-15)  # fmt: skip


@given(seed=seeds)
@settings(max_examples=10, deadline=None)
def test_half_the_jacobian_times_the_field_is_the_correlation(seed):
    """p2 is quadratic: x . dp2/dx = 2 p2 (Euler)."""
    x = fields(seed, side=17)
    rows = TwoPoint(RADII).jacobian(x, {"two_point": torch.zeros(3, RADII).double()})
    exactly((rows * x[:, None]).sum((2, 3, 4)) / 2, two_point(x[:, 0], RADII))


@pytest.mark.parametrize("law", [TwoPoint(3), TwoPoint(3, periodic=False), VolumeFraction()])
def test_laws_of_volumes_know_their_jacobian(law):
    x = torch.rand(2, 1, 5, 6, 7, generator=torch.Generator().manual_seed(0)).double()
    c = {"two_point": torch.zeros(2, 3).double(), "volume_fraction": torch.zeros(2).double()}
    exactly(law.jacobian(x, c), Law.jacobian(law, x, c))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"weights": (1.0,) * 7}, "expected 8 weights of at least 0 and one above, got 7"),
        ({"weights": (1.0,) * 7 + (-0.1,)}, "expected 8 weights"),
        ({"weights": (0.0,) * 8}, "one above"),
        ({"weights": (1.0,) * 7 + (float("inf"),)}, "expected 8 weights"),
        ({"weights": (1.0,) * 7 + (float("nan"),)}, "expected 8 weights"),
        ({"weights": (float("nan"),) + (1.0,) * 7}, "expected 8 weights"),
        ({"weights": ()}, "expected 8 weights"),
        ({"modes": 0}, "expected 1 to 8 modes, got 0"),
        ({"modes": 9}, "expected 1 to 8 modes, got 9"),
        ({"weights": (1.0,) * 3 + (0.0,) * 5, "modes": 4}, "expected 1 to 3 modes, got 4"),
    ],
)
def test_laws_that_cannot_be_are_refused_in_one_line(options, said):
    with pytest.raises(InputError, match=said) as error:
        TwoPoint(RADII, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize("length", [RADII - 1, 1])
def test_targets_that_are_too_short_are_refused(length, periodic):
    x = fields()
    with pytest.raises(InputError, match=f"8 radii.*{length}"):
        TwoPoint(RADII, periodic=periodic)(x, {"two_point": torch.zeros(3, length).double()})
