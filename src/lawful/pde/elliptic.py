r"""Steady diffusion :math:`-\nabla\cdot(a \nabla u) = f` on a rectangle, zero at its boundary.

Cell-centred finite volumes: with :math:`h_y, h_x` the sides of a cell,

.. math::
    (A u)_{ij} = \frac{F_{i+1/2,j} - F_{i-1/2,j}}{h_y} + \frac{G_{i,j+1/2} - G_{i,j-1/2}}{h_x},
    \qquad F_{i+1/2,j} = -a_{i+1/2,j}\,\frac{u_{i+1,j} - u_{ij}}{h_y},

G likewise along the other axis. The coefficient of a face is the harmonic mean of its two cells',
which is exact across layers; a face of the boundary is half a cell away, with its own cell's.
A is symmetric and positive. Where a is 1 everywhere it is :math:`A_0`, diagonalised by the sines
:math:`\sin(\pi k (i + 1/2) / n)`, and :math:`a_{\min} A_0 \le A \le a_{\max} A_0` with the ends of
the range of the faces' coefficients.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from lawful.errors import InputError
from lawful.laws import Bound, Condition, CorrectableLaw

LIMIT = 1_000  # iterations that a solution may take
Cells = Float[Tensor, "batch rows columns"]


@dataclass(frozen=True)
class Elliptic:
    """The operator A of a batch of coefficients, its preconditioner and its two norms.

    Arguments:
        down, along: Coefficients of the faces that are crossed along the first and the second axis,
            over the square of the spacing; twice that at the boundary.
        spacing: Sides of a cell, along the first and the second axis.
        least, largest: Ends of the range of each sample's face coefficients.
    """

    down: Float[Tensor, "batch down columns"]
    along: Float[Tensor, "batch rows along"]
    spacing: tuple[float, float]
    least: Float[Tensor, " batch"]
    largest: Float[Tensor, " batch"]

    @classmethod
    def of(cls, coefficient: Cells, lengths: tuple[float, float] = (1.0, 1.0)) -> "Elliptic":
        """That of the coefficients of cells of a rectangle with these sides.

        Raises:
            InputError: A coefficient is not positive and finite.
        """
        if not bool(((coefficient > 0) & coefficient.isfinite()).all()):
            raise InputError("coefficient: expected positive and finite values in all cells")
        rows, columns = coefficient.shape[-2:]
        spacing = lengths[0] / rows, lengths[1] / columns
        along = _faces(coefficient)
        down = _faces(coefficient.mT).mT
        both = torch.cat([down.flatten(1), along.flatten(1)], 1)
        return cls(
            _doubled(down.mT).mT / spacing[0] ** 2,
            _doubled(along) / spacing[1] ** 2,
            spacing,
            both.amin(1),
            both.amax(1),
        )

    def __call__(self, u: Cells) -> Cells:
        """A u."""
        down = self.down * F.pad(u, (0, 0, 1, 1)).diff(dim=-2)
        along = self.along * F.pad(u, (1, 1)).diff(dim=-1)
        return -(down.diff(dim=-2) + along.diff(dim=-1))

    def unit_inverse(self, r: Cells) -> Cells:
        """A₀⁻¹ r: the solution where the coefficient is 1, by two sine transforms."""
        (rows, left), (columns, right) = (
            _sines(n, h, r.dtype, r.device) for n, h in zip(r.shape[-2:], self.spacing, strict=True)
        )
        spectrum = left @ r @ right.mT / (rows[:, None] + columns)
        return left.mT @ spectrum @ right

    def precondition(self, r: Cells) -> Cells:
        """D A₀⁻¹ D r, D the diagonal of `scale`."""
        return self.scale * self.unit_inverse(self.scale * r)

    def unscaled(self) -> "Elliptic":
        """The same operator, with A₀⁻¹ for its preconditioner."""
        plain = replace(self)
        plain.__dict__["scale"] = torch.ones_like(self.scale)  # in the place of the one it chooses
        return plain

    @cached_property
    def scale(self) -> Cells:
        """The diagonal D of the preconditioner of each sample.

        It is 1, with which convergence is bounded by the contrast, or the root of the diagonals of
        A₀ over A, about 1 / √a, which takes care of any contrast where the coefficient is smooth
        (Concus & Golub 1973) and of none where it jumps. A sample has the one with which the first
        step for f = 1 lowers the error's energy more.
        """
        f = torch.ones_like(self.along[:, :, 1:])
        diagonal = (
            self.down[:, 1:] + self.down[:, :-1] + self.along[:, :, 1:] + self.along[:, :, :-1]
        )
        unit = torch.full_like(f, 2 / self.spacing[0] ** 2 + 2 / self.spacing[1] ** 2)
        for axis, h in zip((-2, -1), self.spacing, strict=True):
            for end in (0, -1):
                unit.select(axis, end).add_(1 / h**2)
        scaled = (unit / diagonal).sqrt()
        plain, other = self.unit_inverse(f), scaled * self.unit_inverse(scaled)
        better = self._gain(other) > self._gain(plain)
        return scaled.where(better[:, None, None], f)

    def _gain(self, z: Cells) -> Float[Tensor, " batch"]:
        """What a step along z from zero to the least energy lowers it by, for f = 1."""
        return z.sum((-2, -1)).square() / inner(z, self(z))

    def energy(self, e: Cells) -> Float[Tensor, " batch"]:
        """Root of the discrete ∫ a |∇e|²: the energy norm of A."""
        return self.work(e).sqrt()

    def work(self, e: Cells) -> Float[Tensor, " batch"]:
        """The discrete ∫ a |∇e|²: over faces, the squares of the differences across them.

        The half cells at the boundary, in which e falls to zero, are among them.
        """
        down = self.down * F.pad(e, (0, 0, 1, 1)).diff(dim=-2).square()
        along = self.along * F.pad(e, (1, 1)).diff(dim=-1).square()
        return self.area * (down.sum((-2, -1)) + along.sum((-2, -1)))

    def dual(self, r: Cells) -> Float[Tensor, " batch"]:
        r"""The norm :math:`\|r\|_{A_0^{-1}}` of a residual: the energy of A₀⁻¹ r where a is 1."""
        return (self.area * inner(r, self.unit_inverse(r)).clamp_min(0)).sqrt()

    @property
    def area(self) -> float:
        """That of a cell."""
        return self.spacing[0] * self.spacing[1]


def inner(x: Cells, y: Cells) -> Float[Tensor, " batch"]:
    """Sum of the products over all cells of each sample."""
    return (x * y).sum((-2, -1))


def _faces(a: Tensor) -> Tensor:
    """Face coefficients along the last axis: harmonic means, and those of the cells at the ends."""
    left, right = a[..., :-1], a[..., 1:]
    return torch.cat([a[..., :1], left * (2 * right / (left + right)), a[..., -1:]], -1)


def _doubled(faces: Tensor) -> Tensor:
    """With the faces at the ends doubled, which are half a cell away from the cells' centres."""
    return torch.cat([2 * faces[..., :1], faces[..., 1:-1], 2 * faces[..., -1:]], -1)


@lru_cache(maxsize=16)
def _sines(
    cells: int, spacing: float, dtype: torch.dtype, device: torch.device
) -> tuple[Float[Tensor, " cells"], Float[Tensor, "cells cells"]]:
    """Eigenvalues of the second difference with zero at the faces of both ends, and its modes.

    The modes are rows of an orthogonal matrix, the sines of `scipy.fft.dst` of type 2.
    """
    k = torch.arange(1, cells + 1, dtype=torch.float64)
    values = (2 / spacing * torch.sin(torch.pi * k / (2 * cells))).square()
    modes = torch.sin(torch.pi / cells * torch.outer(k, k - 0.5)) * (2 / cells) ** 0.5
    modes[-1] /= 2**0.5
    return values.to(device, dtype), modes.to(device, dtype)


class Iterate(NamedTuple):
    """A field on the way to a solution.

    Arguments:
        solution: The field u.
        residual: r = f - A u.
        preconditioned: P r, with P the preconditioner: nearly the error of u.
        size: rᵀ P r.
    """

    solution: Cells
    residual: Cells
    preconditioned: Cells
    size: Float[Tensor, " batch"]


def conjugate_gradients(
    operator: Elliptic,
    f: Cells,
    start: Cells | None = None,
    enough: Float[Tensor, " batch"] | float = 0.0,
) -> Iterator[Iterate]:
    r"""Preconditioned conjugate gradients for A u = f (Hestenes & Stiefel 1952), the start first.

    With :math:`A_0^{-1}` the energy norm of the error after k steps is at most
    :math:`2 \rho^k` times what it was, :math:`\rho = (\sqrt\kappa - 1) / (\sqrt\kappa + 1)` and
    :math:`\kappa` the contrast of the coefficient, whatever the grid.

    Arguments:
        start: Where to start; zero where not given.
        enough: Size of the residual at which a sample stays as it is.
    """
    u = torch.zeros_like(f) if start is None else start
    r = f if start is None else f - operator(u)
    p = z = operator.precondition(r)
    size, tiny = inner(r, z), torch.finfo(f.dtype).tiny
    while True:
        yield Iterate(u, r, z, size)
        image = operator(p)
        length = (size / inner(p, image).clamp_min(tiny)).where(size > enough, 0)[:, None, None]
        u, r = u + length * p, r - length * image
        z = operator.precondition(r)
        before, size = size, inner(r, z)
        p = z + (size / before.clamp_min(tiny))[:, None, None] * p


@dataclass(frozen=True)
class Solved:
    r"""What conjugate gradients found.

    Arguments:
        solution: Of each sample.
        iterations: Steps that each sample took.
        residual: What is left of the right-hand side, both in the norm :math:`\sqrt{r^T P r}` of
            the preconditioner P.
    """

    solution: Cells
    iterations: Int[Tensor, " batch"]
    residual: Float[Tensor, " batch"]


def solve(
    operator: Elliptic,
    f: Cells,
    start: Cells | None = None,
    *,
    tolerance: float = 1e-8,
    steps: int = LIMIT,
) -> Solved:
    """The solution of A u = f by conjugate gradients; each sample stops on its own.

    Arguments:
        start: Where to start; zero where not given.
        tolerance: Of `Solved.residual`. With 0 every sample takes all `steps`, but those that
            are solved exactly.
        steps: The most steps to take.
    """
    found = _solved(operator, f, start, tolerance, steps)
    slow = found.residual > tolerance
    if tolerance > 0 and steps >= LIMIT and bool(slow.any()):
        # The scaled preconditioner has no rate where the coefficient jumps; the plain one has.
        plain = operator.unscaled()
        other = _solved(plain, f, found.solution, tolerance, steps)
        return Solved(
            other.solution.where(slow[:, None, None], found.solution),
            found.iterations + other.iterations * slow,
            other.residual.where(slow, found.residual),
        )
    return found


def _solved(
    operator: Elliptic, f: Cells, start: Cells | None, tolerance: float, steps: int
) -> Solved:
    whole = inner(f, operator.precondition(f))
    enough = tolerance**2 * whole
    iterations = torch.zeros(len(f), dtype=torch.long, device=f.device)
    found = conjugate_gradients(operator, f, start, enough)
    for count, iterate in enumerate(found):
        active = iterate.size > enough
        if count == steps or not bool(active.any()):
            break
        iterations = iterations + active
    left = iterate.size.clamp_min(0) / whole.clamp_min(torch.finfo(f.dtype).tiny)
    return Solved(iterate.solution, iterations, left.sqrt())


@dataclass(frozen=True)
class EllipticLaw(CorrectableLaw):
    r"""The discrete equation :math:`A u - f = 0` of fields `(batch, 1, rows, columns)`.

    The condition has the `coefficient` of the cells, `(batch, rows, columns)`, and may have their
    `source` f, of the same shape.

    Arguments:
        lengths: Sides of the rectangle, along the first and the second axis of the fields.
        source: f where the condition has none.
        steps: Steps of conjugate gradients in a correction. Of a contrast of 4 three of them leave
            a thirteenth of an error's energy norm, or less.
    """

    lengths: tuple[float, float] = (1.0, 1.0)
    source: float = 1.0
    steps: int = 3
    name: str = "darcy"
    unit: str = "source"

    def __post_init__(self) -> None:
        if not min(self.lengths) > 0 or self.steps < 1:
            raise InputError(f"{self.name} law: expected sides above 0 and steps >= 1, got {self}")

    def operator(self, c: Condition) -> Elliptic:
        """The operator of a condition's coefficients."""
        return Elliptic.of(c["coefficient"], self.lengths)

    def forcing(self, c: Condition) -> Cells:
        """The right-hand side f."""
        return c["source"] if "source" in c else torch.full_like(c["coefficient"], self.source)

    def __call__(
        self, x: Float[Tensor, "batch 1 rows columns"], c: Condition
    ) -> Float[Tensor, "batch rows columns"]:
        return self.operator(c)(x[:, 0]) - self.forcing(c)

    def correction(
        self, x: Float[Tensor, "batch 1 rows columns"], c: Condition
    ) -> Float[Tensor, "batch 1 rows columns"]:
        """What `steps` conjugate gradients from the field add to it.

        It contracts in the energy norm: the error that is left is the least in a Krylov space.
        """
        return solve(self.operator(c), -self(x, c), tolerance=0.0, steps=self.steps).solution[
            :, None
        ]

    def correction_loss(
        self, x: Float[Tensor, "batch 1 rows columns"], c: Condition
    ) -> Float[Tensor, ""]:
        r"""Mean of :math:`\|w\|_A^2 / \|x + w\|_A^2`, w the correction; x + w is held constant.

        The energy norm is that in which conjugate gradients converge and the bound is proven, and
        the quotient has no size of the coefficient in it. Its gradient is -2 A w, that of the Ritz
        functional :math:`x^T A x - 2 f^T x` where w is the error.
        """
        with torch.no_grad():
            target = x + self.correction(x, c)
        operator = self.operator(c)
        return (operator.work((x - target)[:, 0]) / operator.work(target[:, 0])).mean()

    def solution(
        self, c: Condition, tolerance: float = 1e-8
    ) -> Float[Tensor, "batch 1 rows columns"]:
        """The solution of the discrete equation, to a tolerance of its residual; float64.

        It is NaN for a sample where conjugate gradients do not get there.
        """
        c = {name: value.double() for name, value in c.items()}
        found = solve(self.operator(c), self.forcing(c), tolerance=tolerance)
        reached = found.residual <= tolerance
        return found.solution.where(reached[:, None, None], torch.nan)[:, None]

    def bound(
        self, x: Float[Tensor, "batch 1 rows columns"], c: Condition, *, corrections: int = 0
    ) -> Bound:
        r"""The energy norm of the error e = u - x, between two bounds; float64.

        .. math::
            \frac{\|r\|_{A_0^{-1}}}{\sqrt{a_{\max}}} \le \|e\|_A
                \le \frac{\|r\|_{A_0^{-1}}}{\sqrt{a_{\min}}},\qquad r = f - A x = A e,

        so that the upper is at most :math:`\sqrt{a_{\max} / a_{\min}}` times the error. Proof. The
        sum over faces :math:`v^T A v` has the terms of :math:`v^T A_0 v`, each times the
        coefficient of its face; so :math:`a_{\min} A_0 \le A \le a_{\max} A_0`. Inverses of
        symmetric positive matrices are in the opposite order,
        :math:`A_0^{-1} / a_{\max} \le A^{-1} \le A_0^{-1} / a_{\min}`, and
        :math:`\|e\|_A^2 = e^T A e = r^T A^{-1} r`.

        After corrections w, what they leave is bounded instead. With
        :math:`r_w = f - A (x + w)` and :math:`e_w = e - w`,

        .. math:: \|e\|_A^2 = \|w\|_A^2 + 2\, w^T r_w + \|e_w\|_A^2,

        whose first two terms are known, and only the last is bounded as above.

        Arguments:
            corrections: Steps of conjugate gradients w; each bound is then the sharper of the two.
        """
        if not isinstance(corrections, int) or corrections < 0:
            raise InputError(f"corrections: expected a whole number >= 0, got {corrections!r}")
        c = {name: value.double() for name, value in c.items()}
        operator, r = self.operator(c), -self(x.double(), c)
        lower, upper = _bracket(operator, r, torch.zeros_like(r))
        if corrections:
            w = solve(operator, r, tolerance=0.0, steps=corrections).solution
            low, high = _bracket(operator, r, w)
            lower, upper = torch.maximum(lower, low), torch.minimum(upper, high)
        return Bound(upper, "energy", lower)


def _bracket(operator: Elliptic, r: Cells, w: Cells) -> tuple[Tensor, Tensor]:
    """The two bounds of the energy norm of A⁻¹ r that corrections w give."""
    rest = r - operator(w)
    known = operator.work(w) + 2 * operator.area * inner(w, rest)
    left = operator.dual(rest).square()
    lower, upper = (known + left / face for face in (operator.largest, operator.least))
    return lower.clamp_min(0).sqrt(), upper.clamp_min(0).sqrt()
