"""The heat equation u_t = k u_xx on [0, 1] with ends held at zero, learnt from the law alone."""

from dataclasses import dataclass
from math import pi

import torch

from lawful import Quantity, Study, Training
from lawful.networks import EvolutionGenerator

CELLS, ROWS = 32, 32
X = (torch.arange(CELLS) + 0.5) / CELLS


def heat(x, c):  # Crank-Nicolson on cell averages; zero at both ends by odd reflection
    u = x[:, 0]
    rows = torch.cat([-u[..., :1], u, -u[..., -1:]], -1)
    flow = c["diffusivity"][:, None, None] * rows.diff(n=2) * CELLS**2
    return u.diff(dim=1) * (ROWS - 1) - (flow[:, 1:] + flow[:, :-1]) / 2


@dataclass(frozen=True)
class Heat(Study):
    training: Training = Training(steps=1000, checkpoint=100)
    name = "heat"
    about = "the heat equation with cold ends"
    quantities = (Quantity("diffusivity", 0.02, 0.2, minimum=0.0), Quantity("mode", 1, 3))

    def condition(self, given):
        return {**given, "initial": torch.sin(pi * given["mode"][:, None] * X)}

    def laws(self):
        return (heat,)

    def network(self):
        return EvolutionGenerator(CELLS, ROWS, {"diffusivity": (0.02, 0.2)})
