"""Directions that several loss terms of one player agree on."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from conflictfree.grad_operator import ConFIG_update
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Combination(ABC):
    """One direction from the gradients of several terms."""

    @abstractmethod
    def __call__(self, gradients: Float[Tensor, "term parameter"]) -> Float[Tensor, " parameter"]:
        """The direction to descend, from a gradient a row."""


@dataclass(frozen=True)
class ConFIG(Combination):
    """The direction of equal positive cosine with every term's gradient (Liu et al. 2025).

    Its length is the sum of the gradients' projections on it. Computed by `conflictfree`.
    """

    def __call__(self, gradients: Tensor) -> Tensor:
        if not bool(torch.isfinite(gradients).all()):
            return gradients.sum(0)  # not finite either: whoever steps along it must see that
        largest = gradients.abs().max()
        scaled = gradients / largest
        alive = scaled[scaled.norm(dim=1) > 0] if largest > 0 else scaled[:0]
        if len(alive) < 2:
            return gradients.sum(0)
        direction: Tensor = ConFIG_update(alive, use_least_square=False)
        opposed = not bool(torch.isfinite(direction).all())  # rows that cancel leave no direction
        return torch.zeros_like(direction) if opposed else largest * direction
