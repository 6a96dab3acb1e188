r"""Samples brought below a tolerance under any list of laws: damped minimum-norm Gauss-Newton.

The merit m is the largest violation over its tolerance, at most 1 where all are met. With the
residuals of all laws stacked, each over its law's tolerance, a step of what is moved is the
shortest that solves the linearised laws (Levenberg 1944; Nocedal & Wright 2006, section 10.3):

.. math:: w \leftarrow w - t\, K^2 J^T (J K^2 J^T + \Lambda)^{-1} r .

:math:`\Lambda` is diagonal, a share of the mean of each law's part of that matrix's diagonal; t is
halved until m falls, and :math:`\Lambda` raised tenfold where no t helps. K is the identity, or
smooths. What is moved is the sample itself, or, through a
`Parametrisation`, a smooth field behind it: of a binary sample the level cut's, whose interfaces
then move. What remains is the rounding of interfaces to pixels; `exchange_pixels` works on that.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from math import inf
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lawful.condition import Condition
from lawful.errors import InputError
from lawful.laws.law import Law, LinearizedLaw, Residual, law
from lawful.physics.random_field import blur_transfer, level_cut

CHUNK = 16  # samples whose Jacobians fit into the processor's cache
HALVINGS, LARGEST_ROWS = 4, 1024
FLOOR = 1e-6  # of a law that what is moved cannot serve
STIFFEST = 10.0  # damping at which a sample is given up


class Parametrisation(ABC):
    """How a sample comes from what is moved."""

    @abstractmethod
    def field(self, w: Float[Tensor, "batch *moved"], c: Condition) -> Tensor:
        """The samples `(batch, channel, *space)`."""

    @abstractmethod
    def coordinates(
        self, rows: Float[Tensor, "batch residual *moved"]
    ) -> Float[Tensor, "batch residual coordinate"]:
        """K times each row, in an orthonormal basis, for a symmetric operator K.

        Steps are K times the shortest: w moves by K u, |u| least.
        """

    @abstractmethod
    def spread(self, v: Float[Tensor, "batch *moved"]) -> Float[Tensor, "batch *moved"]:
        """K twice applied."""

    @abstractmethod
    def pull(
        self, rows: Float[Tensor, "batch residual *space"], w: Tensor, x: Tensor
    ) -> Float[Tensor, "batch residual *moved"]:
        """Rows of a Jacobian by the sample x that w makes, turned into rows by what is moved."""


@dataclass(frozen=True)
class Identity(Parametrisation):
    """The sample itself is moved."""

    def field(self, w: Tensor, c: Condition) -> Tensor:
        return w

    def coordinates(self, rows: Tensor) -> Tensor:
        return rows.flatten(2)

    def spread(self, v: Tensor) -> Tensor:
        return v

    def pull(self, rows: Tensor, w: Tensor, x: Tensor) -> Tensor:
        return rows


@dataclass(frozen=True)
class LevelCut(Parametrisation):
    """A binary sample of exactly `volume_fraction` is the level cut of a field (batch, 1, *space).

    Its derivative is that of a sigmoid at the level, which follows so that the mean stays:
    :math:`\\delta x = s\\,(\\delta w - \\langle s\\,\\delta w\\rangle / \\langle s\\rangle)`.

    Arguments:
        steepness: Of the sigmoid, a unit of w.
        blur: Standard deviation in pixels of the Gaussian that smooths steps: without it, noise at
            the scale of pixels roughens the interfaces.
    """

    steepness: float = 10.0
    blur: float = 1.5

    def field(self, w: Tensor, c: Condition) -> Tensor:
        return level_cut(w, c["volume_fraction"])

    def coordinates(self, rows: Tensor) -> Tensor:
        """The half spectrum, each entry times the root of how often it stands in the whole."""
        weights, _ = _transfers(*rows.shape[-2:], self.blur, rows.dtype, rows.device)
        return torch.view_as_real(torch.fft.rfft2(rows, norm="ortho") * weights).flatten(2)

    def spread(self, v: Tensor) -> Tensor:
        _, transfer = _transfers(*v.shape[-2:], self.blur, v.dtype, v.device)
        return torch.fft.irfft2(torch.fft.rfft2(v) * transfer, s=v.shape[-2:])

    def pull(self, rows: Tensor, w: Tensor, x: Tensor) -> Tensor:
        level = torch.where(x > 0.5, w, torch.inf).amin(tuple(range(1, w.ndim)), keepdim=True)
        soft = torch.sigmoid(self.steepness * (w - level))
        slope = (self.steepness * soft * (1 - soft)).flatten(1).unsqueeze(1)
        pulled = rows.flatten(2) * slope
        share = pulled.sum(2, keepdim=True) / slope.sum(2, keepdim=True).clamp_min(1e-12)
        return pulled.baddbmm_(share, slope, alpha=-1).view_as(rows)


@lru_cache(maxsize=16)
def _transfers(
    rows: int, columns: int, blur: float, dtype: torch.dtype, device: torch.device
) -> tuple[Float[Tensor, "rows half"], Float[Tensor, "rows half"]]:
    """The blur on the half spectrum: times the root of each entry's multiplicity; and squared."""
    transfer = blur_transfer(rows, columns, blur)
    twice = torch.full((columns // 2 + 1,), 2.0, dtype=torch.float64)
    twice[0] = 1.0
    if columns % 2 == 0:
        twice[-1] = 1.0
    return (transfer * twice.sqrt()).to(device, dtype), transfer.square().to(device, dtype)


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
    iterations: int = 30,
    damping: float = 1e-3,
    exchanges: int = 0,
) -> Refined:
    """Take samples below a tolerance of every law, each as far as it needs.

    Arguments:
        laws: Any; those with a `jacobian` are linearised in closed form.
        w: What is moved: samples, or what `through` makes samples of; the samples where there is
            none. Of several, each takes up what the one before did not bring there; they must make
            the same samples.
        tolerance: Of the violation, of all laws or by name.
        iterations: Gauss-Newton steps at most, of each way.
        damping: Lambda over the mean diagonal of each law's part of J K^2 J^T.
        exchanges: Rounds of pixel exchanges at most, for samples that are binary.

    Raises:
        InputError: A tolerance is not positive or missing, or the laws have too many residuals.
    """
    ways = (through,) if isinstance(through, Parametrisation) else tuple(through)
    problems = [Problem.of(laws, way, tolerance) for way in ways or (Identity(),)]
    parts = [
        _refine(problems, w[rows], {name: value[rows] for name, value in c.items()},
                iterations, damping, exchanges)
        for rows in torch.arange(len(w)).split(at_a_time(w))
    ]  # fmt: skip
    return join(parts)


def at_a_time(w: Float[Tensor, "batch *moved"]) -> int:
    """Samples whose Jacobians are held at once: fewer, the larger they are."""
    return max(1, min(CHUNK, CHUNK * 256**2 // w[0].numel()))


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
    problems: Sequence["Problem"],
    w: Tensor,
    c: Condition,
    iterations: int,
    damping: float,
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
    problem: "Problem", w: Tensor, c: Condition, iterations: int, damping: float
) -> tuple[Tensor, Tensor]:
    """Steps of every sample until its merit is 1, or no step lowers it; and how many."""
    damp = torch.full((len(w),), damping).to(w)
    count = torch.zeros(len(w), dtype=torch.long, device=w.device)
    merit = problem.merit(problem.through.field(w, c), c)
    for _ in range(iterations):
        rows = torch.where((merit > 1) & (damp < STIFFEST))[0]
        if not len(rows):
            break
        few = {name: value[rows] for name, value in c.items()}
        moved, better = _step(problem, w[rows], few, merit[rows], damp[rows])
        improved = better < merit[rows]
        damp[rows] = torch.where(improved, (damp[rows] / 3).clamp_min(damping), 10 * damp[rows])
        w = w.index_copy(0, rows, moved)
        merit = merit.index_copy(0, rows, better)
        count[rows] += 1
    return w, count


def _step(
    problem: "Problem", w: Tensor, c: Condition, merit: Tensor, damp: Tensor
) -> tuple[Tensor, Tensor]:
    """The longest of a few Gauss-Newton steps that lowers the merit; none where none does."""
    step = direction(problem, w, c, damp)
    best, length = w, 1.0
    start, done = merit, torch.zeros_like(merit, dtype=torch.bool)
    for _ in range(HALVINGS):
        trial = w - length * step
        found = problem.merit(problem.through.field(trial, c), c)
        lower = (found < start) & ~done
        shaped = lower.view(-1, *[1] * (w.ndim - 1))
        best, merit = torch.where(shaped, trial, best), torch.where(lower, found, merit)
        done |= lower
        if bool(done.all()):
            break
        length /= 2
    return best, merit


def direction(
    problem: "Problem",
    w: Float[Tensor, "batch *moved"],
    c: Condition,
    damp: Float[Tensor, " batch"],
) -> Float[Tensor, "batch *moved"]:
    """K^2 J^T (J K^2 J^T + Lambda)^-1 r: what a full step takes away from `w`."""
    through, x = problem.through, problem.through.field(w, c)
    rows = through.pull(problem.jacobian(x, c), w, x)
    seen = through.coordinates(rows)
    gram = seen @ seen.mT
    diagonal = gram.diagonal(dim1=1, dim2=2)
    parts = problem.residuals(x, c)
    blocks = diagonal.split([part.shape[1] for part in parts], 1)
    scale = torch.cat([b.mean(1, keepdim=True).expand_as(b) for b in blocks], 1)
    scale = scale.maximum(FLOOR * diagonal.mean(1, keepdim=True))
    factor = torch.linalg.cholesky_ex(gram + torch.diag_embed(damp[:, None] * scale + 1e-30)).L
    weights = torch.cholesky_solve(torch.cat(parts, 1).unsqueeze(2), factor)
    return through.spread((weights.mT @ rows.flatten(2)).view_as(w)).nan_to_num()


@torch.no_grad()
def unrolled(
    problem: "Problem",
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


@dataclass(frozen=True)
class Problem:
    """Laws with their tolerances, on samples that come through a parametrisation."""

    laws: tuple[Law, ...]
    tolerances: tuple[float, ...]
    through: Parametrisation

    @classmethod
    def of(
        cls,
        laws: Sequence[Law | Residual],
        through: Parametrisation,
        tolerance: float | Mapping[str, float],
    ) -> "Problem":
        """Laws that are all to be met.

        Raises:
            InputError: A tolerance is not positive, or a law has none.
        """
        entries = tuple(law(entry) for entry in laws)
        by_name = (
            tolerance if isinstance(tolerance, Mapping) else {e.name: tolerance for e in entries}
        )
        if missing := [entry.name for entry in entries if entry.name not in by_name]:
            raise InputError(f"tolerance: none is given for law {missing[0]!r}")
        chosen = tuple(float(by_name[entry.name]) for entry in entries)
        if not all(0 < value < inf for value in chosen) or not chosen:
            raise InputError(f"tolerance: expected positive numbers, got {tolerance}")
        return cls(entries, chosen, through)

    def violations(self, x: Tensor, c: Condition) -> dict[str, Tensor]:
        """Of every law, by name."""
        return {entry.name: entry.violation(x, c) for entry in self.laws}

    def merit(self, x: Tensor, c: Condition) -> Float[Tensor, " batch"]:
        """The largest violation over its tolerance; infinite where it is not finite."""
        ratios = [e.violation(x, c) / t for e, t in zip(self.laws, self.tolerances, strict=True)]
        return torch.stack(ratios).amax(0).nan_to_num(nan=inf)

    def residual(self, x: Tensor, c: Condition) -> Float[Tensor, "batch residual"]:
        """All residuals, scaled so that each law's sum of squares is its share of the merit."""
        return torch.cat(self.residuals(x, c), 1)

    def residuals(self, x: Tensor, c: Condition) -> list[Tensor]:
        """The same, law by law."""
        rows = [entry.rows(x, c) for entry in self.laws]
        return [r / (t * r.shape[1] ** 0.5) for r, t in zip(rows, self.tolerances, strict=True)]

    def jacobian(self, x: Tensor, c: Condition) -> Float[Tensor, "batch residual *space"]:
        """Derivative of `residual` by the sample."""
        parts = []
        for entry, t in zip(self.laws, self.tolerances, strict=True):
            rows = (
                entry.jacobian(x, c) if isinstance(entry, LinearizedLaw) else rows_of(entry, x, c)
            )
            parts.append(rows / (t * rows.shape[1] ** 0.5))
        return torch.cat(parts, 1)


def rows_of(
    entry: Law, x: Float[Tensor, "batch *space"], c: Condition
) -> Float[Tensor, "batch residual *space"]:
    """Jacobian of a law by automatic differentiation, all rows in one vectorised pass.

    Raises:
        InputError: There are too many rows to be held.
    """
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        r = entry.rows(x, c)
        count = r.shape[1]
        if count > LARGEST_ROWS:
            raise InputError(
                f"refine: law {entry.name!r} has {count} residuals a sample, expected at most "
                f"{LARGEST_ROWS}"
            )
        seeds = torch.eye(count).to(r)[:, None].expand(-1, len(r), -1)
        (rows,) = torch.autograd.grad(r, x, seeds, is_grads_batched=True)
    return rows.movedim(1, 0)


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
