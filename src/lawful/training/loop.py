"""The training loop: `fit` yields the state after every step; it neither logs nor saves.

A step is one pass through all moves. Every repetition of a move draws a batch, sets the learning
rates, and lets the move's rule make one update. The rule asks for gradients as often as it needs;
those of one update see the same batch and random numbers.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from math import isfinite
from typing import Literal

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_, get_total_norm

from lawful.errors import InputError, LawfulWarning, NonFiniteError
from lawful.training.game import Batch, Combine, Game, Joint, Move, Terms, unwrapped
from lawful.training.state import State


def fit(game: Game, state: State, fabric: Fabric, steps: int) -> Iterator[State]:
    """Play until `steps` steps are taken in all or the game is over; yield the state after each.

    The same object is yielded every time; stopping the iteration stops the game.

    Arguments:
        steps: The whole budget; learning rates are functions of `state.step / steps`.

    Warns of moves that are not played in so few steps.

    Raises:
        NonFiniteError: A loss term or a gradient is not finite. The failing update is not applied,
            earlier ones of the same step (other moves, players of `alternating`) have been.
    """
    firsts = {move.name: move.parts[0] for move in game.moves}  # joint moves play equally often
    if idle := [name for name, move in firsts.items() if not move.plays_ever(steps)]:
        said = f"game: in {steps} steps never played: {', '.join(idle)} (begin and end)"
        warnings.warn(said, LawfulWarning, stacklevel=2)
    while state.step < steps and not state.over:
        state.values = {}
        for move in game.moves:
            first = firsts[move.name]
            for _ in range(first.times if first.plays(state.step, steps) else 0):
                batch = game.draw(state.generator)
                batch = Batch(*fabric.to_device((batch.condition, batch.data)))
                _update(move, batch, state, fabric, steps)
        for name, average in state.averages.items():
            average.update_parameters(unwrapped(state.players[name]))
        state.step += 1
        state.over = bool(game.until) and _everywhere(game.over(state.values), fabric)
        yield state


def _update(move: Move | Joint, batch: Batch, state: State, fabric: Fabric, steps: int) -> None:
    """One update of a move by its rule, on one batch."""
    optimizers = [state.optimizers[move.name, part.player] for part in move.parts]
    for optimizer, part in zip(optimizers, move.parts, strict=True):
        for group in optimizer.param_groups:
            group["lr"] = part.optimizer.rate(state.step, steps)
    rewind = _rewinding(fabric)

    def gradients(only: int | None = None, *, graph: bool = False) -> float:
        # Extragradient would average over the noise of dropout and of penalties otherwise.
        rewind()
        total = 0.0
        for part in move.parts if only is None else (move.parts[only],):
            terms = part.loss(state.players, batch)
            values = {name: float(value.detach()) for name, value in terms.items()}
            state.values |= {f"{move.name}/{name}": value for name, value in values.items()}
            stop_for(f"the loss term {n!r} is {v}" for n, v in values.items() if not isfinite(v))
            norm = _backward(part, terms, state.players[part.player], graph, fabric)
            stop_for([] if isfinite(norm) else [f"the gradient of {', '.join(terms)} is {norm}"])
            total += sum(values.values())
        # Over all processes, so that a line search goes the same way in each.
        return float(_reduced(torch.tensor(total, dtype=torch.float64), fabric, "mean"))

    def stop_for(faults: Iterable[str]) -> None:
        """Raise on every process as soon as one of them has a fault."""
        said = ", ".join(faults)
        if not _everywhere(not said, fabric):
            reason = said or "another process is not finite"
            raise NonFiniteError(f"step {state.step}: {reason} in move {move.name!r}")

    move.rule.step(gradients, optimizers, state.memory.setdefault(move.name, {}))


def _backward(part: Move, terms: Terms, player: nn.Module, graph: bool, fabric: Fabric) -> float:
    """Leave the gradient of the terms in the player's `.grad`, clipped; returns its norm."""
    player.zero_grad(set_to_none=True)
    parameters = [p for p in player.parameters() if p.requires_grad]
    total = torch.stack(list(terms.values())).sum()
    if graph or (part.combine is not None and len(terms) > 1):
        try:
            combine = None if graph else part.combine
            found = _gradients(total, terms, parameters, combine, fabric)
        except RuntimeError as error:
            if "fabric.backward" not in str(error):  # autograd itself, which knows no scaling
                raise
            raise InputError("game: ConFIG and consensus need --device.precision 32-true") from None
        for p, gradient in zip(parameters, found, strict=True):
            p.grad = gradient
    else:
        fabric.backward(total, inputs=parameters)
    if part.optimizer.clip is not None:
        return float(clip_grad_norm_(parameters, part.optimizer.clip))
    return float(get_total_norm([p.grad for p in parameters if p.grad is not None]))


def _gradients(
    total: Tensor, terms: Terms, weights: Sequence[Tensor], combine: Combine | None, fabric: Fabric
) -> Sequence[Tensor | None]:
    """The direction made of the terms' own gradients, each averaged over processes; without
    `combine` those of the sum, which can be differentiated themselves."""
    if combine is None:
        if fabric.world_size > 1:
            raise InputError("game: second derivatives (consensus) need a single process")
        return torch.autograd.grad(total, weights, create_graph=True, allow_unused=True)
    rows = []
    for term in terms.values():
        found = torch.autograd.grad(term, weights, retain_graph=True, materialize_grads=True)
        rows.append(torch.cat([gradient.flatten() for gradient in found]))
    direction = combine(_reduced(torch.stack(rows), fabric, "mean"))
    pieces = direction.split([p.numel() for p in weights])
    return [piece.view_as(p).clone() for p, piece in zip(weights, pieces, strict=True)]


def _rewinding(fabric: Fabric) -> Callable[[], None]:
    """Sets torch's random generators back to where they are now."""
    on_gpu = fabric.device.type == "cuda"
    here = torch.get_rng_state()
    there = torch.cuda.get_rng_state(fabric.device) if on_gpu else None

    def rewind() -> None:
        torch.set_rng_state(here)
        if there is not None:
            torch.cuda.set_rng_state(there, fabric.device)

    return rewind


def _reduced(value: Tensor, fabric: Fabric, by: Literal["mean", "min"]) -> Tensor:
    """Over all processes."""
    if fabric.world_size == 1:
        return value
    return torch.as_tensor(fabric.all_reduce(value.to(fabric.device), reduce_op=by))


def _everywhere(mine: bool, fabric: Fabric) -> bool:
    """Whether it is so on every process."""
    return bool(_reduced(torch.tensor(float(mine)), fabric, "min"))
