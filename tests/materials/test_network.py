"""Generator and critic of microstructures: their symmetries, for any weights and any size."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lawful import InputError
from lawful.materials.fields import level_cut
from lawful.materials.network import (
    UNIT,
    MicrostructureCritic,
    MicrostructureGenerator,
    StatisticsEmbedding,
)
from lawful.materials.statistics import minority
from lawful.symmetry.planar import planar
from lawful.symmetry.symmetrize import equivariance_error

RADII = 12
STRIDE = 8  # of the critic
seeds = st.integers(0, 10**6)
priors = pytest.mark.parametrize("prior", ["spectral", "white"])


def generator(prior="spectral", seed=0, group=None):
    """Float64, with a head that does something."""
    torch.manual_seed(seed)
    network = MicrostructureGenerator(
        RADII, width=8, blocks=2, embedding=8, prior=prior, group=group
    )
    for value in network.head.parameters():
        torch.nn.init.normal_(value, std=0.2)
    return network.double()


def critic(seed=0):
    torch.manual_seed(seed)
    return MicrostructureCritic(RADII, width=4, embedding=8).double()


def condition(shape=(32, 32), seed=0, batch=4):
    """Fractions on both sides of one half, exponential correlations."""
    random = torch.Generator().manual_seed(seed)
    phi = 0.25 + 0.5 * torch.rand(batch, generator=random).double()
    length = 2 + 4 * torch.rand(batch, 1, generator=random).double()
    rho = torch.exp(-torch.arange(RADII).double() / length)
    curve = phi[:, None] ** 2 + (phi * (1 - phi))[:, None] * rho
    noise = torch.randn(batch, *shape, generator=random).double()
    return {"volume_fraction": phi, "two_point": curve, "noise": noise}


def exchanged(c):
    """The statistics of the other phase."""
    phi, curve = c["volume_fraction"], c["two_point"]
    return {**c, "volume_fraction": 1 - phi, "two_point": 1 - 2 * phi[:, None] + curve}


def close(found, expected, atol=1e-9):
    torch.testing.assert_close(found, expected, rtol=0, atol=atol)


@priors
@given(seed=seeds)
@settings(max_examples=10, deadline=None)
def test_of_the_other_phase_the_generator_makes_the_complement(prior, seed):
    network, c = generator(prior, seed % 7), condition(seed=seed)
    w, other = network(c).detach(), network(exchanged(c)).detach()
    close(other, -w, 1e-8)
    cut = level_cut(w, c["volume_fraction"])
    assert torch.equal(level_cut(other, 1 - c["volume_fraction"]), 1 - cut)


@priors
def test_the_head_changes_the_field_it_starts_from(prior):
    """Else the symmetries would be those of the random field alone."""
    network, c = generator(prior), condition()
    start = network.start(c["noise"], *minority(c["volume_fraction"], c["two_point"])[:2])
    sign = torch.where(c["volume_fraction"] > 0.5, -1.0, 1.0).double()
    w = network(c).detach()[:, 0] * sign[:, None, None]
    assert float((w - start).square().mean((1, 2)).min()) > 1e-2
    close(w.square().mean((1, 2)), torch.ones(4).double())
    for value in network.head.parameters():
        torch.nn.init.zeros_(value)
    close(network(c).detach()[:, 0] * sign[:, None, None], start, 1e-6)


@priors
@given(seed=seeds, down=st.integers(0, 7), along=st.integers(0, 9))
@settings(max_examples=10, deadline=None)
def test_the_generator_follows_shifts_of_the_noise_by_its_unit(prior, seed, down, along):
    network, c = generator(prior), condition((32, 40), seed)
    shift = (UNIT * down, UNIT * along)
    moved = network({**c, "noise": c["noise"].roll(shift, (1, 2))}).detach()
    close(moved, network(c).detach().roll(shift, (2, 3)))


def test_a_new_generator_cuts_the_spectral_field():
    torch.manual_seed(0)
    network, c = MicrostructureGenerator(RADII, width=8).double(), condition()
    phi, curve, sign = minority(c["volume_fraction"], c["two_point"])
    start = network.start(c["noise"], phi, curve)
    close(network(c).detach()[:, 0], start * sign[:, None, None], 1e-6)


@priors
@pytest.mark.parametrize("shape", [(64, 64), (96, 96), (128, 128), (64, 96), (36, 100)])
def test_one_set_of_weights_makes_fields_of_any_size(prior, shape):
    c = condition(shape, batch=2)
    w = generator(prior)(c).detach()
    assert w.shape == (2, 1, *shape)
    close(w.square().mean((1, 2, 3)), torch.ones(2).double())
    count = level_cut(w, c["volume_fraction"]).sum((1, 2, 3))
    close(count, (c["volume_fraction"] * shape[0] * shape[1]).round())


def test_a_repeated_noise_gives_a_repeated_field():
    """No memory of the image's size: of white noise repeated twice, the field repeats twice."""
    network, c = generator("white"), condition((32, 32))
    twice = {**c, "noise": c["noise"].repeat(1, 1, 2)}
    close(network(twice).detach(), network(c).detach().repeat(1, 1, 1, 2), 1e-6)


@priors
def test_a_field_depends_on_its_own_condition_alone(prior):
    network, c = generator(prior), condition()
    together = network(c).detach()
    for i in range(4):
        alone = network({name: value[i : i + 1] for name, value in c.items()})
        close(alone[0].detach(), together[i])
    other = {**c, "two_point": c["two_point"].roll(1, 0), "volume_fraction":
             c["volume_fraction"].roll(1, 0)}  # fmt: skip
    assert float((network(other).detach() - together).abs().amax((1, 2, 3)).min()) > 1e-4


@given(seed=seeds, down=st.integers(0, 3), along=st.integers(0, 4))
@settings(max_examples=10, deadline=None)
def test_the_critic_is_blind_to_phases_and_shifts(seed, down, along):
    judge, c = critic(seed % 5), condition((32, 40), seed)
    x = level_cut(c["noise"].unsqueeze(1), c["volume_fraction"])
    scores = judge(x, c).detach()
    assert scores.shape == (4,)
    close(judge(1 - x, exchanged(c)).detach(), scores, 1e-10)
    close(judge(x.roll((STRIDE * down, STRIDE * along), (2, 3)), c).detach(), scores, 1e-12)


def test_the_critic_sees_the_image_and_its_statistics():
    judge, c = critic(), condition()
    x = level_cut(c["noise"].unsqueeze(1), c["volume_fraction"])
    scores = judge(x, c).detach()
    assert float((judge(x.roll(1, 0), c).detach() - scores).abs().min()) > 1e-6
    other = {**c, "two_point": c["two_point"].roll(1, 0), "volume_fraction":
             c["volume_fraction"].roll(1, 0)}  # fmt: skip
    assert float((judge(x, other).detach() - scores).abs().min()) > 1e-9
    assert float((judge(1 - x, c).detach() - scores).abs().min()) > 1e-6
    alone = judge(x[2:3], {name: value[2:3] for name, value in c.items()})
    close(alone[0].detach(), scores[2])


@given(seed=seeds)
@settings(max_examples=10, deadline=None)
def test_the_embedding_is_of_the_minority(seed):
    c = condition(seed=seed)
    phi, curve, sign = minority(c["volume_fraction"], c["two_point"])
    assert bool((phi <= 0.5).all())
    other = exchanged(c)
    again, mirrored, opposite = minority(other["volume_fraction"], other["two_point"])
    close(again, phi, 1e-15)
    close(mirrored, curve, 1e-14)
    assert torch.equal(opposite, -sign)
    close(curve[:, 0], phi, 1e-15)


def test_an_embedding_tells_curves_of_one_fraction_apart():
    torch.manual_seed(0)
    embed = StatisticsEmbedding(RADII, 8).double()
    phi = torch.tensor([0.4, 0.4, 0.3]).double()
    curve = condition()["two_point"][:3]
    found = embed(phi, curve).detach()
    assert found.shape == (3, 8)
    again = embed(phi, curve + 0.05 * (torch.arange(RADII) == 7)).detach()
    assert float((found - again).abs().amax(1).min()) > 1e-4


@priors
def test_gradients_reach_every_weight(prior):
    network, judge, c = generator(prior), critic(), condition()
    judge(network(c), c).sum().backward()
    for part in (network, judge):
        for name, value in part.named_parameters():
            if (part, name) == (judge, "own.bias"):
                assert float(value.grad) == pytest.approx(4.0)
                continue
            assert value.grad is not None, name
            assert float(value.grad.abs().amax()) > 0, name


@pytest.mark.parametrize("shape", [(30, 32), (32, 33), (2, 4)])
def test_sides_that_are_no_multiple_of_the_unit_are_refused(shape):
    with pytest.raises(InputError, match="sides divisible by 4, got"):
        generator()(condition(shape))
    c = condition()
    with pytest.raises(InputError, match="divisible by 4"):
        generator()({**c, "noise": c["noise"].unsqueeze(1)})


@pytest.mark.parametrize("shape", [(30, 32), (32, 34), (31, 32)])
def test_a_critic_refuses_images_that_it_would_not_see_whole(shape):
    c = condition()
    with pytest.raises(InputError, match="divisible by 8"):
        critic()(torch.zeros(4, 1, *shape).double(), c)


@priors
@pytest.mark.parametrize("name", ["C4", "D4"])
def test_generators_with_a_group_are_equivariant_in_the_noise(prior, name):
    group, c = planar(name), condition()
    make = lambda network: lambda noise: network({**c, "noise": noise})[:, 0]  # noqa: E731
    plain = equivariance_error(make(generator(prior)), c["noise"], group, group)
    wrapped = equivariance_error(make(generator(prior, group=group)), c["noise"], group, group)
    assert plain[1:].min() > 1e-2
    assert wrapped.max() < 1e-12
