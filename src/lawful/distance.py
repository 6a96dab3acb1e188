r"""How far samples are from the solution of their own laws, where the laws determine one.

A sample x with the stacked residual r is taken by Gauss-Newton steps
:math:`y \leftarrow y - J^+ r(y)` to the solution nearby, by products with J and its transpose alone
(`laws.krylov`). A step is halved until it lowers the residual. Where the steps do not settle there
is no estimate of that sample: NaN. They have settled where one takes away 99 % of the residual, is
short beside the distance found, or where roundings make all that is left.
Where the laws leave a field free, as statistics and motifs do, the same steps lead to the nearest
field that obeys them, which says nothing of an error: then there is no estimate at all.

Laws determine a field where their residuals are as many as its entries, and where
:math:`J^+ J v = v` for random v. Of white noise v of unit variance each direction that the laws do
not see, or that so many products do not solve, leaves a square of mean 1.
"""

import re
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lawful.errors import InputError
from lawful.krylov import times
from lawful.laws import AffineLaw, Condition, Estimate, Law
from lawful.residuals import Identity, Problem

STEPS, PRODUCTS = 8, 300  # Gauss-Newton steps; products with J and its transpose in each
HALVINGS = 10  # of a step that does not lower the residual
PROBES, MISSED = 8, 0.1  # random fields; square of what may be left of each
SOLVED, DAMPING = 1e-2, 1e-8  # share of the residual, and of its squares, that is nothing
SHORT, ULPS = 0.05, 8  # last step over the distance that is found; roundings that are nothing
JUDGE = "Gauss-Newton steps under all laws together, of the discrete law only"
# PyTorch has no type of its own for what has no derivative, or no second one; only words.
UNDIFFERENTIABLE = re.compile("differentia|derivative|gradient|require[sd]? grad")


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
    problem = Problem.of(laws, Identity(), 1.0, kept)
    few = {name: value[:1] for name, value in c.items()}
    count = problem.count(x[:1], few) + sum(e.rows(x[:1], few).shape[1] for e in kept)
    if not len(x) or count < x[0].numel():
        return None
    try:
        if not determined(problem, *probed()):
            return None
        return _distance(problem, x, c)
    except (InputError, RuntimeError) as error:
        if UNDIFFERENTIABLE.search(str(error)):
            return None
        raise


def determined(problem: Problem, x: Float[Tensor, "batch *space"], c: Condition) -> bool:
    """Whether the linearised laws see every direction of the first field."""
    generator = torch.Generator().manual_seed(0)
    x = x[:1].expand(PROBES, *x.shape[1:])
    c = {name: value[:1].expand(PROBES, *value.shape[1:]) for name, value in c.items()}
    noise = torch.randn(x.shape, generator=generator).to(x)
    noise = problem.unseen(noise.unsqueeze(1), c).squeeze(1)
    forward, _ = problem.linearised(x, c)
    found, _ = _solve(problem, x, c, forward(noise))
    return bool((noise - found).flatten(1).square().sum(1).amax() < MISSED)


def _distance(problem: Problem, x: Tensor, c: Condition) -> Estimate:
    """NaN where the steps do not settle: a distance from where they were left means nothing."""
    y, r = x, problem.residual(x, c)
    far = ~_rounded(problem, y, c, r)
    for _ in range(STEPS):
        if not bool(far.any()):
            break
        step, missed = _solve(problem, y, c, r)
        y, left = _lowered(problem, y, c, times(far.to(y), step), r)
        short = step.flatten(1).norm(dim=1) < SHORT * (y - x).flatten(1).norm(dim=1)
        seen = missed.norm(dim=1) < r.norm(dim=1) / 2  # the linearised laws foretold this step
        solved = left.norm(dim=1) < SOLVED * r.norm(dim=1)
        far &= ~(solved | (short & seen) | _rounded(problem, y, c, left))
        r = left
    return Estimate.of(x, torch.where(_like(far, y), torch.nan, y), JUDGE)


def _lowered(
    problem: Problem, y: Tensor, c: Condition, step: Tensor, r: Tensor
) -> tuple[Tensor, Tensor]:
    """Fields after the step, or half of it, or a quarter, …: the first that lowers the residual,
    and as they were where none does; and their residual."""
    found, left = y, r
    waits = step.flatten(1).norm(dim=1) > 0
    for k in range(HALVINGS):
        if not bool(waits.any()):
            break
        moved = y - step / 2**k
        tried = problem.residual(moved, c)
        lower = waits & (tried.norm(dim=1) < r.norm(dim=1))
        found = torch.where(_like(lower, y), moved, found)
        left = torch.where(lower.unsqueeze(1), tried, left)
        waits &= ~lower
    return found, left


def _rounded(problem: Problem, y: Tensor, c: Condition, r: Tensor) -> Bool[Tensor, " batch"]:
    """Whether a residual is no larger than what roundings of the field make of it."""
    noise = torch.randn(y.shape, generator=torch.Generator().manual_seed(0)).to(y)
    size = ULPS * torch.finfo(y.dtype).eps * y.flatten(1).abs().amax(1)
    change = problem.residual(y + times(size, noise), c) - r
    return r.norm(dim=1) <= change.norm(dim=1)


def _like(mask: Bool[Tensor, " batch"], y: Tensor) -> Tensor:
    return mask.view(-1, *[1] * (y.ndim - 1))


def _solve(problem: Problem, x: Tensor, c: Condition, r: Tensor) -> tuple[Tensor, Tensor]:
    """The least solution of J y = r, and what it leaves of r."""
    damp = torch.full((len(x),), DAMPING).to(x)
    return problem.solve(x, c, r, problem.sizes(x, c), damp, PRODUCTS, target=0.0)
