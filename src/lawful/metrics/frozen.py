"""What every network has in common whose features are compared, and which is never trained."""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float, Num
from torch import Tensor, nn

from lawful.errors import InputError


def unit_images(images: Tensor) -> Tensor:
    """Images as floating-point numbers in [0, 1], where a network expects such.

    Bytes (uint8) are divided by 255; a thousandth beyond the range is let pass.

    Raises:
        InputError: The images are other whole numbers, or leave the range: features of images in
            [-1, 1] or [0, 255] are wrong without looking so.
    """
    if images.dtype == torch.uint8:
        return images / 255
    if not images.is_floating_point():
        raise InputError(f"features: expected images in [0, 1] or bytes, got {images.dtype}")
    if images.numel():
        low, high = (float(end) for end in images.aminmax())
        if not (low >= -1e-3 and high <= 1 + 1e-3):
            raise InputError(f"features: expected images in [0, 1], got {low:.3g} to {high:.3g}")
    return images


class FrozenFeatures(nn.Module, ABC):
    """RGB images in [0, 1], or bytes, to rows of features, by frozen weights in evaluation mode.

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

    def forward(self, images: Num[Tensor, "batch 3 h w"]) -> Float[Tensor, "batch feature"]:
        images = unit_images(images)
        at_once = 1 if images.device.type == "cpu" else max(len(images), 1)
        parts = images.float().contiguous(memory_format=torch.channels_last).split(at_once)
        return torch.cat([self.pooled(self.prepare(part)) for part in parts])
