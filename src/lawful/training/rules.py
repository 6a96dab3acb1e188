"""Update rules: how a move turns gradients into steps; and one direction from several gradients.

With F the players' joint gradient field and a plain gradient step of rate η as optimizer, the rules
are the textbook ones; with Adam each gradient step is one of Adam's. A rule's memory between steps
is saved with the state.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from conflictfree.grad_operator import ConFIG_update
from jaxtyping import Float
from torch import Tensor

from lawful.errors import InputError

Optimizers = Sequence[torch.optim.Optimizer]
Memory = dict[str, Any]


class Gradients(Protocol):
    """Leaves the gradients at the players' present parameters in their `.grad`.

    Every call within a step sees the same batch, the same latent noise (part of the batch's
    condition) and the same state of torch's random generators.
    """

    def __call__(self, only: int | None = None, *, graph: bool = False) -> float:
        """Compute them, and return the sum of the losses.

        Arguments:
            only: Index of one player of the move; None for all.
            graph: Keep the graph, so that the gradients can be differentiated.
        """


@dataclass(frozen=True)
class Rule(ABC):
    """A way to step; its fields are its configuration."""

    @property
    def needs_graph(self) -> bool:
        """Whether it differentiates gradients."""
        return False

    @abstractmethod
    def step(self, gradients: Gradients, optimizers: Optimizers, memory: Memory) -> None:
        """Take one step.

        Arguments:
            optimizers: One per player of the move.
            memory: Tensors, numbers and containers of them that the next step of this rule needs.
        """


@dataclass(frozen=True)
class Simultaneous(Rule):
    """w ← w - η F(w): all gradients first, then every player moves.

    An optimizer that searches along a line, alone in its move, asks for its gradients itself.
    """

    def step(self, gradients: Gradients, optimizers: Optimizers, memory: Memory) -> None:
        if any(isinstance(optimizer, torch.optim.LBFGS) for optimizer in optimizers):
            optimizers[0].step(gradients)
            return
        gradients()
        _step(optimizers)


@dataclass(frozen=True)
class Alternating(Rule):
    """Players move in their order, each seeing the moves before its own.

    Moves in sequence alternate too, but draw a batch each.
    """

    def step(self, gradients: Gradients, optimizers: Optimizers, memory: Memory) -> None:
        for k, optimizer in enumerate(optimizers):
            gradients(only=k)
            optimizer.step()


@dataclass(frozen=True)
class Extragradient(Rule):
    """w ← w - η F(w - γ F(w)) (Korpelevich 1976); with Adam, ExtraAdam (Gidel et al. 2019, alg. 4).

    Adam's moments advance in both half-steps, the parameters move from where they were.

    Arguments:
        extrapolation: γ / η.
    """

    extrapolation: float = 1.0

    def __post_init__(self) -> None:
        if not self.extrapolation > 0:
            raise InputError(f"extrapolation: expected above 0, got {self.extrapolation:g}")

    def step(self, gradients: Gradients, optimizers: Optimizers, memory: Memory) -> None:
        gradients()
        start = _copies(optimizers)
        _step(optimizers)
        ends = zip(start, _copies(optimizers), strict=True)  # a step is proportional to its rate
        _set(optimizers, [torch.lerp(s, end, self.extrapolation) for s, end in ends])
        try:
            gradients()
        finally:
            _set(optimizers, start)
        _step(optimizers)


@dataclass(frozen=True)
class Optimistic(Rule):
    """w ← w - 2 η F(w) + η F(w before): one gradient a step (Popov 1980; Daskalakis et al. 2018).

    With Adam its whole update takes the place of η F: optimistic Adam.
    """

    def step(self, gradients: Gradients, optimizers: Optimizers, memory: Memory) -> None:
        gradients()
        start = _copies(optimizers)
        _step(optimizers)
        updates = [p.detach() - s for p, s in zip(_parameters(optimizers), start, strict=True)]
        past = memory.get("updates", updates)
        with torch.no_grad():
            for p, now, before in zip(_parameters(optimizers), updates, past, strict=True):
                p.add_(now - before)
        memory["updates"] = updates


@dataclass(frozen=True)
class Lookahead(Rule):
    """After every `every` steps of another rule, w ← slow + weight (w - slow), and slow ← w.

    Lookahead-minmax (Chavdarova et al. 2021).
    """

    inner: Rule = field(default_factory=Simultaneous)
    every: int = 5
    weight: float = 0.5

    def __post_init__(self) -> None:
        if self.every < 1 or not 0 < self.weight <= 1:
            raise InputError(
                f"lookahead: expected every >= 1 and 0 < weight <= 1, got {self.every}, "
                f"{self.weight:g}"
            )

    @property
    def needs_graph(self) -> bool:
        return self.inner.needs_graph

    def step(self, gradients: Gradients, optimizers: Optimizers, memory: Memory) -> None:
        slow = memory["slow"] if "slow" in memory else _copies(optimizers)
        memory["slow"] = slow
        self.inner.step(gradients, optimizers, memory.setdefault("inner", {}))
        memory["steps"] = memory.get("steps", 0) + 1
        if memory["steps"] == self.every:
            fast = _copies(optimizers)
            back = [torch.lerp(s, f, self.weight) for s, f in zip(slow, fast, strict=True)]
            _set(optimizers, back)
            memory |= {"slow": back, "steps": 0}


@dataclass(frozen=True)
class Consensus(Rule):
    """w ← w - η (F + γ ∇½‖F‖²)(w) (Mescheder et al. 2017): second derivatives.

    Gradients are not clipped, and more than one process is refused.

    Arguments:
        weight: γ.
    """

    weight: float = 0.5

    @property
    def needs_graph(self) -> bool:
        return True

    def step(self, gradients: Gradients, optimizers: Optimizers, memory: Memory) -> None:
        gradients(graph=True)
        moved = [p for p in _parameters(optimizers) if p.grad is not None]
        field = [p.grad for p in moved if p.grad is not None]
        energy = torch.stack([g.square().sum() for g in field]).sum() / 2
        slopes: Sequence[Tensor | None] = [None] * len(moved)
        if energy.requires_grad:
            slopes = torch.autograd.grad(energy, moved, allow_unused=True)
        for p, g, slope in zip(moved, field, slopes, strict=True):
            p.grad = g.detach() if slope is None else g.detach() + self.weight * slope
        _step(optimizers)


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
    "simultaneous": Simultaneous(),
    "alternating": Alternating(),
    "extragradient": Extragradient(),
    "optimistic": Optimistic(),
    "lookahead": Lookahead(),
    "consensus": Consensus(),
}
