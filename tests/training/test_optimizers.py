"""Optimizers as configurations."""

import pytest
import torch
from lightning_fabric import Fabric

from lawful import InputError, LawfulWarning, NonFiniteError
from lawful.training import LBFGS, RULES, Adam, Batch, Game, Joint, Move, RMSProp, State, fit
from lawful.training.rules import config_direction


def test_rmsprop_divides_by_the_root_of_the_running_mean_square():
    player = torch.nn.Linear(1, 1, bias=False)
    start = float(player.weight.detach())
    optimizer = RMSProp(0.1).build(player)
    mean = 0.0
    for gradient in (3.0, -1.0, 0.5):
        player.weight.grad = torch.tensor([[gradient]])
        optimizer.step()
        mean = 0.9 * mean + 0.1 * gradient**2
        start -= 0.1 * gradient / mean**0.5
    assert float(player.weight.detach()) == pytest.approx(start, rel=1e-5)


X = torch.randn(40, 6, generator=torch.Generator().manual_seed(1)) * torch.logspace(0, -2, 6)
Y = torch.randn(40, 1, generator=torch.Generator().manual_seed(2))


def least_squares(players, batch):
    x = batch.condition["x"]
    return {"fit": (players["line"](x) - batch.condition["y"].to(x)).square().mean()}


def rosenbrock(players, batch):
    """A curved valley, so that the pairs matter; the least is 0."""
    w = players["line"].weight[0]
    return {"valley": (100 * (w[1:] - w[:-1] ** 2) ** 2 + (1 - w[:-1]) ** 2).sum()}


def line_game(*moves, x=X):
    return Game(moves, lambda generator: Batch({"x": x, "y": Y}))


def line_state(game, dtype=torch.float32):
    torch.manual_seed(0)
    player = torch.nn.Linear(6, 1, bias=False).to(dtype)
    return State.create({"line": player}, game, Fabric(accelerator="cpu"))


def play(game, state, steps, until=None):
    device = Fabric(accelerator="cpu")
    for current in fit(game, state, device, steps):
        if current.step == until:
            break
    return state.players["line"].weight.detach().clone()


def search(loss=least_squares, **options):
    return Move("line", loss, LBFGS(**options), name="search")


@pytest.mark.parametrize(("dtype", "accuracy"), [(torch.float64, 1e-6), (torch.float32, 1e-3)])
def test_lbfgs_solves_an_ill_conditioned_least_squares_problem(dtype, accuracy):
    game = line_game(search(keep=True), x=X.to(dtype))
    found = play(game, line_state(game, dtype), 4)
    exact = torch.linalg.lstsq(X.double(), Y.double()).solution.T
    assert (found - exact).norm() < accuracy * exact.norm()
    slow = line_game(Move("line", least_squares, Adam(0.1)), x=X.to(dtype))
    assert (play(slow, line_state(slow, dtype), 80) - exact).norm() > 0.1 * exact.norm()


@pytest.mark.parametrize("keep", [True, False])
def test_lbfgs_resumes_to_the_bit(tmp_path, keep):
    game = line_game(search(rosenbrock, iterations=3, keep=keep))
    whole = play(game, line_state(game), 8)
    parts = line_state(game)
    play(game, parts, 8, until=4)
    device = Fabric(accelerator="cpu")
    parts.rehearse()
    parts.save(tmp_path / "a.safetensors", device, {})
    fresh = line_state(game)
    fresh.restore(tmp_path / "a.safetensors", device)
    assert torch.equal(play(game, fresh, 8), whole)


def test_pairs_that_are_kept_save_iterations():
    losses = []
    for keep in (False, True):
        game = line_game(search(rosenbrock, iterations=3, keep=keep))
        state = line_state(game)
        play(game, state, 12)
        losses.append(state.values["search/valley"])
    assert losses[1] < 0.1 * losses[0]


def test_moves_by_lbfgs_follow_moves_by_adam():
    adam = Move("line", least_squares, Adam(0.1), name="adam", end=0.75)
    after = Move("line", least_squares, LBFGS(), name="search", begin=0.75)
    game = line_game(adam, after)
    names = [
        set(state.values) for state in fit(game, line_state(game), Fabric(accelerator="cpu"), 8)
    ]
    assert names == [{"adam/fit"}] * 6 + [{"search/fit"}] * 2


def test_moves_that_a_short_run_never_plays_are_named():
    late = Move("line", least_squares, LBFGS(), name="late", begin=0.9)
    game = line_game(Move("line", least_squares, Adam(0.1)), late)
    for steps in range(1, 40):
        assert late.plays_ever(steps) == any(late.plays(k, steps) for k in range(steps))
    with pytest.warns(LawfulWarning, match="in 2 steps never played: late"):
        list(fit(game, line_state(game), Fabric(accelerator="cpu"), 2))


def test_a_line_search_that_fails_moves_nothing():
    calls = []

    def failing(players, batch):
        calls.append(1)
        loss = least_squares(players, batch)["fit"]
        return {"fit": loss * float("nan") if len(calls) == 3 else loss}

    game = line_game(search(failing))
    state = line_state(game)
    start = state.players["line"].weight.detach().clone()
    with pytest.raises(NonFiniteError, match="'fit' is nan"):
        play(game, state, 2)
    assert torch.equal(state.players["line"].weight, start)


def test_lbfgs_plays_alone():
    pair = (Move("line", least_squares, LBFGS()), Move("other", least_squares))
    for parts in (pair, pair[:1]):
        with pytest.raises(InputError, match="plays alone"):
            Joint(parts, RULES["extragradient"])
    with pytest.raises(InputError, match="does not combine"):
        Move("line", least_squares, LBFGS(), combine=config_direction)
    for wrong in ({"clip": 1.0}, {"iterations": 0}):
        with pytest.raises(InputError, match="lbfgs: "):
            LBFGS(**wrong)
    for begin, end in ((0.5, 0.5), (-0.1, 1), (0, 1.5)):
        with pytest.raises(InputError, match="begin < end"):
            Move("line", least_squares, begin=begin, end=end)
