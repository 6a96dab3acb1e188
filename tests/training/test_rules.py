"""Update rules: their matrices on linear games, their noise, their memory."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning_fabric import Fabric
from torch import nn

from lawful import InputError
from lawful.theory.linear_game import LinearGame, linearise
from lawful.training import SGD, Adam, Batch, Game, Joint, Move, State, fit, rules

RULES = {
    **rules.RULES,
    "alternating": rules.alternating(),
    "long extrapolation": rules.extragradient(1.7),
    "lookahead of extragradient": rules.lookahead(rules.extragradient(), every=3, weight=0.3),
    "heavy consensus": rules.consensus(0.8),
    "lookahead of optimistic": rules.lookahead(rules.optimistic(), every=3),
}
ONE = np.eye(5)
MATRICES = {  # by step and field: the textbook's
    "simultaneous": lambda h, j: ONE - h * j,
    "alternating": lambda h, j: (ONE - h * lower(j)) @ (ONE - h * upper(j)),
    "extragradient": lambda h, j: ONE - h * j @ (ONE - h * j),
    "long extrapolation": lambda h, j: ONE - h * j @ (ONE - 1.7 * h * j),
    "lookahead": lambda h, j: (ONE + np.linalg.matrix_power(ONE - h * j, 5)) / 2,
    "lookahead of extragradient": lambda h, j: (
        0.7 * ONE + 0.3 * np.linalg.matrix_power(ONE - h * j @ (ONE - h * j), 3)
    ),
    "consensus": lambda h, j: ONE - h * (j + 0.5 * j.T @ j),
    "heavy consensus": lambda h, j: ONE - h * (j + 0.8 * j.T @ j),
}


def upper(j, p=3):
    """The generator's rows of the field."""
    return np.where(np.arange(5)[:, None] < p, j, 0)


def lower(j):
    """The critic's rows of the field."""
    return j - upper(j)


class Vector(nn.Module):
    def __init__(self, values):
        super().__init__()
        self.w = nn.Parameter(torch.as_tensor(values).clone())


def random_game(seed, p=3, q=2):
    """A game at rest in `rest(seed)`."""
    random = np.random.default_rng(seed)
    h, k = random.normal(size=(p, p)), random.normal(size=(q, q))
    matrices = random.normal(size=(q, p)), h @ h.T / p, k @ k.T / q
    offset = -LinearGame(*matrices).field @ rest(seed)
    return LinearGame(*matrices, offset[:p], -offset[p:])


def rest(seed):
    return np.random.default_rng(seed + 2).normal(size=5)


class Table:
    """Two torch players of a linear game, stepped by a rule of the trainer."""

    def __init__(self, game, step):
        q, p = game.coupling.shape
        self.players = [Vector(torch.zeros(p).double()), Vector(torch.zeros(q).double())]
        self.optimizers = [torch.optim.SGD(v.parameters(), lr=step) for v in self.players]
        self.field = torch.from_numpy(game.field)
        self.offset = torch.from_numpy(game.offset)
        self.p = p

    def gradients(self, only=None, *, graph=False):
        w = torch.cat([player.w for player in self.players])
        parts = (self.field @ w + self.offset).split([self.p, len(w) - self.p])
        for k, (player, part) in enumerate(zip(self.players, parts, strict=True)):
            if only in (None, k):
                player.w.grad = part if graph else part.detach().clone()

    def run(self, rule, start, steps, memory=None):
        memory = {} if memory is None else memory
        with torch.no_grad():
            for player, part in zip(
                self.players,
                torch.from_numpy(start).split([self.p, len(start) - self.p]),
                strict=True,
            ):
                player.w.copy_(part)
        for _ in range(steps):
            rule.step(self.gradients, self.optimizers, memory)
        return torch.cat([player.w.detach() for player in self.players]).numpy()


@pytest.mark.parametrize("name", MATRICES)
@given(seed=st.integers(0, 10**6), step=st.floats(0.01, 0.6))
@settings(max_examples=12, deadline=None)
def test_a_rule_with_plain_steps_is_its_matrix(name, seed, step):
    """The fixed point is the game's, the matrix the textbook's; read off by `linearise` too."""
    game = random_game(seed)
    rule, matrix = RULES[name], MATRICES[name](step, game.field)
    steps = rule.period
    start, still = np.random.default_rng(seed + 1).normal(size=5), rest(seed)
    found = Table(game, step).run(rule, start, steps)
    np.testing.assert_allclose(found, still + matrix @ (start - still), rtol=0, atol=1e-10)
    update = linearise(rule, game, step)
    np.testing.assert_allclose(update.matrix, matrix, rtol=0, atol=1e-12)
    np.testing.assert_allclose(update.offset, still - matrix @ still, rtol=0, atol=1e-10)


def popov(game, step, start, steps):
    """The iterates of the optimistic step, by hand."""
    force = lambda w: game.field @ w + game.offset  # noqa: E731
    path = [start, start]
    for _ in range(steps):
        path.append(path[-1] - 2 * step * force(path[-1]) + step * force(path[-2]))
    return path[1:]


@given(seed=st.integers(0, 10**6))
@settings(max_examples=12, deadline=None)
def test_optimistic_steps_are_their_matrix(seed):
    game = random_game(seed)
    start = np.random.default_rng(seed + 1).normal(size=5)
    path = popov(game, 0.2, start, 6)
    for steps in (1, 2, 6):
        found = Table(game, 0.2).run(rules.optimistic(), start, steps)
        np.testing.assert_allclose(found, path[steps], rtol=0, atol=1e-10)
    read = linearise(rules.optimistic(), game, 0.2).trajectory(start, 6)
    np.testing.assert_allclose(read, path, rtol=0, atol=1e-10)


def test_lookahead_of_a_rule_with_memory_keeps_that_memory():
    game, start = random_game(3), np.ones(5)
    end = popov(game, 0.1, start, 3)[3]
    found = Table(game, 0.1).run(RULES["lookahead of optimistic"], start, 3)
    np.testing.assert_allclose(found, (start + end) / 2, atol=1e-10)


def test_lookahead_returns_to_its_slow_weights_every_time():
    game, rule = random_game(4), rules.lookahead(every=2, weight=0.5)
    update = linearise(rule, game, 0.1)
    start = np.ones(5)
    found = Table(game, 0.1).run(rule, start, 6)
    np.testing.assert_allclose(found, update.trajectory(start, 3)[-1], atol=1e-10)


def test_extra_adam_advances_its_moments_in_both_half_steps():
    """By hand: two Adam updates, the second from the start point (Gidel et al. 2019, alg. 4)."""
    game, rate = random_game(7), 0.1
    table = Table(game, rate)
    table.optimizers = [
        torch.optim.Adam(v.parameters(), lr=rate, betas=(0.5, 0.9)) for v in table.players
    ]
    start = np.random.default_rng(0).normal(size=5)
    found = table.run(rules.extragradient(), start, 1)
    j, b = game.field, game.offset
    first = j @ start + b
    half = start - rate * np.sign(first) * np.abs(first) / (np.abs(first) + 1e-8)
    second = j @ half + b
    m = 0.5 * 0.5 * first + 0.5 * second
    v = 0.9 * 0.1 * first**2 + 0.1 * second**2
    update = (m / (1 - 0.25)) / (np.sqrt(v / (1 - 0.81)) + 1e-8)
    np.testing.assert_allclose(found, start - rate * update, atol=1e-9)


class Noisy(nn.Module):
    """A generator and a critic at once: w as it is, multiplied by fresh noise in the loss."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.ones(1))

    def forward(self):
        return self.w


def noisy_game(rule, seen, optimizer=SGD(0.3)):  # noqa: B008
    def loss(sign):
        def terms(players, batch):
            noise = 1 + torch.rand(1)  # of torch's own generator, not of the batch
            seen.append(float(noise))
            return {"product": (sign * noise * players["a"]() * players["b"]()).sum()}

        return terms

    parts = (Move("a", loss(1), optimizer), Move("b", loss(-1), optimizer))
    return Game((Joint(parts, rule),), lambda rng: Batch({}))


def device():
    return Fabric(accelerator="cpu", devices=1)


def noisy_state(game, fabric):
    return State.create({"a": Noisy(), "b": Noisy()}, game, fabric, seed=1)


def test_both_half_steps_see_the_same_noise_and_the_next_step_another():
    seen = []
    game = noisy_game(rules.extragradient(), seen)
    fabric = device()
    state = noisy_state(game, fabric)
    list(fit(game, state, fabric, 2))
    first, second = seen[:4], seen[4:]
    assert first[:2] == first[2:]
    assert second[:2] == second[2:]
    assert first[0] != second[0]


def test_extragradient_converges_under_noise_where_simultaneous_steps_diverge():
    distance = {}
    for name in ("extragradient", "simultaneous"):
        game = noisy_game(RULES[name], [])
        fabric = device()
        state = noisy_state(game, fabric)
        list(fit(game, state, fabric, 150))
        distance[name] = sum(float(p.w.detach() ** 2) for p in state.players.values()) ** 0.5
    assert distance["extragradient"] < 1e-4
    assert distance["simultaneous"] > 1e2


@pytest.mark.parametrize("name", RULES)
def test_every_rule_is_saved_and_restored_bit_for_bit(name, tmp_path):
    fabric = device()

    def fresh():
        game = noisy_game(RULES[name], [], Adam(0.05, clip=None))
        return game, noisy_state(game, fabric)

    game, whole = fresh()
    for entry in fit(game, whole, fabric, 11):
        if entry.step == 4:
            entry.save(tmp_path / "s.safetensors", fabric, {})
    game, again = fresh()
    again.restore(tmp_path / "s.safetensors", fabric)
    list(fit(game, again, fabric, 11))
    for player in ("a", "b"):
        assert torch.equal(whole.players[player].w, again.players[player].w)
    assert whole.values == again.values
    assert repr(whole.memory) == repr(again.memory)


def test_a_gradient_that_fails_half_way_leaves_the_players_where_they_were():
    table = Table(random_game(1), 0.1)
    calls = []

    def gradients(only=None, *, graph=False):
        calls.append(only)
        if len(calls) == 2:
            raise ValueError
        table.gradients(only, graph=graph)

    before = copy.deepcopy([player.w.detach() for player in table.players])
    with pytest.raises(ValueError):  # noqa: PT011
        rules.extragradient().step(gradients, table.optimizers, {})
    for player, value in zip(table.players, before, strict=True):
        assert torch.equal(player.w, value)


def test_misuse_is_named():
    with pytest.raises(InputError, match="extrapolation: expected above 0, got 0"):
        rules.extragradient(0.0)
    with pytest.raises(InputError, match="lookahead: expected every >= 1"):
        rules.lookahead(every=0)
    loss = lambda players, batch: {}  # noqa: E731
    for rule in (rules.consensus(), rules.lookahead(rules.consensus())):
        with pytest.raises(InputError, match="cannot be clipped or combined"):
            Joint((Move("a", loss, Adam()),), rule)
        with pytest.raises(InputError, match="cannot be clipped or combined"):
            Joint((Move("a", loss, SGD(), combine=rules.config_direction),), rule)
    with pytest.raises(InputError, match="learning_rate: expected above 0, got -1"):
        Adam(-1.0)
    with pytest.raises(InputError, match="schedule"):
        Adam(schedule="cosin")
