"""Two-phase microstructures with given statistics (InvNet, section 3.3, appendix C)."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from math import inf
from pathlib import Path
from textwrap import fill
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import torch
import tyro
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor, nn

from lawful.divergences import R1, NonSaturating
from lawful.errors import InputError
from lawful.laws import Condition, Law
from lawful.materials.compare import chosen, likeness
from lawful.materials.dataset import Microstructures, open_set
from lawful.materials.figures import targets_figure
from lawful.materials.images import (
    Correlation,
    Micrograph,
    read_correlation,
    read_micrograph,
    rescaled,
)
from lawful.materials.laws import TwoPoint, VolumeFraction
from lawful.materials.network import (
    UNIT,
    MicrostructureCritic,
    MicrostructureGenerator,
    MicrostructureSampler,
    project_latent,
)
from lawful.materials.statistics import RADII, Field, Samples, two_point
from lawful.materials.targets import obstacle, target_like
from lawful.model import Model
from lawful.project import Projected
from lawful.study import Matching, Quantity, Training
from lawful.symmetry.planar import planar
from lawful.symmetry.symmetrize import Symmetrized
from lawful.training import Adam, Batch, Constraints, Game, adversarial_moves, law_moves
from lawful.typed import Positive, Size, Weight, Within, check_fields

SIDE, LARGEST, LOWER, UPPER = 64, 1024, 0.25, 0.75
MODES = 8  # of the law steps inside the sampler
HELD_OUT = "held-out "  # a target's first word, before a number
SEAM = 8  # pixels
MEASURED = 512  # held-out targets of a manifest
LEFT_OUT = (
    "the network is left out of these; they are Gaussian fields of the target's spectrum, "
    "corrected by the law and cut"
)


@dataclass(frozen=True)
class PictureOptions:
    """What `lawful sample` takes for microstructures alone: a picture to be like, and a size."""

    size: Annotated[int | None, tyro.conf.arg(help="pixels a side of a sample")] = None
    like: Annotated[Path | None, tyro.conf.arg(help="a picture, or statistics.csv, to be like")] = (
        None
    )
    threshold: Annotated[float | None, tyro.conf.arg(help="of --like's grey levels [Otsu]")] = None
    phase: Annotated[
        Literal["bright", "dark"], tyro.conf.arg(help="side of --like's threshold described")
    ] = "bright"
    scale: Annotated[float, tyro.conf.arg(help="pixels of a sample per pixel of --like")] = 1.0
    crop: Annotated[
        int | None, tyro.conf.arg(help="rows to cut from the bottom of --like [its banner]")
    ] = None
    median: Annotated[int, tyro.conf.arg(help="median filter on --like, pixels")] = 1

    def __post_init__(self) -> None:
        check_fields(self, "--")

    def apply(
        self, model: Model, condition: Mapping[str, Any]
    ) -> tuple[Model, Mapping[str, Any], Mapping[str, Any]]:
        """The model of the size, the condition of the picture, and how that was read.

        Raises:
            InputError: An option goes with a picture and there is none, the picture cannot be read
                or has no such condition, or the model has no such size.
        """
        model = model if self.size is None else model.resized(self.size)
        names = ("threshold", "phase", "crop", "median")
        if self.like is None or self.like.suffix.lower() == ".csv":
            for field in fields(self):
                value = getattr(self, field.name)
                if field.name in (*names, "scale") and value != field.default:
                    raise InputError(
                        f"--{field.name} {value}: goes with --like and a picture; there is none"
                    )
            if self.like is None:
                return model, condition, {}
            curve = read_correlation(self.like)
            print(f"like {self.like.name}: its two-point correlation, p1 = {curve[0]:.4f}")
            return model, model.like(curve, condition), {"like": {"path": self.like.name}}
        shown = read_micrograph(self.like, **{name: getattr(self, name) for name in names})
        scaled = "" if self.scale == 1 else f"; scaled by {self.scale:g}"
        shown = rescaled(shown, self.scale) if scaled else shown
        print(fill(f"like {shown.described()}{scaled}", 80))
        for note in shown.notes:
            print(f"lawful: warning: {shown.source}: {note}", file=sys.stderr)
        read = ("threshold", "phase", "banner", "pixel_size", "unit")
        told = {"path": self.like.name, **{entry: getattr(shown, entry) for entry in read}}
        told |= {"scale": self.scale, "median": self.median}
        return model, model.like(shown, condition), {"like": told}


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

    def network(self) -> MicrostructureSampler:
        network = MicrostructureGenerator(
            RADII, width=self.width, blocks=self.blocks, prior=self.prior, group=planar(self.group)
        )
        law = replace(self.trained_law(), modes=min(MODES, self.enforced))
        return MicrostructureSampler(network, self.law_steps, law)

    def players(self) -> dict[str, nn.Module]:
        generator = self.network()
        generator.bank.fill(**self.statistics())
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
        generator, critic = (
            Adam(rate or self.training.learning_rate, "cosine", 0.02, clip=None, betas=(0.0, 0.99))
            for rate in (None, self.critic_rate)
        )
        if self.objective == "law":
            draw = partial(drawn_targets, self.statistics(), self.training.batch, self.side)
            return Game(law_moves(constraints, generator=generator), draw)
        data, _ = open_set(self.data)
        moves = adversarial_moves(
            NonSaturating((R1(self.penalty),)), constraints, generator=generator, critic=critic,
            view=None if data.periodic else interior,
        )  # fmt: skip
        return Game(moves, partial(drawn_images, data, self.training.batch))

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
        return project_latent(w, condition, tolerance)

    def resized(self, size: int) -> Self:
        return replace(self, side=size)

    def like(self, shown: Micrograph | Correlation | str | Path, given: Condition) -> Condition:
        return target_like(shown, given)

    def appendix(self, fields: Tensor, condition: Condition) -> Mapping[str, Figure]:
        return {"Two-point correlation, asked for and found": targets_figure(fields, condition)}

    def origin(self) -> Mapping[str, str]:
        if self.target and not self.target.startswith(HELD_OUT):
            return {"target": Path(self.target).name}
        return {"images": open_set(self.data)[0].source}

    def measure(self, network: nn.Module) -> Mapping[str, float]:
        """Raw samples against held-out images; against the target's statistics where it is one."""
        if self.target:
            one = self.statistics()
            target = {name: value.expand(MEASURED, *value.shape[1:]) for name, value in one.items()}
            made = two_point(generate(network, target, self.side)[:, 0] > 0.5, RADII)
            return _spread((made - target["two_point"]).square().mean(1).sqrt().numpy())
        against, _ = chosen(open_set(self.data)[1], MEASURED)
        found = likeness(generate(network, against.statistics), against)
        return {
            "targets": float(len(found["p2_rmse"])),
            "p1_error_worst": float(found["p1_error"].max()),
            **_spread(found["p2_rmse"]),
            "p2_rmse_worst": float(found["p2_rmse"].max()),
            "surface_ratio_median": float(np.median(found["surface"])),
            "lineal_path_rmse_median": float(np.median(found["lineal_path_rmse"])),
        }

    def statistics(self) -> Condition:
        """Volume fractions and correlations of the targets that are trained."""
        if not self.target:
            return open_set(self.data)[0].statistics
        if self.target.startswith(HELD_OUT):
            curve = two_point(self.target_image()[None])
            return {"volume_fraction": curve[:, 0], "two_point": curve}
        return self.like(Path(self.target), {})

    def target_image(self) -> Float[Tensor, "rows columns"]:
        """The picture that is the only target."""
        if not self.target.startswith(HELD_OUT):
            return torch.as_tensor(read_micrograph(Path(self.target)).image).float()
        images, number = open_set(self.data)[1].images, self.target.removeprefix(HELD_OUT)
        if not number.isdecimal() or int(number) >= len(images):
            raise InputError(
                f"target {self.target!r}: expected a picture, or {HELD_OUT}K with K from 0 to "
                f"{len(images) - 1}"
            )
        return images[int(number)].float()


def _spread(errors: Float[np.ndarray, " sample"]) -> dict[str, float]:
    quantiles = {"p2_rmse_median": 0.5, "p2_rmse_p95": 0.95}
    return {name: float(np.quantile(errors, share)) for name, share in quantiles.items()}


def interior(x: Tensor, c: Condition) -> Tensor:
    """What a critic sees where images are not periodic: both kinds then have a seam."""
    return x[..., :-SEAM, :-SEAM]


def drawn_images(data: Microstructures, count: int, generator: torch.Generator) -> Batch:
    """Trained images with their own statistics as targets, turned, mirrored and, on the torus,
    shifted: symmetries of the equation that leave the statistics as they are."""
    rows = torch.randint(len(data.images), (count,), generator=generator)
    images = data.images[rows].float()
    coin = torch.randint(2, (3,), generator=generator).tolist()
    images = images.transpose(-1, -2) if coin[0] else images
    images = images.flip([axis for axis, c in zip((-1, -2), coin[1:], strict=True) if c])
    shift = torch.randint(images.shape[-1], (2,), generator=generator).tolist()
    images = images.roll(shift, (-2, -1)) if data.periodic else images
    target = {name: value[rows] for name, value in data.statistics.items()}
    noise = torch.randn(images.shape, generator=generator)
    return Batch({**target, "noise": noise}, images.unsqueeze(1))


def drawn_targets(targets: Condition, count: int, side: int, generator: torch.Generator) -> Batch:
    """Targets alone, with noise."""
    rows = torch.randint(len(targets["two_point"]), (count,), generator=generator)
    noise = torch.randn(count, side, side, generator=generator)
    return Batch({**{name: value[rows] for name, value in targets.items()}, "noise": noise})


def noise(count: int, side: int, seed: int) -> Field:
    """White noise for samples that are to be compared."""
    return torch.randn(count, side, side, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def generate(
    network: nn.Module, condition: Condition, side: int = SIDE, seed: int = 50_000
) -> Samples:
    """Raw samples of the conditions."""
    count = len(condition["volume_fraction"])
    full = {**condition, "noise": noise(count, side, seed)}
    parts = torch.arange(count).split(64)
    return torch.cat([network({n: v[rows] for n, v in full.items()}) for rows in parts])


def own(network: nn.Module) -> MicrostructureSampler:
    """The network as what this study makes.

    Raises:
        InputError: It is another.
    """
    if not isinstance(network, MicrostructureSampler):
        raise InputError(f"microstructure: expected its network, got {type(network).__name__}")
    return network
