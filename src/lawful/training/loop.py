"""The training loop: `fit` yields the state after every step; it neither logs nor saves.

A step is one pass through all moves. Every repetition of a move draws a batch, sets the learning
rates, and lets the move's rule make one update. The rule asks for gradients as often as it needs;
those of one update see the same batch and random numbers.
"""

import warnings
from collections.abc import Iterator, Sequence
from math import isfinite

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
            earlier ones of the same step (other moves, players of `Alternating`) have been.
    """
    if idle := [move.name for move in game.moves if not move.parts[0].plays_ever(steps)]:
        said = f"game: in {steps} steps never played: {', '.join(idle)} (begin and end)"
        warnings.warn(said, LawfulWarning, stacklevel=2)
    while state.step < steps and not state.over:
        state.values = {}
        for move in game.moves:
            first, *_ = move.parts  # joint moves are played equally often
            for _ in range(first.times if first.plays(state.step, steps) else 0):
                _step(move, game.draw(state.generator).to(fabric.device), state, fabric, steps)
        for name, average in state.averages.items():
            average.update_parameters(unwrapped(state.players[name]))
        state.step += 1
        state.over = bool(game.until) and _everywhere(game.over(state.values), fabric)
        yield state


def _step(move: Move | Joint, batch: Batch, state: State, fabric: Fabric, steps: int) -> None:
    optimizers = [state.optimizers[move.name, part.player] for part in move.parts]
    for optimizer, part in zip(optimizers, move.parts, strict=True):
        for group in optimizer.param_groups:
            group["lr"] = part.optimizer.rate(state.step, steps)
    random = _random(fabric)

    def gradients(only: int | None = None, *, graph: bool = False) -> float:
        # Extragradient would average over the noise of dropout and of penalties otherwise.
        _set_random(random, fabric)
        total = 0.0
        for part in move.parts if only is None else (move.parts[only],):
            terms = part.loss(state.players, batch)
            values = {name: float(value.detach()) for name, value in terms.items()}
            state.values |= {f"{move.name}/{name}": value for name, value in values.items()}
            wrong = [name for name, value in values.items() if not isfinite(value)]
            said = ", ".join(f"the loss term {name!r} is {values[name]}" for name in wrong)
            _stop_unless(not wrong, said, move, state, fabric)
            norm = _backward(part, terms, state.players[part.player], graph, fabric)
            said = f"the gradient of {', '.join(terms)} is {norm}"
            _stop_unless(isfinite(norm), said, move, state, fabric)
            total += sum(values.values())
        # Over all processes, so that a line search goes the same way in each.
        return float(_mean(torch.tensor(total, dtype=torch.float64), fabric))

    move.rule.step(gradients, optimizers, state.memory.setdefault(move.name, {}))


def _backward(part: Move, terms: Terms, player: nn.Module, graph: bool, fabric: Fabric) -> float:
    """Leave the gradient of the terms in the player's `.grad`, clipped; returns its norm."""
    player.zero_grad(set_to_none=True)
    parameters = [p for p in player.parameters() if p.requires_grad]
    if graph or (part.combine is not None and len(terms) > 1):
        try:
            if graph or part.combine is None:
                found = _with_graph(terms, parameters, fabric)
            else:
                found = _combined(part.combine, terms, parameters, fabric)
        except RuntimeError as error:
            if "fabric.backward" not in str(error):  # autograd itself, which knows no scaling
                raise
            raise InputError("game: ConFIG and consensus need --device.precision 32-true") from None
        for p, gradient in zip(parameters, found, strict=True):
            p.grad = gradient
    else:
        fabric.backward(torch.stack(list(terms.values())).sum(), inputs=parameters)
    if part.optimizer.clip is not None:
        return float(clip_grad_norm_(parameters, part.optimizer.clip))
    return float(get_total_norm([p.grad for p in parameters if p.grad is not None]))


def _with_graph(
    terms: Terms, parameters: Sequence[Tensor], fabric: Fabric
) -> Sequence[Tensor | None]:
    """Gradients that can be differentiated themselves."""
    if fabric.world_size > 1:
        raise InputError("game: second derivatives (consensus) need a single process")
    total = torch.stack(list(terms.values())).sum()
    return torch.autograd.grad(total, parameters, create_graph=True, allow_unused=True)


def _combined(
    combine: Combine, terms: Terms, parameters: Sequence[Tensor], fabric: Fabric
) -> Sequence[Tensor | None]:
    """The direction made of the terms' own gradients, each averaged over processes."""
    rows = []
    for term in terms.values():
        found = torch.autograd.grad(term, parameters, retain_graph=True, materialize_grads=True)
        rows.append(torch.cat([gradient.flatten() for gradient in found]))
    direction = combine(_mean(torch.stack(rows), fabric))
    pieces = direction.split([p.numel() for p in parameters])
    return [piece.view_as(p).clone() for p, piece in zip(parameters, pieces, strict=True)]


def _random(fabric: Fabric) -> list[Tensor]:
    """The state of torch's random generators."""
    on_gpu = fabric.device.type == "cuda"
    extra = [torch.cuda.get_rng_state(fabric.device)] if on_gpu else []
    return [torch.get_rng_state(), *extra]


def _set_random(states: list[Tensor], fabric: Fabric) -> None:
    torch.set_rng_state(states[0])
    for state in states[1:]:
        torch.cuda.set_rng_state(state, fabric.device)


def _mean(value: Tensor, fabric: Fabric) -> Tensor:
    """Over all processes."""
    if fabric.world_size == 1:
        return value
    return torch.as_tensor(fabric.all_reduce(value.to(fabric.device), reduce_op="mean"))


def _stop_unless(fine: bool, said: str, move: Move | Joint, state: State, fabric: Fabric) -> None:
    """Raise on every process as soon as one of them is not fine."""
    if not _everywhere(fine, fabric):
        reason = "another process is not finite" if fine else said
        raise NonFiniteError(f"step {state.step}: {reason} in move {move.name!r}")


def _everywhere(mine: bool, fabric: Fabric) -> bool:
    """Whether it is so on every process."""
    if fabric.world_size == 1:
        return mine
    flag = torch.tensor(float(mine), device=fabric.device)
    return bool(fabric.all_reduce(flag, reduce_op="min"))
