"""What a study is: its conditions, laws, network and game, with a typed configuration.

A user's own study is a frozen dataclass that derives from `Study`, in a file of its own; the
commands take the file's path where they take a study's name.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from math import inf
from string import Formatter
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from lawful.errors import InputError
from lawful.laws import AffineLaw, Condition, CorrectableLaw, Estimate, Law, Residual, law
from lawful.typed import Positive, Within, build, check_fields, spelled, typed

if TYPE_CHECKING:  # loading a model needs none of them
    from matplotlib.figure import Figure

    from lawful.project import Projected
    from lawful.training import Game

EXCHANGES = 80  # rounds, of samples that are binary
RESERVED = re.compile(  # names of arrays and scales in files of samples
    "sample|channel|fields|estimated_error.*|bound|corrections_accepted|"
    "(condition|violation|outside|refinement)(_.*)?"
)
HEADLINE = (("mean", "mean"), ("95th %", "p95"), ("worst", "worst"))


@dataclass(frozen=True)
class Quantity:
    """One entry of a condition: an argument of `sample` and an option of the command line.

    Arguments:
        name: Name of the entry.
        lower, upper: Range of its values in training; outside it a sample is marked.
        isolated: Single values outside the range that are trained too.
        minimum: Smallest value with a meaning; below it a value is refused.
        shape: Shape of one sample's value; `()` for a number.
        required: Whether a sample needs it; what is required and not given is drawn.
        distribution: How values are drawn: `uniform` over the range, standard `normal`, or
            `integer`, whole numbers of the range with its ends; then no other number is taken.
        kept: Whether samples and files carry it; noise as large as the field need not be.
        unit, about: For help and reports.
        instead_of: Name of the required quantity that this one replaces where it is given.
        beyond: What happens to samples outside the trained range, if more than a mark.
    """

    name: str
    lower: float
    upper: float
    isolated: tuple[float, ...] = ()
    minimum: float = float("-inf")
    shape: tuple[int, ...] = ()
    required: bool = True
    distribution: Literal["uniform", "normal", "integer"] = "uniform"
    kept: bool = True
    unit: str = "1"
    about: str = ""
    instead_of: str = ""
    beyond: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.strip():
            raise InputError(f"quantity: expected a name, got {self.name!r}")

    def check(self, value: Float[Tensor, "batch *shape"]) -> Bool[Tensor, " batch"]:
        """Which samples lie outside the trained range.

        Raises:
            InputError: A value has the wrong shape, is not finite, or is below the minimum.
        """
        lower, upper = self.lower, self.upper
        if tuple(value.shape[1:]) != self.shape:
            wanted, found = (
                " x ".join(map(str, shape)) or "one number"
                for shape in (self.shape, value.shape[1:])
            )
            raise InputError(f"{self.name}: expected {wanted} per sample, got {found}")
        wrong = value[~torch.isfinite(value)]
        wanted = "finite values"
        if not wrong.numel():
            wrong, wanted = value[value < self.minimum], f"at least {self.minimum:g}"
        if not wrong.numel() and self.distribution == "integer":
            wrong = value[(value != value.round()) | (value < lower) | (value > upper)]
            wanted = f"whole numbers from {lower:g} to {upper:g}"
        if wrong.numel():
            raise InputError(f"{self.name}: expected {wanted}, got {float(wrong.flatten()[0]):g}")
        slack = 1e-6 * min(max(abs(lower), abs(upper)), 1e30)
        inside = (value >= lower - slack) & (value <= upper + slack)
        for single in self.isolated:
            inside |= value == single
        return ~inside.flatten(1).all(1) if self.shape else ~inside

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Independent values over the trained range.

        Standard normal, whole numbers, or uniform; log-uniform over a positive range of a decade
        or more; and a fifth of them at the isolated values, where there are any.
        """
        if self.distribution == "integer":
            ends = int(self.lower), int(self.upper) + 1
            return torch.randint(*ends, (count, *self.shape), generator=generator).float()
        if self.distribution == "normal":
            return torch.randn((count, *self.shape), generator=generator)
        unit = torch.rand((count, *self.shape), generator=generator)
        if 0 < 10 * self.lower <= self.upper:
            value = self.lower * (self.upper / self.lower) ** unit
        else:
            value = self.lower + (self.upper - self.lower) * unit
        for k, single in enumerate(self.isolated):
            chosen = torch.rand(count, generator=generator) < 0.2 / (len(self.isolated) - k)
            value[chosen] = single
        return value


@dataclass(frozen=True)
class Axis:
    """One axis of a study's fields: space or time.

    Arguments:
        name: Name of the coordinate in files and pictures.
        lower, upper: Ends of the axis.
        unit: Unit of the coordinate.
        nodes: The first and the last value lie at the ends; else values are those of cells between.
    """

    name: str
    lower: float
    upper: float
    unit: str = "1"
    nodes: bool = False

    def __post_init__(self) -> None:
        if not self.name.isidentifier() or RESERVED.fullmatch(self.name):
            raise InputError(f"axis {self.name!r}: expected another name, of letters and digits")
        if not -inf < self.lower < self.upper < inf:
            raise InputError(
                f"axis {self.name}: expected lower < upper, got {self.lower:g} and {self.upper:g}"
            )

    @property
    def label(self) -> str:
        """The name, with the unit where there is one."""
        return self.name if self.unit == "1" else f"{self.name} ({self.unit})"

    def step(self, size: int) -> float:
        """Distance of neighbours among `size` values."""
        return (self.upper - self.lower) / max(size - self.nodes, 1)

    def places(self, size: int) -> Float[np.ndarray, " size"]:
        """Where the `size` values are."""
        step = self.step(size)
        return self.lower + (0.0 if self.nodes else step / 2) + step * np.arange(size)


@dataclass(frozen=True)
class Training:
    """Size and pace of a run.

    Arguments:
        steps: Steps of the game.
        batch: Samples per repetition of a move.
        learning_rate: Peak rate of Adam.
        average: Decay of the exponential average of the generator that is sampled from.
        seed: Seed of initial weights and of every batch.
        checkpoint: Steps between checkpoints.
    """

    steps: Annotated[int, Within(1, 1_000_000_000)]
    batch: Annotated[int, Within(1, 1_000_000)] = 16
    learning_rate: Positive = 2e-3
    average: Annotated[float, Within(0, 1, below=True)] = 0.995
    seed: Annotated[int, Within(0, 2**32 - 1)] = 0
    checkpoint: Annotated[int, Within(1, 1_000_000_000)] = 250

    def __post_init__(self) -> None:
        check_fields(self, "training.")


@dataclass(frozen=True)
class Study(ABC):
    """Data, laws, networks and game behind one result; its fields are its configuration.

    Generated fields have the shape `(batch, channel, *space)` with one to three axes of space.

    Attributes:
        quantities: The entries of a condition.
        axes: The axes of space in their order; where there are none, cells are counted.
        unit: Unit of the values.
        images: Whether fields are pictures, first row on top, shown in grey.
        binary: Whether their values are 0 and 1 only.
        headline: Template of a model's measured quality, filled in with the figures of `measure`;
            where it is empty or a figure is missing, errors or violations are told.
        sample_options: A dataclass of what `lawful sample` takes for this study alone; its
            `apply(model, condition)` returns the model and the condition to sample, and what files
            say of them.
    """

    training: Training

    name: ClassVar[str]
    about: ClassVar[str]
    quantities: ClassVar[tuple[Quantity, ...]] = ()
    axes: ClassVar[tuple[Axis, ...]] = ()
    unit: ClassVar[str] = "1"
    images: ClassVar[bool] = False
    binary: ClassVar[bool] = False
    sample_options: ClassVar[type | None] = None
    headline: ClassVar[str] = ""

    def __post_init__(self) -> None:
        check_fields(self)

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        check_stated(cls)

    # What a study is: networks, laws, game and configuration.

    @abstractmethod
    def network(self) -> nn.Module:
        """A freshly initialised generator: condition to fields `(batch, channel, *space)`."""

    @abstractmethod
    def laws(self) -> tuple[Law | Residual, ...]:
        """The laws that samples are reported against."""

    def players(self) -> dict[str, nn.Module]:
        """Freshly initialised players by name; the one called `generator` is sampled from."""
        return {"generator": self.network()}

    def game(self) -> "Game":
        """The game to play; where not overridden, a move for each law, without data."""
        from lawful.training import Adam, Batch, Game, Move, law_loss

        adam = Adam(self.training.learning_rate)
        moves = [
            Move("generator", law_loss(entry), adam, name=entry.name)
            for entry in map(law, self.laws())
        ]
        return Game(tuple(moves), lambda rng: Batch(self.draw(self.training.batch, rng)))

    @classmethod
    def presets(cls) -> Mapping[str, Self]:
        """Named configurations; the first is the default."""
        try:
            return {"full": cls()}  # type: ignore[call-arg]
        except TypeError as error:
            raise InputError(f"study {cls.name}: a field has no default ({error})") from None

    def config(self) -> dict[str, Any]:
        """The configuration as plain values, for `config.yaml` and manifests."""
        return asdict(self)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """The study of a configuration that `config` wrote.

        Raises:
            InputError: An entry is unknown, of another type or out of range, or one is missing.
        """
        return build(cls, config, cls.name)

    # How a condition is completed.

    def condition(self, given: Condition) -> Condition:
        """The condition of the network from values of `quantities`; adds what they imply."""
        return given

    def complete(
        self, network: nn.Module, given: Condition, count: int, generator: torch.Generator
    ) -> Condition:
        """`given` with every quantity drawn that a sample needs and that was not given."""
        replaced = {q.instead_of for q in self.quantities if q.name in given} | given.keys()
        missing = [q for q in self.quantities if q.required and q.name not in replaced]
        return {**given, **{q.name: self.draw_quantity(q, count, generator) for q in missing}}

    def draw(self, count: int, generator: torch.Generator) -> Condition:
        """Conditions to train on; independent quantities where not overridden."""
        needed = [q for q in self.quantities if q.required]
        return self.condition({q.name: self.draw_quantity(q, count, generator) for q in needed})

    def draw_quantity(self, quantity: Quantity, count: int, generator: torch.Generator) -> Tensor:
        """Values of one quantity; by its own distribution where not overridden."""
        return quantity.draw(count, generator)

    def outside(self, network: nn.Module, condition: Condition) -> dict[str, Tensor]:
        """By quantity, which samples `(batch,)` lie outside what the network was trained on."""
        return {q.name: q.check(condition[q.name]) for q in self.quantities if q.name in condition}

    # What a solver of the laws knows of the fields.

    def observe(self, fields: Tensor) -> Tensor:
        """What users see of generated fields; the fields themselves where not overridden.

        What is observed already is left as it is, but for bounds that were left since: samples
        are bounded once more after a projection and after an enforcement.
        """
        return fields

    def reference(self, condition: Condition) -> Tensor | None:
        """Observed fields of a trusted solver, if there is one."""
        return None

    def corrector(self) -> CorrectableLaw | None:
        """The law whose corrections `sample(refine=…)` tries on generated fields, if any."""
        return None

    def estimate(self, network: nn.Module, fields: Tensor, condition: Condition) -> Estimate | None:
        """Estimated error of each field, generated or observed, if laws can give it.

        Where not overridden the judge is all laws of the report together, solved from the samples
        where they determine a solution (`lawful.project.distance_to_solution`); or else the law
        that corrects, which cannot see what its correction is blind to. Either way it is of the
        distance from the solution of these discrete laws only: override it with a finer law.
        """
        from lawful.project import distance_to_solution

        kept, others = kept_and_others(self, network)

        def drawn() -> tuple[Tensor, Condition]:
            values = self.complete(network, {}, 1, torch.Generator().manual_seed(0))
            c = {name: value.to(fields.device) for name, value in self.condition(values).items()}
            return self.observe(network(c)), c

        seen = self.observe(fields)
        found = distance_to_solution(others, seen, condition, drawn, kept=kept) if others else None
        corrector = self.corrector()
        if found is None and corrector is not None:
            return corrector.error_estimate(fields, condition)
        return found

    def project(self, network: nn.Module, condition: Condition, tolerance: float) -> "Projected":
        """Observed samples taken below a tolerance of every law, by moving the sample itself.

        Affine laws that the network obeys by construction are not touched. Samples that are
        binary stay so: their pixels are exchanged along interfaces, and nothing else is done.
        """
        from lawful.project import project

        x = self.observe(network(condition))
        if self.binary:
            laws, rounds = all_laws(self, network), EXCHANGES
            return project(laws, x, condition, tolerance=tolerance, iterations=0, exchanges=rounds)
        kept, others = kept_and_others(self, network)
        return project(others or kept, x, condition, tolerance=tolerance, kept=kept)

    # What is measured and told.

    def measure(self, network: nn.Module) -> Mapping[str, float]:
        """Figures of a trained network beyond its laws, for manifests."""
        return {}

    def watch(self, network: nn.Module) -> Mapping[str, float]:
        """Figures of the averaged generator taken at every checkpoint, for `metrics.jsonl`."""
        return {}

    def origin(self) -> Mapping[str, str]:
        """Where the data come from, for manifests."""
        return {}

    def appendix(self, fields: Tensor, condition: Condition) -> Mapping[str, "Figure | str"]:
        """Figures and sentences of a report on the samples together, by title."""
        return {}


def all_laws(study: Study, network: nn.Module) -> tuple[Law, ...]:
    """The laws of reports: the study's own, and what the network obeys by construction.

    A network says that by a method `obeys() -> tuple[Law, ...]`, of observed fields.
    """
    stated = tuple(map(law, study.laws()))
    names = {entry.name for entry in stated}
    return stated + tuple(entry for entry in obeyed(network) if entry.name not in names)


def obeyed(network: nn.Module) -> tuple[Law, ...]:
    """The laws that a network says its observed fields obey by construction."""
    return tuple(getattr(network, "obeys", tuple)())


def kept_and_others(
    study: Study, network: nn.Module
) -> tuple[tuple[AffineLaw, ...], tuple[Law, ...]]:
    """Affine laws that hold by construction, and all others of the report."""
    kept = tuple(entry for entry in obeyed(network) if isinstance(entry, AffineLaw))
    names = {entry.name for entry in kept}
    return kept, tuple(entry for entry in all_laws(study, network) if entry.name not in names)


def enforceable(study: Study) -> tuple[AffineLaw, ...]:
    """The laws that samples can be put onto: the affine ones, if samples need not stay binary."""
    affine = (entry for entry in map(law, study.laws()) if isinstance(entry, AffineLaw))
    return () if study.binary else tuple(affine)


def space(study: Study, shape: Sequence[int]) -> tuple[Axis, ...]:
    """The axes of fields `(batch, channel, *space)`; numbers of cells where none is stated.

    Raises:
        InputError: There are not one to three, or not as many as the study states.
    """
    sizes, axes = shape[2:], study.axes
    if not 1 <= len(sizes) <= 3 or 0 in sizes or len(axes) not in (0, len(sizes)):
        stated = f", and space of {len(axes)} as stated" if axes else ""
        raise InputError(
            f"study {study.name!r}: expected fields (batch, channel, *space) with 1 to 3 axes "
            f"of space{stated}; its generator's have the shape {tuple(shape)}"
        )
    pairs = zip(("z", "y", "x")[-len(sizes) :], sizes, strict=True)
    return axes or tuple(Axis(n, 0, max(size - 1, 1), nodes=True) for n, size in pairs)


def places(study: Study, shape: Sequence[int]) -> list[tuple[str, np.ndarray]]:
    """Of each axis of such fields its label and where the values are."""
    return [(a.label, a.places(n)) for a, n in zip(space(study, shape), shape[2:], strict=True)]


def headline(study: Study, quality: Mapping[str, Any]) -> str:
    """The measured quality of a manifest in a line or two, for listings."""
    try:
        if study.headline:
            with suppress(KeyError):
                return study.headline.format(**quality)
        if error := quality.get("relative_error"):
            figures = ", ".join(f"{name} {error[key]:.4f}" for name, key in HEADLINE)
            of = f" of {quality['samples']}" if "samples" in quality else ""
            return f"relative error: {figures}{of}"
        laws = (f"{e['law']} {e['violation']['mean']:.2g}" for e in quality.get("laws", []))
        return f"mean violation: {', '.join(laws)}"
    except (LookupError, TypeError, ValueError, AttributeError):  # null where one is not finite
        return "not all figures are there"


def check_stated(study: Study | type[Study]) -> None:
    """Refuse before a training what options, files and listings could not tell apart or fill in.

    Raises:
        InputError: Two quantities or axes are spelled alike, or the headline is no template of
            figures by their names.
    """
    for what in ("quantities", "axes"):
        stated = getattr(study, what)
        if isinstance(stated, Sequence):  # of a class it may be a property, of each study
            check_spelling(what, [entry.name for entry in stated])
    template = typed(study.headline, str, "headline")
    try:
        named = [name for _, name, _, _ in Formatter().parse(template) if name is not None]
    except ValueError as error:
        raise InputError(f"headline: {error}") from None
    if not all(name.split("[")[0].isidentifier() for name in named):
        raise InputError(f"headline {template!r}: expected names of figures in braces")


def check_spelling(what: str, names: Sequence[str]) -> None:
    """Refuse names that options and files would spell alike.

    Raises:
        InputError: Names them all.
    """
    if len({spelled(name) or name for name in names}) < len(names):
        said = ", ".join(names)
        raise InputError(f"{what}: expected names that differ, none spelled alike, got {said}")


class Matching(Study):
    """A study whose samples can be like a picture, and of any size."""

    @abstractmethod
    def like(self, shown: Any, given: Condition) -> Condition:
        """The condition of samples like a picture, a path or what the study reads from one; `given`
        has precedence over it."""

    @abstractmethod
    def resized(self, size: int) -> Self:
        """The same study on fields of `size` pixels per side."""

    @abstractmethod
    def obstacle(self, condition: Condition, tolerance: float) -> str | None:
        """Why some samples of these conditions cannot be within a tolerance of every law, in a
        sentence; None where that is not known."""
