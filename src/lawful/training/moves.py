"""Algorithm 1 of InvNet, and its relatives, as moves.

A turn is N_G generator steps on the whole objective, N_D critic steps and N_I steps on each law,
each move with its own optimizer. Without laws it is a plain GAN; `sample_moves` has a divergence
between samples in the critic's place, `law_moves` has neither: data-free training. A rule other
than alternation plays generator and critic in one move on the same batch.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Literal, get_args

from lawful.divergences import MMD, Divergence, Sinkhorn
from lawful.errors import InputError
from lawful.laws import Law, Residual, law
from lawful.training.conflicts import ConFIG
from lawful.training.game import Move, Objective
from lawful.training.losses import (
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
from lawful.training.optimizers import SGD, Adam, Optimizer
from lawful.training.rules import Rule

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
        InputError: The way is unknown, a weight is negative or missing, two laws share a name, or
            multipliers are to have several weights.
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
        if isinstance(self.weight, Mapping) and set(self.weight) != set(names):
            raise InputError(
                f"laws: expected a weight of each of {', '.join(names)}, got {list(self.weight)}"
            )
        for name, (_, weight) in self.weighted.items():
            if not 0 <= weight < inf:
                raise InputError(f"weight of law {name!r}: expected at least 0, got {weight}")
        if self.by == "lagrangian" and len({w for _, w in self.weighted.values()} - {0.0}) != 1:
            raise InputError("laws by lagrangian: expected one weight above 0 for all laws")

    @property
    def weighted(self) -> dict[str, tuple[Law, float]]:
        """Every law with its weight, by name."""
        entries = [law(entry) for entry in self.laws]
        weight = self.weight
        if isinstance(weight, Mapping):
            return {entry.name: (entry, weight[entry.name]) for entry in entries}
        return {entry.name: (entry, weight) for entry in entries}


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
    if not lawful.laws:
        raise InputError("game: without data and without laws there is nothing to learn")
    if lawful.by == "alternation":
        return _own_moves(lawful)
    objective = _objective(lawful, generator or lawful.optimizer)
    return (Move("generator", (objective,)), *_own_moves(lawful))


def _objective(lawful: Lawful, optimizer: Optimizer, *sides: Side) -> Objective:
    """The generator's whole objective."""
    weighted = tuple(lawful.weighted.values())
    if weighted:
        sides = (*sides, (multiplied if lawful.by == "lagrangian" else obeying)(weighted))
    combine = ConFIG() if lawful.by == "config" and weighted else None
    return Objective("generator", player_loss(*sides), optimizer, combine)


def _own_moves(lawful: Lawful) -> tuple[Move, ...]:
    """The moves that laws add to a turn: steps on each law, or the multipliers' step."""
    laws = [entry for entry, _ in lawful.weighted.values()]
    if lawful.by == "alternation":
        return tuple(
            Move(
                entry.name,
                (Objective("generator", law_loss(entry), lawful.optimizer),),
                times=lawful.steps,
            )
            for entry in laws
        )
    if lawful.by == "lagrangian" and laws:
        rate = SGD(max(weight for _, weight in lawful.weighted.values()))
        return (Move("multipliers", (Objective("multipliers", multiplier_loss(laws), rate),)),)
    return ()
