"""Traffic, u_t + (v u (1 - u))_x = D u_xx: how a jam dissolves, learnt from the law alone."""

from dataclasses import dataclass

from lawful import Axis, Quantity, Training
from lawful.pde import ConservationLaw, ConservationStudy, Inflow, Outflow


class Traffic(ConservationLaw):
    name = "traffic"
    parameters = ("limit", "viscosity")

    def flux(self, u, c):
        return c["limit"] * u * (1 - u)

    def diffusivity(self, c):
        return c["viscosity"]


@dataclass(frozen=True)
class TrafficStudy(ConservationStudy):
    training: Training = Training(steps=1500)
    name = "traffic"
    about = "density of cars behind a jam"
    axes = (Axis("t", 0, 0.4, nodes=True), Axis("x", 0, 1))
    quantities = (
        Quantity("limit", 0.5, 1.0, minimum=0.0, about="speed of a single car"),
        Quantity("viscosity", 0.002, 0.02, minimum=0.0),
        Quantity("jam", 0.4, 0.9, minimum=0.0, about="density between x = 0.4 and 0.6"),
    )
    nonnegative = True

    def equation(self, grid, scheme):
        return Traffic(grid, scheme, Inflow(0.2), Outflow())

    def profile(self, grid, c):  # exact averages, from an antiderivative
        excess = c["jam"].double()[:, None] - 0.2
        return grid.averages(lambda x: 0.2 * x + excess * (x.clamp(0.4, 0.6) - 0.4))
