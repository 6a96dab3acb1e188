r"""Losses of players, and the moves that descend them: algorithm 1 of InvNet and its relatives.

A loss is a function of all players and a batch; it returns its terms by name. A step of algorithm 1
is N_G generator steps on the whole loss, N_D critic steps and N_I steps on each law, each move with
its own optimizer. Without laws it is a plain GAN. `sample_moves` has a divergence between samples
in the critic's place, `law_moves` has neither: training without data.

Laws enter the generator's loss as penalties, :math:`\mu \operatorname{mean} r^2` (InvNet, eq. 2),
or as an augmented Lagrangian (Hestenes 1969; Powell 1969),

.. math:: \langle \lambda, \bar r \rangle + \tfrac\rho2 \operatorname{mean}_b \|r_b\|^2,

whose multipliers act on the mean residual: they cancel the steady pull of whatever else the
generator descends, which a penalty alone leaves as a bias of order 1 / rho.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from lawful.divergences import MMD, Divergence, Sinkhorn
from lawful.errors import InputError
from lawful.laws import AffineLaw, Condition, CorrectableLaw, Law, Residual, law
from lawful.training.game import (
    SGD,
    Adam,
    Batch,
    Joint,
    Loss,
    Move,
    Optimizer,
    Players,
    Terms,
    unwrapped,
)
from lawful.training.rules import Rule, config_direction
from lawful.typed import Within, check_fields

View = Callable[[Tensor, Condition], Tensor]
Others = Callable[[Tensor, Players, Batch], Terms]  # of a generator's output
LawsBy = Literal["penalty", "alternation", "lagrangian", "config"]


@dataclass(frozen=True)
class Constraints:
    """The laws that a generator is to obey, and how they enter its training.

    Arguments:
        by: `penalty`, in the generator's loss with fixed weights; `alternation`, that and steps on
            each law alone (algorithm 1); `lagrangian`, an augmented Lagrangian with the weight as
            rho; `config`, in the direction that the gradients of all terms agree on.
        weight: mu, of every law, or by the law's name.
        steps: N_I, for `alternation`.
        optimizer: Takes the law steps.

    Raises:
        InputError: The way is unknown, a weight is negative or missing, two laws share a name, or
            multipliers are to have several weights.
    """

    laws: tuple[Law | Residual, ...] = ()
    by: LawsBy = "penalty"
    weight: float | Mapping[str, float] = 1.0
    steps: Annotated[int, Within(1, 1_000_000)] = 1
    optimizer: Optimizer = field(default_factory=Adam)

    def __post_init__(self) -> None:
        check_fields(self, "laws ")
        names = [law(entry).name for entry in self.laws]
        if len(set(names)) < len(names):
            raise InputError(f"laws: expected distinct names, got {', '.join(names)}")
        if isinstance(self.weight, Mapping) and set(self.weight) != set(names):
            raise InputError(
                f"laws: expected a weight of each of {', '.join(names)}, got {list(self.weight)}"
            )
        for entry, weight in self.weighted:
            if not 0 <= weight < inf:
                raise InputError(
                    f"weight of law {entry.name!r}: expected at least 0, got {weight:g}"
                )
        if self.by == "lagrangian" and len({w for _, w in self.weighted} - {0.0}) != 1:
            raise InputError("laws by lagrangian: expected one weight above 0 for all laws")

    @property
    def weighted(self) -> list[tuple[Law, float]]:
        """Every law with its weight."""
        weight, laws = self.weight, [law(entry) for entry in self.laws]
        return [(e, weight[e.name] if isinstance(weight, Mapping) else weight) for e in laws]

    def terms(self, x: Tensor, players: Players, c: Condition) -> Terms:
        """The terms that the laws add to the loss of a generator with the output x."""
        if self.by != "lagrangian":
            return {entry.name: weight * entry.loss(x, c) for entry, weight in self.weighted}
        residuals = {entry.name: entry(x, c) for entry, _ in self.weighted}
        squares = {
            entry.name: rho / 2 * residuals[entry.name].flatten(1).square().sum(1).mean()
            for entry, rho in self.weighted
        }
        return _joined(squares, {"multipliers": players["multipliers"](residuals)})

    def move(self, optimizer: Optimizer, others: Others, times: int = 1) -> Move:
        """The generator's move on other terms and those of the laws.

        By `config` it goes in the direction that the gradients of all of them agree on.
        """

        def loss(players: Players, batch: Batch) -> Terms:
            x = players["generator"](batch.condition)
            return _joined(others(x, players, batch), self.terms(x, players, batch.condition))

        agreed = config_direction if self.by == "config" and self.laws else None
        return Move("generator", loss, optimizer, times, combine=agreed)

    def moves(self) -> tuple[Move, ...]:
        """The moves that laws add to a step: steps on each law, or the multipliers' ascent."""
        laws = [entry for entry, _ in self.weighted]
        if self.by == "alternation":
            return tuple(
                Move("generator", law_loss(entry), self.optimizer, self.steps, entry.name)
                for entry in laws
            )
        if self.by == "lagrangian" and laws:
            rate = SGD(max(weight for _, weight in self.weighted))
            return (Move("multipliers", multiplier_loss(laws), rate),)
        return ()


def adversarial_moves(
    divergence: Divergence,
    constraints: Constraints | None = None,
    *,
    generator: Optimizer,
    critic: Optimizer,
    view: View | None = None,
    generator_steps: int = 1,
    critic_steps: int = 1,
    rule: Rule | None = None,
) -> tuple[Move | Joint, ...]:
    """The moves of a step, over players `generator`, `critic` and, for `lagrangian`, `multipliers`.

    Arguments:
        generator, critic: Optimizers.
        view: What the critic is shown of a sample; a law's `hide` makes the projected critic
            (InvNet, section 3.1 and eq. 10). The whole sample where not given.
        generator_steps, critic_steps: N_G and N_D.
        rule: Steps generator and critic together; None alternates them.

    Raises:
        InputError: A joint rule is asked for with unequal numbers of steps.
    """
    constraints = constraints or Constraints()
    # A rule that differentiates gradients sees each player through the other's scores.
    graph = rule is not None and rule.needs_graph

    def fooling(x: Tensor, players: Players, batch: Batch) -> Terms:
        judge = _judge(players["critic"], batch.condition, view)
        with torch.set_grad_enabled(graph):
            real = judge(_data(batch))
        return {"adversarial": divergence.generator_loss(real, judge(x))}

    def judging(players: Players, batch: Batch) -> Terms:
        c, real, critic = batch.condition, _data(batch), players["critic"]
        with torch.set_grad_enabled(graph):
            fake = players["generator"](c)
        # Penalties are taken of the critic with its view, so that what it is not shown has no
        # gradient; and outside the device wrapper, whose hooks allow one backward pass only, and
        # whose replicas share these parameters, so that the gradients still meet.
        inner = _judge(unwrapped(critic), c, view)
        return divergence.critic_terms(_judge(critic, c, view), real, fake, inner=inner)

    ours = constraints.move(generator, fooling, generator_steps)
    theirs = Move("critic", judging, critic, critic_steps)
    pair = (ours, theirs) if rule is None else (Joint((ours, theirs), rule),)
    return (*pair, *constraints.moves())


def sample_moves(
    divergence: MMD | Sinkhorn,
    constraints: Constraints | None = None,
    *,
    generator: Optimizer,
) -> tuple[Move, ...]:
    """The moves of a step without a critic: a divergence between samples."""
    constraints = constraints or Constraints()

    def apart(x: Tensor, players: Players, batch: Batch) -> Terms:
        return {type(divergence).__name__: divergence(_data(batch), x)}

    return (constraints.move(generator, apart), *constraints.moves())


def law_moves(constraints: Constraints, *, generator: Optimizer | None = None) -> tuple[Move, ...]:
    """The moves of a step without data; laws by alternation have a move each and no other.

    Arguments:
        generator: Optimizer of the step on all laws; that of the law steps where not given.

    Raises:
        InputError: There is no law.
    """
    if not constraints.laws:
        raise InputError("game: without data and without laws there is nothing to learn")
    if constraints.by == "alternation":
        return constraints.moves()
    optimizer = generator or constraints.optimizer
    return (constraints.move(optimizer, lambda *_: {}), *constraints.moves())


def law_loss(law: Law) -> Loss:
    """The law's mean square residual on the generator's output (InvNet, eq. 2)."""

    def loss(players: Players, batch: Batch) -> Terms:
        c = batch.condition
        return {law.name: law.loss(players["generator"](c), c)}

    return loss


def correction_loss(law: CorrectableLaw) -> Loss:
    """Distance of the generator's output from its correction by the law."""

    def loss(players: Players, batch: Batch) -> Terms:
        c = batch.condition
        return {f"{law.name} correction": law.correction_loss(players["generator"](c), c)}

    return loss


def multiplier_loss(laws: Sequence[Law]) -> Loss:
    """What the multipliers descend: a gradient step of rate rho is their classical update."""

    def loss(players: Players, batch: Batch) -> Terms:
        c = batch.condition
        with torch.no_grad():
            x = players["generator"](c)
            residuals = {law.name: law(x, c) for law in laws}
        return {"multipliers": -players["multipliers"](residuals)}

    return loss


def _judge(critic: nn.Module, c: Condition, view: View | None) -> Callable[[Tensor], Tensor]:
    """Samples to the scores of a critic that is shown its view of them."""
    return lambda x: critic(x if view is None else view(x, c), c)


def _joined(terms: Terms, more: Terms) -> Terms:
    if twice := terms.keys() & more.keys():
        raise InputError(f"loss: two terms are called {sorted(twice)[0]!r}; rename a law")
    return terms | more


def _data(batch: Batch) -> Tensor:
    data = batch.data
    if data is None:
        raise InputError("game: an adversarial move needs data, and the batch has none")
    if not data.is_floating_point():
        said = "game: expected data of floating-point numbers on the generator's scale"
        raise InputError(f"{said}, got {data.dtype}")
    for name, value in batch.condition.items():
        if len(value) != len(data):
            said = f"game: expected a value of {name!r} for each of {len(data)} samples of data"
            raise InputError(f"{said}, got {len(value)}")
    return data


class Multipliers(nn.Module):
    """Lagrange multipliers of the batch-mean residual of laws, a tensor per law, zero at first.

    Arguments:
        shapes: Shape of each law's residual without the batch axis, by the law's name.
    """

    def __init__(self, shapes: Mapping[str, Sequence[int]]) -> None:
        super().__init__()
        self.shapes = {name: tuple(shape) for name, shape in shapes.items()}
        self.values = nn.ParameterList(nn.Parameter(torch.zeros(s)) for s in self.shapes.values())

    def forward(self, residuals: Mapping[str, Tensor]) -> Tensor:
        """Sum over laws of ⟨multiplier, batch mean of the residual⟩.

        Raises:
            InputError: The laws or the shapes of their residuals are not those declared.
        """
        found = {name: tuple(r.shape[1:]) for name, r in residuals.items()}
        if found != self.shapes:
            raise InputError(f"multipliers: declared for {self.shapes}, got residuals {found}")
        pairs = zip(self.shapes, self.values, strict=True)
        return torch.stack([(v * residuals[name].mean(0)).sum() for name, v in pairs]).sum()


class Enforced(nn.Module):
    """A generator followed by the exact enforcement of affine laws, in order."""

    def __init__(self, generator: nn.Module, laws: Sequence[AffineLaw]) -> None:
        super().__init__()
        self.generator = generator
        self.laws = tuple(laws)

    def forward(self, condition: Condition) -> Tensor:
        x: Tensor = self.generator(condition)
        for entry in self.laws:
            x = entry.enforce(x, condition)
        return x

    def obeys(self) -> tuple[Law, ...]:
        """The last law: to enforce it may break those before it, and what the generator obeys."""
        return self.laws[-1:] or tuple(getattr(self.generator, "obeys", tuple)())
