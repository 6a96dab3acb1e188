"""Two-phase microstructures with given statistics (InvNet, section 3.3, appendix C)."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor, nn

from lawful.divergences import R1, NonSaturating
from lawful.errors import InputError
from lawful.laws import Condition, Law
from lawful.least_squares import Problem
from lawful.materials.dataset import Microstructures
from lawful.materials.images import Correlation, Micrograph, read_micrograph
from lawful.materials.laws import TwoPoint, VolumeFraction
from lawful.materials.levelcut import LevelCut, straight_through
from lawful.materials.network import UNIT, MicrostructureCritic, MicrostructureGenerator
from lawful.materials.statistics import RADII, two_point
from lawful.materials.targets import TrainedTargets, obstacle, target_like
from lawful.project import Projected, project, unrolled
from lawful.studies.microstructure_figures import targets_figure
from lawful.studies.microstructure_options import PictureOptions
from lawful.studies.microstructure_quality import accuracy, generate, held_out, likeness
from lawful.studies.microstructure_targets import (
    Draw,
    DrawTargets,
    load_data,
    statistics_of,
)
from lawful.study import Matching, Quantity, Training
from lawful.symmetry.planar import planar
from lawful.symmetry.symmetrize import Symmetrized
from lawful.training import Adam, Constraints, Game, adversarial_moves, law_moves
from lawful.typed import Positive, Size, Weight, Within

SIDE, LARGEST, LOWER, UPPER = 64, 1024, 0.25, 0.75
STEEPNESS = 6.0  # of the sigmoid behind a level cut, in standard deviations of the latent field
MODES, DAMPING = 8, 0.1  # of the law steps inside the sampler; the damping of refinement too
ITERATIONS, EXCHANGES = 40, 80
FINE_BLUR = 0.5  # pixels: of the steps of refinement that come second
HELD_OUT = "held-out "  # a target's first word, before a number
SEAM = 8  # pixels
AT_A_TIME = 64 * 256**2  # pixels of the samples that are made at once
MEASURED = 512  # held-out targets of a manifest
TARGET = {"volume_fraction", "two_point"}
LEFT_OUT = (
    "the network is left out of these; they are Gaussian fields of the target's spectrum, "
    "corrected by the law and cut"
)


class LawfulMicrostructures(nn.Module):
    """A network for latent fields, some Gauss-Newton steps on the law, and the level cut.

    Gradients pass the steps as if they were not there, and the cut as if it were a sigmoid. In
    training half of a batch goes without steps: left to itself behind them, the network drifts to
    where their linearisation fails. Once
    trained, a network that starts from the target's spectrum has no say in targets that are far
    from the trained ones.

    Arguments:
        network: Condition to latent fields (B, 1, N, N).
        steps: Gauss-Newton steps on `law`.
        law: The two-point law, in its lowest cosine modes where speed matters.
    """

    def __init__(self, network: MicrostructureGenerator, steps: int, law: TwoPoint) -> None:
        super().__init__()
        self.network, self.steps = network, steps
        self.bank = TrainedTargets()
        self.problem = Problem.of([law], LevelCut(STEEPNESS), 1.0)

    def latent(self, condition: Condition) -> Float[Tensor, "batch 1 rows columns"]:
        """The field whose level cut is the sample; large ones a few at a time."""
        side = condition["noise"].shape[-1]
        parts = torch.arange(len(condition["noise"])).split(max(1, AT_A_TIME // side**2))
        if len(parts) == 1:
            return self._latent(condition)
        return torch.cat([self._latent({n: v[p] for n, v in condition.items()}) for p in parts])

    def _latent(self, condition: Condition) -> Float[Tensor, "batch 1 rows columns"]:
        target = {name: condition[name] for name in TARGET}
        trust = None
        if self.network.prior == "spectral" and not self.training:
            # Outside the training the network's change is worse than none.
            trust = (~self.bank.far(**target)).to(condition["noise"])
        w: Tensor = self.network(condition, trust)
        if not self.steps:
            return w
        chosen = len(w) // 2 if self.training else len(w)
        few = {name: value[:chosen] for name, value in target.items()}
        moved = unrolled(self.problem, w[:chosen].detach(), few, self.steps, DAMPING)
        return torch.cat([w[:chosen] + (moved - w[:chosen]).detach(), w[chosen:]])

    def forward(self, condition: Condition) -> Float[Tensor, "batch 1 rows columns"]:
        """Binary images of exactly round(phi N^2) pixels in the phase."""
        return straight_through(self.latent(condition), condition["volume_fraction"], STEEPNESS)


@dataclass(frozen=True)
class MicrostructureStudy(Matching):
    """A generator of binary images of a given volume fraction and two-point correlation.

    Arguments:
        objective: `adversarial`, against images and under the law, each sample with the
            statistics of an image as its target; or `law`, the law alone.
        data: `cahn-hilliard`, the project's own set, which `lawful data cahn-hilliard` makes;
            `small`, a few images of the same kind; or an HDF5 file, of `lawful data` or the
            published 2D_binary_morphologies.h5.
        target: A picture whose statistics are the only target, or `held-out K`, the K-th held-out
            image of the data.
        weight: mu, of the mean square of the law's residual.
        prior: What the network starts from: noise of the target's `spectral` density, or `white`
            noise, blurred.
        law_steps: Gauss-Newton steps on the law inside the sampler.
        enforced: Radii 0 to enforced - 1 of the correlation are in the law (figure 7c).
        penalty: Weight of the critic's gradient penalty.
        critic_rate: Peak rate of the critic; None for the generator's.
        width, blocks: Of the generator.
        critic_width: Of the critic.
        side: Pixels a side of a sample; the weights do not depend on it.
        group: Turns and reflections that the generator commutes with: `C1` for none, `C4`, `D4`.
    """

    training: Training
    objective: Literal["adversarial", "law"] = "adversarial"
    data: str = "cahn-hilliard"
    target: str = ""
    weight: Weight = 1e4
    prior: Literal["spectral", "white"] = "spectral"
    law_steps: Annotated[int, Within(0, 1_000)] = 1
    enforced: Annotated[int, Within(2, RADII)] = RADII
    penalty: Weight = 1.0
    critic_rate: Positive | None = None
    width: Size = 32
    blocks: Annotated[int, Within(0, 100)] = 2
    critic_width: Size = 24
    side: int = SIDE
    group: str = "C1"

    name: ClassVar[str] = "microstructure"
    about: ClassVar[str] = "two-phase images with given statistics (InvNet, figures 4-7)"
    images: ClassVar[bool] = True
    binary: ClassVar[bool] = True
    sample_options: ClassVar[type] = PictureOptions
    headline: ClassVar[str] = (
        "raw p2 error {p2_rmse_median:.1e} (median), {p2_rmse_p95:.1e} (95th percentile) on its "
        "targets"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.side % UNIT or not 2 * RADII <= self.side <= LARGEST:
            raise InputError(
                f"side: expected a multiple of {UNIT} from {2 * RADII} to {LARGEST}, "
                f"got {self.side}"
            )
        if not planar(self.group).exact:
            raise InputError(f"group: expected quarter turns and reflections, got {self.group}")
        if self.target and self.objective == "adversarial":
            raise InputError("target: goes with objective law; a critic needs data")
        self._adam("training.learning_rate")
        self._adam("critic_rate")

    @classmethod
    def presets(cls) -> Mapping[str, Self]:
        full = cls(Training(steps=4_000, batch=32, learning_rate=1e-3, average=0.998))
        free = Training(steps=600, batch=16, learning_rate=3e-3, average=0.99)
        data_free = cls(free, objective="law", data="small", target=f"{HELD_OUT}3", prior="white")
        return {
            "full": full,
            "quick": replace(full, training=replace(full.training, steps=1_000, average=0.99)),
            "data-free": data_free,
            "data-free-isotropic": replace(data_free, group="D4"),
            "smoke": cls(
                Training(20, 8, 1e-3, average=0.9, checkpoint=10), data="small",
                width=16, blocks=1, critic_width=8,
            ),
            "paper": cls(
                Training(20_000, 32, 1e-4, average=0.999), prior="white", law_steps=0,
                penalty=10.0,
            ),
        }  # fmt: skip

    @property
    def quantities(self) -> tuple[Quantity, ...]:  # type: ignore[override]
        """Volume fraction, two-point correlation, and the noise that makes samples differ."""
        left_out = self.prior == "spectral"
        return (
            Quantity("volume_fraction", LOWER, UPPER, minimum=0.0, about="p1 of the phase of 1s"),
            Quantity("two_point", 0.0, 1.0, minimum=0.0, shape=(RADII,),
                     about=f"radial p2 at 0 to {RADII - 1} pixels",
                     beyond=LEFT_OUT if left_out else ""),
            Quantity("noise", -inf, inf, shape=(self.side, self.side), distribution="normal",
                     kept=False, about="white noise"),
        )  # fmt: skip

    def network(self) -> LawfulMicrostructures:
        network = MicrostructureGenerator(
            RADII, width=self.width, blocks=self.blocks, prior=self.prior, group=planar(self.group)
        )
        law = replace(self.trained_law(), modes=min(MODES, self.enforced))
        return LawfulMicrostructures(network, self.law_steps, law)

    def players(self) -> dict[str, nn.Module]:
        generator = self.network()
        generator.bank.fill(*self.statistics())
        if self.objective == "law":
            return {"generator": generator}
        critic: nn.Module = MicrostructureCritic(width=self.critic_width)
        group = planar(self.group)
        critic = critic if group.order == 1 else Symmetrized(critic, group)
        return {"generator": generator, "critic": critic}

    def laws(self) -> tuple[Law, ...]:
        return VolumeFraction(), TwoPoint()

    def trained_law(self) -> TwoPoint:
        """The law of the training: the curve, or its first part."""
        return TwoPoint(self.enforced)

    def game(self) -> Game:
        constraints = Constraints((self.trained_law(),), "penalty", self.weight)
        adam = self._adam("training.learning_rate")
        if self.objective == "law":
            targets = DrawTargets(*self.statistics(), self.training.batch, self.side)
            return Game(law_moves(constraints, generator=adam), targets)
        data, (_, curves) = self._data(), self.statistics()
        moves = adversarial_moves(
            NonSaturating((R1(self.penalty),)), constraints, generator=adam,
            critic=self._adam("critic_rate"), view=None if data.periodic else interior,
        )  # fmt: skip
        return Game(moves, Draw(data.train, curves, self.training.batch, data.periodic))

    def complete(
        self, network: nn.Module, given: Condition, count: int, generator: torch.Generator
    ) -> Condition:
        """Statistics that are not given are those of images like the trained ones."""
        target = own(network).bank.complete(given, count, generator)
        noise = given.get("noise")
        if noise is None:
            noise = torch.randn(count, self.side, self.side, generator=generator)
        return {**target, "noise": noise}

    def outside(self, network: nn.Module, condition: Condition) -> dict[str, Tensor]:
        phi, curve = condition["volume_fraction"], condition["two_point"]
        found = {q.name: q.check(condition[q.name]) for q in self.quantities if q.kept}
        bank = own(network).bank
        found["two_point"] = bank.far(phi.to(bank.phi), curve.to(bank.phi)).cpu()
        return found

    def obstacle(self, condition: Condition, tolerance: float) -> str | None:
        return obstacle(condition, self.side, tolerance)

    def project(self, network: nn.Module, condition: Condition, tolerance: float) -> Projected:
        """By moving the latent field, then by exchanging pixels along interfaces."""
        with torch.no_grad():
            w = own(network).latent(condition)
        return refine_latent(w, condition, tolerance)

    def resized(self, size: int) -> Self:
        return replace(self, side=size)

    def like(self, shown: Micrograph | Correlation | str | Path, given: Condition) -> Condition:
        return target_like(shown, given)

    def appendix(self, fields: Tensor, condition: Condition) -> Mapping[str, Figure]:
        return {"Two-point correlation, asked for and found": targets_figure(fields, condition)}

    def origin(self) -> Mapping[str, str]:
        if self.target and not self.target.startswith(HELD_OUT):
            return {"target": Path(self.target).name}
        return {"images": self._data().source}

    def measure(self, network: nn.Module) -> Mapping[str, float]:
        """Raw samples against held-out images; against the target's statistics where it is one."""
        if self.target:
            phi, curve = (
                values.expand(MEASURED, *values.shape[1:]) for values in self.statistics()
            )
            made = generate(network, {"volume_fraction": phi, "two_point": curve}, self.side)
            found = two_point(made[:, 0] > 0.5, RADII)
            error = (found - curve).square().mean(1).sqrt()
            return {
                "p2_rmse_median": float(error.median()),
                "p2_rmse_p95": float(error.quantile(0.95)),
            }
        data = self._data()
        against = held_out(data.held_out, MEASURED, periodic=data.periodic)
        return accuracy(likeness(generate(network, against.condition), against))

    def _data(self) -> Microstructures:
        return load_data(self.data)

    def statistics(self) -> tuple[Tensor, Tensor]:
        """Volume fractions and correlations of the targets that are trained."""
        if not self.target:
            data = self._data()
            return statistics_of(data.train, periodic=data.periodic)
        if self.target.startswith(HELD_OUT):
            curve = two_point(self.target_image()[None])
            return curve[:, 0], curve
        found = self.like(Path(self.target), {})
        return found["volume_fraction"], found["two_point"]

    def target_image(self) -> Float[Tensor, "rows columns"]:
        """The picture that is the only target."""
        if not self.target.startswith(HELD_OUT):
            return torch.as_tensor(read_micrograph(Path(self.target)).image).float()
        images, number = self._data().held_out.images, self.target.removeprefix(HELD_OUT)
        if not number.isdecimal() or int(number) >= len(images):
            raise InputError(
                f"target {self.target!r}: expected a picture, or {HELD_OUT}K with K from 0 to "
                f"{len(images) - 1}"
            )
        return images[int(number)].float()

    def _adam(self, name: str) -> Adam:
        own = self.critic_rate if name == "critic_rate" else None
        rate = self.training.learning_rate if own is None else own
        try:
            return Adam(rate, "cosine", 0.02, clip=None, betas=(0.0, 0.99))
        except InputError as error:
            raise InputError(f"{name}: {error}") from None


def interior(x: Tensor, c: Condition) -> Tensor:
    """What a critic sees where images are not periodic: both kinds then have a seam."""
    return x[..., :-SEAM, :-SEAM]


def refine_latent(
    w: Float[Tensor, "batch 1 rows columns"], condition: Condition, tolerance: float
) -> Projected:
    """Samples within the tolerance by moving latent fields, smoothly at first, then where that is
    not enough at a finer scale, and by exchanging pixels at last.

    Neither changes the number of pixels in the phase, which is the nearest there is.
    """
    return project(
        (TwoPoint(),), w, {name: condition[name] for name in TARGET}, tolerance=tolerance,
        through=(LevelCut(STEEPNESS), LevelCut(STEEPNESS, blur=FINE_BLUR)), iterations=ITERATIONS,
        damping=DAMPING, least=DAMPING, exchanges=EXCHANGES,
    )  # fmt: skip


def own(network: nn.Module) -> LawfulMicrostructures:
    """The network as what this study makes.

    Raises:
        InputError: It is another.
    """
    if not isinstance(network, LawfulMicrostructures):
        raise InputError(f"microstructure: expected its network, got {type(network).__name__}")
    return network
