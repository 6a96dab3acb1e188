r"""How far samples are from the solution of their own laws, where the laws determine one.

A sample x with the stacked residual r is taken by full Gauss-Newton steps
:math:`y \leftarrow y - J^+ r(y)` to the solution nearby, by products with J and its transpose alone
(`laws.krylov`). Where the laws leave a field free, as statistics and motifs do, the same steps lead
to the nearest field that obeys them, which says nothing of an error: then there is no estimate.

Laws determine a field where their residuals are as many as its entries, and where
:math:`J^+ J v = v` for random v. Of white noise v of unit variance each direction that the laws do
not see, or that so many products do not solve, leaves a square of mean 1.
"""

import re
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from lawful.condition import Condition
from lawful.errors import InputError
from lawful.laws.krylov import times
from lawful.laws.law import AffineLaw, Estimate, Law
from lawful.laws.problem import Identity, Problem

STEPS, PRODUCTS = 3, 300  # Gauss-Newton steps; products with J and its transpose in each
PROBES, MISSED = 8, 0.1  # random fields; square of what may be left of each
SOLVED, DAMPING = 1e-2, 1e-8  # share of the residual, and of its squares, that is nothing
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
    its transpose on eight random fields, and then, if they determine a field, at most 3 x 300 of
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
    found = _solve(problem, x, c, forward(noise))
    return bool((noise - found).flatten(1).square().sum(1).amax() < MISSED)


def _distance(problem: Problem, x: Tensor, c: Condition) -> Estimate:
    y, far = x, torch.ones(len(x), dtype=torch.bool, device=x.device)
    for _ in range(STEPS):
        r = problem.residual(y, c)
        y = y - times(far.to(y), _solve(problem, y, c, r))
        far = far & ~(problem.residual(y, c).norm(dim=1) < SOLVED * r.norm(dim=1))
        if not bool(far.any()):
            break
    return Estimate.of(x, y, "of the discrete law only")


def _solve(problem: Problem, x: Tensor, c: Condition, r: Tensor) -> Tensor:
    """The least solution of J y = r."""
    damp = torch.full((len(x),), DAMPING).to(x)
    return problem.solve(x, c, r, problem.sizes(x, c), damp, PRODUCTS, target=0.0)[0]
