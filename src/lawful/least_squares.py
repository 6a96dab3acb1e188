r"""Laws with tolerances on samples, linearised: the step that solves them, damped.

With the residuals of all laws stacked, each over its law's tolerance, the step y is the least of
the damped problem, D positive and diagonal and K symmetric (Levenberg 1944; Nocedal & Wright 2006,
section 10.3):

.. math:: \min_y\; (r - J y)^T D^{-1} (r - J y) + \lambda\, |K^{-1} y|^2, \qquad
    y = K^2 J^T (J K^2 J^T + \lambda D)^{-1} r .

D is the mean of each law's part of the diagonal of :math:`J K^2 J^T`. Up to `LARGEST_ROWS`
residuals that matrix is formed, in double precision where damping is little, since it squares the
condition of J. Beyond that J and its transpose are only ever applied, by conjugate gradients on the
normal equations (Hestenes & Stiefel 1952, CGLS) with :math:`K^2` as preconditioner, so that neither
K nor its inverse is needed. From y = 0 the limit for :math:`\lambda \to 0` is the solution of least
norm; memory is linear in the sizes of sample and residual.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf

import torch
from jaxtyping import Float
from torch import Tensor

from lawful.errors import InputError
from lawful.laws import AffineLaw, Condition, Law, PerSample, Residual, law

LARGEST_ROWS, PRODUCTS = 512, 2000
FLOOR = 1e-6  # of the diagonal of a law that what is moved cannot serve
FINE = 1e-4  # damping that takes double precision
Linear = Callable[[Tensor], Tensor]
Rows = Float[Tensor, "batch residual"]


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
        entries = tuple(map(law, laws))
        if not isinstance(tolerance, Mapping):
            tolerance = {entry.name: tolerance for entry in entries}
        if missing := [entry.name for entry in entries if entry.name not in tolerance]:
            raise InputError(f"tolerance: none is given for law {missing[0]!r}")
        chosen = tuple(float(tolerance[entry.name]) for entry in entries)
        if not all(0 < value < inf for value in chosen) or not chosen:
            raise InputError(f"tolerance: expected positive numbers, got {tolerance}")
        return cls(entries, chosen, through, tuple(kept))

    def ratios(self, x: Tensor, c: Condition) -> Float[Tensor, "law batch"]:
        """Each violation over its tolerance; infinite where it is not finite."""
        ratios = [e.violation(x, c) / t for e, t in zip(self.laws, self.tolerances, strict=True)]
        return torch.stack(ratios).nan_to_num(nan=inf)

    def merit(self, x: Tensor, c: Condition) -> PerSample:
        """The largest violation over its tolerance."""
        return self.ratios(x, c).amax(0)

    def _scaled(self, rows_of: Callable[[Law], Tensor]) -> list[Tensor]:
        """Rows of each law, scaled so that its sum of squares is its share of the merit."""
        pairs = zip(map(rows_of, self.laws), self.tolerances, strict=True)
        return [rows / (t * rows.shape[1] ** 0.5) for rows, t in pairs]

    def residual(self, x: Tensor, c: Condition) -> Rows:
        """The residuals of all laws, each law's sum of squares the square of its ratio."""
        return torch.cat(self._scaled(lambda entry: entry.rows(x, c)), 1)

    def jacobian(self, x: Tensor, c: Condition) -> Float[Tensor, "batch residual *space"]:
        """Derivative of `residual` by the sample."""
        return torch.cat(self._scaled(lambda entry: entry.jacobian(x, c)), 1)

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
            r = torch.cat(self._scaled(lambda entry: entry.tracked(x, c)), 1)
            seed = torch.zeros_like(r, requires_grad=True)
            pulled = pull(torch.autograd.grad(r, x, seed, create_graph=True)[0])

        def forward(y: Tensor) -> Tensor:
            if not pulled.requires_grad:
                return torch.zeros_like(r)
            return torch.autograd.grad(pulled, seed, y, retain_graph=True)[0]

        def transpose(v: Tensor) -> Tensor:
            return pull(torch.autograd.grad(r, x, v, retain_graph=True)[0])

        return forward, transpose

    def step(
        self, w: Float[Tensor, "batch *moved"], c: Condition, damp: PerSample
    ) -> tuple[Tensor, Rows, Rows]:
        """What a full step takes away from `w`; the residual; and what the linearisation leaves of
        it after the step.

        Arguments:
            damp: Lambda over the mean diagonal of each law's part of J K^2 J^T.
        """
        x = self.through.field(w, c)
        parts = self._scaled(lambda entry: entry.rows(x, c))
        r, sizes = torch.cat(parts, 1), [part.shape[1] for part in parts]
        if sum(sizes) > LARGEST_ROWS:  # a tenth of the tolerance is enough
            step, left = self.solve(w, c, r, damp, PRODUCTS, 0.1)
            return step, r, left
        rows = self.unseen(self.through.pull(self.jacobian(x, c), w, x), c)
        # The matrix squares the condition of J: little damping takes double precision.
        fine = bool((damp < FINE).any())
        wide = torch.promote_types(w.dtype, torch.float64) if fine else w.dtype
        seen = self.through.coordinates(rows).to(wide)
        gram = seen @ seen.mT
        means = [b.mean(1, keepdim=True).expand_as(b)
                 for b in gram.diagonal(dim1=1, dim2=2).split(sizes, 1)]  # fmt: skip
        ridge = damp[:, None].to(wide) * _floored(torch.cat(means, 1)) + 1e-30
        factor = torch.linalg.cholesky_ex(gram + torch.diag_embed(ridge)).L
        weights = torch.cholesky_solve(r.to(wide).unsqueeze(2), factor)
        flat = (weights.mT @ rows.flatten(2).to(wide)).to(w)
        step = self.through.spread(flat.view_as(w)).nan_to_num()
        return step, r, (ridge * weights.squeeze(2)).to(r)

    def solve(
        self, w: Tensor, c: Condition, r: Tensor, damp: Tensor, steps: int, target: float
    ) -> tuple[Tensor, Rows]:
        """A full step for the residual `r` without J, and what it leaves of it.

        Arguments:
            steps: Products with J and its transpose at most.
            target: Norm of what is left of `r` that is enough.
        """
        forward, transpose = self.linearised(w, c)
        x, spread = self.through.field(w, c), self.through.spread
        sizes = [part.shape[1] for part in self._scaled(lambda entry: entry.rows(x, c))]
        scale = _floored(mean_diagonals(transpose, spread, r, sizes)).clamp_min(1e-30)
        return conjugate_gradients(
            forward, transpose, r, scale=scale, damp=damp, steps=steps, spread=spread, target=target
        )


def _floored(scale: Tensor) -> Tensor:
    return scale.maximum(FLOOR * scale.mean(1, keepdim=True))


@torch.no_grad()
def conjugate_gradients(
    forward: Linear,
    transpose: Linear,
    r: Rows,
    *,
    scale: Rows,
    damp: PerSample,
    steps: int,
    spread: Linear,
    target: float,
) -> tuple[Tensor, Rows]:
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


def mean_diagonals(transpose: Linear, spread: Linear, r: Rows, sizes: Sequence[int]) -> Rows:
    """Mean diagonals of J K^2 J^T over consecutive parts of these sizes, each all along its part.

    Estimated by a product with random signs for each part, the same for every sample (Hutchinson
    1989).
    """
    generator = torch.Generator().manual_seed(0)
    signs = (torch.randint(0, 2, r.shape[1:], generator=generator) * 2 - 1).to(r)
    parts, first = [], 0
    for size in sizes:
        chosen = torch.zeros_like(signs)
        chosen[first : first + size] = signs[first : first + size]
        back = transpose(chosen.expand_as(r))
        parts.append((dot(back, spread(back)) / size)[:, None].expand(-1, size))
        first += size
    return torch.cat(parts, 1)


def dot(a: Tensor, b: Tensor) -> PerSample:
    """Inner products, sample by sample."""
    return (a * b).flatten(1).sum(1)


def like(value: Tensor, w: Tensor) -> Tensor:
    """A value per sample, to be combined with samples of the shape of `w`."""
    return value.view(-1, *[1] * (w.ndim - 1))
