"""Laws with tolerances on samples that come from what is moved, and their linearisation."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf

import torch
from jaxtyping import Float
from torch import Tensor

from lawful.errors import InputError
from lawful.krylov import Linear, least_squares, mean_diagonals, products, tracked
from lawful.laws import AffineLaw, Condition, Law, LinearizedLaw, Residual, law

FLOOR = 1e-6  # of a law that what is moved cannot serve


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
        if kept and not isinstance(through, Identity):
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

    def violations(self, x: Tensor, c: Condition) -> dict[str, Tensor]:
        """Of every law, by name."""
        return {entry.name: entry.violation(x, c) for entry in self.laws}

    def ratios(self, x: Tensor, c: Condition) -> Float[Tensor, "law batch"]:
        """Each violation over its tolerance; infinite where it is not finite."""
        ratios = [e.violation(x, c) / t for e, t in zip(self.laws, self.tolerances, strict=True)]
        return torch.stack(ratios).nan_to_num(nan=inf)

    def merit(self, x: Tensor, c: Condition) -> Float[Tensor, " batch"]:
        """The largest violation over its tolerance."""
        return self.ratios(x, c).amax(0)

    def count(self, w: Tensor, c: Condition) -> int:
        """Residuals of a sample."""
        return sum(self.sizes(w, c))

    def sizes(self, w: Tensor, c: Condition) -> list[int]:
        """Residuals of a sample, law by law."""
        return [part.shape[1] for part in self.residuals(self.through.field(w, c), c)]

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

    def solve(
        self,
        w: Tensor,
        c: Condition,
        r: Tensor,
        sizes: Sequence[int],
        damp: Tensor,
        steps: int,
        target: float = 0.1,
    ) -> tuple[Tensor, Float[Tensor, "batch residual"]]:
        """A full step without J, and what it leaves of `r`.

        Arguments:
            sizes: Residuals of each law.
            damp: Lambda over the mean diagonal of each law's part of J K^2 J^T.
            steps: Products with J and its transpose at most.
            target: Of what is left of `r` that is enough; a tenth of the tolerance.
        """
        forward, transpose = self.linearised(w, c)
        scale = mean_diagonals(transpose, self.through.spread, r, sizes)
        scale = scale.maximum(FLOOR * scale.mean(1, keepdim=True)).clamp_min(1e-30)
        return least_squares(
            forward, transpose, r, scale=scale, damp=damp, steps=steps,
            spread=self.through.spread, target=target,
        )  # fmt: skip

    def linearised(self, w: Tensor, c: Condition) -> tuple[Linear, Linear]:
        """Products with J and its transpose, in what is moved."""
        x = self.through.field(w, c).detach()

        def pull(gradient: Tensor) -> Tensor:
            return self.unseen(self.through.pull(gradient.unsqueeze(1), w, x), c).squeeze(1)

        y = x.clone().requires_grad_()
        with torch.enable_grad():
            rows = [tracked(entry, y, c) for entry in self.laws]
            pairs = zip(rows, self.tolerances, strict=True)
            return products(torch.cat([v / (t * v.shape[1] ** 0.5) for v, t in pairs], 1), y, pull)


def rows_of(
    entry: Law, x: Float[Tensor, "batch *space"], c: Condition
) -> Float[Tensor, "batch residual *space"]:
    """Jacobian of a law by automatic differentiation, all rows in one vectorised pass.

    Raises:
        InputError: The residual has no derivative by the sample.
    """
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        r = tracked(entry, x, c)
        seeds = torch.eye(r.shape[1]).to(r)[:, None].expand(-1, len(r), -1)
        (rows,) = torch.autograd.grad(r, x, seeds, is_grads_batched=True)
    return rows.movedim(1, 0)
