"""Update rules: how a move turns gradients into steps; and one direction from several gradients.

With F the players' joint gradient field and a plain gradient step of rate η as optimizer, the rules
are the textbook ones; with Adam each gradient step is one of Adam's. A rule's memory between steps
is saved with the state.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from conflictfree.grad_operator import ConFIG_update
from jaxtyping import Float
from torch import Tensor

from lawful.errors import InputError

Optimizers = Sequence[torch.optim.Optimizer]
Memory = dict[str, Any]
# `gradients(only=None, graph=False)` leaves the gradients at the players' present parameters in
# their `.grad` and returns the sum of the losses: of one player of the move by its index, or of
# all; with `graph` they can be differentiated. Every call within a step sees the same batch, the
# same latent noise (part of the batch's condition) and the same state of torch's generators.
Gradients = Callable[..., float]
Step = Callable[[Gradients, Optimizers, Memory], None]


@dataclass(frozen=True, repr=False)
class Rule:
    """A way to step.

    Arguments:
        name: With its configuration; a checkpoint of another name is refused.
        step: Takes one step from the gradients, with an optimizer per player of the move. The
            memory holds tensors, numbers and containers of them that the next step needs.
        needs_graph: Whether it differentiates gradients.
        period: Steps until it is back where it forgets what came before.
        remembers: Whether it keeps the step before for ever.
    """

    name: str
    step: Step = field(compare=False)
    needs_graph: bool = False
    period: int = 1
    remembers: bool = False

    def __repr__(self) -> str:
        return self.name


def simultaneous() -> Rule:
    """w ← w - η F(w): all gradients first, then every player moves."""

    def step(gradients: Gradients, optimizers: Optimizers, memory: Memory) -> None:
        gradients()
        _step(optimizers)

    return Rule("Simultaneous()", step)


def line_search(*, keep: bool) -> Rule:
    """A single optimizer asks for its gradients itself; where it fails, nothing moves.

    Arguments:
        keep: Go on with what it learned of the loss in the step before.
    """

    def step(gradients: Gradients, optimizers: Optimizers, memory: Memory) -> None:
        (search,) = optimizers
        if not keep:
            search.state.clear()
        start = _copies(optimizers)
        try:
            search.step(gradients)
        except BaseException:
            _set(optimizers, start)
            raise

    return Rule("Simultaneous()", step)  # its name in checkpoints, whatever the optimizer


def alternating() -> Rule:
    """Players move in their order, each seeing the moves before its own.

    Moves in sequence alternate too, but draw a batch each.
    """

    def step(gradients: Gradients, optimizers: Optimizers, memory: Memory) -> None:
        for k, optimizer in enumerate(optimizers):
            gradients(only=k)
            optimizer.step()

    return Rule("Alternating()", step)


def extragradient(extrapolation: float = 1.0) -> Rule:
    """w ← w - η F(w - γ F(w)) (Korpelevich 1976); with Adam, ExtraAdam (Gidel et al. 2019, alg. 4).

    Adam's moments advance in both half-steps, the parameters move from where they were.

    Arguments:
        extrapolation: γ / η.
    """
    if not extrapolation > 0:
        raise InputError(f"extrapolation: expected above 0, got {extrapolation:g}")

    def step(gradients: Gradients, optimizers: Optimizers, memory: Memory) -> None:
        gradients()
        start = _copies(optimizers)
        _step(optimizers)
        ends = zip(start, _copies(optimizers), strict=True)  # a step is proportional to its rate
        _set(optimizers, [torch.lerp(s, end, extrapolation) for s, end in ends])
        try:
            gradients()
        finally:
            _set(optimizers, start)
        _step(optimizers)

    return Rule(f"Extragradient(extrapolation={extrapolation!r})", step)


def optimistic() -> Rule:
    """w ← w - 2 η F(w) + η F(w before): one gradient per step (Popov 1980; Daskalakis et al. 2018).

    With Adam its whole update takes the place of η F: optimistic Adam.
    """

    def step(gradients: Gradients, optimizers: Optimizers, memory: Memory) -> None:
        gradients()
        start = _copies(optimizers)
        _step(optimizers)
        ends = zip(start, _copies(optimizers), strict=True)
        updates = [end - s for s, end in ends]
        changes = zip(updates, memory.get("updates", updates), strict=True)
        with torch.no_grad():
            for p, (now, before) in zip(_parameters(optimizers), changes, strict=True):
                p.add_(now - before)
        memory["updates"] = updates

    return Rule("Optimistic()", step, remembers=True)


def lookahead(inner: Rule | None = None, every: int = 5, weight: float = 0.5) -> Rule:
    """After every `every` steps of another rule, w ← slow + weight (w - slow), and slow ← w.

    Lookahead-minmax (Chavdarova et al. 2021); of simultaneous steps where not given.
    """
    if every < 1 or not 0 < weight <= 1:
        raise InputError(
            f"lookahead: expected every >= 1 and 0 < weight <= 1, got {every}, {weight:g}"
        )
    inner = inner or simultaneous()

    def step(gradients: Gradients, optimizers: Optimizers, memory: Memory) -> None:
        if "slow" not in memory:
            memory["slow"] = _copies(optimizers)
        inner.step(gradients, optimizers, memory.setdefault("inner", {}))
        memory["steps"] = memory.get("steps", 0) + 1
        if memory["steps"] == every:
            pairs = zip(memory["slow"], _copies(optimizers), strict=True)
            back = [torch.lerp(slow, fast, weight) for slow, fast in pairs]
            _set(optimizers, back)
            memory |= {"slow": back, "steps": 0}

    name = f"Lookahead(inner={inner}, every={every}, weight={weight!r})"
    return Rule(name, step, inner.needs_graph, every * inner.period, inner.remembers)


def consensus(weight: float = 0.5) -> Rule:
    """w ← w - η (F + γ ∇½‖F‖²)(w) (Mescheder et al. 2017): second derivatives.

    Gradients are not clipped, and more than one process is refused.

    Arguments:
        weight: γ.
    """

    def step(gradients: Gradients, optimizers: Optimizers, memory: Memory) -> None:
        gradients(graph=True)
        moved = [p for p in _parameters(optimizers) if p.grad is not None]
        field = [p.grad for p in moved if p.grad is not None]
        energy = torch.stack([g.square().sum() for g in field]).sum() / 2
        slopes: Sequence[Tensor | None] = [None] * len(moved)
        if energy.requires_grad:
            slopes = torch.autograd.grad(energy, moved, allow_unused=True)
        for p, g, slope in zip(moved, field, slopes, strict=True):
            p.grad = g.detach() if slope is None else g.detach() + weight * slope
        _step(optimizers)

    return Rule(f"Consensus(weight={weight!r})", step, needs_graph=True)


def config_direction(
    gradients: Float[Tensor, "term parameter"],
) -> Float[Tensor, " parameter"]:
    """ConFIG: the direction of equal positive cosine with every row (Liu et al. 2025).

    Its length is the sum of the rows' projections on it. Computed by `conflictfree`.
    """
    if not bool(torch.isfinite(gradients).all()):
        return gradients.sum(0)  # not finite either: whoever steps along it must see that
    largest = gradients.abs().max()
    scaled = gradients / largest
    alive = scaled[scaled.norm(dim=1) > 0] if largest > 0 else scaled[:0]
    if len(alive) < 2:
        return gradients.sum(0)
    direction: Tensor = ConFIG_update(alive, use_least_square=False)
    opposed = not bool(torch.isfinite(direction).all())  # rows that cancel leave no direction
    return torch.zeros_like(direction) if opposed else largest * direction


def _parameters(optimizers: Optimizers) -> list[Tensor]:
    return [p for o in optimizers for group in o.param_groups for p in group["params"]]


def _step(optimizers: Optimizers) -> None:
    for optimizer in optimizers:
        optimizer.step()


def _copies(optimizers: Optimizers) -> list[Tensor]:
    return [p.detach().clone() for p in _parameters(optimizers)]


def _set(optimizers: Optimizers, values: Sequence[Tensor]) -> None:
    """Every parameter, also one without a gradient."""
    with torch.no_grad():
        for p, value in zip(_parameters(optimizers), values, strict=True):
            p.copy_(value)


RULES: dict[str, Rule] = {
    "simultaneous": simultaneous(),
    "alternating": alternating(),
    "extragradient": extragradient(),
    "optimistic": optimistic(),
    "lookahead": lookahead(),
    "consensus": consensus(),
}
