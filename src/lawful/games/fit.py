"""Playing a game: `fit` yields the state after every turn; it neither logs nor saves."""

from collections.abc import Iterator
from math import isfinite

import torch
from lightning_fabric import Fabric
from torch.nn.utils import clip_grad_norm_

from lawful.errors import NonFiniteError
from lawful.games.game import Batch, Game, Move
from lawful.games.state import State


def fit(game: Game, state: State, fabric: Fabric, steps: int) -> Iterator[State]:
    """Play until `steps` turns are taken in all, and yield the state after each.

    The same object is yielded every time; stopping the iteration stops the game.

    Arguments:
        steps: The whole budget; learning rates are functions of `state.step / steps`.

    Raises:
        NonFiniteError: A loss term or a gradient is not finite; its move has changed nothing then.
    """
    while state.step < steps:
        state.values = {}
        for move in game.moves:
            for _ in range(move.times):
                _play(move, game, state, fabric, steps)
        for name, average in state.averages.items():
            average.update_parameters(_unwrapped(state.players[name]))
        state.step += 1
        yield state


def _play(move: Move, game: Game, state: State, fabric: Fabric, steps: int) -> None:
    batch = _to_device(game.draw(state.generator), fabric)
    optimizers = [state.optimizers[(move.name, o.player)] for o in move.objectives]
    for optimizer, objective in zip(optimizers, move.objectives, strict=True):
        for group in optimizer.param_groups:
            group["lr"] = objective.optimizer.rate(state.step, steps)
    move.rule.step(lambda: _gradients(move, batch, state, fabric), optimizers)


def _gradients(move: Move, batch: Batch, state: State, fabric: Fabric) -> None:
    """Leave every objective's gradient in its player's `.grad`."""
    for objective in move.objectives:
        player = state.players[objective.player]
        terms = objective.loss(state.players, batch)
        values = {name: float(value.detach()) for name, value in terms.items()}
        state.values |= {f"{move.name}/{name}": value for name, value in values.items()}
        wrong = [name for name, value in values.items() if not isfinite(value)]
        said = ", ".join(f"the loss of law {name!r} is {values[name]}" for name in wrong)
        _stop_unless(not wrong, said, move, state, fabric)
        player.zero_grad(set_to_none=True)
        parameters = [p for p in player.parameters() if p.requires_grad]
        fabric.backward(torch.stack(list(terms.values())).sum(), inputs=parameters)
        limit = objective.optimizer.clip
        norm = float(clip_grad_norm_(parameters, float("inf") if limit is None else limit))
        said = f"the gradient of {', '.join(terms)} is {norm}"
        _stop_unless(isfinite(norm), said, move, state, fabric)


def _stop_unless(fine: bool, said: str, move: Move, state: State, fabric: Fabric) -> None:
    """Raise on every process as soon as one of them is not fine."""
    all_fine = fine
    if fabric.world_size > 1:
        flag = torch.tensor(float(fine), device=fabric.device)
        all_fine = bool(fabric.all_reduce(flag, reduce_op="min"))
    if not all_fine:
        reason = "another process is not finite" if fine else said
        raise NonFiniteError(f"step {state.step}: {reason} in move {move.name!r}")


def _to_device(batch: Batch, fabric: Fabric) -> Batch:
    condition = {name: value.to(fabric.device) for name, value in batch.condition.items()}
    return Batch(condition, None if batch.data is None else batch.data.to(fabric.device))


def _unwrapped(module: torch.nn.Module) -> torch.nn.Module:
    inner = getattr(module, "module", module)
    return inner if isinstance(inner, torch.nn.Module) else module
