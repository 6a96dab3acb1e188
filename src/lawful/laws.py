r"""A law is a residual :math:`r(x, c)`, zero where the law holds.

Everything said of a law is derived from its residual: the loss is the batch mean of the violation
squared, the violation of a sample is the root mean square of its residual.

.. math:: v_b = \sqrt{\operatorname{mean}_i r_{bi}^2},\qquad \ell = \operatorname{mean}_b v_b^2
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lawful.errors import InputError

# What a sample is asked to be: named tensors with one leading batch axis.
Condition = Mapping[str, Tensor]
Residual = Callable[[Tensor, Condition], Tensor]
Fields = Float[Tensor, "batch channel *space"]
PerSample = Float[Tensor, " batch"]


@dataclass(frozen=True)
class Bound:
    """What the distance of each sample from the exact solution of its discrete law cannot exceed.

    Arguments:
        value: The bound, proven where the law states it, and in a named norm.
        norm: `energy`, `L1` or `max`.
        lower: What the distance cannot fall below, where that is known too.
    """

    value: PerSample
    norm: str
    lower: PerSample | None = None


class Law(ABC):
    """A residual with a name and a unit.

    A plain function `(x, c) -> residual` becomes a law through `law`. A subclass may also know its
    Jacobian, or move a field onto the law (`AffineLaw`) or towards it (`CorrectableLaw`).
    """

    name: str
    unit: str = "1"

    @abstractmethod
    def __call__(self, x: Fields, c: Condition) -> Float[Tensor, "batch *residual"]:
        """The residual of each sample; zero where the law holds.

        Arguments:
            x: Fields.
            c: Condition, every entry with the same leading batch axis as `x`.
        """

    def violation(self, x: Fields, c: Condition) -> PerSample:
        """Root mean square of each sample's residual, in the unit of the law."""
        return self.rows(x, c).square().mean(1).sqrt()

    def worst(self, x: Fields, c: Condition) -> PerSample:
        """Largest magnitude of each sample's residual, in the unit of the law."""
        return self.rows(x, c).abs().amax(1)

    def loss(self, x: Fields, c: Condition) -> Float[Tensor, ""]:
        """Mean square of the residual (InvNet, eq. 2)."""
        return self.rows(x, c).square().mean()

    def bound(self, x: Fields, c: Condition) -> Bound | None:
        """A proven bound of each sample's distance from the solution; None where none is known."""
        return None

    def rows(self, x: Fields, c: Condition) -> Float[Tensor, "batch residual"]:
        """The residual with a row per sample."""
        r = self(x, c)
        if r.ndim == 0 or len(r) != len(x):
            raise InputError(
                f"law {self.name!r}: expected a residual of shape (batch = {len(x)}, …), "
                f"got {tuple(r.shape)}"
            )
        return r.reshape(len(r), -1)

    def tracked(self, x: Fields, c: Condition) -> Float[Tensor, "batch residual"]:
        """`rows` with their graph, at an `x` that requires a gradient.

        Raises:
            InputError: The residual has no derivative by the sample.
        """
        r = self.rows(x, c)
        if not r.requires_grad:
            raise InputError(
                f"law {self.name!r}: expected a residual that depends on the sample and is "
                "differentiable, got one without a gradient"
            )
        return r

    def jacobian(self, x: Fields, c: Condition) -> Float[Tensor, "batch residual channel *space"]:
        """Derivative of each entry of each sample's `rows` by the field.

        Where it is not overridden by a closed form it is differentiated automatically, all rows in
        one vectorised pass.
        """
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            r = self.tracked(x, c)
            seeds = torch.eye(r.shape[1]).to(r)[:, None].expand(-1, len(r), -1)
            (rows,) = torch.autograd.grad(r, x, seeds, is_grads_batched=True)
        return rows.movedim(1, 0)


class AffineLaw(Law):
    """A law of the form P x = m(c), P an orthogonal projector on some entries of x."""

    @abstractmethod
    def enforce(self, x: Fields, c: Condition) -> Fields:
        """The nearest field that obeys the law exactly: (I - P) x + m(c)."""

    @abstractmethod
    def hide(self, x: Fields, c: Condition) -> Fields:
        """(I - P) x: what a critic may see when its data does not obey the law (section 3.1)."""


class CorrectableLaw(Law):
    r"""A law with an approximate inverse M of its linearisation A.

    Near a solution :math:`x^*`, :math:`r(x) \approx A (x - x^*)`; where :math:`M \approx A^{-1}`,
    :math:`-M r(x)` estimates the *error* :math:`x^* - x` in the units of the field, however badly
    conditioned A is. It serves three ends: a training target, the correction of a sample, and the
    estimate of a sample's error when no reference is known (defect correction: Stetter 1978).

    M must contract: a correction turns the error e into :math:`(I - M A) e`, so that repeated
    corrections converge only where the spectral radius of I - M A is below 1, and each one helps
    only where its norm :math:`\rho` is; then the error is between
    :math:`\|M r\| / (1 + \rho)` and :math:`\|M r\| / (1 - \rho)`. Training asks for less:
    eigenvalues of M A with positive real parts.
    """

    @abstractmethod
    def correction(self, x: Fields, c: Condition) -> Fields:
        """-M r(x): what to add to `x` to come closer to the law."""

    def correction_loss(self, x: Fields, c: Condition) -> Float[Tensor, ""]:
        """Mean square distance of `x` from its own corrected self, which is held constant.

        Its gradient with respect to `x` is -2 × correction / size: function-space Newton descent,
        without differentiating the residual.
        """
        with torch.no_grad():
            target = x + self.correction(x, c)
        return (x - target).square().mean()

    def error_estimate(self, x: Fields, c: Condition) -> "Estimate":
        """The size of one correction: an estimate of the distance from this law's own solution.

        A discrete law cannot see its own discretisation's error, and the estimate says so.
        """
        judge = "one correction, of the discrete law only"
        return Estimate.of(x, x + self.correction(x, c), judge)


@dataclass(frozen=True)
class FunctionLaw(Law):
    """A law given by a plain function."""

    function: Residual
    name: str
    unit: str = "1"

    def __call__(self, x: Tensor, c: Condition) -> Tensor:
        return self.function(x, c)


def law(function: Law | Residual) -> Law:
    """`function` itself if it is a law, else a law named after it."""
    if isinstance(function, Law):
        return function
    return FunctionLaw(function, getattr(function, "__name__", type(function).__name__))


@dataclass(frozen=True)
class Estimate:
    """How far each sample is thought to be from the solution, found without knowing it.

    Arguments:
        absolute: Root mean square distance from the corrected field, in the unit of the field.
        relative: The same over the root mean square of the corrected field. Where that is zero
            there is no scale, and it is the absolute distance.
        judge: The law that corrected, in words: what the estimate cannot see is its own error.

    Both are NaN for a sample whose corrections did not settle.
    """

    absolute: PerSample
    relative: PerSample
    judge: str

    @classmethod
    def of(
        cls,
        x: Float[Tensor, "batch *space"],
        corrected: Float[Tensor, "batch *space"],
        judge: str,
    ) -> "Estimate":
        """The distance of `x` from what corrections made of it, in float64 until the end."""
        corrected = corrected.double()
        distance, scale = (
            y.flatten(1).square().mean(1).sqrt() for y in (x.double() - corrected, corrected)
        )
        relative = distance / scale.masked_fill(scale == 0, 1.0)
        return cls(distance.to(x), relative.to(x), judge)

    def where(self, mask: Bool[Tensor, " batch"], other: "Estimate") -> "Estimate":
        """This where the mask holds, the other elsewhere."""
        absolute = torch.where(mask, self.absolute, other.absolute)
        relative = torch.where(mask, self.relative, other.relative)
        return replace(self, absolute=absolute, relative=relative)

    def cpu(self) -> "Estimate":
        """The same on the processor, for reports."""
        return replace(self, absolute=self.absolute.cpu(), relative=self.relative.cpu())


@dataclass(frozen=True, kw_only=True)
class Projection:
    """What was done to each sample to bring every violation within a tolerance.

    Arguments:
        tolerance: Of the violation; the largest, where laws have their own.
        raw: Largest violation of each sample before.
        iterations: Gauss-Newton steps taken or, where none helped, tried.
        exchanges: Pairs of pixels exchanged after them.
        displacement: Mean absolute change of the sample; of a binary one the share of its pixels.
        reached: Whether every violation is within its tolerance now.
        worsened: Whether its estimated error rose, where the study can give one.
    """

    tolerance: float
    raw: PerSample
    iterations: Int[Tensor, " batch"]
    exchanges: Int[Tensor, " batch"]
    displacement: PerSample
    reached: Bool[Tensor, " batch"]
    worsened: Bool[Tensor, " batch"] | None = None


def merge(parts: Sequence[Any]) -> Any:
    """What is known of the samples of several batches as one, in their order.

    Tensors are concatenated, in mappings, tuples and dataclasses too; of other values the first
    stands for all. What one of the batches does not know is None.
    """
    first = parts[0]
    if any(part is None for part in parts):
        return None
    if isinstance(first, Tensor):
        return torch.cat(list(parts))
    if isinstance(first, Mapping):
        return {name: merge([part[name] for part in parts]) for name in first}
    if isinstance(first, tuple):
        return tuple(merge(entries) for entries in zip(*parts, strict=True))
    if is_dataclass(first) and not isinstance(first, type):
        names = [field.name for field in fields(first)]
        return replace(first, **{n: merge([getattr(p, n) for p in parts]) for n in names})
    return first
