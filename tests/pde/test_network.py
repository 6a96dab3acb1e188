import pytest
import torch

from lawful import InputError
from lawful.nn.unet import ScalarEmbedding
from lawful.pde import EvolutionGenerator
from lawful.pde.grid import refine


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
    carried = network.shift(initial)
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
    mirrored = forth.shift(initial.flip(-1)).flip(-1)
    torch.testing.assert_close(network.shift(initial), mirrored, rtol=0, atol=1e-6)


def test_what_leaves_a_periodic_domain_comes_back():
    network = EvolutionGenerator(16, 8, {}, duration=7 / 16, speeds=(1.0, -4.0), periodic=True)
    initial = torch.rand(2, 16)
    carried = network.shift(initial)
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
