r"""Laws with tolerances on samples, linearised: damped least squares with the Jacobian or without.

Beyond a few hundred residuals J and its transpose are only ever applied, a batch at once, by
conjugate gradients on the normal equations (Hestenes & Stiefel 1952, CGLS; Nocedal & Wright 2006,
section 10.2) for the step y that makes

.. math:: (r - J y)^T D^{-1} (r - J y) + \lambda\, |K^{-1} y|^2

least, D and the symmetric K positive, with :math:`K^2` as preconditioner so that neither K nor its
inverse is needed. From y = 0 the limit for :math:`\lambda \to 0` is the solution of least norm;
memory is linear in the sizes of sample and residual.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf

import torch
from jaxtyping import Float
from torch import Tensor

from lawful.errors import InputError
from lawful.laws import AffineLaw, Condition, Law, LinearizedLaw, Residual, law

FLOOR = 1e-6  # of the diagonal of a law that what is moved cannot serve
Linear = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Parametrisation:
    """How a sample comes from what is moved; where nothing is overridden, it is moved itself.

    Steps are K times the shortest for a symmetric operator K: w moves by K u, |u| least.
    """

    def field(self, w: Float[Tensor, "batch *moved"], c: Condition) -> Tensor:
        """The samples `(batch, channel, *space)`."""
        return w

    def coordinates(
        self, rows: Float[Tensor, "batch residual *moved"]
    ) -> Float[Tensor, "batch residual coordinate"]:
        """K times each row, in an orthonormal basis."""
        return rows.flatten(2)

    def spread(self, v: Float[Tensor, "batch *moved"]) -> Float[Tensor, "batch *moved"]:
        """K twice applied."""
        return v

    def pull(
        self, rows: Float[Tensor, "batch residual *space"], w: Tensor, x: Tensor
    ) -> Float[Tensor, "batch residual *moved"]:
        """Rows of a Jacobian by the sample x that w makes, turned into rows by what is moved."""
        return rows


@dataclass(frozen=True)
class Problem:
    """Laws with their tolerances, on samples that come through a parametrisation."""

    laws: tuple[Law, ...]
    tolerances: tuple[float, ...]
    through: Parametrisation
    kept: tuple[AffineLaw, ...] = ()

    @classmethod
    def of(
        cls,
        laws: Sequence[Law | Residual],
        through: Parametrisation,
        tolerance: float | Mapping[str, float],
        kept: Sequence[AffineLaw] = (),
    ) -> "Problem":
        """Laws that are all to be met, and some that steps do not touch.

        Raises:
            InputError: A tolerance is not positive, or a law has none; or laws are kept of samples
                that are not moved themselves.
        """
        if kept and type(through) is not Parametrisation:
            raise InputError(f"kept: {kept[0].name!r} is of samples that are moved themselves")
        entries = tuple(law(entry) for entry in laws)
        by_name = (
            tolerance if isinstance(tolerance, Mapping) else {e.name: tolerance for e in entries}
        )
        if missing := [entry.name for entry in entries if entry.name not in by_name]:
            raise InputError(f"tolerance: none is given for law {missing[0]!r}")
        chosen = tuple(float(by_name[entry.name]) for entry in entries)
        if not all(0 < value < inf for value in chosen) or not chosen:
            raise InputError(f"tolerance: expected positive numbers, got {tolerance}")
        return cls(entries, chosen, through, tuple(kept))

    def ratios(self, x: Tensor, c: Condition) -> Float[Tensor, "law batch"]:
        """Each violation over its tolerance; infinite where it is not finite."""
        ratios = [e.violation(x, c) / t for e, t in zip(self.laws, self.tolerances, strict=True)]
        return torch.stack(ratios).nan_to_num(nan=inf)

    def merit(self, x: Tensor, c: Condition) -> Float[Tensor, " batch"]:
        """The largest violation over its tolerance."""
        return self.ratios(x, c).amax(0)

    def residuals(self, x: Tensor, c: Condition, graph: bool = False) -> list[Tensor]:
        """Rows of each law, scaled so that its sum of squares is its share of the merit."""
        rows = [tracked(e, x, c) if graph else e.rows(x, c) for e in self.laws]
        return [r / (t * r.shape[1] ** 0.5) for r, t in zip(rows, self.tolerances, strict=True)]

    def residual(self, x: Tensor, c: Condition) -> Float[Tensor, "batch residual"]:
        """The rows of all laws."""
        return torch.cat(self.residuals(x, c), 1)

    def jacobian(self, x: Tensor, c: Condition) -> Float[Tensor, "batch residual *space"]:
        """Derivative of `residual` by the sample."""
        parts = []
        for entry, t in zip(self.laws, self.tolerances, strict=True):
            if isinstance(entry, LinearizedLaw):
                rows = entry.jacobian(x, c)
            else:
                rows = rows_of(entry, x, c)
            parts.append(rows / (t * rows.shape[1] ** 0.5))
        return torch.cat(parts, 1)

    def unseen(
        self, rows: Float[Tensor, "batch residual *moved"], c: Condition
    ) -> Float[Tensor, "batch residual *moved"]:
        """The part of each row that no kept law sees."""
        if not self.kept:
            return rows
        each = {name: value.repeat_interleave(rows.shape[1], 0) for name, value in c.items()}
        flat = rows.flatten(0, 1)
        for entry in self.kept:
            flat = entry.hide(flat, each)
        return flat.view_as(rows)

    def linearised(self, w: Tensor, c: Condition) -> tuple[Linear, Linear]:
        """Products with J and its transpose, in what is moved.

        The transpose is a gradient pulled back to what is moved; J is the derivative of that by the
        vector it is applied to, in which it is linear.
        """
        field = self.through.field(w, c).detach()
        x = field.clone().requires_grad_()

        def pull(gradient: Tensor) -> Tensor:
            rows = self.through.pull(gradient.unsqueeze(1), w, field)
            return self.unseen(rows, c).squeeze(1)

        with torch.enable_grad():
            r = torch.cat(self.residuals(x, c, graph=True), 1)
            seed = torch.zeros_like(r, requires_grad=True)
            pulled = pull(torch.autograd.grad(r, x, seed, create_graph=True)[0])

        def forward(y: Tensor) -> Tensor:
            if not pulled.requires_grad:
                return torch.zeros_like(r)
            return torch.autograd.grad(pulled, seed, y, retain_graph=True)[0]

        def transpose(v: Tensor) -> Tensor:
            return pull(torch.autograd.grad(r, x, v, retain_graph=True)[0])

        return forward, transpose

    def solve(
        self, w: Tensor, c: Condition, r: Tensor, damp: Tensor, steps: int, target: float
    ) -> tuple[Tensor, Float[Tensor, "batch residual"]]:
        """A full step without J, and what it leaves of `r`.

        Arguments:
            damp: Lambda over the mean diagonal of each law's part of J K^2 J^T.
            steps: Products with J and its transpose at most.
            target: Norm of what is left of `r` that is enough.
        """
        forward, transpose = self.linearised(w, c)
        sizes = [part.shape[1] for part in self.residuals(self.through.field(w, c), c)]
        scale = mean_diagonals(transpose, self.through.spread, r, sizes)
        scale = scale.maximum(FLOOR * scale.mean(1, keepdim=True)).clamp_min(1e-30)
        return least_squares(
            forward, transpose, r, scale=scale, damp=damp, steps=steps,
            spread=self.through.spread, target=target,
        )  # fmt: skip


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


def rows_of(
    entry: Law, x: Float[Tensor, "batch *space"], c: Condition
) -> Float[Tensor, "batch residual *space"]:
    """Jacobian of a law by automatic differentiation, all rows in one vectorised pass."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        r = tracked(entry, x, c)
        seeds = torch.eye(r.shape[1]).to(r)[:, None].expand(-1, len(r), -1)
        (rows,) = torch.autograd.grad(r, x, seeds, is_grads_batched=True)
    return rows.movedim(1, 0)


@torch.no_grad()
def least_squares(
    forward: Linear,
    transpose: Linear,
    r: Float[Tensor, "batch residual"],
    *,
    scale: Float[Tensor, "batch residual"],
    damp: Float[Tensor, " batch"],
    steps: int,
    spread: Linear,
    target: float,
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
    enough = (1e-3 * damp.sqrt()).clamp_min(10 * torch.finfo(r.dtype).eps).square()
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
        y, z = y + like(length, y) * ahead, z + like(length, z) * dual
        left = left - length[:, None] * seen
        slope = transpose(left / scale) - like(damp, z) * z
        along = spread(slope)
        fresh = dot(slope, along)
        ratio = torch.where(live, fresh / size, 0.0).nan_to_num(posinf=0.0)
        ahead, dual = along + like(ratio, y) * ahead, slope + like(ratio, z) * dual
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
    for first, size in zip([sum(sizes[:i]) for i in range(len(sizes))], sizes, strict=True):
        chosen = torch.zeros_like(signs)
        chosen[first : first + size] = signs[first : first + size]
        back = transpose(chosen.expand_as(r))
        parts.append((dot(back, spread(back)) / size)[:, None].expand(-1, size))
    return torch.cat(parts, 1)


def dot(a: Tensor, b: Tensor) -> Float[Tensor, " batch"]:
    """Inner products, sample by sample."""
    return (a * b).flatten(1).sum(1)


def like(value: Tensor, w: Tensor) -> Tensor:
    """A value per sample, to be combined with samples of the shape of `w`."""
    return value.view(-1, *[1] * (w.ndim - 1))
