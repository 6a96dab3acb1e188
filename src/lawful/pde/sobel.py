r"""The discretisation of the InvNet paper (section 3.2 and appendix B), for comparison.

.. math:: r = u_t + u\,u_x - \nu\, u_{xx}

at cell centres: Sobel derivatives over the spacing of the rows and of the cells, borders replicated
and one-sided there, and a second difference smoothed by a binomial Gaussian. It is neither
conservative nor upwind, and blind to checkerboards.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lawful.laws import Condition, Law


@dataclass(frozen=True)
class SobelBurgersLaw(Law):
    """Burgers' equation by image gradients.

    Arguments:
        dt, dx: Spacing of the rows and of the columns: over another one, an exact solution is no
            solution of the law.
    """

    dt: float
    dx: float
    name: str = "burgers (Sobel)"
    unit: str = "u / time"

    def __call__(
        self, x: Float[Tensor, "batch 1 times cells"], c: Condition
    ) -> Float[Tensor, "batch times cells"]:
        viscosity = c["viscosity"][:, None, None, None]
        curvature = _stencil(x, (0.25, 0.5, 0.25), _smoothed_curvature) / self.dx**2
        residual = self.by_time(x) + x * self.by_space(x) - viscosity * curvature
        return residual[:, 0]

    def by_time(self, x: Float[Tensor, "batch 1 times cells"]) -> Tensor:
        """Sobel derivative along the rows, one-sided at the first and the last."""
        return self.by_space(x.transpose(-1, -2)).transpose(-1, -2) * (self.dx / self.dt)

    def by_space(self, x: Float[Tensor, "batch 1 times cells"]) -> Tensor:
        """Sobel derivative along the columns, one-sided at the first and the last."""
        slope = _stencil(x, (0.25, 0.5, 0.25), (-0.5, 0.0, 0.5)) / self.dx
        edge = torch.ones_like(slope)
        edge[..., 0] = edge[..., -1] = 2
        return slope * edge


_smoothed_curvature = (0.25, 0.0, -0.5, 0.0, 0.25)  # (1, 2, 1)/4 * (1, -2, 1)


def _stencil(x: Tensor, down: tuple[float, ...], across: tuple[float, ...]) -> Tensor:
    """Correlation with the outer product of two kernels, borders replicated."""
    kernel = torch.outer(x.new_tensor(down), x.new_tensor(across))
    margin = [len(across) // 2] * 2 + [len(down) // 2] * 2
    return F.conv2d(F.pad(x, margin, mode="replicate"), kernel[None, None])
