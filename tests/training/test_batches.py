"""Batches and players as users may hand them: they play, or are refused in one line."""

from math import isfinite

import pytest
import torch
from torch import nn
from toy import Shift, data, fabric

from lawful import InputError
from lawful.divergences import (
    KL,
    MMD,
    R1,
    Divergence,
    NonSaturating,
    Sinkhorn,
    TwoSided,
    Wasserstein,
)
from lawful.training import Adam, Batch, Game, State, adversarial_moves, fit, sample_moves


class Patches(nn.Module):
    """A critic that judges every entry by itself."""

    def __init__(self, keep):
        super().__init__()
        self.gain, self.keep = nn.Parameter(torch.ones(())), keep

    def forward(self, x, condition):
        return (
            (self.gain * x).sin().flatten(1).mean(1, keepdim=True) if self.keep else self.gain * x
        )


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("entry", [NonSaturating((R1(1.0), TwoSided())), KL(shift=True)], ids=str)
def test_critics_of_patches_and_of_columns_play(entry, keep):
    torch.manual_seed(0)
    players = {"generator": Shift(), "critic": Patches(keep)}
    adam = Adam(1e-2)
    game = Game(adversarial_moves(entry, generator=adam, critic=adam), data)
    device = fabric()
    state = State.create(players, game, device)
    for _ in fit(game, state, device, 3):
        assert all(isfinite(value) for value in state.values.values())


@pytest.mark.parametrize(
    ("batch", "words"),
    [
        (Batch({"x": torch.rand(4, 3)}, torch.zeros(4, 1, 3, dtype=torch.uint8)), "torch.uint8"),
        (Batch({"x": torch.rand(4, 3)}, torch.rand(1, 1, 3)), "each of 1 samples of data, got 4"),
        (Batch({"x": torch.rand(4, 3)}, torch.rand(4, 3)), "equal samples"),
        (Batch({"x": torch.rand(4, 3)}), "needs data"),
    ],
)
@pytest.mark.parametrize("divergence", [Wasserstein((R1(),)), MMD(), Sinkhorn()], ids=str)
def test_batches_that_cannot_be_compared_are_refused(divergence, batch, words, unchecked):
    adam, players = Adam(), {"generator": Shift(), "critic": Patches(False)}
    if isinstance(divergence, Divergence):
        moves = adversarial_moves(divergence, generator=adam, critic=adam)[::-1]
    else:
        moves = sample_moves(divergence, generator=adam)
    game, device = Game(moves, lambda generator: batch), fabric()
    state = State.create(players, game, device)
    with pytest.raises(InputError, match=words):
        next(fit(game, state, device, 1))


def test_players_without_parameters_are_refused_before_the_first_step():
    frozen = Shift().requires_grad_(False)
    for generator in (nn.Identity(), frozen):
        game = Game(sample_moves(MMD(), generator=Adam()), data)
        with pytest.raises(InputError, match="player 'generator' has no parameters"):
            State.create({"generator": generator}, game, fabric())
