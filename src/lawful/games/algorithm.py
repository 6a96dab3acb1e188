"""Algorithm 1 of InvNet, and its relatives, as moves.

A turn is N_G generator steps on the whole objective, N_D critic steps and N_I steps on each law,
each move with its own optimizer. Without laws it is a plain GAN; `sample_moves` has a divergence
between samples in the critic's place, `law_moves` has neither: data-free training. A rule other
than alternation plays generator and critic in one move on the same batch.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from lawful.divergences import MMD, Divergence, Sinkhorn
from lawful.errors import InputError
from lawful.games.conflicts import ConFIG
from lawful.games.game import Move, Objective
from lawful.games.losses import (
    See,
    Side,
    compared,
    critic_loss,
    everything,
    judged,
    law_loss,
    multiplied,
    multiplier_loss,
    obeying,
    player_loss,
)
from lawful.games.optimizers import SGD, Adam, Optimizer
from lawful.games.rules import Rule
from lawful.laws.law import Law, Residual, law

LawsBy = Literal["penalty", "alternation", "lagrangian", "config"]


@dataclass(frozen=True)
class Lawful:
    """How laws enter a game.

    Arguments:
        laws: What the generator's samples must obey.
        by: `penalty`, in the generator's loss with fixed weights; `alternation`, that and steps on
            each law alone (algorithm 1); `lagrangian`, multipliers and the weights as penalty;
            `config`, in the direction that the gradients of all terms agree on.
        weight: mu, of every law, or by the law's name.
        steps: N_I, for `alternation`.
        optimizer: Of the law steps.

    Raises:
        InputError: The way is unknown, a weight is negative or missing, or two laws share a name.
    """

    laws: tuple[Law | Residual, ...] = ()
    by: LawsBy = "penalty"
    weight: float | Mapping[str, float] = 1.0
    steps: int = 1
    optimizer: Optimizer = field(default_factory=Adam)

    def __post_init__(self) -> None:
        if self.by not in get_args(LawsBy):
            raise InputError(f"laws by {self.by!r}: expected one of {', '.join(get_args(LawsBy))}")
        names = [law(entry).name for entry in self.laws]
        if len(set(names)) < len(names):
            raise InputError(f"laws: expected distinct names, got {', '.join(names)}")
        for name, weight in zip(names, self.weights.values(), strict=True):
            if not weight >= 0:
                raise InputError(f"weight of law {name!r}: expected at least 0, got {weight}")

    @property
    def weights(self) -> dict[Law, float]:
        """The weight of each law."""
        found = {}
        for entry in map(law, self.laws):
            if isinstance(self.weight, Mapping) and entry.name not in self.weight:
                raise InputError(f"weight of law {entry.name!r}: none is given")
            weight = self.weight
            found[entry] = weight[entry.name] if isinstance(weight, Mapping) else weight
        return found


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
    through = rule is not None and rule.needs_graph
    theirs = _objective(lawful, generator, judged(divergence, see=see, through=through))
    judge = Objective("critic", critic_loss(divergence, see=see, through=through), critic)
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
    return (*moves, *_own_moves(lawful))


def sample_moves(
    divergence: MMD | Sinkhorn,
    lawful: Lawful | None = None,
    *,
    see: See = everything,
    generator: Optimizer,
) -> tuple[Move, ...]:
    """The moves of a turn without a critic."""
    lawful = lawful or Lawful()
    objective = _objective(lawful, generator, compared(divergence, see=see))
    return (Move("generator", (objective,)), *_own_moves(lawful))


def law_moves(lawful: Lawful, *, generator: Optimizer | None = None) -> tuple[Move, ...]:
    """The moves of a turn without data; laws by alternation have a move each and no other.

    Arguments:
        generator: Optimizer of the step on all laws; that of the law steps where not given.
    """
    if lawful.by == "alternation":
        return _own_moves(lawful)
    objective = _objective(lawful, generator or lawful.optimizer)
    return (Move("generator", (objective,)), *_own_moves(lawful))


def _objective(lawful: Lawful, optimizer: Optimizer, *sides: Side) -> Objective:
    """The generator's whole objective."""
    weights = lawful.weights
    if weights:
        sides = (*sides, (multiplied if lawful.by == "lagrangian" else obeying)(weights))
    combine = ConFIG() if lawful.by == "config" and weights else None
    return Objective("generator", player_loss(*sides), optimizer, combine)


def _own_moves(lawful: Lawful) -> tuple[Move, ...]:
    """The moves that laws add to a turn: steps on each law, or the multipliers' step."""
    if lawful.by == "alternation":
        return tuple(
            Move(
                entry.name,
                (Objective("generator", law_loss(entry), lawful.optimizer),),
                times=lawful.steps,
            )
            for entry in lawful.weights
        )
    if lawful.by == "lagrangian" and lawful.laws:
        rates = set(lawful.weights.values())
        if len(rates) > 1:
            raise InputError("laws by lagrangian: expected one weight for all laws")
        ascent = Objective("multipliers", multiplier_loss(lawful.weights), SGD(rates.pop()))
        return (Move("multipliers", (ascent,)),)
    return ()
