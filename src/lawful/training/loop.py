"""Playing a game: `fit` yields the state after every turn; it neither logs nor saves."""

import warnings
from collections.abc import Iterator
from math import isfinite

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_, get_total_norm

from lawful.errors import InputError, LawfulWarning, NonFiniteError
from lawful.training.conflicts import Combination
from lawful.training.game import Batch, Game, Move, Objective, Terms, unwrapped
from lawful.training.state import State


def fit(game: Game, state: State, fabric: Fabric, steps: int) -> Iterator[State]:
    """Play until `steps` turns are taken in all or the game is over; yield the state after each.

    The same object is yielded every time; stopping the iteration stops the game.

    Arguments:
        steps: The whole budget; learning rates are functions of `state.step / steps`.

    Warns of moves whose shares of the run hold no step.

    Raises:
        NonFiniteError: A loss term or a gradient is not finite; its step has moved no player then.
    """
    if idle := [move.name for move in game.moves if not move.plays_ever(steps)]:
        said = f"game: in {steps} steps never played: {', '.join(idle)}; begin and end are shares"
        warnings.warn(said, LawfulWarning, stacklevel=2)
    while state.step < steps and not state.over:
        state.values = {}
        for move in game.moves:
            if not move.plays(state.step, steps):
                continue
            for _ in range(move.times):
                _play(move, game, state, fabric, steps)
        for name, average in state.averages.items():
            average.update_parameters(unwrapped(state.players[name]))
        state.step += 1
        state.over = bool(game.until) and _agreed(game.over(state.values), fabric)
        yield state


def _play(move: Move, game: Game, state: State, fabric: Fabric, steps: int) -> None:
    batch = _to_device(game.draw(state.generator), fabric)
    optimizers = [state.optimizers[(move.name, o.player)] for o in move.objectives]
    for optimizer, objective in zip(optimizers, move.objectives, strict=True):
        for group in optimizer.param_groups:
            group["lr"] = objective.optimizer.rate(state.step, steps)
    random: list[Tensor] = []

    def gradients(only: int | None = None, *, graph: bool = False) -> float:
        _repeat(random, fabric)
        chosen = move.objectives if only is None else (move.objectives[only],)
        losses = [_gradient(o, move, batch, state, fabric, graph) for o in chosen]
        return _mean(sum(losses), fabric)

    move.rule.step(gradients, optimizers, state.memory.setdefault(move.name, {}))


def _repeat(random: list[Tensor], fabric: Fabric) -> None:
    """Let every gradient of a step see the random numbers that the first one saw."""
    on_gpu = fabric.device.type == "cuda"
    if random:
        torch.set_rng_state(random[0])
        if on_gpu:
            torch.cuda.set_rng_state(random[1], fabric.device)
    else:
        random.append(torch.get_rng_state())
        random.extend([torch.cuda.get_rng_state(fabric.device)] if on_gpu else [])


def _gradient(
    objective: Objective, move: Move, batch: Batch, state: State, fabric: Fabric, graph: bool
) -> float:
    """Leave the objective's gradient in its player's `.grad`; returns its loss."""
    player = state.players[objective.player]
    terms = objective.loss(state.players, batch)
    values = {name: float(value.detach()) for name, value in terms.items()}
    state.values |= {f"{move.name}/{name}": value for name, value in values.items()}
    wrong = [name for name, value in values.items() if not isfinite(value)]
    said = ", ".join(f"the loss term {name!r} is {values[name]}" for name in wrong)
    _stop_unless(not wrong, said, move, state, fabric)
    player.zero_grad(set_to_none=True)
    parameters = [p for p in player.parameters() if p.requires_grad]
    if graph or (objective.combine is not None and len(terms) > 1):
        _directly(objective.combine, terms, parameters, fabric)
    else:
        fabric.backward(torch.stack(list(terms.values())).sum(), inputs=parameters)
    limit = objective.optimizer.clip
    if limit is None:
        norm = float(get_total_norm([p.grad for p in parameters if p.grad is not None]))
    else:
        norm = float(clip_grad_norm_(parameters, limit))
    said = f"the gradient of {', '.join(terms)} is {norm}"
    _stop_unless(isfinite(norm), said, move, state, fabric)
    return sum(values.values())


def _mean(loss: float, fabric: Fabric) -> float:
    """Over all processes, so that a line search goes the same way in each."""
    if fabric.world_size == 1:
        return loss
    total = torch.tensor(loss, dtype=torch.float64, device=fabric.device)
    return float(torch.as_tensor(fabric.all_reduce(total, reduce_op="mean")))


def _directly(
    combine: Combination | None,
    terms: Terms,
    parameters: list[nn.Parameter],
    fabric: Fabric,
) -> None:
    """Gradients that are combined, or else differentiated again: by autograd itself."""
    try:
        if combine is None:
            _with_graph(terms, parameters, fabric)
        else:
            _combined(combine, terms, parameters, fabric)
    except RuntimeError as error:
        if "fabric.backward" not in str(error):
            raise
        raise InputError("game: ConFIG and consensus need --device.precision 32-true") from None


def _combined(
    combine: Combination, terms: Terms, parameters: list[nn.Parameter], fabric: Fabric
) -> None:
    """Set the gradient that `combine` makes of the terms' own, each averaged over processes."""
    rows = []
    for term in terms.values():
        parts = torch.autograd.grad(term, parameters, retain_graph=True, materialize_grads=True)
        rows.append(torch.cat([part.flatten() for part in parts]))
    gradients = torch.stack(rows)
    if fabric.world_size > 1:
        gradients = torch.as_tensor(fabric.all_reduce(gradients, reduce_op="mean"))
    pieces = combine(gradients).split([p.numel() for p in parameters])
    for p, piece in zip(parameters, pieces, strict=True):
        p.grad = piece.view_as(p).clone()


def _with_graph(terms: Terms, parameters: list[nn.Parameter], fabric: Fabric) -> None:
    """Gradients that can be differentiated themselves."""
    if fabric.world_size > 1:
        raise InputError("game: second derivatives (consensus) need a single process")
    total = torch.stack(list(terms.values())).sum()
    parts = torch.autograd.grad(total, parameters, create_graph=True, allow_unused=True)
    for p, part in zip(parameters, parts, strict=True):
        p.grad = part


def _stop_unless(fine: bool, said: str, move: Move, state: State, fabric: Fabric) -> None:
    """Raise on every process as soon as one of them is not fine."""
    all_fine = _agreed(fine, fabric)
    if not all_fine:
        reason = "another process is not finite" if fine else said
        raise NonFiniteError(f"step {state.step}: {reason} in move {move.name!r}")


def _agreed(mine: bool, fabric: Fabric) -> bool:
    """Whether it is so on every process."""
    if fabric.world_size == 1:
        return mine
    flag = torch.tensor(float(mine), device=fabric.device)
    return bool(fabric.all_reduce(flag, reduce_op="min"))


def _to_device(batch: Batch, fabric: Fabric) -> Batch:
    condition = {name: value.to(fabric.device) for name, value in batch.condition.items()}
    return Batch(condition, None if batch.data is None else batch.data.to(fabric.device))
