"""Fisher's equation u_t = D u_xx + r u (1 - u): fronts that spread, learnt from the law alone."""

from dataclasses import dataclass

import torch

from lawful import Axis, Quantity, Training
from lawful.pde import ConservationLaw, ConservationStudy, Outflow


class Fisher(ConservationLaw):
    name = "fisher"
    parameters = ("diffusivity", "growth_rate")

    def flux(self, u, c):
        return 0 * u

    def diffusivity(self, c):
        return c["diffusivity"]

    def source(self, u, c):
        return c["growth_rate"] * u * (1 - u)


@dataclass(frozen=True)
class FisherStudy(ConservationStudy):
    training: Training = Training(steps=1500)
    name = "fisher"
    about = "fronts of Fisher's equation"
    axes = (Axis("t", 0, 1, nodes=True), Axis("x", 0, 1))
    quantities = (
        Quantity("diffusivity", 0.002, 0.01, minimum=0.0),
        Quantity("growth_rate", 2.0, 8.0, minimum=0.0, unit="1/t"),
        Quantity("place", 0.2, 0.5, about="where the front is at first"),
    )

    def equation(self, grid, scheme):
        return Fisher(grid, scheme, Outflow(), Outflow())

    def profile(self, grid, c):  # the front of Ablowitz & Zeppetella (1979), 1 / (1 + exp z)^2
        diffusivity, rate, place = (
            c[name].double()[:, None] for name in ("diffusivity", "growth_rate", "place")
        )
        steep = (rate / diffusivity / 6).sqrt()
        z = steep * (grid.faces() - place)
        integral = (torch.sigmoid(-z) - torch.nn.functional.softplus(-z)) / steep
        return integral.diff(dim=-1) / grid.spacing
