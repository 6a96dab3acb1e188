"""Blocks normalise every pixel by itself, and answer to a neighbourhood alone."""

import pytest
import torch
from torch import nn

from lawful.nn.blocks import ResidualBlock, RMSNorm, pixel_norm


def loud_and_quiet():
    """A field whose pixels differ in size by orders of magnitude."""
    random = torch.Generator().manual_seed(0)
    x = torch.randn(2, 6, 9, 9, generator=random, dtype=torch.float64)
    return x * 10 ** (4 * torch.rand(2, 1, 9, 9, generator=random, dtype=torch.float64) - 1)


def test_channels_have_unit_mean_square_at_every_pixel():
    norm, x = RMSNorm(6).double(), loud_and_quiet()
    squares = norm(x).square().mean(1)
    torch.testing.assert_close(squares, torch.ones_like(squares), rtol=0, atol=1e-2)
    torch.testing.assert_close(norm(x), x / x.square().mean(1, keepdim=True).sqrt(), rtol=1e-2,
                               atol=0)  # fmt: skip
    with torch.no_grad():
        norm.gain.copy_(torch.arange(6)[:, None, None])
    torch.testing.assert_close(norm(x)[:, 5], 5 * norm(x)[:, 1] * x[:, 5] / x[:, 1])


def randomised(first):
    torch.manual_seed(0)
    norm = RMSNorm if first else pixel_norm
    block = ResidualBlock(6, 6, 4, norm=norm, first=first).double()
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.3)
    return block


@pytest.mark.parametrize("first", [True, False])
def test_a_pixel_changes_no_more_than_its_neighbourhood(first):
    block, x = randomised(first), loud_and_quiet()
    embedding = torch.randn(2, 4, dtype=torch.float64)
    moved = x.clone()
    moved[:, :, 4, 4] *= -100
    changed = (block(moved, embedding) - block(x, embedding)).abs().amax((0, 1)) > 0
    reached = torch.zeros(9, 9, dtype=torch.bool)
    reached[2:7, 2:7] = True  # two 3 x 3 convolutions
    assert torch.equal(changed, reached)


@pytest.mark.parametrize("first", [True, False])
def test_blocks_see_directions_and_not_sizes(first):
    """What is normalised before it is modulated has no size; beside it stands the identity."""
    block, embedding = randomised(first), torch.randn(2, 4, dtype=torch.float64)
    x = torch.randn(2, 6, 9, 9, dtype=torch.float64)
    nn.init.zeros_(block.first.bias)
    added = block(x, embedding) - x
    if not first:
        with torch.no_grad():
            block.first.weight.mul_(1000)
        louder = block(x, embedding) - x
    else:
        louder = block(1000 * x, embedding) - 1000 * x
    torch.testing.assert_close(louder, added, rtol=1e-3, atol=1e-3)
    assert float(added.detach().abs().max()) > 0.1


@pytest.mark.parametrize("first", [True, False])
def test_the_embedding_scales_and_shifts_every_channel(first):
    block, x = randomised(first), torch.randn(1, 6, 5, 5, dtype=torch.float64)
    for name in ("scale", "shift"):
        other = randomised(first)
        half = slice(0, 6) if name == "scale" else slice(6, 12)
        with torch.no_grad():
            other.modulation.bias[half] += 1
        embedding = torch.zeros(1, 4, dtype=torch.float64)
        assert float((other(x, embedding) - block(x, embedding)).detach().abs().max()) > 1e-3


def test_weights_of_older_names_are_loaded():
    block = ResidualBlock(3, 3, 2, noise=lambda channels: nn.Conv2d(1, channels, 1))
    outer = nn.Sequential(block)
    state = {name.replace("noise.", "grain.").replace("modulation.", "modulation.linear."): value
             for name, value in outer.state_dict().items()}  # fmt: skip
    assert "0.grain.weight" in state
    assert "0.modulation.linear.bias" in state
    outer.load_state_dict(state)
