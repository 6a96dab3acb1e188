"""Playing games: order, counts, rates, and what is not finite."""

import pytest
import torch
from toy import Player, draw, fabric, game, state, weights

from lawful import InputError, NonFiniteError, law
from lawful.pde.laws import BoundaryLaw, InitialLaw
from lawful.training import Adam, Batch, Enforced, Game, Joint, Move, State, fit, law_loss
from lawful.training.rules import simultaneous


def test_moves_are_played_in_order_as_often_as_they_say():
    played = []

    def record(name, player):
        def loss(players, batch):
            played.append(name)
            return {name: players[player](batch.condition["x"]).square().mean()}

        return loss

    moves = (
        Move("generator", record("a", "generator"), times=2, name="a"),
        Move("critic", record("b", "critic"), name="b"),
        Move("generator", record("c", "generator"), times=3, name="c"),
    )
    device = fabric()
    current = State.create({"generator": Player(), "critic": Player()}, Game(moves, draw), device)
    steps = [s.step for s in fit(Game(moves, draw), current, device, 2)]
    assert steps == [1, 2]
    assert "".join(played) == "aabccc" * 2
    assert set(current.values) == {"a/a", "b/b", "c/c"}


def test_a_move_changes_only_its_player():
    device = fabric()
    current = state(device)
    critic = {k: v.clone() for k, v in current.players["critic"].state_dict().items()}
    only = Game((game().moves[2],), draw)
    next(fit(only, current, device, 1))
    for name, value in current.players["critic"].state_dict().items():
        assert torch.equal(value, critic[name])


def test_one_step_of_descent_is_adam_by_hand():
    device = fabric()
    torch.manual_seed(3)
    player = torch.nn.Linear(3, 1)
    start = player.weight.detach().clone()
    x = torch.ones(2, 3)
    loss = lambda players, batch: {"l": players["p"](batch.condition["x"]).mean()}  # noqa: E731
    adam = Adam(0.1, schedule="constant", warmup=0.0, clip=None)
    one = Game((Move("p", loss, adam),), lambda rng: Batch({"x": x}))
    current = State.create({"p": player}, one, device)
    next(fit(one, current, device, 1))
    # The first step of Adam is the rate times the sign of the gradient.
    torch.testing.assert_close(current.players["p"].weight.detach(), start - 0.1, atol=1e-6, rtol=0)


def test_joint_moves_take_their_gradients_before_anyone_moves():
    device = fabric()
    a, b = torch.nn.Linear(1, 1, bias=False), torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(a.weight, 2.0)
    torch.nn.init.constant_(b.weight, 3.0)

    def product(sign):
        def loss(p, batch):
            x = batch.condition["x"]
            return {"l": (sign * p["a"](x) * p["b"](x)).mean()}

        return loss

    adam = Adam(0.5, schedule="constant", warmup=0.0, clip=None)
    move = Joint((Move("a", product(1), adam), Move("b", product(-1), adam)), simultaneous())
    one = Game((move,), lambda rng: Batch({"x": torch.ones(1, 1)}))
    current = State.create({"a": a, "b": b}, one, device)
    next(fit(one, current, device, 1))
    first = current.optimizers[("players", "a")].state_dict()["state"][0]["exp_avg"]
    second = current.optimizers[("players", "b")].state_dict()["state"][0]["exp_avg"]
    assert float(first) == pytest.approx(0.1 * 3.0)
    assert float(second) == pytest.approx(-0.1 * 2.0)


def test_rates_are_functions_of_the_step():
    adam = Adam(2.0, warmup=0.1)
    assert adam.rate(0, 100) == pytest.approx(0.2)
    assert adam.rate(9, 100) == pytest.approx(
        2.0 * (1 + torch.cos(torch.tensor(0.09 * torch.pi))) / 2
    )
    assert adam.rate(100, 100) == 0
    assert Adam(2.0, schedule="constant", warmup=0.0).rate(57, 100) == 2.0


def test_a_loss_that_is_not_finite_is_named_with_its_step_and_moves_nothing():
    device = fabric()
    current = state(device)
    good = list(fit(game(), current, device, 3))
    assert good
    before = {name: value.clone() for name, value in weights(current).items()}

    def broken(players, batch):
        return {"drift": players["generator"](batch.condition["x"]).sum() * torch.nan}

    bad = Game((Move("generator", broken, name="law"),), draw)
    with pytest.raises(NonFiniteError, match=r"step 3: the loss term 'drift' is nan"):
        next(fit(bad, current, device, 4))
    for name, value in weights(current).items():
        assert torch.equal(value, before[name])


def test_a_gradient_that_is_not_finite_is_named():
    device = fabric()
    current = state(device)

    def steep(players, batch):
        return {"steep": (0 * players["generator"](batch.condition["x"])).abs().sqrt().sum()}

    bad = Game((Move("generator", steep, name="law"),), draw)
    with pytest.raises(NonFiniteError, match="the gradient of steep is nan"):
        next(fit(bad, current, device, 1))


def test_unplayable_games_are_refused():
    move = Move("g", fool_nobody)
    with pytest.raises(InputError, match="distinct players"):
        Joint((move, move), simultaneous())
    with pytest.raises(InputError, match="distinct names"):
        Game((move, move), draw)
    with pytest.raises(InputError, match="no player 'g'"):
        State.create({}, Game((move,), draw), fabric())


def fool_nobody(players, batch):
    return {}


def test_enforced_generators_obey_exactly():
    laws = [InitialLaw(), BoundaryLaw(0.5)]
    generator = Enforced(lambda c: torch.randn(2, 1, 4, 8, dtype=torch.float64), laws)
    c = {"initial": torch.rand(2, 8).double()}
    x = generator(c)
    assert all(entry.violation(x, c).max() < 1e-15 for entry in laws)


def test_law_losses_are_the_mean_square_of_the_residual():
    entry = law(lambda x, c: x - c["target"])
    batch = Batch({"target": torch.full((2, 1, 1, 1), 3.0)})
    terms = law_loss(entry)({"generator": lambda c: torch.ones(2, 1, 1, 1)}, batch)
    assert [float(value) for value in terms.values()] == [4.0]
