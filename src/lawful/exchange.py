"""Pixels of two phases exchanged along interfaces, to bring a binary sample nearer to laws."""

from math import inf

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lawful.laws import Condition
from lawful.residuals import Problem

PAIRS = 16  # exchanged at once, at first; halved whenever that does not help


def exchange_pixels(
    problem: Problem, x: Float[Tensor, "batch 1 rows columns"], c: Condition, rounds: int
) -> tuple[Float[Tensor, "batch 1 rows columns"], Int[Tensor, " batch"]]:
    """Exchange pixels of the two phases along interfaces while the merit falls and is above 1.

    A round takes the m pixels of each phase beside an interface whose flip lowers the squared
    residual most, to first order, and keeps the exchange where the merit falls; elsewhere m is
    halved. The number of pixels in the phase does not change (Yeong & Torquato 1998, with the
    gradient in place of chance).

    Returns:
        The samples, and how many pairs were exchanged in each.
    """
    merit, pairs = problem.merit(x, c), torch.full((len(x),), PAIRS, device=x.device)
    swapped = torch.zeros(len(x), dtype=torch.long, device=x.device)
    for _ in range(rounds):
        rows = torch.where((merit > 1) & (pairs > 0))[0]
        if not len(rows):
            break
        few = {name: value[rows] for name, value in c.items()}
        trial, count = _exchanged(problem, x[rows], few, pairs[rows])
        found = problem.merit(trial, few)
        lower = found < merit[rows]
        better = rows[lower]
        x, merit = x.index_copy(0, better, trial[lower]), merit.index_copy(0, better, found[lower])
        swapped[better] += count[lower]
        pairs[rows[~lower]] = pairs[rows[~lower]] // 2
    return x, swapped


def _exchanged(problem: Problem, x: Tensor, c: Condition, pairs: Tensor) -> tuple[Tensor, Tensor]:
    """Each sample with its own number of best pairs exchanged, and how many there were."""
    with torch.enable_grad():
        y = x.detach().requires_grad_()
        (slope,) = torch.autograd.grad(problem.residual(y, c).square().sum(), y)
    beside = interface(x)
    gain = torch.where(x > 0.5, slope, -slope).masked_fill(~beside, -inf).flatten(1)
    inside = x.flatten(1) > 0.5
    most = min(PAIRS, inside.shape[1])
    orders = [gain.masked_fill(side, -inf).topk(most, dim=1) for side in (inside, ~inside)]
    able = torch.stack([(o.values > -inf).sum(1) for o in orders]).amin(0)
    count = torch.minimum(pairs, able)
    chosen = torch.arange(most, device=x.device)[None, :] < count[:, None]
    y = x.flatten(1).clone()
    for order in orders:
        old = y.gather(1, order.indices)
        y.scatter_(1, order.indices, torch.where(chosen, 1 - old, old))
    return y.view_as(x), count


def interface(x: Float[Tensor, "batch 1 rows columns"]) -> Bool[Tensor, "batch 1 rows columns"]:
    """Pixels with one of their four neighbours in the other phase, on the torus."""
    return torch.stack([x != x.roll(step, axis) for axis in (-1, -2) for step in (-1, 1)]).any(0)
