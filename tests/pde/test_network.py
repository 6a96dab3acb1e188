import pytest
import torch

from lawful import InputError
from lawful.nn.unet import ScalarEmbedding
from lawful.pde import AdvectionDiffusion, Burgers, EvolutionGenerator, Grid, ThetaLaw
from lawful.pde.grid import refine
from lawful.pde.network import Corrected, Propagators


def perturbed(**options):
    """A generator whose last layer is not at its zero start."""
    torch.manual_seed(0)
    network = EvolutionGenerator(16, 8, {"k": (0.001, 0.05)}, width=8, **options)
    torch.nn.init.normal_(network.net.head.weight, std=0.1)
    return network.double()


def condition(batch=4):
    generator = torch.Generator().manual_seed(2)
    return {
        "initial": torch.rand(batch, 16, generator=generator).double(),
        "k": torch.tensor([0.0, 0.001, 0.02, 0.05]).double()[:batch],
    }


@pytest.mark.parametrize("refinement", [1, 2, 3])
def test_initial_condition_holds_exactly(refinement):
    network = perturbed(refinement=refinement, speeds=(0.5, 1.0))
    c = condition()
    fields = network(c)
    assert fields.shape == (4, 1, 8, 16 * refinement)
    assert torch.equal(fields[:, 0, 0], refine(c["initial"], refinement))
    (initial,) = network.obeys()
    assert initial.worst(fields, c).max() < 1e-12
    assert (fields[:, 0, 1:] - fields[:, 0, :1]).abs().max() > 1e-3


def test_samples_do_not_depend_on_their_batch():
    network, c = perturbed(speeds=(0.3,)), condition()
    together = network(c)
    for i in range(4):
        alone = network({name: value[i : i + 1] for name, value in c.items()})
        torch.testing.assert_close(together[i], alone[0], rtol=0, atol=1e-12)


def test_carried_rows_are_shifted_rows():
    network = EvolutionGenerator(
        16, 8, {"k": (0.001, 0.05)}, duration=7 / 16, speeds=(1.0, 0.5)
    ).double()
    initial = torch.rand(2, 16).double()
    carried = network.carry(initial, {})[1]
    assert carried.shape == (2, 2, 8, 16)
    for n in range(8):  # speed 1 moves one cell a row
        expected = torch.zeros_like(initial)
        expected[:, n:] = initial[:, : 16 - n]
        torch.testing.assert_close(carried[:, 0, n], expected, rtol=0, atol=1e-6)
    half = (initial[:, 2:] + initial[:, 1:-1]) / 2
    torch.testing.assert_close(carried[:, 1, 1, 2:], half, rtol=0, atol=1e-6)


def test_rows_are_carried_either_way():
    network = EvolutionGenerator(
        16, 8, {"k": (0.001, 0.05)}, duration=7 / 16, speeds=(-1.0, -0.5, -4.0)
    ).double()
    forth = EvolutionGenerator(
        16, 8, {"k": (0.001, 0.05)}, duration=7 / 16, speeds=(1.0, 0.5, 4.0)
    ).double()
    initial = torch.rand(2, 16).double()
    mirrored = forth.carry(initial.flip(-1), {})[1].flip(-1)
    torch.testing.assert_close(network.carry(initial, {})[1], mirrored, rtol=0, atol=1e-6)


def test_what_leaves_a_periodic_domain_comes_back():
    network = EvolutionGenerator(16, 8, {}, duration=7 / 16, speeds=(1.0, -4.0), periodic=True)
    initial = torch.rand(2, 16)
    carried = network.carry(initial, {})[1]
    for n in range(8):
        for row, cells in enumerate((n, -4 * n)):
            expected = initial.roll(cells, -1)
            torch.testing.assert_close(carried[:, row, n], expected, rtol=0, atol=1e-5)


def test_a_generator_may_have_no_scalars():
    network = EvolutionGenerator(16, 8, {}, width=8, speeds=(0.5,))
    c = {"initial": torch.rand(3, 16)}
    fields = network(c)
    assert fields.shape == (3, 1, 8, 16)
    fields.square().sum().backward()
    assert all(p.grad is not None for p in network.parameters())


def test_patches_are_inverted():
    network = perturbed(refinement=2)
    x = torch.rand(3, 1, 8, 32).double()
    torch.testing.assert_close(network._from_patches(network._to_patches(x)), x)


def test_embedding_tells_zero_from_small():
    embed = ScalarEmbedding([(0.001, 0.05)], 4)
    first = embed.layers[0]
    with torch.no_grad():
        first.weight.copy_(torch.eye(3).repeat(2, 1)[:4])
        first.bias.zero_()
        seen = first(embed.features(torch.tensor([[0.0], [1e-6], [0.05]])))
    assert seen[0, 2] == 1
    assert seen[1, 2] == 0
    assert seen[2, 0] == pytest.approx(1.0)


def test_indivisible_sizes_are_refused():
    with pytest.raises(InputError, match="divisible"):
        EvolutionGenerator(18, 8, {"k": (0.1, 1.0)})


def test_propagators_solve_the_linear_equation_exactly():
    grid, time = Grid(32), torch.linspace(0, 0.4, 5).double()
    propagate = Propagators(AdvectionDiffusion(grid), time.float(), 2).double()
    c = {"velocity": torch.tensor([0.7, -1.1]).double(), "diffusivity": torch.tensor([0.02, 0.0])}
    wave = 2 * torch.pi * 3

    def exact(t):
        a, d = c["velocity"][:, None, None], c["diffusivity"].double()[:, None, None]
        phase = wave * (grid.faces() - a * t[:, None])
        averages = (-torch.cos(phase) / wave).diff(dim=-1) / grid.spacing
        return torch.exp(-d * wave**2 * t[:, None]) * averages

    base, carried = propagate(exact(time[:1])[:, 0], c)
    assert carried.shape == (2, 2, 5, 32)
    torch.testing.assert_close(base[:, 0], exact(time), rtol=0, atol=1e-6)
    torch.testing.assert_close(carried[:, 1], exact(time), rtol=0, atol=1e-6)


def test_propagators_carry_a_row_at_the_speeds_of_its_own_values():
    propagate = Propagators(Burgers(Grid(16)), torch.tensor([0.0, 0.25]), 3)
    row = torch.zeros(1, 16)
    row[0, 4], row[0, 12] = 1.0, -1.0
    base, carried = propagate(row, {"viscosity": torch.zeros(1)})
    torch.testing.assert_close(base[0, 0, 1], row[0], rtol=0, atol=1e-6)  # the mean is at rest
    for k, cells in enumerate((-4, 0, 4)):
        torch.testing.assert_close(carried[0, k, 1], row[0].roll(cells), rtol=0, atol=1e-6)


def test_a_periodic_generator_commutes_with_shifts_by_its_patches():
    torch.manual_seed(0)
    network = EvolutionGenerator(
        16,
        8,
        {"viscosity": (0.001, 0.1)},
        equation=Burgers(Grid(16)),
        own_speeds=2,
        width=8,
        rows=4,
    ).double()
    torch.nn.init.normal_(network.net.head.weight, std=0.1)
    c = {"initial": torch.randn(2, 16).double(), "viscosity": torch.tensor([0.0, 0.01]).double()}
    moved = network({**c, "initial": c["initial"].roll(4, -1)})
    torch.testing.assert_close(moved, network(c).roll(4, -1), rtol=0, atol=1e-9)


def test_a_field_is_corrected_where_it_is_sampled_and_not_where_it_is_trained():
    torch.manual_seed(0)
    law = ThetaLaw(AdvectionDiffusion(Grid(16)), 1 / 7)
    inner = EvolutionGenerator(16, 8, {"k": (0.001, 0.05)})
    network = Corrected(inner, law)
    c = {"initial": torch.rand(2, 16), "k": torch.rand(2)}
    c |= {"velocity": torch.full((2,), 0.3), "diffusivity": torch.full((2,), 0.01)}
    raw = inner(c)
    assert torch.equal(network.train()(c), raw)
    corrected = network.eval()(c)
    assert torch.equal(corrected, raw + law.correction(raw, c))
    assert torch.equal(corrected[:, 0, 0], c["initial"])
    assert network.obeys() == inner.obeys()
