"""A study of fields of any rank: sizes such as 2x4x5 are of channels and axes of space."""

from dataclasses import dataclass

import torch

from lawful import Quantity, Study, Training
from lawful.study import Axis

AXES = (Axis("z", -1.0, 2.0, "m"), Axis("y", 0.0, 0.5, "m"), Axis("t", 0.0, 3.0, "s", nodes=True))


class Net(torch.nn.Module):
    def __init__(self, sizes, shift):
        super().__init__()
        self.sizes, self.shift = sizes, shift
        self.slope = torch.nn.Parameter(torch.linspace(-1, 1, sizes.numel()))

    def forward(self, condition):
        x = condition["mean"][:, None] * self.slope + self.shift
        return x.reshape(len(x), *self.sizes)


def bounded(x, c):
    return (x - x.clamp(-9, 9)).flatten(1)


@dataclass(frozen=True)
class Ranks(Study):
    training: Training = Training(steps=1, batch=2, checkpoint=1)
    sizes: str = "1x5"
    stated: bool = True
    solver: bool = True
    shift: float = 0.0
    name = "ranks"
    about = "fields of any rank"
    unit = "K"
    quantities = (
        Quantity("mean", 0.0, 1.0, unit="m", about="mean of the field"),
        Quantity("flow", 0.0, 1.0, shape=(2, 3), required=False),
        Quantity("wind", 0.0, 1.0, shape=(3,), required=False),
    )

    @property
    def axes(self):
        return AXES[-(self.sizes.count("x")) :] if self.stated else ()

    def laws(self):
        return (bounded,)

    def network(self):
        return Net(torch.Size(map(int, self.sizes.split("x"))), self.shift)

    def reference(self, condition):
        return 1.1 * self.network()(condition).detach() if self.solver else None
