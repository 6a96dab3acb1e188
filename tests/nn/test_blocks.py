"""Blocks normalise every pixel by itself, and answer to a neighbourhood alone."""

import pytest
import torch
from torch import nn

from lawful.nn.blocks import ChannelNorm, ResidualBlock
from lawful.nn.images import ModulatedBlock


def loud_and_quiet():
    """A field whose pixels differ in size by orders of magnitude."""
    random = torch.Generator().manual_seed(0)
    x = torch.randn(2, 6, 9, 9, generator=random, dtype=torch.float64)
    return x * 10 ** (4 * torch.rand(2, 1, 9, 9, generator=random, dtype=torch.float64) - 1)


def test_channels_have_unit_mean_square_at_every_pixel():
    norm, x = ChannelNorm(6).double(), loud_and_quiet()
    squares = norm(x).square().mean(1)
    torch.testing.assert_close(squares, torch.ones_like(squares), rtol=0, atol=1e-2)
    torch.testing.assert_close(norm(x), x / x.square().mean(1, keepdim=True).sqrt(), rtol=1e-2,
                               atol=0)  # fmt: skip
    with torch.no_grad():
        norm.gain.copy_(torch.arange(6)[:, None, None])
    torch.testing.assert_close(norm(x)[:, 5], 5 * norm(x)[:, 1] * x[:, 5] / x[:, 1])


def randomised(kind):
    torch.manual_seed(0)
    block = kind(6, 4).double()
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.3)
    return block


@pytest.mark.parametrize("kind", [ResidualBlock, ModulatedBlock])
def test_a_pixel_changes_no_more_than_its_neighbourhood(kind):
    block, x = randomised(kind), loud_and_quiet()
    embedding = torch.randn(2, 4, dtype=torch.float64)
    moved = x.clone()
    moved[:, :, 4, 4] *= -100
    changed = (block(moved, embedding) - block(x, embedding)).abs().amax((0, 1)) > 0
    reached = torch.zeros(9, 9, dtype=torch.bool)
    reached[2:7, 2:7] = True  # two 3 x 3 convolutions
    assert torch.equal(changed, reached)


@pytest.mark.parametrize("kind", [ResidualBlock, ModulatedBlock])
def test_blocks_see_directions_and_not_sizes(kind):
    """What is normalised before it is modulated has no size; beside it stands the identity."""
    block, embedding = randomised(kind), torch.randn(2, 4, dtype=torch.float64)
    x = torch.randn(2, 6, 9, 9, dtype=torch.float64)
    nn.init.zeros_(block.first.bias)
    added = block(x, embedding) - x
    if kind is ModulatedBlock:  # after the first convolution
        with torch.no_grad():
            block.first.weight.mul_(1000)
        louder = block(x, embedding) - x
    else:  # before it
        louder = block(1000 * x, embedding) - 1000 * x
    torch.testing.assert_close(louder, added, rtol=1e-3, atol=1e-3)
    assert float(added.detach().abs().max()) > 0.1


@pytest.mark.parametrize("kind", [ResidualBlock, ModulatedBlock])
def test_the_embedding_scales_and_shifts_every_channel(kind):
    block, x = randomised(kind), torch.randn(1, 6, 5, 5, dtype=torch.float64)
    for name in ("scale", "shift"):
        other = randomised(kind)
        half = slice(0, 6) if name == "scale" else slice(6, 12)
        with torch.no_grad():
            other.modulation.bias[half] += 1
        embedding = torch.zeros(1, 4, dtype=torch.float64)
        assert float((other(x, embedding) - block(x, embedding)).detach().abs().max()) > 1e-3
