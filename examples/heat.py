"""The heat equation u_t = k u_xx on [0, 1] with ends held at zero, learnt from the law alone."""

from dataclasses import dataclass

import torch

from lawful import Axis, Quantity, Study, Training
from lawful.pde import EvolutionGenerator

CELLS, ROWS = 32, 32
WAVES, CENTRES = torch.arange(1, CELLS + 1) * torch.pi, (torch.arange(CELLS) + 0.5) / CELLS
MODES = torch.sin(WAVES * CENTRES[:, None]) * (2 / CELLS) ** 0.5


def heat(x, c):  # each sine mode decays by exp(-k w^2 dt) from row to row
    modes = x[:, 0] @ MODES
    decay = torch.exp(-c["diffusivity"][:, None] * WAVES**2 / (ROWS - 1))
    return modes[:, 1:] - decay[:, None] * modes[:, :-1]


@dataclass(frozen=True)
class Heat(Study):
    training: Training = Training(steps=1000, checkpoint=100)
    name = "heat"
    about = "the heat equation with cold ends"
    quantities = (
        Quantity("diffusivity", 0.02, 0.2, minimum=0.0),
        Quantity("mode", 1, 3, distribution="integer"),  # between them the ends are not cold
    )
    axes = (Axis("t", 0, 1, nodes=True), Axis("x", 0, 1))

    def condition(self, given):
        return {**given, "initial": torch.sin(torch.pi * given["mode"][:, None] * CENTRES)}

    def laws(self):
        return (heat,)

    def network(self):  # obeys the initial row by construction
        return EvolutionGenerator(CELLS, ROWS, {"diffusivity": (0.02, 0.2)})

    def reference(self, c):
        rate = c["diffusivity"] * (torch.pi * c["mode"]) ** 2
        decay = torch.exp(-rate[:, None] * torch.linspace(0, 1, ROWS))
        return decay[:, None, :, None] * c["initial"][:, None, None]
