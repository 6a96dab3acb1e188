"""Tissue from few patches (Birrell et al. 2022, the ANHIR and LYSTO tables)."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated, ClassVar, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lawful.data.tissue import Tissue, load_tissue
from lawful.errors import InputError
from lawful.laws import Law, Residual
from lawful.metrics.distances import compare, kernel_distance
from lawful.metrics.features import EfficientNetFeatures, InceptionFeatures, embed
from lawful.studies.symmetric import (
    LEAST,
    Labelled,
    SymmetricStudy,
    generate,
    pose_error,
    pose_test,
)
from lawful.study import Training
from lawful.symmetry.symmetrize import randomize
from lawful.training import Game
from lawful.typed import Size, Within, check_fields

TISSUE = "immunohistochemistry"
SIDE, WATCHED, TESTED, FEWEST = 64, 100, 60, 6


@dataclass(frozen=True)
class HistologyStudy(SymmetricStudy):
    """A generator of tissue patches of 64 x 64 RGB pixels.

    Arguments:
        tissue: `immunohistochemistry`, or a folder in the layout of ANHIR or LYSTO, or with a
            folder of pictures a class.
        features: What distances are taken on: `efficientnet`, or a file of Inception's weights.
        names: Of the classes; those of the tissue where not given. A model knows them without it.
    """

    group: str = "D4"
    tissue: str = TISSUE
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
    side: ClassVar[int] = SIDE
    channels: ClassVar[int] = 3
    headline: ClassVar[str] = (
        "kernel distance {kernel:.3f}, Fréchet {frechet:.0f}; equivariance error {equivariance:.0e}"
    )

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
        found = self.names or (() if self.tissue == TISSUE else self.patches().classes)
        object.__setattr__(self, "names", tuple(found))
        super().__post_init__()

    @property
    def classes(self) -> tuple[str, ...]:
        return self.names or ("tissue",)

    def laws(self) -> tuple[Law | Residual, ...]:
        return ()

    def patches(self) -> Tissue:
        """All patches, split by region."""
        return load_tissue(self.tissue, side=SIDE)

    def data(self) -> Labelled:
        patches = self.patches()
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
        return Labelled(patches.train, patches.train_labels)

    def game(self) -> Game:
        _network(self.features)  # refused now, if it cannot be had, rather than after the training
        return super().game()

    def origin(self) -> Mapping[str, str]:
        return {"tissue": self.patches().source}

    def watch(self, network: nn.Module) -> Mapping[str, float]:
        asked = self.patches().held_out_labels
        images = generate(self, network, min(WATCHED, self.judged), like=asked).images
        ours = embed(_network(self.features), images)
        return {"kernel": kernel_distance(ours, _held_out(self.tissue, self.features))}

    def measure(self, network: nn.Module) -> Mapping[str, float]:
        return asdict(tissue_quality(self, network))


@lru_cache(maxsize=1)
def _network(features: str) -> EfficientNetFeatures | InceptionFeatures:
    return (
        EfficientNetFeatures() if features == "efficientnet" else InceptionFeatures(Path(features))
    )


@lru_cache(maxsize=1)
def _held_out(tissue: str, features: str) -> Tensor:
    return embed(_network(features), load_tissue(tissue, side=SIDE).held_out)


@dataclass(frozen=True)
class TissueQuality:
    """Figures of generated patches, on features of an ImageNet network.

    With few held-out patches the unbiased kernel distance decides; the Fréchet distance is biased
    upwards by the number of samples and says little without its floor.

    Arguments:
        kernel, kernel_error: Distance to held-out patches, and its standard error.
        frechet: The same, not unbiased.
        kernel_symmetrized: Of the samples, each moved by a random element of the group.
        precision, recall, density, coverage: On the same features.
        invariance: p-value of the samples' law being invariant.
        equivariance: Worst relative error of the generator over the group.
    """

    kernel: float
    kernel_error: float
    kernel_symmetrized: float
    frechet: float
    precision: float
    recall: float
    density: float
    coverage: float
    invariance: float
    equivariance: float


def tissue_quality(
    study: HistologyStudy, network: nn.Module, *, posed: bool = True
) -> TissueQuality:
    """Judge samples by held-out patches, whose shares of classes they have.

    Arguments:
        posed: Draw elements of the group; else samples are those of the incomplete generator.
    """
    asked = study.patches().held_out_labels
    images = generate(study, network, study.judged, posed=posed, like=asked).images
    return judge_tissue(study, images, pose_error(study, network))


@torch.no_grad()
def judge_tissue(
    study: HistologyStudy,
    images: Float[Tensor, "n 3 64 64"],
    equivariance: float = float("nan"),
) -> TissueQuality:
    """Figures of any patches."""
    network = _network(study.features)
    real, ours = _held_out(study.tissue, study.features), embed(network, images)
    found = compare(real, ours)
    turned = randomize(images, study.symmetry.exact_part, torch.Generator().manual_seed(3))
    return TissueQuality(
        kernel=found.kernel,
        kernel_error=found.kernel_error,
        kernel_symmetrized=kernel_distance(embed(network, turned), real),
        frechet=found.frechet,
        precision=found.precision,
        recall=found.recall,
        density=found.density,
        coverage=found.coverage,
        invariance=pose_test(images, study.symmetry, network, min(TESTED, study.judged)).p_value,
        equivariance=equivariance,
    )
