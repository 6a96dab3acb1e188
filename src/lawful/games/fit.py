"""Playing a game: `fit` yields the state after every turn; it neither logs nor saves."""

from collections.abc import Iterator

import torch
from lightning_fabric import Fabric

from lawful.errors import NonFiniteError
from lawful.games.game import Batch, Game, Move
from lawful.games.state import State


def fit(game: Game, state: State, fabric: Fabric, steps: int) -> Iterator[State]:
    """Play until `steps` turns are taken in all, and yield the state after each.

    The same object is yielded every time; stopping the iteration stops the game.

    Arguments:
        steps: The whole budget; learning rates are functions of `state.step / steps`.

    Raises:
        NonFiniteError: A loss term or a gradient is not finite; no parameter has moved then.
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
        for term, value in terms.items():
            number = float(value.detach())
            if not torch.isfinite(value):
                raise NonFiniteError(
                    f"step {state.step}: the loss of law {term!r} is {number} in move {move.name!r}"
                )
            state.values[f"{move.name}/{term}"] = number
        player.zero_grad(set_to_none=True)
        parameters = [p for p in player.parameters() if p.requires_grad]
        fabric.backward(torch.stack(list(terms.values())).sum(), inputs=parameters)
        limit = objective.optimizer.clip
        norm = torch.nn.utils.clip_grad_norm_(parameters, float("inf") if limit is None else limit)
        if not torch.isfinite(norm):
            raise NonFiniteError(
                f"step {state.step}: the gradient of {', '.join(terms)} is {float(norm)} "
                f"in move {move.name!r}"
            )


def _to_device(batch: Batch, fabric: Fabric) -> Batch:
    condition = {name: value.to(fabric.device) for name, value in batch.condition.items()}
    return Batch(condition, None if batch.data is None else batch.data.to(fabric.device))


def _unwrapped(module: torch.nn.Module) -> torch.nn.Module:
    inner = getattr(module, "module", module)
    return inner if isinstance(inner, torch.nn.Module) else module
