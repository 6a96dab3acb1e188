"""The RotMNIST table: every pair of players, few digits, two losses, two critics."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from matplotlib.figure import Figure

from lawful.data.augment import others
from lawful.model import Model
from lawful.studies.rotmnist import (
    WATCHED,
    RotatedDigitsStudy,
    RotatedQuality,
    judge_digits,
    rotated_quality,
)
from lawful.studies.symmetric import LEAST, Labelled, Loss, SymmetricStudy
from lawful.studies.symmetric_table import (
    FULL,
    LOSSES,
    PLAIN,
    RANDOM,
    Design,
    Row,
    block_runs,
    blocks,
    cell,
    checked,
    match_text,
    pictures,
    spread,
    typical,
    watched,
)
from lawful.study import Study
from lawful.table import Recipe, Result, markdown_table

DESIGNS = (
    Design("plain", "plain G, plain D", PLAIN, seeds=3, pace=3.0),
    Design("augmented", "plain pair, augmented by quarter turns",
           {**PLAIN, "treatment": "augmented"}),
    Design("canonical", "plain pair on canonical poses, random turn",
           {**RANDOM, "critic": "plain", "treatment": "canonical"}),
    Design("eqv-plain", "Eqv G, plain D, C4", {**FULL, "critic": "plain"}),
    Design("plain-inv", "plain G, random turn, Inv D, C4", RANDOM, "plain G, Inv D, C4"),
    Design("c4", "Eqv G, Inv D, C4", FULL, "(I)Eqv G, Inv D, C4", seeds=3),
    Design("c8", "Eqv G, Inv D, C8", {**FULL, "group": "C8"}, "(I)Eqv G, Inv D, C8"),
)  # fmt: skip
# Fréchet distances of the slides, on their own features, at 10 %: RA, D_2.
SLIDES = {
    "plain G, plain D": (348, 283), "Eqv G, plain D, C4": (355, 251),
    "plain G, Inv D, C4": (188, 192), "(I)Eqv G, Inv D, C4": (132, 133),
    "Eqv G, Inv D, C4": (89, 88), "Eqv G, Inv D, C8": (51, 57),
}  # fmt: skip
SLIDES_SHARE = 0.1
# Those of the papers, whose critic averages its features, which then hold no place.
PAPER = RotatedDigitsStudy.presets()["paper"]
AVERAGING = {
    name: getattr(PAPER, name)
    for name in ("critic_kernel", "penalty", "critic_steps", "critic_rate")
}
AVERAGING_RATE = 2 * PAPER.training.learning_rate  # of the generator, for the fewer steps


@dataclass(frozen=True)
class Block:
    """Runs that are one table.

    Arguments:
        times: The preset's share.
        paces: Of designs, by name, where they are not the design's own.
        averaging: With `AVERAGING` and its rate; only the designs of several seeds, which decide.
        once: Else: one seed of every design, all of equal steps.
    """

    times: float
    loss: Loss = "relativistic"
    paces: Mapping[str, float] = field(default_factory=dict)
    averaging: bool = False
    once: bool = False

    def designs(self) -> list[Design]:
        """What is trained."""
        if self.once:
            return [replace(design, seeds=1, pace=1.0) for design in DESIGNS]
        return [
            replace(design, pace=self.paces.get(design.name, design.pace))
            for design in DESIGNS
            if design.seeds > 1 or not self.averaging
        ]

    def runs(self, study: RotatedDigitsStudy, preset: str) -> dict[str, SymmetricStudy]:
        """Configurations by the name of the run.

        None where there are not so many digits, or where all critics average.
        """
        share = self.times * study.share
        if share > 1 or (self.averaging and study.critic_kernel == AVERAGING["critic_kernel"]):
            return {}
        own, name = replace(study, share=share), f"{100 * share:g}pc"
        if self.averaging:
            training = replace(study.training, learning_rate=AVERAGING_RATE)
            own, name = replace(own, training=training, **AVERAGING), f"averaging-{name}"
        return block_runs(self.designs(), own, self.loss, f"{preset}-{name}")


# At 1 % of preset quick the plain pair goes on for as long, by when it has stopped improving.
BLOCKS = (
    Block(1, paces={"plain": 6.0, "c4": 2.0}),
    Block(1, paces={"c4": 2.0}, averaging=True),
    Block(10, once=True),
    Block(10, "alpha", once=True),
)
PAPER_BLOCKS = tuple(Block(times, loss) for times in (1, 5, 10, 50, 100) for loss in LOSSES)
HEAD = ("players", "seeds", "steps", "watched", "Fréchet", "of random turns", "kernel", "precision",
        "recall", "coverage", "accuracy", "invariance p", "equivariance error", "minutes",
        "slides, 10 %")  # fmt: skip


def rotmnist_runs(study: Study, preset: str) -> Mapping[str, Study]:
    """Every design, share, loss and critic at the preset's size, by the name of its run."""
    base = replace(checked(study, RotatedDigitsStudy), group="C4", loss="relativistic")
    runs: dict[str, Study] = {}
    for block in PAPER_BLOCKS if preset == "paper" else BLOCKS:
        runs |= block.runs(base, preset)
    return runs


def rotmnist_result(models: Mapping[str, Model]) -> Result:
    """The table over all models; of a model alone, its row beside the floor."""
    found = blocks(models, DESIGNS, _title, _judge)
    first = _study(next(iter(models.values())))
    parts, data, figures = [_head(first)], dict[str, Any](), dict[str, Figure]()
    floors: dict[float, dict[str, RotatedQuality]] = {}
    for number, (title, rows) in enumerate(found.items(), 1):
        study = _study(rows[0].models[0])
        if study.share not in floors:
            floors[study.share] = _floors(study)
        real = floors[study.share]
        fewest = min(row.steps for row in rows)
        early = [row.at("frechet", fewest) for row in rows]
        lines = [_line(row, seen) for row, seen in zip(rows, early, strict=True)]
        lines += [[n, "", "", "", *_cells([q]), "", ""] for n, q in real.items()]
        parts += [f"## {title}", _settings(study), markdown_table(HEAD, lines)]
        if any(early):
            count = min(WATCHED, study.judged)
            parts += [
                f"Watched: of {count:,} samples at the last checkpoint up to {fewest:,} steps."
            ]
        decided = watched(rows, "c4", "frechet")
        parts += [match_text(decided, "Fréchet distance")] if decided else []
        data[title] = {
            "floors": {name: asdict(q) for name, q in real.items()},
            "rows": [
                {**row.data(), "steps": row.steps, "watched": seen}
                for row, seen in zip(rows, early, strict=True)
            ],
            "watched": decided and decided.data(),
        }
        drawn = pictures(rows, ("frechet", "Fréchet distance"), count=60, columns=10)
        figures |= {f"{name}-{number}": figure for name, figure in drawn.items()}
    result = {"digits": first.source().source, "blocks": data}
    return Result("Rotated digits", "\n\n".join(parts), result, figures)


def _study(model: Model) -> RotatedDigitsStudy:
    return checked(model.study, RotatedDigitsStudy)


def _title(model: Model) -> str:
    study = _study(model)
    critic = (
        f"critic of {study.critic_kernel} × {study.critic_kernel}"
        if study.critic_kernel
        else "averaging critic"
    )
    return f"{100 * study.share:g} % of 60,000 digits, {LOSSES[study.loss]}, {critic}"


def _settings(study: RotatedDigitsStudy) -> str:
    """A block's critic and game."""
    does = (
        f"last filters see {study.critic_kernel} × {study.critic_kernel}"
        if study.critic_kernel
        else "head averages all"
    )
    (penalty,) = study.divergence().penalties
    bound = f" of slopes over {study.lipschitz:g}" if study.loss == "alpha" else ""
    turns = "a step" if study.critic_steps == 1 else f"{study.critic_steps} steps"
    return (
        f"The critic's {does} of its coarsest features; its penalty{bound} weighs "
        f"{penalty.weight:g}; it takes {turns} for one of the generator, at rates of "
        f"{study.critic_rate:g} and {study.training.learning_rate:g}."
    )


def _judge(model: Model, posed: bool) -> RotatedQuality:
    return rotated_quality(_study(model), model.network, posed=posed)


def _head(study: RotatedDigitsStudy) -> str:
    training = study.training
    return (
        f"Digits: {study.source().source}. Distances of {study.judged:,} samples to held-out "
        "digits, on 64 features of an autoencoder of digits in every orientation (`lawful train "
        "digits --preset rotated`); not to be compared with the slides' FID, whose order is what "
        "can be. Of random turns: the same samples, each moved by a random element of the group. "
        "Read: share that a classifier reads as the class asked for. Invariance p: is the law of "
        "the samples invariant? Equivariance error: the generator's worst over the group, where "
        "samples get random elements of it; eighths of a turn interpolate. "
        "(I)Eqv and the plain generator without a random turn are the "
        "weights of the row with it: an exactly invariant critic with R1 trains both alike; under "
        "D2, and with C8, it does so nearly. "
        f"Batches of {training.batch}; a layer over a group of order n has 1/√n as many fields as "
        "a plain one channels, so that parameter counts are nearly equal. Several seeds: median, "
        "least and most; of the equivariance error the worst."
    )


def _floors(study: RotatedDigitsStudy) -> dict[str, RotatedQuality]:
    """Real digits, judged alike: those that are trained on, and as many others as there are."""
    data, left = study.data(), others(study.source(), study.share, study.subset)
    most, total = study.judged, len(data.images)
    known = f"the {total:,}" if total <= most else f"{most:,} of the {total:,}"
    floors = {f"{known} trained on": Labelled(data.images[:most], data.labels[:most])}
    count = min(len(left.train), most)
    if count >= LEAST:
        rest = Labelled(left.train[:count], left.train_labels[:count])
        floors = {f"{count:,} other real digits": rest, **floors}
    return {name: judge_digits(study, real.images, real.labels) for name, real in floors.items()}


def _line(row: Row[RotatedQuality], seen: Sequence[float]) -> list[str]:
    study = _study(row.models[0])
    slides = SLIDES.get(row.words) if study.share == SLIDES_SHARE else None
    said = "" if slides is None else str(slides[int(study.loss == "alpha")])
    watched = spread(seen, ".2f") if seen else ""
    return [*row.start, watched, *_cells(row.qualities), row.minutes, said]


def _cells(several: Sequence[RotatedQuality]) -> list[str]:
    q = typical(several)
    return [
        spread([one.frechet for one in several], ".2f"), f"{q.frechet_symmetrized:.2f}",
        f"{q.kernel:.3f}", f"{q.precision:.2f}", f"{q.recall:.2f}", f"{q.coverage:.2f}",
        f"{q.accuracy:.0%}", f"{q.invariance:.3f}", cell(q.equivariance, ".0e"),
    ]  # fmt: skip


RECIPE = Recipe(rotmnist_result, rotmnist_runs, "quick")
