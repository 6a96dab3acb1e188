r"""Samples brought within a tolerance of any list of laws, and their distance from a solution.

**Projection.** The merit m of a sample is its largest violation over the tolerance, at most 1 where
all laws are met. A step is the damped solution y of the linearised laws (`least_squares`),
:math:`w \leftarrow w - t\, y`, t halved until m falls. The share of damping is Levenberg's and
Marquardt's: where m falls it is multiplied by :math:`|1 - g|`, at most 1/3 and at least 1/1000, g
the fall of the squared residual over the fall that the linearisation foretells; where no t helps it
is raised tenfold. So a linear law is solved in a few steps however badly conditioned it is.

**Distance.** The same steps :math:`y \leftarrow y - J^+ r(y)` lead to the solution nearby, whose
distance estimates a sample's error where the laws determine a field: where their residuals are as
many as its entries, and :math:`J^+ J v = v` for random v. Of white noise of unit variance each
direction that the laws do not see leaves a square of mean 1. Elsewhere there is no estimate.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from math import inf

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lawful import least_squares
from lawful.errors import InputError
from lawful.laws import (
    AffineLaw,
    Condition,
    Estimate,
    Fields,
    Law,
    PerSample,
    Projection,
    Residual,
    merge,
)
from lawful.least_squares import Parametrisation, Problem, like

CHUNK, ROWS = 16, 32  # samples of 256 x 256 whose Jacobians of so many rows are held at once
HALVINGS = 4
STALLED = 0.99  # of the merit, after a step of many products that is the last
STIFFEST = 10.0  # damping at which a sample is given up
PAIRS = 16  # pixels exchanged at once, at first
# Of the distance: steps, products and halvings in each; random fields, what may be left of them.
STEPS, SOLVES, SHORTENINGS, PROBES, MISSED = 8, 300, 10, 8, 0.1
SOLVED, SLIGHT = 1e-2, 1e-8  # share of the residual, and of its squares, that is nothing
SHORT, ULPS = 0.05, 8  # last step over the distance that is found; roundings that are nothing
JUDGE = "Gauss-Newton steps under all laws together, of the discrete law only"
# PyTorch has no type of its own for what has no derivative, or no second one; only words.
UNDIFFERENTIABLE = re.compile("differentia|derivative|gradient|require[sd]? grad")
Measure = Callable[[Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True, kw_only=True)
class Projected(Projection):
    """Samples after a projection, with what was done to each.

    Arguments:
        fields: The samples.
        moved: What is behind them.
        before, after: Violation of every law, by its name.
    """

    fields: Fields
    moved: Tensor
    before: Mapping[str, PerSample]
    after: Mapping[str, PerSample]

    def record(self, tolerance: float) -> Projection:
        """What was done, on the processor and without the samples, by the tolerance asked for."""
        kept = {field.name: getattr(self, field.name) for field in fields(Projection)}
        kept = {name: v.cpu() if torch.is_tensor(v) else v for name, v in kept.items()}
        return Projection(**{**kept, "tolerance": tolerance})


def project(
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
) -> Projected:
    """Take samples below a tolerance of every law, each as far as it needs.

    Arguments:
        laws: Any; those with a `jacobian` of their own are linearised in closed form.
        w: What is moved: samples, or what `through` makes samples of.
        tolerance: Of the violation, of all laws or by name.
        through: How samples come from `w`. Of several ways to the same samples, each is tried on
            those that the ones before did not bring within the tolerance.
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
    problems = [Problem.of(laws, way, tolerance, kept) for way in ways or (Parametrisation(),)]
    last, few = problems[-1], some(c, slice(1))
    share = max(torch.finfo(w.dtype).eps ** 2, 1e-15) if least is None else least
    residuals = last.residual(last.through.field(w[:1], few), few).shape[1]

    @torch.no_grad()
    def projected(w: Tensor, c: Condition) -> Projected:
        first = last.through.field(w, c)
        count = torch.zeros(len(w), dtype=torch.long, device=w.device)
        for way in problems:
            w, taken = _gauss_newton(way, w, c, iterations, (damping, share))
            count += taken
        x = last.through.field(w, c)
        x, swapped = exchange_pixels(last, x, c, exchanges) if exchanges else (x, 0 * count)
        before, after = ({e.name: e.violation(y, c) for e in last.laws} for y in (first, x))
        return Projected(
            tolerance=max(last.tolerances), raw=torch.stack(list(before.values())).amax(0),
            iterations=count, exchanges=swapped, displacement=(x - first).flatten(1).abs().mean(1),
            reached=last.merit(x, c) <= 1, fields=x, moved=w, before=before, after=after,
        )  # fmt: skip

    chunks = torch.arange(len(w)).split(at_a_time(w, residuals))
    done: Projected = merge([projected(w[rows], some(c, rows)) for rows in chunks])
    return done


def some(c: Condition, rows: Tensor | slice) -> dict[str, Tensor]:
    """The conditions of some samples."""
    return {name: value[rows] for name, value in c.items()}


def at_a_time(w: Float[Tensor, "batch *moved"], rows: int = ROWS) -> int:
    """Samples whose Jacobians of so many rows are held at once: fewer, the larger they are."""
    held = max(ROWS, rows if rows <= least_squares.LARGEST_ROWS else 0)
    return max(1, min(CHUNK, CHUNK * ROWS * 256**2 // (held * w[0].numel())))


def _gauss_newton(
    problem: Problem, w: Tensor, c: Condition, iterations: int, damping: tuple[float, float]
) -> tuple[Tensor, Tensor]:
    """Steps of every sample until its merit is 1, or no step lowers it; and how many."""
    damp = torch.full((len(w),), damping[0]).to(w)
    count = torch.zeros(len(w), dtype=torch.long, device=w.device)
    x = problem.through.field(w, c)
    merit, large = problem.merit(x, c), problem.residual(x, c).shape[1] > least_squares.LARGEST_ROWS
    for _ in range(iterations):
        rows = torch.where((merit > 1) & (damp < STIFFEST))[0]
        if not len(rows):
            break
        moved, better, gain = _longest_step(
            problem, w[rows], some(c, rows), merit[rows], damp[rows]
        )
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


def _longest_step(
    problem: Problem, w: Tensor, c: Condition, merit: Tensor, damp: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The longest of a few Gauss-Newton steps that lowers the merit; none where none does.

    Returns:
        What is moved, its merit, and the gain: the fall of the squared residual over the fall
        that the linearisation foretells of a step of that length.
    """
    step, r, left = problem.step(w, c, damp)

    def measured(trial: Tensor) -> tuple[Tensor, Tensor]:
        ratios = problem.ratios(problem.through.field(trial, c), c)
        return ratios.amax(0), ratios.square().sum(0)

    before = r.square().sum(1)
    w, length, merit, after = _shortened(w, step, (merit, before), measured, HALVINGS)
    foretold = before - (r - length[:, None] * (r - left)).square().sum(1)
    return w, merit, torch.where(length > 0, (before - after) / foretold, 0.0)


def _shortened(
    w: Tensor, step: Tensor, start: tuple[Tensor, Tensor], measured: Measure, halvings: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`w` less the step, or half of it, or a quarter, …: the first whose measure is below that of
    the start, and as it was where none is.

    Arguments:
        measured: Of what is moved a measure per sample, and more that is kept beside it.

    Returns:
        What is moved, the length of the step, the measure and what is kept.
    """
    found, (best, kept), length = w, start, torch.zeros_like(start[0])
    moves = step.flatten(1).norm(dim=1) > 0
    for k in range(halvings):
        waits = moves & (length == 0)
        if not bool(waits.any()):
            break
        trial = w - step / 2**k
        value, more = measured(trial)
        lower = waits & (value < start[0])
        found = torch.where(like(lower, w), trial, found)
        best, kept = torch.where(lower, value, best), torch.where(like(lower, more), more, kept)
        length = torch.where(lower, 1 / 2**k, length)
    return found, length, best, kept


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
        part, few = w[rows], some(c, rows)
        for _ in range(steps):
            part = part - problem.step(part, few, damp[rows])[0]
        parts.append(part)
    return torch.cat(parts)


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
        few = some(c, rows)
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
    gain = torch.where(x > 0.5, slope, -slope).masked_fill(~interface(x), -inf).flatten(1)
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


@torch.no_grad()
def distance_to_solution(
    laws: Sequence[Law],
    x: Float[Tensor, "batch *space"],
    c: Condition,
    probed: Callable[[], tuple[Tensor, Condition]],
    *,
    kept: Sequence[AffineLaw] = (),
) -> Estimate | None:
    """The distance of each sample from the solution of its laws; None where there may be many.

    It costs one evaluation of the laws on one sample where they have fewer residuals than a sample
    has entries. Where they have as many or more, it costs at most 300 products with J and 300 with
    its transpose on eight random fields, and then, if they determine a field, at most 8 x 300 of
    each on `x`; beside these, one with the transpose per law and step.

    Arguments:
        laws: That are not obeyed by construction.
        probed: A sample and its condition, at which it is found whether the laws determine one;
            not of `x`, so that the answer is the same for every batch.
        kept: Affine laws that hold, and that no step touches.

    Raises:
        InputError: A law's residual has no row per sample.
        RuntimeError: A law fails for another reason than that it cannot be differentiated, twice.
    """
    problem, few = Problem.of(laws, Parametrisation(), 1.0, kept), some(c, slice(1))
    count = sum(entry.rows(x[:1], few).shape[1] for entry in (*problem.laws, *kept))
    if not len(x) or count < x[0].numel():
        return None
    try:
        return _distance(problem, x, c) if _determined(problem, *probed()) else None
    except (InputError, RuntimeError) as error:
        if UNDIFFERENTIABLE.search(str(error)):
            return None
        raise


def _determined(problem: Problem, x: Tensor, c: Condition) -> bool:
    """Whether the linearised laws see every direction of the first field."""
    x = x[:1].expand(PROBES, *x.shape[1:])
    c = {name: value[:1].expand(PROBES, *value.shape[1:]) for name, value in c.items()}
    noise = problem.unseen(_noise(x).unsqueeze(1), c).squeeze(1)
    forward, _ = problem.linearised(x, c)
    found, _ = _undamped(problem, x, c, forward(noise))
    return bool((noise - found).flatten(1).square().sum(1).amax() < MISSED)


def _distance(problem: Problem, x: Tensor, c: Condition) -> Estimate:
    """NaN where the steps do not settle: a distance from where they were left means nothing.

    They have settled where one takes away 99 % of the residual, is short beside the distance found,
    or where roundings make all that is left.
    """

    def measured(y: Tensor) -> tuple[Tensor, Tensor]:
        r = problem.residual(y, c)
        return r.norm(dim=1), r

    def rounded(y: Tensor, r: Tensor) -> Tensor:
        """Whether a residual is no larger than what roundings of the field make of it."""
        size = ULPS * torch.finfo(y.dtype).eps * y.flatten(1).abs().amax(1)
        change = problem.residual(y + like(size, y) * _noise(y), c) - r
        return r.norm(dim=1) <= change.norm(dim=1)

    y, r = x, problem.residual(x, c)
    far = ~rounded(y, r)
    for _ in range(STEPS):
        if not bool(far.any()):
            break
        step, missed = _undamped(problem, y, c, r)
        step = like(far.to(y), y) * step
        y, _, _, left = _shortened(y, step, (r.norm(dim=1), r), measured, SHORTENINGS)
        short = step.flatten(1).norm(dim=1) < SHORT * (y - x).flatten(1).norm(dim=1)
        seen = missed.norm(dim=1) < r.norm(dim=1) / 2  # the linearised laws foretold this step
        solved = left.norm(dim=1) < SOLVED * r.norm(dim=1)
        far &= ~(solved | (short & seen) | rounded(y, left))
        r = left
    return Estimate.of(x, torch.where(like(far, y), torch.nan, y), JUDGE)


def _undamped(problem: Problem, x: Tensor, c: Condition, r: Tensor) -> tuple[Tensor, Tensor]:
    """The least solution of J y = r, and what it leaves of r."""
    return problem.solve(x, c, r, torch.full((len(x),), SLIGHT).to(x), SOLVES, 0.0)


def _noise(x: Tensor) -> Tensor:
    """White noise of the shape of `x`, the same every time."""
    return torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).to(x)
