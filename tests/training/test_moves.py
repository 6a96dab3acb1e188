"""Algorithm 1 and its relatives: counts and order, laws in a game, when it ends."""

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch import nn

from lawful import InputError
from lawful.data.masks import MotifLaw
from lawful.divergences import MMD, R1, Gaussian, Sinkhorn, TwoSided, Wasserstein
from lawful.laws import FunctionLaw
from lawful.theory.linear_game import invnet_game, linearise
from lawful.training import (
    RULES,
    SGD,
    Adam,
    Batch,
    Constraints,
    Game,
    Move,
    Multipliers,
    State,
    adversarial_moves,
    fit,
    law_moves,
    sample_moves,
)
from lawful.training.rules import config_direction, consensus

D = 5
MASK = torch.arange(D) < 2
MOTIF = MotifLaw(MASK, torch.tensor([3.0, -2.0, 0.0, 0.0, 0.0]))
MEAN = torch.tensor([0.0, 1.0, -1.0, 2.0, 0.5])


class Shift(nn.Module):
    def __init__(self):
        super().__init__()
        self.theta = nn.Parameter(torch.zeros(D))

    def forward(self, condition):
        return condition["noise"] + self.theta


class Inner(nn.Module):
    def __init__(self):
        super().__init__()
        self.psi = nn.Parameter(torch.zeros(D))

    def forward(self, x, condition):
        return x[:, 0] @ self.psi


def draw(generator):
    """Symmetric noise, so that a batch's mean is exact and the game is the infinite one."""
    noise = torch.randn(8, 1, D, generator=generator)
    noise = torch.cat([noise, -noise])
    return Batch({"noise": noise}, MEAN + noise)


def play(moves, steps, until=None, shapes=None):
    fabric = Fabric(accelerator="cpu", devices=1)
    game = Game(moves, draw, until or {})
    players = {"critic": Inner(), "generator": Shift()}
    if any(part.player == "multipliers" for m in moves for part in m.parts):
        players["multipliers"] = Multipliers(shapes or {"motif": (1, 2)})
    state = State.create(players, game, fabric)
    for _ in fit(game, state, fabric, steps):
        pass
    return state


def theta(state):
    return state.players["generator"].theta.detach()


def moves(by="penalty", laws=(MOTIF,), rule="extragradient", view=None, weight=1.0, **options):
    return adversarial_moves(
        Wasserstein(),
        Constraints(laws, by, weight, optimizer=SGD(0.2), **options),
        generator=SGD(0.3),
        critic=SGD(0.3),
        rule=RULES.get(rule, rule),
        **({"view": view} if view else {}),
    )


def test_algorithm_1_plays_generator_critic_and_law_as_often_as_asked():
    played = adversarial_moves(
        Wasserstein(), Constraints((MOTIF,), "alternation", steps=5), generator=Adam(1e-4),
        critic=Adam(2e-4), critic_steps=3, generator_steps=2,
    )  # fmt: skip
    assert [(move.name, move.times) for move in played] == [
        ("generator", 2), ("critic", 3), ("motif", 5),
    ]  # fmt: skip
    batch = draw(torch.Generator().manual_seed(0))
    players = {"generator": Shift(), "critic": Inner()}
    # The generator's steps are on the whole objective, the law's on the law alone.
    assert set(played[0].loss(players, batch)) == {"adversarial", "motif"}
    assert set(played[2].loss(players, batch)) == {"motif"}
    state = play(played, 1)
    assert {k for k, _ in state.optimizers} == {"generator", "critic", "motif"}
    law_steps = state.optimizers[("motif", "generator")]
    assert law_steps is not state.optimizers[("generator", "generator")]


def test_law_only_and_plain_games_are_the_same_code_with_other_moves():
    alone = play(law_moves(Constraints((MOTIF,), "alternation", optimizer=SGD(0.5))), 60)
    torch.testing.assert_close(theta(alone)[MASK], MOTIF.motif[MASK], atol=1e-4, rtol=0)
    assert bool((theta(alone)[~MASK] == 0).all())
    plain = play(moves(laws=()), 300)
    torch.testing.assert_close(theta(plain), MEAN, atol=1e-3, rtol=0)


@pytest.mark.parametrize("rule", ["extragradient", "optimistic", "lookahead", consensus(1.0)])
def test_the_projected_critic_plants_the_motif_and_the_standard_one_does_not(rule):
    planted = torch.where(MASK, MOTIF.motif, MEAN)
    projected = play(moves(rule=rule, view=MOTIF.hide), 180)
    torch.testing.assert_close(theta(projected), planted, atol=1e-2, rtol=0)
    standard = play(moves(rule=rule), 180)
    torch.testing.assert_close(theta(standard), MEAN, atol=1e-2, rtol=0)


def test_simultaneous_steps_diverge_off_the_motif_only():
    state = play(moves(rule="simultaneous", view=MOTIF.hide), 200)
    assert (theta(state) - MEAN)[~MASK].norm() > 100
    torch.testing.assert_close(theta(state)[MASK], MOTIF.motif[MASK], atol=1e-4, rtol=0)


def test_alternation_stays_bounded():
    state = play(moves("alternation", rule=None, view=MOTIF.hide), 200)
    off = float((theta(state) - MEAN)[~MASK].norm())
    assert 0.01 < off < 5


def pull(x, players, batch):
    """A steady pull of the generator towards the data, against the law."""
    return {"pull": (x - batch.data).square().mean() * D / 2}


def test_multipliers_remove_the_bias_that_a_penalty_leaves():
    """Minimise ½‖θ - v‖² under Pθ = m: the penalty ends at (v + ρ m) / (1 + ρ)."""

    def end(by):
        constraints = Constraints((MOTIF,), by, 2.0)

        def loss(players, batch):
            x = players["generator"](batch.condition)
            return pull(x, players, batch) | constraints.terms(x, players, batch.condition)

        return theta(play((Move("generator", loss, SGD(0.1)), *constraints.moves()), 300))

    biased = (MEAN + 2.0 * MOTIF.motif) / 3.0  # weight 2, a mean over two coordinates
    torch.testing.assert_close(end("penalty")[MASK], biased[MASK], atol=1e-3, rtol=0)
    planted = end("lagrangian")
    torch.testing.assert_close(planted[MASK], MOTIF.motif[MASK], atol=1e-3, rtol=0)
    torch.testing.assert_close(planted[~MASK], MEAN[~MASK], atol=1e-3, rtol=0)


FIRST, SECOND = (
    FunctionLaw(lambda x, c, k=k: x[:, 0, k : k + 1] - 1.0 - k, f"entry {k}") for k in (0, 1)
)


@pytest.mark.parametrize("by", ["penalty", "alternation", "lagrangian", "config"])
def test_several_laws_without_data_by_every_way(by):
    played = law_moves(Constraints((FIRST, SECOND), by, optimizer=SGD(0.3)))
    shapes = {"entry 0": (1,), "entry 1": (1,)}
    found = theta(play(played, 60, shapes=shapes))
    torch.testing.assert_close(found[:2], torch.tensor([1.0, 2.0]), atol=0.25, rtol=0)
    assert bool((found[2:] == 0).all())
    names = {
        "penalty": ["generator"], "config": ["generator"], "alternation": ["entry 0", "entry 1"],
        "lagrangian": ["generator", "multipliers"],
    }[by]  # fmt: skip
    assert [move.name for move in played] == names


def test_every_law_has_its_own_weight():
    def ends(weight):
        return theta(
            play(law_moves(Constraints((FIRST, clash), weight=weight, optimizer=SGD(0.02))), 200)
        )

    clash = FunctionLaw(lambda x, c: x[:, 0, :1] - 3.0, "clash")
    even = ends(1.0)
    heavy = ends({"entry 0": 1.0, "clash": 3.0})
    assert float(even[0]) == pytest.approx(2.0, abs=0.2)
    assert float(heavy[0]) == pytest.approx(2.5, abs=0.2)


def test_a_plain_function_is_a_law_here_too():
    def first(x, c):
        return x[:, 0, :1] - 1.0

    assert [m.name for m in law_moves(Constraints((first,), "alternation"))] == ["first"]


def test_config_has_the_same_positive_cosine_with_every_term():
    random = torch.Generator().manual_seed(0)
    for _ in range(5):
        gradients = torch.randn(3, 40, generator=random)
        direction = config_direction(gradients)
        cosines = (gradients @ direction) / gradients.norm(dim=1) / direction.norm()
        assert float(cosines.min()) > 0
        torch.testing.assert_close(cosines, cosines.mean().expand(3), atol=1e-5, rtol=0)
    still = torch.stack([torch.zeros(40), gradients[0]])
    torch.testing.assert_close(config_direction(still), gradients[0])


def test_config_is_chosen_by_configuration_and_steps_along_its_direction():
    def terms(players, batch):
        x = players["generator"].theta
        return {"one": (x[0] - 1).square() + 5 * x[1], "two": (x[0] + x[1]).square() + x[2]}

    state = play((Move("generator", terms, SGD(0.1), combine=config_direction),), 1)
    start = Shift()
    rows = [
        torch.autograd.grad(value, start.theta, retain_graph=True)[0]
        for value in terms({"generator": start}, None).values()
    ]
    torch.testing.assert_close(theta(state), -0.1 * config_direction(torch.stack(rows)))
    assert moves("config")[0].parts[0].combine is config_direction
    assert moves("penalty")[0].parts[0].combine is None


def test_a_game_ends_when_every_law_is_below_its_threshold():
    one = FunctionLaw(lambda x, c: x[:, 0, :1] - 3.0, "one")
    other = FunctionLaw(
        lambda x, c: (x[:, 0, 1:2] - 1.0).mean(0, keepdim=True).expand(16, 1), "other"
    )
    played = law_moves(Constraints((one, other), "alternation", optimizer=SGD(0.05)))
    until = {"one/one": 1.5, "other/other": 1e-3}
    state = play(played, 200, until)
    assert 5 < state.step < 200
    assert state.over
    assert all(state.values[name] < bound for name, bound in until.items())
    assert play(played, 200, {**until, "one/absent": 1.0}).step == 200


def test_the_critics_side_does_not_reach_the_generator_and_hides_what_it_should():
    batch = draw(torch.Generator().manual_seed(0))
    players = {"generator": Shift(), "critic": Inner()}
    nn.init.normal_(players["critic"].psi)
    entry = Wasserstein((TwoSided(), R1(2.0)))
    fool, judge = adversarial_moves(entry, generator=SGD(), critic=SGD(), view=MOTIF.hide)
    terms = judge.loss(players, batch)
    assert set(terms) == {"critic", "TwoSided", "R1"}
    torch.stack(list(terms.values())).sum().backward()
    assert players["generator"].theta.grad is None
    assert players["critic"].psi.grad is not None
    hidden = players["critic"].psi.grad[MASK]
    assert bool((hidden == 0).all())  # of the penalties too
    seen = players["critic"].psi.detach()[~MASK].norm()
    assert float(terms["R1"].detach()) == pytest.approx(float(seen**2), rel=1e-5)
    shown = fool.loss(players, batch)["adversarial"]
    (gradient,) = torch.autograd.grad(shown, players["generator"].theta)
    assert bool((gradient[MASK] == 0).all())
    torch.testing.assert_close(gradient[~MASK], -players["critic"].psi.detach()[~MASK])


def test_the_augmented_lagrangian_is_its_formula():
    x = torch.randn(4, 1, D)
    residual = MOTIF(x, {})
    multipliers = Multipliers({"motif": residual.shape[1:]})
    with torch.no_grad():
        multipliers.values[0].normal_()
    constraints = Constraints((MOTIF,), "lagrangian", 3.0)
    terms = constraints.terms(x, {"multipliers": multipliers}, {})
    square = residual.square().sum(tuple(range(1, residual.ndim))).mean()
    torch.testing.assert_close(terms["motif"], 1.5 * square)
    inner = (multipliers.values[0] * residual.mean(0)).sum()
    torch.testing.assert_close(terms["multipliers"], inner)


@pytest.mark.parametrize("entry", [MMD(Gaussian((1.0, 3.0))), Sinkhorn(0.3)])
def test_games_without_a_critic_find_the_mean(entry):
    played = sample_moves(entry, generator=Adam(0.1, clip=None))
    torch.testing.assert_close(theta(play(played, 120)), MEAN, atol=0.05, rtol=0)
    heavy = Constraints((MOTIF,), weight=50.0)
    with_law = sample_moves(entry, heavy, generator=Adam(0.1, clip=None))
    found = theta(play(with_law, 120))
    torch.testing.assert_close(found[MASK], MOTIF.motif[MASK], atol=0.2, rtol=0)


def test_two_sided_penalties_move_the_equilibrium_and_r1_does_not():
    """The facts of a linear critic: ψ* = 0 only where the penalty is centred at zero."""
    for rule in ("extragradient", "optimistic"):
        psi = {}
        for name, penalty in (("two", TwoSided(1.0)), ("r1", R1(1.0))):
            played = adversarial_moves(
                Wasserstein((penalty,)), generator=SGD(0.3), critic=SGD(0.3), rule=RULES[rule]
            )
            psi[name] = float(play(played, 100).players["critic"].psi.detach().norm())
        assert psi["r1"] < 1e-2
        assert psi["two"] > 0.5


def test_consensus_sees_the_other_player_through_both_losses():
    """One step of the trainer is the matrix of the linear game."""
    moves_ = adversarial_moves(Wasserstein(), generator=SGD(0.1), critic=SGD(0.1),
                               rule=consensus(1.0))  # fmt: skip
    state = play(moves_, 1)
    game = invnet_game(np.zeros(D, bool), 0.0, MEAN.numpy(), np.zeros(D))
    update = linearise(consensus(1.0), game, 0.1)
    found = torch.cat([theta(state), state.players["critic"].psi.detach()])
    torch.testing.assert_close(found.double(), torch.from_numpy(update.offset), atol=1e-6, rtol=0)


def test_directions_that_are_not_finite_are_not_hidden():
    rows = torch.randn(3, 6)
    rows[1, 2] = torch.nan
    assert bool(torch.isnan(config_direction(rows)).any())
    large = config_direction(1e20 * torch.eye(2))
    assert bool((large > 1e19).all())
    opposed = torch.stack([torch.ones(4), -torch.ones(4)])
    assert float(config_direction(opposed).abs().max()) < 1e-6


def test_misuse_is_named():
    with pytest.raises(InputError, match="got 'lagrangain'"):
        Constraints((MOTIF,), "lagrangain")
    with pytest.raises(InputError, match="expected distinct names, got motif, motif"):
        Constraints((MOTIF, MotifLaw(MASK, MOTIF.motif + 1)))
    with pytest.raises(InputError, match="weight of law 'motif': expected at least 0, got -1"):
        Constraints((MOTIF,), weight=-1.0)
    with pytest.raises(InputError, match=r"expected a weight of each of motif, got \['volume'\]"):
        Constraints((MOTIF,), weight={"volume": 1.0})
    with pytest.raises(InputError, match="expected one weight above 0 for all laws"):
        Constraints((FIRST, SECOND), "lagrangian", {"entry 0": 1.0, "entry 1": 2.0})
    with pytest.raises(InputError, match="nothing to learn"):
        law_moves(Constraints())
    with pytest.raises(InputError, match="until 'critc/critic'; expected move/term"):
        Game(moves(), draw, {"critc/critic": 1.0})
    with pytest.raises(InputError, match=r"declared for {'motif': \(1, 3\)}"):
        Multipliers({"motif": (1, 3)})({"motif": torch.zeros(4, 1, 2)})
    named = FunctionLaw(MOTIF, "adversarial")
    with pytest.raises(InputError, match="two terms are called 'adversarial'"):
        play(moves(laws=(named,)), 1)
    with pytest.raises(InputError, match="moves generator and critic as often; got 1 in"):
        adversarial_moves(
            Wasserstein(), generator=SGD(), critic=SGD(), critic_steps=5, rule=RULES["optimistic"]
        )
    judge = adversarial_moves(Wasserstein(), generator=SGD(), critic=SGD())[1]
    players = {"generator": Shift(), "critic": Inner()}
    with pytest.raises(InputError, match="needs data"):
        judge.loss(players, Batch({"noise": torch.zeros(2, 1, D)}))
