r"""Damped least squares by products with a Jacobian and its transpose alone, a batch at once.

Conjugate gradients on the normal equations (Hestenes & Stiefel 1952, CGLS; Nocedal & Wright 2006,
section 10.2) for the step y that makes

.. math:: (r - J y)^T D^{-1} (r - J y) + \lambda\, |K^{-1} y|^2

least, D and the symmetric K positive, with :math:`K^2` as preconditioner so that neither K nor its
inverse is needed. From y = 0 the limit for :math:`\lambda \to 0` is the solution of least norm.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from lawful.errors import InputError
from lawful.laws import Condition, Law

Linear = Callable[[Tensor], Tensor]


def tracked(
    entry: Law, x: Float[Tensor, "batch *space"], c: Condition
) -> Float[Tensor, "batch residual"]:
    """A law's residual with its graph, at an `x` that requires a gradient.

    Raises:
        InputError: The residual has no derivative by the sample.
    """
    r = entry.rows(x, c)
    if not r.requires_grad:
        raise InputError(
            f"law {entry.name!r}: expected a residual that depends on the sample and is "
            "differentiable, got one without a gradient"
        )
    return r


def products(
    r: Float[Tensor, "batch residual"], x: Float[Tensor, "batch *space"], pull: Linear
) -> tuple[Linear, Linear]:
    """J and its transpose, for a residual `r` with its graph from `x`.

    The transpose is a gradient turned by `pull` into what is moved; J is the derivative of that
    by the vector it is applied to, in which it is linear.
    """
    with torch.enable_grad():
        seed = torch.zeros_like(r, requires_grad=True)
        (gradient,) = torch.autograd.grad(r, x, seed, create_graph=True)
        pulled = pull(gradient)

    def forward(y: Tensor) -> Tensor:
        if not pulled.requires_grad:
            return torch.zeros_like(r)
        (out,) = torch.autograd.grad(pulled, seed, y, retain_graph=True)
        return out

    def transpose(v: Tensor) -> Tensor:
        (out,) = torch.autograd.grad(r, x, v, retain_graph=True)
        return pull(out)

    return forward, transpose


@torch.no_grad()
def least_squares(
    forward: Linear,
    transpose: Linear,
    r: Float[Tensor, "batch residual"],
    *,
    scale: Float[Tensor, "batch residual"],
    damp: Float[Tensor, " batch"],
    steps: int,
    spread: Linear = lambda v: v,
    target: float = 0.0,
) -> tuple[Tensor, Float[Tensor, "batch residual"]]:
    r"""The damped step y of each sample, and what the linearisation leaves, r - J y.

    Arguments:
        forward, transpose: J, of the shape of y to that of r, and its transpose.
        scale: The diagonal of D.
        damp: lambda.
        steps: At most; a sample ends before where nothing is left but what damping leaves.
        spread: :math:`K^2`.
        target: Norm of r - J y that is enough.
    """
    tiny = 10 * torch.finfo(r.dtype).eps
    enough = (1e-3 * damp.sqrt()).clamp_min(tiny).square()
    left, slope = r.clone(), transpose(r / scale)
    y = z = torch.zeros_like(slope)
    along = spread(slope)
    ahead, dual = along, slope  # the direction is K^2 times its dual
    first = size = dot(slope, along)
    for _ in range(steps):
        live = (size > enough * first) & (left.norm(dim=1) > target)
        if not bool(live.any()):
            break
        seen = forward(ahead)
        curvature = dot(seen, seen / scale) + damp * dot(dual, ahead)
        length = torch.where(live, size / curvature, 0.0).nan_to_num(posinf=0.0)
        y, z = y + times(length, ahead), z + times(length, dual)
        left = left - length[:, None] * seen
        slope = transpose(left / scale) - times(damp, z)
        along = spread(slope)
        fresh = dot(slope, along)
        ratio = torch.where(live, fresh / size, 0.0).nan_to_num(posinf=0.0)
        ahead, dual = along + times(ratio, ahead), slope + times(ratio, dual)
        size = torch.where(live, fresh, size)
    return y, left


def mean_diagonals(
    transpose: Linear, spread: Linear, r: Float[Tensor, "batch residual"], sizes: Sequence[int]
) -> Float[Tensor, "batch residual"]:
    """Mean diagonals of J K^2 J^T over consecutive parts of these sizes, each all along its part.

    Estimated by a product with random signs for each part, the same for every sample (Hutchinson
    1989).
    """
    generator = torch.Generator().manual_seed(0)
    signs = (torch.randint(0, 2, r.shape[1:], generator=generator) * 2 - 1).to(r)
    parts = []
    for number, size in enumerate(sizes):
        part = torch.arange(len(sizes), device=r.device).repeat_interleave(
            torch.tensor(sizes, device=r.device)
        )
        back = transpose((signs * (part == number)).expand_as(r))
        parts.append((dot(back, spread(back)) / size)[:, None].expand(-1, size))
    return torch.cat(parts, 1)


def dot(a: Tensor, b: Tensor) -> Float[Tensor, " batch"]:
    """Inner products, sample by sample."""
    return (a * b).flatten(1).sum(1)


def times(factor: Float[Tensor, " batch"], v: Tensor) -> Tensor:
    """Each sample times its own number."""
    return factor.view(-1, *[1] * (v.ndim - 1)) * v
