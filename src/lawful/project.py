r"""Samples brought below a tolerance under any list of laws: damped minimum-norm Gauss-Newton.

The merit m is the largest violation over its tolerance, at most 1 where all are met. With the
residuals of all laws stacked, each over its law's tolerance, a step of what is moved is the
shortest that solves the linearised laws (Levenberg 1944; Nocedal & Wright 2006, section 10.3):

.. math:: w \leftarrow w - t\, K^2 J^T (J K^2 J^T + \Lambda)^{-1} r .

:math:`\Lambda` is diagonal, a share of the mean of each law's part of that matrix's diagonal; t is
halved until m falls. The share is Levenberg's and Marquardt's: where m falls it is multiplied by
:math:`|1 - g|`, at most 1/3 and at least 1/1000, g the fall of the squared residual over the fall
that the linearisation foretells; where no t helps it is raised tenfold. So a linear law is solved
in a few steps however badly conditioned it is. K is the identity, or smooths.

Up to `LARGEST_ROWS` residuals the matrix is formed, in double precision, since it squares the
condition of J. Beyond that J and its transpose are only ever applied (`laws.krylov`), at most
`PRODUCTS` times per step, and memory is linear in the sizes of sample and residual.

What is moved is the sample itself, or, through a
`Parametrisation`, a smooth field behind it: of a binary sample the level cut's, whose interfaces
then move. What remains is the rounding of interfaces to pixels; `exchange_pixels` works on that.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lawful.exchange import exchange_pixels
from lawful.laws import AffineLaw, Condition, Law, Residual
from lawful.residuals import FLOOR, Identity, Parametrisation, Problem

CHUNK, ROWS = 16, 32  # samples of 256 x 256 whose Jacobians of so many rows are held at once
HALVINGS, LARGEST_ROWS, PRODUCTS = 4, 512, 2000
STALLED = 0.99  # of the merit, after a step of many products that is the last
FINE, STIFFEST = 1e-4, 10.0  # damping that takes double precision; at which a sample is given up


@dataclass(frozen=True)
class Refined:
    """What was done to each sample.

    Arguments:
        fields: The samples.
        moved: What is behind them.
        iterations: Gauss-Newton steps taken or, where none helped, tried.
        exchanges: Pairs of pixels exchanged.
        displacement: Mean absolute change of the sample; of a binary one the share of its pixels.
        before, after: Violation of every law, by its name.
        reached: Whether every violation is within its tolerance.
    """

    fields: Float[Tensor, "batch channel *space"]
    moved: Tensor
    iterations: Int[Tensor, " batch"]
    exchanges: Int[Tensor, " batch"]
    displacement: Float[Tensor, " batch"]
    before: Mapping[str, Float[Tensor, " batch"]]
    after: Mapping[str, Float[Tensor, " batch"]]
    reached: Bool[Tensor, " batch"]


def refine(
    laws: Sequence[Law | Residual],
    w: Float[Tensor, "batch *moved"],
    c: Condition,
    *,
    tolerance: float | Mapping[str, float],
    through: Parametrisation | Sequence[Parametrisation] = (),
    kept: Sequence[AffineLaw] = (),
    iterations: int = 30,
    damping: float = 1e-3,
    least: float | None = None,
    exchanges: int = 0,
) -> Refined:
    """Take samples below a tolerance of every law, each as far as it needs.

    Arguments:
        laws: Any; those with a `jacobian` are linearised in closed form.
        w: What is moved: samples, or what `through` makes samples of; the samples where there is
            none. Of several, each takes up what the one before did not bring there; they must make
            the same samples.
        tolerance: Of the violation, of all laws or by name.
        kept: Affine laws that steps leave as they are, to rounding: each step is the shortest of
            those that they do not see. They must act on different entries of a sample, and go
            with no `through`.
        iterations: Gauss-Newton steps at most, of each way.
        damping: Lambda over the mean diagonal of each law's part of J K^2 J^T, at first.
        least: What it may fall to; None for what rounding leaves of it.
        exchanges: Rounds of pixel exchanges at most, for samples that are binary.

    Raises:
        InputError: A tolerance is not positive or missing, a law has no derivative by the sample,
            or laws are kept of samples that come `through` something.
    """
    ways = (through,) if isinstance(through, Parametrisation) else tuple(through)
    problems = [Problem.of(laws, way, tolerance, kept) for way in ways or (Identity(),)]
    share = max(torch.finfo(w.dtype).eps ** 2, 1e-15) if least is None else least
    some = lambda rows: (w[rows], {name: value[rows] for name, value in c.items()})  # noqa: E731
    count = problems[0].count(*some(slice(1)))
    parts = [
        _refine(problems, *some(rows), iterations, (damping, share), exchanges)
        for rows in torch.arange(len(w)).split(at_a_time(w, count))
    ]
    return join(parts)


def at_a_time(w: Float[Tensor, "batch *moved"], rows: int = ROWS) -> int:
    """Samples whose Jacobians of so many rows are held at once: fewer, the larger they are."""
    held = max(ROWS, rows if rows <= LARGEST_ROWS else 0)
    return max(1, min(CHUNK, CHUNK * ROWS * 256**2 // (held * w[0].numel())))


def join(parts: Sequence[Refined]) -> Refined:
    """What was done to the samples of several parts, in order."""

    def joined(name: str) -> Any:
        values = [getattr(part, name) for part in parts]
        if isinstance(values[0], Mapping):
            return {key: torch.cat([value[key] for value in values]) for key in values[0]}
        return torch.cat(values)

    return Refined(*(joined(field.name) for field in fields(Refined)))


@torch.no_grad()
def _refine(
    problems: Sequence[Problem],
    w: Tensor,
    c: Condition,
    iterations: int,
    damping: tuple[float, float],
    exchanges: int,
) -> Refined:
    problem = problems[-1]
    first = problem.through.field(w, c)
    count = torch.zeros(len(w), dtype=torch.long, device=w.device)
    for way in problems:
        w, taken = _gauss_newton(way, w, c, iterations, damping)
        count += taken
    x = problem.through.field(w, c)
    x, swapped = exchange_pixels(problem, x, c, exchanges) if exchanges else (x, 0 * count)
    change = (x - first).flatten(1).abs().mean(1)
    before, after = problem.violations(first, c), problem.violations(x, c)
    return Refined(x, w, count, swapped, change, before, after, problem.merit(x, c) <= 1)


def _gauss_newton(
    problem: Problem, w: Tensor, c: Condition, iterations: int, damping: tuple[float, float]
) -> tuple[Tensor, Tensor]:
    """Steps of every sample until its merit is 1, or no step lowers it; and how many."""
    damp = torch.full((len(w),), damping[0]).to(w)
    count = torch.zeros(len(w), dtype=torch.long, device=w.device)
    merit = problem.merit(problem.through.field(w, c), c)
    large = problem.count(w, c) > LARGEST_ROWS
    for _ in range(iterations):
        rows = torch.where((merit > 1) & (damp < STIFFEST))[0]
        if not len(rows):
            break
        few = {name: value[rows] for name, value in c.items()}
        moved, better, gain = _step(problem, w[rows], few, merit[rows], damp[rows])
        trust = (1 - gain).abs().nan_to_num(nan=1.0).clamp(1e-3, 1 / 3)
        lower = better < merit[rows]
        damp[rows] *= torch.where(lower, trust, 10.0)
        damp.clamp_min_(damping[1])
        if large:  # a step is dear: one that won next to nothing is the last
            damp[rows[lower & (better > STALLED * merit[rows])]] = STIFFEST
        w = w.index_copy(0, rows, moved)
        merit = merit.index_copy(0, rows, better)
        count[rows] += 1
    return w, count


def _step(
    problem: Problem, w: Tensor, c: Condition, merit: Tensor, damp: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The longest of a few Gauss-Newton steps that lowers the merit; none where none does.

    Returns:
        What is moved, its merit, and the gain: the fall of the squared residual over the fall
        that the linearisation foretells of a step of that length.
    """
    step, r, left = _direction(problem, w, c, damp)
    best, length, gain = w, 1.0, torch.zeros_like(merit)
    start, done = merit, torch.zeros_like(merit, dtype=torch.bool)
    for _ in range(HALVINGS):
        trial = w - length * step
        ratios = problem.ratios(problem.through.field(trial, c), c)
        found = ratios.amax(0)
        lower = (found < start) & ~done
        shaped = lower.view(-1, *[1] * (w.ndim - 1))
        best, merit = torch.where(shaped, trial, best), torch.where(lower, found, merit)
        foretold = r.square().sum(1) - (r - length * (r - left)).square().sum(1)
        fall = r.square().sum(1) - ratios.square().sum(0)
        gain = torch.where(lower, fall / foretold, gain)
        done |= lower
        if bool(done.all()):
            break
        length /= 2
    return best, merit, gain


def direction(
    problem: Problem,
    w: Float[Tensor, "batch *moved"],
    c: Condition,
    damp: Float[Tensor, " batch"],
) -> Float[Tensor, "batch *moved"]:
    """K^2 J^T (J K^2 J^T + Lambda)^-1 r: what a full step takes away from `w`."""
    return _direction(problem, w, c, damp)[0]


def _direction(
    problem: Problem, w: Tensor, c: Condition, damp: Tensor
) -> tuple[Tensor, Float[Tensor, "batch residual"], Float[Tensor, "batch residual"]]:
    """A full step, the residual, and what the linearisation leaves of it after the step."""
    through, x = problem.through, problem.through.field(w, c)
    parts = problem.residuals(x, c)
    r, sizes = torch.cat(parts, 1), [part.shape[1] for part in parts]
    if sum(sizes) > LARGEST_ROWS:
        step, left = problem.solve(w, c, r, sizes, damp, PRODUCTS)
        return step, r, left
    rows = problem.unseen(through.pull(problem.jacobian(x, c), w, x), c)
    # The matrix squares the condition of J: little damping takes double precision.
    wide = torch.promote_types(w.dtype, torch.float64 if bool((damp < FINE).any()) else w.dtype)
    seen = through.coordinates(rows).to(wide)
    gram = seen @ seen.mT
    diagonal = gram.diagonal(dim1=1, dim2=2)
    blocks = diagonal.split(sizes, 1)
    scale = torch.cat([b.mean(1, keepdim=True).expand_as(b) for b in blocks], 1)
    scale = scale.maximum(FLOOR * diagonal.mean(1, keepdim=True))
    ridge = damp[:, None].to(wide) * scale + 1e-30
    factor = torch.linalg.cholesky_ex(gram + torch.diag_embed(ridge)).L
    weights = torch.cholesky_solve(r.to(wide).unsqueeze(2), factor)
    step = through.spread((weights.mT @ rows.flatten(2).to(wide)).to(w).view_as(w)).nan_to_num()
    return step, r, (ridge * weights.squeeze(2)).to(r)


@torch.no_grad()
def unrolled(
    problem: Problem,
    w: Float[Tensor, "batch *moved"],
    c: Condition,
    steps: int,
    damping: float = 1e-3,
) -> Float[Tensor, "batch *moved"]:
    """A fixed number of full steps, whether they help or not: part of a sampler."""
    damp = torch.full((len(w),), damping).to(w)
    parts = []
    for rows in torch.arange(len(w), device=w.device).split(at_a_time(w)):
        part, few = w[rows], {name: value[rows] for name, value in c.items()}
        for _ in range(steps):
            part = part - direction(problem, part, few, damp[rows])
        parts.append(part)
    return torch.cat(parts)
