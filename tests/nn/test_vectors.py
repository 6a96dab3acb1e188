"""Generators and critics of vectors: shapes, exact symmetry, who trains alike."""

import pytest
import torch

from lawful.nn.vectors import Framed, VectorCritic, VectorGenerator, mlp
from lawful.symmetry import plane_rotations
from lawful.symmetry.invariance import invariance_test
from lawful.symmetry.symmetrize import equivariance_error, invariance_error

KINDS = ("plain", "equivariant", "random-element")


def generator(kind, turns=4):
    torch.manual_seed(0)
    return VectorGenerator(12, kind=kind, turns=turns).double()


def noise(count, seed=0):
    return torch.randn(
        count, 10, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


@pytest.mark.parametrize("turns", [2, 4, 6])
@pytest.mark.parametrize("kind", KINDS)
def test_symmetric_generators_are_equivariant_to_rounding(kind, turns):
    network = generator(kind, turns).function
    error = equivariance_error(
        network, noise(50), plane_rotations(turns, 10), plane_rotations(turns, 12)
    ).max()
    assert (error < 1e-12) == (kind != "plain")


@pytest.mark.parametrize("turns", [1, 4])
def test_critics_are_invariant_where_asked_for(turns):
    torch.manual_seed(0)
    critic = VectorCritic(12, turns=turns).double()
    x = torch.randn(20, 1, 1, 12, dtype=torch.float64)
    assert critic(x, {}).shape == (20,)
    error = invariance_error(lambda y: critic(y, {}), x, plane_rotations(4, 12)).max()
    assert (error < 1e-13) == (turns == 4)
    # Every score is a function of its own sample, as penalties need.
    torch.testing.assert_close(critic(x[:3], {}), critic(x, {})[:3])


def test_a_frame_is_a_plain_generator_with_a_random_element():
    framed = generator("random-element").function
    assert isinstance(framed, Framed)
    z = noise(4000)
    sector = framed.sector(z)
    assert (sector.bincount(minlength=4) / len(z) - 0.25).abs().max() < 0.03
    first = torch.cat([z[:, :2].abs(), z[:, 2:]], 1)  # all of sector 0
    assert framed.sector(first).unique().tolist() == [0]
    torch.testing.assert_close(framed(first), framed.function(first))
    turned = framed.onto.act_each(framed.function(first), sector)
    back = framed.group.act_each(first, sector)
    torch.testing.assert_close(framed(back), turned)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_generated_distributions_are_invariant_by_design_or_not_at_all(kind):
    network = generator(kind)
    x = network({"noise": noise(300, 4)})
    assert x.shape == (300, 1, 1, 12)
    found = invariance_test(x[:, 0, 0, :2], plane_rotations(4, 2)).p_value
    assert found <= 0.001 if kind == "plain" else found > 0.01


def test_layers_start_as_in_the_paper():
    torch.manual_seed(0)
    layers = [m for m in mlp(1000, 12) if isinstance(m, torch.nn.Linear)]
    assert [m.out_features for m in layers] == [64, 32, 16, 12]
    assert float(layers[0].weight.detach().std()) == pytest.approx((2 / 1000) ** 0.5, rel=0.02)
    assert all(float(m.bias.detach().abs().max()) == 0 for m in layers)
