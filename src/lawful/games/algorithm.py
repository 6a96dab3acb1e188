"""Algorithm 1 of InvNet, and its relatives, as moves.

A turn is N_G generator steps on the whole objective, N_D critic steps and N_I law steps, each move
with its own optimizer. A plain GAN has no law; data-free training has no critic; a rule other than
alternation plays generator and critic in one move on the same batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from lawful.divergences import Divergence
from lawful.errors import InputError
from lawful.games.conflicts import ConFIG
from lawful.games.game import Loss, Move, Objective
from lawful.games.losses import (
    See,
    critic_loss,
    everything,
    generator_loss,
    joined,
    lagrangian_loss,
    law_loss,
    multiplier_loss,
)
from lawful.games.optimizers import SGD, Adam, Optimizer
from lawful.games.rules import Rule
from lawful.laws.law import Law

LawsBy = Literal["penalty", "alternation", "lagrangian", "config"]


@dataclass(frozen=True)
class Lawful:
    """How laws enter a game.

    Arguments:
        laws: What the generator's samples must obey.
        by: `penalty`, in the generator's loss with the fixed weight; `alternation`, that and law
            steps of their own (algorithm 1); `lagrangian`, multipliers and the weight as penalty;
            `config`, in the direction that adversarial and law gradients agree on.
        weight: mu.
        steps: N_I, for `alternation`.
        optimizer: Of the law steps.
    """

    laws: tuple[Law, ...] = ()
    by: LawsBy = "penalty"
    weight: float = 1.0
    steps: int = 1
    optimizer: Optimizer = field(default_factory=Adam)


def adversarial_moves(
    divergence: Divergence,
    lawful: Lawful | None = None,
    *,
    see: See = everything,
    generator: Optimizer,
    critic: Optimizer,
    generator_steps: int = 1,
    critic_steps: int = 1,
    rule: Rule | None = None,
) -> tuple[Move, ...]:
    """The moves of a turn, over players `generator`, `critic` and, for `lagrangian`, `multipliers`.

    Arguments:
        see: What the critic is shown of a sample.
        generator, critic: Optimizers.
        generator_steps, critic_steps: N_G and N_D.
        rule: Plays generator and critic in one move; None alternates them.

    Raises:
        InputError: A joint rule is asked for with unequal numbers of steps.
    """
    lawful = lawful or Lawful()
    loss = _generator_loss(divergence, lawful, see)
    combine = ConFIG() if lawful.by == "config" and lawful.laws else None
    theirs = Objective("generator", loss, generator, combine)
    judge = Objective("critic", critic_loss(divergence, see=see), critic)
    if rule is None:
        moves = [
            Move("generator", (theirs,), times=generator_steps),
            Move("critic", (judge,), times=critic_steps),
        ]
    elif generator_steps == critic_steps:
        moves = [Move("players", (theirs, judge), times=generator_steps, rule=rule)]
    else:
        raise InputError(
            "game: a joint rule moves generator and critic as often; got "
            f"{generator_steps} and {critic_steps} steps"
        )
    return (*moves, *law_moves(lawful))


def law_moves(lawful: Lawful) -> tuple[Move, ...]:
    """The moves that laws add to a turn: law steps, or the multipliers' step."""
    if lawful.by == "alternation" and lawful.laws:
        loss = joined([law_loss(law) for law in lawful.laws])
        objective = Objective("generator", loss, lawful.optimizer)
        return (Move("law", (objective,), times=lawful.steps),)
    if lawful.by == "lagrangian" and lawful.laws:
        ascent = Objective("multipliers", multiplier_loss(lawful.laws), SGD(lawful.weight))
        return (Move("multipliers", (ascent,)),)
    return ()


def _generator_loss(divergence: Divergence, lawful: Lawful, see: See) -> Loss:
    if lawful.by == "lagrangian" and lawful.laws:
        sides: Sequence[Loss] = (
            generator_loss(divergence, see=see),
            lagrangian_loss(lawful.laws, lawful.weight),
        )
        return joined(sides)
    return generator_loss(divergence, laws=dict.fromkeys(lawful.laws, lawful.weight), see=see)
