"""Tissue from few patches (Birrell et al. 2022, the ANHIR and LYSTO tables)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

import torch
from torch import Tensor

from lawful.data.labelled import Labelled
from lawful.data.tissue import DEFAULT, load_tissue
from lawful.errors import InputError
from lawful.laws import Law, Residual
from lawful.metrics.distances import kernel_distance
from lawful.metrics.features import efficientnet_features, embed, inception_features
from lawful.studies.symmetric import LEAST, Features, Images, SymmetricStudy
from lawful.studies.symmetric_table import FULL, LOSSES, PLAIN, RANDOM, Comparison, block_runs
from lawful.study import Study, Training
from lawful.symmetry.symmetrize import orbit_samples
from lawful.table import Column, Recipe, Row, checked
from lawful.training import Game
from lawful.typed import Size, Within, check_fields

SIDE, FEWEST = 64, 6


@dataclass(frozen=True)
class HistologyStudy(SymmetricStudy):
    """A generator of tissue patches of 64 x 64 RGB pixels.

    Arguments:
        tissue: `immunohistochemistry`, or a folder in the layout of ANHIR or LYSTO, or with a
            folder of pictures a class.
        features: What distances are taken on: `efficientnet`, or a file of Inception's weights.
        names: Names of the classes, which a model knows; the tissue's where not given.
    """

    group: str = "D4"
    tissue: str = DEFAULT
    features: str = "efficientnet"
    judged: Annotated[int, Within(LEAST, 1_000_000)] = 300
    growth: tuple[Size, ...] = (1, 1, 2, 2)
    start: Size = 16
    embedding: Size = 32
    smooth: bool = True
    noise_injection: bool = True
    bright: bool = True
    names: tuple[str, ...] = ()

    name: ClassVar[str] = "histology"
    about: ClassVar[str] = "tissue from few patches (structure-preserving GANs)"
    headline: ClassVar[str] = (
        "kernel distance {kernel:.3f}, Fréchet {frechet:.0f}; equivariance error {equivariance:.0e}"
    )
    side: ClassVar[int] = SIDE
    channels: ClassVar[int] = 3
    decisive: ClassVar[str] = "kernel"
    watched: ClassVar[int] = 100
    tested: ClassVar[int] = 60

    @classmethod
    def presets(cls) -> Mapping[str, Self]:
        quick = cls(
            Training(1_500, 16, 5e-4, average=0.995, checkpoint=250), critic_rate=4e-4,
            generator_width=11, critic_width=11, penalty=5.0, critic_kernel=3,
        )  # fmt: skip
        full = replace(quick, training=replace(quick.training, steps=4_000))
        paper = Training(40_000, 32, 1e-4, average=0.0, checkpoint=2_000)
        return {
            "quick": quick,
            "full": full,
            "smoke": replace(
                quick, training=Training(4, 4, 2e-4, checkpoint=2), generator_width=3,
                critic_width=3, growth=(1, 1, 1, 1), judged=32,
            ),
            "paper": replace(
                quick, training=paper, critic_rate=4e-4, critic_steps=2, generator_width=16,
                critic_width=16, growth=(1, 2, 4, 8, 16), residual=True, norm="batch",
                penalty=0.025, critic_kernel=0, noise=128, start=128, embedding=128, smooth=False,
                noise_injection=False,
            ),
        }  # fmt: skip

    def __post_init__(self) -> None:
        check_fields(self)  # before what is looked up by them
        names = self.names
        if not names and self.tissue != DEFAULT:
            names = load_tissue(self.tissue, side=SIDE).classes
        object.__setattr__(self, "names", tuple(names))
        super().__post_init__()

    @property
    def classes(self) -> tuple[str, ...]:
        return self.names or ("tissue",)

    def laws(self) -> tuple[Law | Residual, ...]:
        return ()

    def data(self) -> Labelled:
        patches = load_tissue(self.tissue, side=SIDE)
        if patches.classes != self.classes:
            raise InputError(
                f"tissue {patches.source}: has classes {', '.join(patches.classes)}; expected "
                f"{', '.join(self.classes)}"
            )
        if (count := len(patches.held_out)) < FEWEST:
            raise InputError(
                f"tissue {patches.source}: {count} held-out patches; expected at least {FEWEST} "
                "to judge by"
            )
        return patches

    def game(self) -> Game:
        _network(self.features)  # refused now, if it cannot be had, rather than after the training
        return super().game()

    def origin(self) -> Mapping[str, str]:
        return {"tissue": load_tissue(self.tissue, side=SIDE).source}

    def embed(self, images: Images) -> Features:
        return embed(_network(self.features), images)

    def held_out(self, random: torch.Generator) -> Features:
        return _held_out(self.tissue, self.features)

    def distance(self, features: Features) -> float:
        return kernel_distance(features, _held_out(self.tissue, self.features))


@lru_cache(maxsize=1)
def _network(features: str) -> Callable[[Tensor], Tensor]:
    return (
        efficientnet_features()
        if features == "efficientnet"
        else inception_features(Path(features))
    )


@lru_cache(maxsize=1)
def _held_out(tissue: str, features: str) -> Tensor:
    """Features of all held-out patches."""
    return embed(_network(features), load_tissue(tissue, side=SIDE).held_out)


# Table: plain against symmetric players, few patches. With few held-out patches the unbiased kernel
# distance decides; the Fréchet distance is biased upwards by the number of samples.

ROWS = (
    Row("plain G, plain D", PLAIN, 3, "plain"),
    Row("plain pair, augmented (+)", {**PLAIN, "treatment": "augmented"}, name="augmented"),
    Row("plain G, random element, Inv D", RANDOM, name="plain-inv"),
    Row("Eqv G, Inv D, D4", FULL, 3, "d4"),
)
# Of the same weights, sampled without random elements.
INCOMPLETE = {"plain-inv": "plain G, Inv D", "d4": "(I)Eqv G, Inv D, D4"}
# Best and median FID over training on the slides: ANHIR and LYSTO, relativistic.
SLIDES = {
    "plain G, plain D": "186, 523; 281, 340", "plain pair, augmented (+)": "184, 503; 250, 312",
    "(I)Eqv G, Inv D, D4": "100, 142; 218, 272", "Eqv G, Inv D, D4": "78, 125; 175, 238",
}  # fmt: skip
COLUMNS = {
    "steps": Column("steps", ",.0f"),
    "kernel × 1000": Column("kernel", ".1f", ranged=True, scale=1000),
    "its standard error": Column("kernel_error", ".1f", scale=1000),
    "best over training": Column("best", ".1f", scale=1000),
    "median over training": Column("middle", ".1f", scale=1000),
    "Fréchet": Column("frechet", ".0f"),
    "of random elements": Column("kernel_symmetrized", ".1f", scale=1000),
    "precision": Column("precision", ".2f"), "recall": Column("recall", ".2f"),
    "coverage": Column("coverage", ".2f"), "invariance p": Column("invariance", ".3f"),
    "equivariance error": Column("equivariance", ".0e", of=max),
    "slides' FID": Column("slides"),
}  # fmt: skip


def histology_runs(study: Study, preset: str) -> Mapping[str, Study]:
    """Every design at the preset's size, by the name of its run; preset `paper` has both losses."""
    base = replace(checked(study, HistologyStudy), group="D4", loss="relativistic")
    runs: dict[str, Study] = {}
    for loss in LOSSES if preset == "paper" else (base.loss,):
        runs |= block_runs(ROWS, base, loss, preset)
    return runs


def _told(study: HistologyStudy) -> str:
    patches, watched = study.data(), min(study.watched, study.judged)
    return (
        f"Tissue: {patches.source}; {len(patches.train)} patches to train on, "
        f"{len(patches.held_out)} of other places held out. Distances of {study.judged} samples on "
        f"features of {study.features}, not to be compared with the slides' FID; over training, of "
        f"{watched} samples at every checkpoint."
    )


def _floors(study: HistologyStudy) -> list[dict[str, Any]]:
    """Real patches, judged alike; they overlap, which the test of invariance does not allow."""
    patches = study.data()
    random = torch.Generator().manual_seed(2)
    rows = torch.randperm(len(patches.train), generator=random)[: study.judged]
    found = study.evaluate(patches.train[rows], patches.train_labels[rows])
    return [{"row": "patches trained on", **found, "invariance": None}]


def _beside(study: HistologyStudy) -> dict[str, Tensor]:
    """Some patches held out, in every pose."""
    real = orbit_samples(study.data().held_out[::2], study.symmetry)
    random = torch.Generator().manual_seed(4)
    return {"real, held out": real[torch.randperm(len(real), generator=random)[:36]]}


TABLE = Comparison(
    HistologyStudy, "Tissue", ROWS, INCOMPLETE, COLUMNS,
    pair=("Eqv G, Inv D, D4", "plain G, plain D"), distance="kernel distance", sheet=(36, 6),
    title=lambda study: LOSSES[study.loss], told=_told, floors=_floors, slides=lambda _: SLIDES,
    beside=_beside,
)  # fmt: skip
RECIPE = Recipe(TABLE.result, histology_runs, "quick")
