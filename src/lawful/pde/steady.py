r"""A generator of solutions of steady diffusion from the coefficient of each cell.

.. math:: G(a) = u_k(a) + \beta\, N(a),\qquad \beta = \frac{r^T N}{N^T A N},\quad r = f - A u_k

with :math:`u_k` the k-th iterate of conjugate gradients from zero, N a network, and :math:`\beta`
the length with which a step along N leaves the least energy of the error: whatever the network
does, the energy of a sample's error is no larger than that of :math:`u_k`. The network sees the
logarithm of the coefficient without its mean, so that :math:`G(s a) = G(a) / s` exactly.
"""

from itertools import islice, pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from lawful.errors import InputError
from lawful.laws import Condition
from lawful.nn.unet import ScalarEmbedding, UNet
from lawful.pde.elliptic import Cells, Elliptic, Iterate, conjugate_gradients, inner

PATCH = 2  # cells per side of what the network sees as one
LEAST = 1e-8  # share of the energy of u_k beneath which a direction is taken as it is


class SteadyGenerator(nn.Module):
    """`{"coefficient": (B, rows, columns)}` to fields `(B, 1, rows, columns)`, for f = 1.

    Arguments:
        rows, columns: Cells of the rectangle.
        lengths: Its sides.
        steps: k, the steps of conjugate gradients that the network starts from.
        width, depth, embedding: Those of the U-Net, which sees patches of 2 by 2 cells.
    """

    def __init__(
        self,
        rows: int,
        columns: int,
        *,
        lengths: tuple[float, float] = (1.0, 1.0),
        steps: int = 3,
        width: int = 32,
        depth: int = 2,
        embedding: int = 8,
    ) -> None:
        super().__init__()
        unit = PATCH * 2**depth
        if rows % unit or columns % unit:
            raise InputError(
                f"generator: rows = {rows} and columns = {columns} must be divisible by {unit}"
            )
        if steps < 1:
            raise InputError(f"generator: expected at least 1 step to start from, got {steps}")
        self.lengths, self.steps = lengths, steps
        ends = [torch.linspace(1 / n - 1, 1 - 1 / n, n) for n in (rows, columns)]
        place = torch.stack(torch.meshgrid(*ends, indexing="ij"))
        self.register_buffer("place", place[None], persistent=False)
        self.embed = ScalarEmbedding([], embedding)
        self.net = UNet((steps + 5) * PATCH**2, PATCH**2, width, depth, embedding)
        self.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    place: Tensor

    def forward(self, condition: Condition) -> Float[Tensor, "batch 1 rows columns"]:
        log = condition["coefficient"].log()
        mean = log.mean((-2, -1), keepdim=True)
        operator = Elliptic.of((log - mean).exp(), self.lengths)
        f = torch.ones_like(log)
        _, *iterates = islice(conjugate_gradients(operator, f), self.steps + 1)
        size = iterates[0].solution.amax((-2, -1), keepdim=True)
        seen = F.pixel_unshuffle(self._features(log - mean, iterates, size), PATCH)
        seen = seen.contiguous(memory_format=torch.channels_last)
        found = self.net(seen, self.embed(log.new_empty(len(log), 0)))
        direction = size / 20 * F.pixel_shuffle(found, PATCH)[:, 0]
        u = iterates[-1].solution + _length(operator, f, iterates[-1], direction) * direction
        return (u * (-mean).exp())[:, None]

    def _features(
        self, log: Cells, iterates: list[Iterate], size: Float[Tensor, "batch 1 1"]
    ) -> Float[Tensor, "batch channel rows columns"]:
        """Coefficient, first iterate and the changes after it, what is left, and places, all of
        the order of one."""
        fields = [iterate.solution for iterate in iterates]
        changes = [10 * (b - a) / size for a, b in pairwise(fields)]
        last = iterates[-1]
        left = [last.residual / 5, 20 * last.preconditioned / size]
        seen = torch.stack([log / 0.7, fields[0] / size, *changes, *left], 1)
        return torch.cat([seen, self.place.expand(len(log), -1, -1, -1)], 1)


def _length(
    operator: Elliptic, f: Cells, iterate: Iterate, direction: Cells
) -> Float[Tensor, "batch 1 1"]:
    """The length β of the step along a direction; 1 for one that is nearly zero."""
    least = LEAST * inner(f, iterate.solution)
    along = inner(iterate.residual, direction)
    return ((along + least) / (inner(direction, operator(direction)) + least))[:, None, None]
