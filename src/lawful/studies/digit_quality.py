"""How good generated digits are on the pixels outside a motif."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lawful.data.digits import CLASSES, Digits
from lawful.evaluation.distances import frechet_distance, kernel_distance, manifolds
from lawful.laws.motif import MotifLaw
from lawful.networks.judge import load_judge

SURE = 0.9


@dataclass(frozen=True)
class DigitQuality:
    """Figures of a set of images; all but the first with the motif's pixels set to zero.

    Arguments:
        motif: Mean squared error on the motif's pixels; `motif_worst`, of the worst image.
        sure: Share of images of which the classifier is sure, i.e. gives a class 0.9 or more.
        least_class: Share of the rarest class among these.
        frechet, kernel: Distances to held-out digits, on the judge's 64 features.
        precision, recall, density, coverage: On the same features.
    """

    motif: float
    motif_worst: float
    sure: float
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
    """Judge images against the held-out digits."""
    judge = load_judge()
    residual = law(images, {}).flatten(1).square().mean(1)
    hidden = law.hide(images, {})
    probability = judge.probabilities(hidden)
    sure = probability.amax(1) >= SURE
    classes = probability.argmax(1)[sure].bincount(minlength=CLASSES)
    ours, real = judge.features(hidden), judge.features(law.hide(digits.held_out, {}))
    cover = manifolds(real, ours)
    return DigitQuality(
        motif=float(residual.mean()),
        motif_worst=float(residual.max()),
        sure=float(sure.float().mean()),
        least_class=float(classes.min() / classes.sum().clamp_min(1)),
        frechet=frechet_distance(ours, real),
        kernel=kernel_distance(ours, real),
        precision=cover.precision,
        recall=cover.recall,
        density=cover.density,
        coverage=cover.coverage,
    )


def real_floor(law: MotifLaw, digits: Digits) -> DigitQuality:
    """As many training digits as there are held-out ones, judged alike: the floor."""
    random = torch.Generator().manual_seed(0)
    rows = torch.randperm(len(digits.train), generator=random)[: len(digits.held_out)]
    return digit_quality(digits.train[rows], law, digits)
