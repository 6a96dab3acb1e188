"""Optimizers as configurations."""

import pytest
import torch

from lawful import InputError
from lawful.games.optimizers import RMSProp


def test_rmsprop_divides_by_the_root_of_the_running_mean_square():
    player = torch.nn.Linear(1, 1, bias=False)
    start = float(player.weight.detach())
    optimizer = RMSProp(0.1, decay=0.75).build(player)
    mean = 0.0
    for gradient in (3.0, -1.0, 0.5):
        player.weight.grad = torch.tensor([[gradient]])
        optimizer.step()
        mean = 0.75 * mean + 0.25 * gradient**2
        start -= 0.1 * gradient / mean**0.5
    assert float(player.weight.detach()) == pytest.approx(start, rel=1e-5)


@pytest.mark.parametrize("wrong", [{"decay": 1.0}, {"decay": -0.1}, {"learning_rate": 0.0}])
def test_rmsprop_refuses(wrong):
    with pytest.raises(InputError, match="optimizer: expected a"):
        RMSProp(**wrong)
