"""What every network has in common whose features are compared, and which is never trained."""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor, nn


class FrozenFeatures(nn.Module, ABC):
    """RGB images in [0, 1] to rows of features, by frozen weights in evaluation mode.

    On a CPU images are taken one at a time. That is no slower, as activations stay in its cache; it
    bounds memory; and an image has the same features, to the bit, in whatever batch it comes.

    Arguments:
        network: Given its weights; put into evaluation mode and frozen.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.eval().requires_grad_(False)

    @abstractmethod
    def prepare(self, images: Float[Tensor, "batch 3 h w"]) -> Float[Tensor, "batch 3 side side"]:
        """Images of the size and range that the network was trained on."""

    @abstractmethod
    def pooled(self, images: Float[Tensor, "batch 3 side side"]) -> Float[Tensor, "batch feature"]:
        """The network's features of prepared images."""

    def train(self, mode: bool = True) -> "FrozenFeatures":
        """Stay in evaluation mode, also as a part of a network in training."""
        return super().train(False)

    def forward(self, images: Float[Tensor, "batch 3 h w"]) -> Float[Tensor, "batch feature"]:
        at_once = 1 if images.device.type == "cpu" else max(len(images), 1)
        parts = images.float().contiguous(memory_format=torch.channels_last).split(at_once)
        return torch.cat([self.pooled(self.prepare(part)) for part in parts])
