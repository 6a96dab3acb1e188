"""How good generated digits are on the pixels outside a motif."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from lawful.data.digits import CLASSES, Digits
from lawful.errors import InputError
from lawful.metrics.classifier import load_classifier
from lawful.metrics.distances import frechet_distance, kernel_distance, manifolds
from lawful.studies.motif_law import MotifLaw

CONFIDENT, SAMPLES, LEAST, CHUNK = 0.9, 2_000, 10, 500


@dataclass(frozen=True)
class DigitQuality:
    """Figures of a set of images; all but the first with the motif's pixels set to zero.

    Arguments:
        motif: Mean squared error on the motif's pixels; `motif_worst`, of the worst image.
        confident: Share of images to which the classifier gives a class with probability 0.9 or
            more.
        least_class: Share of all images that are confidently of the rarest class.
        frechet, kernel: Distances to held-out digits, on the autoencoder's 64 features.
        precision, recall, density, coverage: On the same features.
    """

    motif: float
    motif_worst: float
    confident: float
    least_class: float
    frechet: float
    kernel: float
    precision: float
    recall: float
    density: float
    coverage: float


@torch.no_grad()
def digit_quality(
    images: Float[Tensor, "batch 1 28 28"], law: MotifLaw, digits: Digits
) -> DigitQuality:
    """Judge images against held-out digits, as many of both; at most two thousand.

    Raises:
        InputError: Fewer than ten images or held-out digits.
    """
    count = min(len(images), len(digits.held_out), SAMPLES)
    if count < LEAST:
        raise InputError(f"digits: expected at least {LEAST} to judge by, got {count}")
    images, held_out = images[:count], _some(digits.held_out, count)
    residual = law(images, {}).flatten(1).square().mean(1)
    hidden = law.hide(images, {})
    shares = _class_shares(hidden)
    ours, real = _features(hidden), _features(law.hide(held_out, {}))
    cover = manifolds(real, ours)
    return DigitQuality(
        motif=float(residual.mean()),
        motif_worst=float(residual.max()),
        confident=float(shares.sum()),
        least_class=float(shares.min()),
        frechet=frechet_distance(ours, real),
        kernel=kernel_distance(ours, real),
        precision=cover.precision,
        recall=cover.recall,
        density=cover.density,
        coverage=cover.coverage,
    )


def real_floor(law: MotifLaw, digits: Digits) -> DigitQuality:
    """As many training digits, judged alike: the floor; confidence, of held-out digits."""
    count = min(len(digits.train), len(digits.held_out), SAMPLES)
    quality = digit_quality(_some(digits.train, count), law, digits)
    with torch.no_grad():
        shares = _class_shares(law.hide(digits.held_out, {}))
    return replace(quality, confident=float(shares.sum()), least_class=float(shares.min()))


def _some(images: Tensor, count: int) -> Tensor:
    """A fixed random choice."""
    random = torch.Generator().manual_seed(0)
    return images[torch.randperm(len(images), generator=random)[:count]]


def _class_shares(hidden: Tensor) -> Tensor:
    """Share of all images that are confidently of each class."""
    classifier = load_classifier()
    probability = torch.cat([classifier.probabilities(part) for part in hidden.split(CHUNK)])
    confident = probability.amax(1) >= CONFIDENT
    return probability.argmax(1)[confident].bincount(minlength=CLASSES) / len(hidden)


def _features(hidden: Tensor) -> Tensor:
    return torch.cat([load_classifier().features(part) for part in hidden.split(CHUNK)])
