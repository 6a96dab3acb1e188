"""Motifs planted in generated digits (InvNet, section 3.1, figure 2)."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from math import inf
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

import torch
from torch import Tensor, nn

from lawful.data.digits import SIDE, Digits, load_digits
from lawful.data.masks import PREFIX, decode_motif, encode_motif, read_motif
from lawful.divergences import DIVERGENCES, DivergenceName, spectral_norm
from lawful.errors import InputError
from lawful.laws import Law
from lawful.nn.images import ImageCritic, ImageGenerator
from lawful.studies.digit_quality import digit_quality
from lawful.studies.motif_law import MotifLaw, cross, plus
from lawful.study import Quantity, Study, Training
from lawful.training import (
    RULES,
    Adam,
    Batch,
    Constraints,
    Enforced,
    Game,
    Multipliers,
    adversarial_moves,
)
from lawful.typed import Count, Positive, Size, Weight, Within

NOISE, SAMPLES = 64, 2_000
SHAPES = {"plus": plus, "cross": cross}
LawBy = Literal["penalty", "alternation", "lagrangian", "config", "enforce", "data", "none"]


@dataclass(frozen=True)
class MotifStudy(Study):
    """A generator of digits that all carry a motif.

    Arguments:
        motif: `plus`, `cross`, or a square PNG of 28 x 28 pixels: its opaque pixels, or where all
            are opaque those that are not black.
        size: Pixels across a plus or cross; odd.
        row: Of its centre.
        column: Of its centre.
        critic: `projected`, which is not shown the motif's pixels, or `standard`.
        law: How the motif enters: `penalty`, `alternation` (algorithm 1), `lagrangian`, `config`,
            `enforce` (planted on the generator's output), `data` (planted on the digits, as the
            only law), or `none`.
        weight: mu, of the mean square of the residual.
        divergence: Between digits and generator.
        penalty: Weight of the critic's gradient penalty.
        rule: `alternating`, or one rule for generator and critic together.
        critic_steps: N_D of algorithm 1.
        law_steps: N_I of algorithm 1.
        critic_rate: Peak rate of the critic; None for the generator's.
        law_rate: Peak rate of the law steps; None for the generator's.
        schedule: Of all rates.
        beta2: Of Adam; its beta1 is 0.
        until: End before the budget once a batch's mean square residual is below this.
        digits: A folder of IDX files, `mnist`, `npm`, `uci`, or `auto`.
        width: Of the generator.
        critic_width: Of the critic.
        spectral_norm: Hold the spectral norm of the critic's weights at 1.
    """

    training: Training
    motif: str = "plus"
    size: Size = 7
    row: int = 6
    column: int = 6
    critic: Literal["projected", "standard"] = "projected"
    law: LawBy = "penalty"
    weight: Weight = 10.0
    divergence: DivergenceName = "non-saturating"
    penalty: Weight = 1.0
    rule: Literal[
        "alternating", "simultaneous", "extragradient", "optimistic", "lookahead", "consensus"
    ] = "alternating"
    critic_steps: Count = 1
    law_steps: Count = 1
    critic_rate: Positive | None = None
    law_rate: Positive | None = None
    schedule: Literal["cosine", "constant"] = "cosine"
    beta2: Annotated[float, Within(0, 1, below=True)] = 0.99
    until: Weight = 0.0
    digits: str = "auto"
    width: Size = 48
    critic_width: Size = 32
    spectral_norm: bool = False

    name: ClassVar[str] = "motif"
    about: ClassVar[str] = "digits with a planted motif (InvNet, figure 2)"
    images: ClassVar[bool] = True
    headline: ClassVar[str] = (
        "motif MSE {motif:.0e}; outside it: classifier confident of {confident:.0%}, "
        "Fréchet distance {frechet:.2f}"
    )
    quantities: ClassVar[tuple[Quantity, ...]] = (
        Quantity("noise", -inf, inf, shape=(NOISE,), distribution="normal", about="latent vector"),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.motif not in SHAPES and not self.motif.startswith(PREFIX):
            object.__setattr__(self, "motif", _from_picture(Path(self.motif)))
        if self.until and (self.law in ("enforce", "data", "none") or not self.weight):
            raise InputError(f"until: has nothing to wait for with law {self.law!r}, weight "
                             f"{self.weight:g}")  # fmt: skip
        if self.rule == "consensus" and self.law == "config":
            raise InputError("rule consensus: differentiates gradients; law config combines them")
        for name in ("training.learning_rate", "critic_rate", "law_rate"):
            self._adam(name)
        self._constraints(self.planted())

    @classmethod
    def presets(cls) -> Mapping[str, Self]:
        full = cls(Training(steps=20_000, batch=32, learning_rate=5e-4, average=0.999))
        quick = replace(full, training=replace(full.training, steps=2_000, average=0.995))
        return {
            "full": full,
            "full-cross": replace(full, motif="cross"),
            "quick": quick,
            "smoke": replace(
                full, training=Training(60, 16, 5e-4, checkpoint=30), digits="uci", width=16
            ),
            "paper": replace(
                full, training=Training(25_000, 50, 1e-4, average=0.999), critic="standard",
                law="alternation", divergence="wasserstein", penalty=10.0, critic_steps=5,
                law_steps=5, schedule="constant", beta2=0.9,
            ),
        }  # fmt: skip

    def planted(self) -> MotifLaw:
        """The motif as a law."""
        if self.motif in SHAPES:
            mask = SHAPES[self.motif](SIDE, self.size, self.row, self.column)
            motif = mask.float()
        else:
            motif = decode_motif(self.motif)
            mask = ~motif.isnan()
        if mask.shape != (SIDE, SIDE) or bool(mask.all()):
            raise InputError(
                f"motif: expected some but not all of {SIDE} x {SIDE} pixels, got "
                f"{int(mask.sum())} of {tuple(mask.shape)}"
            )
        return MotifLaw(mask, motif.nan_to_num())

    def laws(self) -> tuple[Law, ...]:
        return (self.planted(),)

    def network(self) -> nn.Module:
        generator = ImageGenerator(SIDE, noise=NOISE, width=self.width)
        return Enforced(generator, [self.planted()]) if self.law == "enforce" else generator

    def players(self) -> dict[str, nn.Module]:
        critic: nn.Module = ImageCritic(SIDE, width=self.critic_width)
        critic = spectral_norm(critic) if self.spectral_norm else critic
        players = {"generator": self.network(), "critic": critic}
        if self.law == "lagrangian":
            law = self.planted()
            players["multipliers"] = Multipliers({law.name: (1, int(law.mask.sum()))})
        return players

    def game(self) -> Game:
        law = self.planted()
        moves = adversarial_moves(
            DIVERGENCES[self.divergence](self.penalty),
            self._constraints(law),
            view=law.hide if self.critic == "projected" else None,
            generator=self._adam("training.learning_rate"),
            critic=self._adam("critic_rate"),
            critic_steps=self.critic_steps,
            rule=None if self.rule == "alternating" else RULES[self.rule],
        )
        images = self.data().train
        if self.law == "data":
            images = law.enforce(images, {})
        return Game(moves, Draw(images, self.training.batch), self._thresholds(law))

    def _adam(self, name: str) -> Adam:
        """Adam at the rate of that name."""
        own = {"critic_rate": self.critic_rate, "law_rate": self.law_rate}.get(name)
        rate = self.training.learning_rate if own is None else own
        warmup = 0.0 if self.schedule == "constant" else 0.05
        try:
            return Adam(rate, self.schedule, warmup, clip=None, betas=(0.0, self.beta2))
        except InputError as error:
            raise InputError(f"{name}: {error}") from None

    def _constraints(self, law: Law) -> Constraints | None:
        if self.law == "enforce" or self.law == "data" or self.law == "none":
            return None
        return Constraints((law,), self.law, self.weight, self.law_steps, self._adam("law_rate"))

    def _thresholds(self, law: Law) -> dict[str, float]:
        """The loss term of the law, and what it must fall below."""
        if not self.until or self._constraints(law) is None:
            return {}
        if self.law == "alternation":
            return {f"{law.name}/{law.name}": self.until}
        move = "generator" if self.rule == "alternating" else "players"
        size = int(self.planted().mask.sum()) / 2 if self.law == "lagrangian" else 1.0
        return {f"{move}/{law.name}": self.weight * size * self.until}

    def data(self) -> Digits:
        """The digits; none of them carries the motif."""
        return load_digits(self.digits)

    def origin(self) -> Mapping[str, str]:
        return {"digits": self.data().source}

    def measure(self, network: nn.Module) -> Mapping[str, float]:
        """Quality outside the motif, of samples as generated."""
        law = self.planted()
        return asdict(digit_quality(generate(network), law, self.data()))


def _from_picture(path: Path) -> str:
    """A picture's motif as a word of the configuration."""
    motif = read_motif(path)
    if motif.shape != (SIDE, SIDE):
        size = " x ".join(map(str, motif.shape))
        raise InputError(f"motif {path}: expected {SIDE} x {SIDE} pixels, got {size}")
    return encode_motif(motif)


@dataclass(frozen=True)
class Draw:
    """Independent draws of images, with replacement, each with a latent vector."""

    images: Tensor
    batch: int

    def __call__(self, generator: torch.Generator) -> Batch:
        rows = torch.randint(len(self.images), (self.batch,), generator=generator)
        noise = torch.randn(self.batch, NOISE, generator=generator)
        return Batch({"noise": noise}, self.images[rows])


@torch.no_grad()
def generate(network: nn.Module, count: int = SAMPLES, seed: int = 40_000) -> Tensor:
    """Images of latent vectors drawn with a seed of their own."""
    random = torch.Generator().manual_seed(seed)
    noise = torch.randn(count, NOISE, generator=random)
    return torch.cat([network({"noise": part}) for part in noise.split(250)])
