"""What generated digits are measured by: an autoencoder for features, and a classifier."""

from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float, Num
from torch import Tensor, nn

from lawful.laws import Condition
from lawful.metrics.features import unit_images
from lawful.weights import load_weights


@lru_cache(maxsize=2)
def load_classifier(name: Literal["digits", "rotated-digits"] = "digits") -> "DigitClassifier":
    """The network of digits, or of digits in every orientation, in evaluation mode."""
    path = Path(str(resources.files("lawful"))) / "models" / name / "model.safetensors"
    with torch.random.fork_rng(devices=[]):  # a run's random numbers do not depend on this
        network = DigitClassifier()
    return load_weights(network, path)


class DigitClassifier(nn.Module):
    """An autoencoder whose code serves as features, and a classifier with weights of its own.

    `{"image": (B, 1, 28, 28)}` to reconstructions, so that it is trained and shipped like a
    generator. Neither half is invariant under any group: what it must not hide is a lost pose.
    """

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 24, 4, stride=2, padding=1), nn.GELU(),
            nn.Conv2d(24, 48, 4, stride=2, padding=1), nn.GELU(),
            nn.Flatten(), nn.Linear(48 * 7**2, 64),
        )  # fmt: skip
        self.decoder = nn.Sequential(
            nn.Linear(64, 48 * 7**2), nn.GELU(), nn.Unflatten(1, (48, 7, 7)),
            nn.ConvTranspose2d(48, 24, 4, stride=2, padding=1), nn.GELU(),
            nn.ConvTranspose2d(24, 1, 4, stride=2, padding=1), nn.Sigmoid(),
        )  # fmt: skip
        self.classifier = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1), nn.GELU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1), nn.GELU(), nn.MaxPool2d(2),
            nn.Conv2d(64, 64, 3, padding=1), nn.GELU(), nn.Dropout2d(0.2),
            nn.Flatten(), nn.Linear(64 * 7**2, 96), nn.GELU(), nn.Dropout(0.5),
            nn.Linear(96, 10),
        )  # fmt: skip

    def features(self, image: Num[Tensor, "batch 1 28 28"]) -> Float[Tensor, "batch 64"]:
        """The autoencoder's code of images in [0, 1], or bytes.

        Raises:
            InputError: They are neither.
        """
        code: Tensor = self.encoder(unit_images(image))
        return code

    def probabilities(self, image: Num[Tensor, "batch 1 28 28"]) -> Float[Tensor, "batch 10"]:
        """Probabilities of the ten classes of images in [0, 1], or bytes.

        Raises:
            InputError: They are neither.
        """
        parts = unit_images(image).split(500)
        return torch.cat([torch.softmax(self({"image": part}, "classes"), 1) for part in parts])

    def forward(
        self, condition: Condition, head: Literal["image", "classes"] = "image"
    ) -> Float[Tensor, "batch *out"]:
        """The reconstruction of `condition["image"]`, or the logits of its classes."""
        image = condition["image"]
        out: Tensor = (
            self.decoder(self.encoder(image)) if head == "image" else self.classifier(image)
        )
        return out
