r"""Generators and critics of vectors, plain or symmetric under turns of the first two entries.

A vector of d entries is a field `(batch, 1, 1, d)`. With latent vectors z of an invariant
distribution both symmetric generators have an invariant one, exactly and whatever their weights
(Birrell et al. 2022, theorem on generators): the mean over the group,

.. math:: g(z) = \frac1{|\Sigma|} \sum_\sigma T_\sigma f(T_{\sigma^{-1}} z),

or a frame, :math:`g(z) = T_{\sigma(z)} f(T_{\sigma(z)^{-1}} z)`, where :math:`\sigma(z)` is the
sector in which z lies. Under a normal distribution the sector is uniform and independent of the
rest: a frame is a plain generator followed by a random element of the group.
"""

import math
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lawful.laws import Condition
from lawful.symmetry import Group, plane_rotations
from lawful.symmetry.symmetrize import Symmetrized

HIDDEN = (64, 32, 16)
GeneratorKind = Literal["plain", "equivariant", "random-element"]


def mlp(inputs: int, outputs: int, hidden: tuple[int, ...] = HIDDEN) -> nn.Sequential:
    """ReLU layers, weights normal with variance 2 / inputs, biases zero (He et al. 2015)."""
    sizes = (inputs, *hidden, outputs)
    layers: list[nn.Module] = []
    for n, m in pairwise(sizes):
        linear = nn.Linear(n, m)
        nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
        nn.init.zeros_(linear.bias)
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class Framed(nn.Module):
    """A function seen from the sector of its input's first two entries: equivariant under C_n."""

    def __init__(self, function: nn.Module, group: Group, onto: Group) -> None:
        super().__init__()
        self.function, self.group, self.onto = function, group, onto

    def extra_repr(self) -> str:
        """Rotations in a turn."""
        return f"turns={self.group.order}"

    def sector(self, z: Float[Tensor, "batch inputs"]) -> Int[Tensor, " batch"]:
        """Which of the n equal sectors of the plane z lies in, counter-clockwise."""
        n = self.group.order
        return (torch.atan2(z[:, 1], z[:, 0]) / (2 * math.pi) * n).floor().long() % n

    def forward(self, z: Float[Tensor, "batch inputs"]) -> Float[Tensor, "batch outputs"]:
        sector = self.sector(z)
        back = self.group.act_each(z, self.group.inverse.to(z.device)[sector])
        return self.onto.act_each(self.function(back), sector)


class VectorGenerator(nn.Module):
    """`{"noise": (B, noise)}` to vectors `(B, 1, 1, size)`.

    Arguments:
        kind: `plain`, `equivariant` (the mean over C_n), or `random-element` (the frame).
        turns: n.
    """

    def __init__(
        self, size: int, *, noise: int = 10, kind: GeneratorKind = "plain", turns: int = 4
    ) -> None:
        super().__init__()
        groups = plane_rotations(turns, noise), plane_rotations(turns, size)
        self.function: nn.Module = mlp(noise, size)
        if kind != "plain":
            symmetric = Symmetrized if kind == "equivariant" else Framed
            self.function = symmetric(self.function, *groups)

    def forward(self, condition: Condition) -> Float[Tensor, "batch 1 1 size"]:
        x: Tensor = self.function(condition["noise"])
        return x[:, None, None]


class VectorCritic(nn.Module):
    """Vectors `(B, 1, 1, size)` to scores `(B,)`.

    Arguments:
        turns: n of C_n, under which the scores are invariant; 1 for a plain critic.
    """

    def __init__(self, size: int, *, turns: int = 1) -> None:
        super().__init__()
        plain = mlp(size, 1)
        self.function = Symmetrized(plain, plane_rotations(turns, size)) if turns > 1 else plain

    def forward(
        self, x: Float[Tensor, "batch 1 1 size"], condition: Condition
    ) -> Float[Tensor, " batch"]:
        scores: Tensor = self.function(x.flatten(1))
        return scores.squeeze(1)
