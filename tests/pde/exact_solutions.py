r"""Exact solutions of conservation laws, as cell averages: what solvers are held against.

Cole and Hopf: :math:`u = -2 \nu\, \partial_x \ln \varphi` with :math:`\varphi_t = \nu
\varphi_{xx}`, so the average over a cell is :math:`-2\nu/h` times the difference of
:math:`\ln \varphi` at its faces, exactly.
"""

from collections.abc import Callable
from math import pi

import torch
from jaxtyping import Float
from torch import Tensor

from lawful.pde.grid import Grid


def cole_hopf(
    grid: Grid,
    primitive: Callable[[Tensor], Tensor],
    viscosity: float,
    times: Float[Tensor, " times"],
    *,
    points: int = 4096,
) -> Float[Tensor, "times cells"]:
    r"""Viscous solution of period equal to the grid's length; float64.

    The mean velocity U is split off by Galilean invariance, the heat equation for
    :math:`\varphi` is solved in Fourier space.

    Arguments:
        primitive: Antiderivative of u(x, 0), whose increase over a period is U times the period.
        points: Collocation points for the Fourier series of the initial potential.
    """
    length = grid.upper - grid.lower
    x = grid.lower + length * torch.arange(points, dtype=torch.float64) / points
    ends = primitive(torch.tensor([grid.lower, grid.upper], dtype=torch.float64))
    mean = float(ends[1] - ends[0]) / length
    potential = primitive(x) - mean * (x - grid.lower)
    exponent = -potential / (2 * viscosity)
    series = torch.fft.rfft((exponent - exponent.max()).exp()) / points
    wave = 2 * pi * torch.arange(series.numel(), dtype=torch.float64) / length
    rows = []
    for time in times.double():
        faces = grid.faces() - mean * time - grid.lower
        phase = torch.exp(1j * wave * faces[:, None] - viscosity * wave**2 * time)
        twice = torch.full_like(wave, 2.0)
        twice[0] = 1.0
        phi = (phase * series * twice).sum(-1).real
        rows.append(mean - 2 * viscosity * phi.log().diff() / grid.spacing)
    return torch.stack(rows)


def riemann(
    grid: Grid, left: float, right: float, place: float, time: float
) -> Float[Tensor, " cells"]:
    """Inviscid entropy solution from u = left for x < place, right beyond; float64.

    A shock of speed (left + right)/2 where left > right, else a rarefaction fan.
    """
    if left > right:
        front = place + (left + right) / 2 * time
        return grid.averages(lambda x: left * x.clamp(max=front) + right * (x - front).clamp_min(0))
    start, end = place + left * time, place + right * time

    def primitive(x: Tensor) -> Tensor:
        fan = (x.clamp(start, end) - place).square() - (start - place) ** 2
        inside = fan / (2 * time) if time > 0 else torch.zeros_like(x)
        return left * x.clamp(max=start) + inside + right * (x - end).clamp_min(0)

    return grid.averages(primitive)


def carried_wave(
    grid: Grid, velocity: float, diffusivity: float, times: Float[Tensor, " times"]
) -> Float[Tensor, "times cells"]:
    """Advected and diffused 1 + sin(2 pi x) / 2 of period 1, as cell averages; float64."""
    wave = 2 * pi
    rows = [
        grid.averages(
            lambda x, t=t: (
                x
                - torch.exp(-diffusivity * wave**2 * t)
                * torch.cos(wave * (x - velocity * t))
                / (2 * wave)
            )
        )
        for t in times.double()
    ]
    return torch.stack(rows)
