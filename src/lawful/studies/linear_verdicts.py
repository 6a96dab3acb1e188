"""What the paper claims of the linear game, what holds, and by which computed figure.

Every spectral radius comes from a whole update matrix; beside it stands the same from the closed
forms of the game's blocks, which share no code with it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy import ndarray

from lawful.games import methods
from lawful.games.closed_forms import CLOSED_FORMS
from lawful.games.linear import LinearGame, invnet_game
from lawful.games.methods import Method, stability_bound

DIMENSION = 6
METHODS: Mapping[str, Method] = {
    "simultaneous": methods.Simultaneous(),
    "alternating": methods.Turns(("generator", "critic")),
    "three-way": methods.Turns(("critic", "adversarial", "law")),
    "extragradient": methods.Extragradient(),
    "optimistic": methods.Optimistic(),
    "consensus": methods.Consensus(),
    "lookahead": methods.Lookahead(),
    "heun": methods.Heun(),
    "rk4": methods.RungeKutta4(),
}
CriticKind = Literal["standard", "projected"]
CRITICS: tuple[CriticKind, ...] = ("standard", "projected")


@dataclass(frozen=True)
class Case:
    """A method on a game, with its radius by two ways.

    Arguments:
        radius, closed: rho of the update matrix, and by the blocks' characteristic polynomials.
        singular: sigma, the update matrix's largest singular value.
    """

    method: str
    critic: CriticKind
    step: float
    weight: float
    motif: int
    radius: float
    closed: float
    singular: float

    def __str__(self) -> str:
        mu = f", μ = {self.weight:g}" if self.motif else ""
        return f"{self.method}, {self.critic}, η = {self.step:g}{mu}: ρ = {self.radius:.5f}"


def game(motif: int, weight: float, critic: CriticKind) -> LinearGame:
    """The game in six dimensions with `motif` coordinates in Omega, Pv ≠ m."""
    mean, values = vectors()
    return invnet_game(np.arange(DIMENSION) < motif, weight, mean, values, critic)


def vectors() -> tuple[ndarray, ndarray]:
    """v and m."""
    random = np.random.default_rng(0)
    return random.normal(size=DIMENSION), 2.0 * random.normal(size=DIMENSION)


def case(
    method: str,
    step: float,
    *,
    weight: float = 1.0,
    motif: int = 2,
    critic: CriticKind = "standard",
) -> Case:
    """Compute one case both ways."""
    update = METHODS[method].update(game(motif, weight, critic), step)
    closed = CLOSED_FORMS[method].spectral_radius(
        step, weight, projected=critic == "projected", motif=motif, dimension=DIMENSION
    )
    return Case(
        method, critic, step, weight, motif,
        update.spectral_radius(), closed, update.largest_singular_value(),
    )  # fmt: skip


@dataclass(frozen=True)
class Verdict:
    """A claim, whether it holds, and the figures that decide.

    Arguments:
        holds: As computed: "yes", "no", or under which condition.
        figures: In words.
        cases: What they were computed from.
    """

    claim: str
    holds: str
    figures: str
    cases: tuple[Case, ...] = field(default_factory=tuple)


def _says(yes: bool, text: str, otherwise: str) -> str:
    """`text` if the computation bears it out."""
    return text if yes else otherwise


def _stable(*cases: Case) -> list[bool]:
    return [entry.radius < 1 for entry in cases]


def _diverges(*cases: Case) -> list[bool]:
    return [entry.radius > 1 + 1e-12 for entry in cases]


UNEXPECTED = "not as derived: see the figures"


def verdicts() -> list[Verdict]:
    """All rows of the table."""
    return [*_equilibria(), *_instability(), *_stability(), *_turns()]


def _equilibria() -> list[Verdict]:
    mean, motif = vectors()
    p = np.arange(DIMENSION) < 2
    rows = []
    for critic, claim, expected in (
        ("standard", "Standard critic: θ* = v, the motif is not planted (section 4)", mean),
        ("projected", "Projected critic: θ* = (I − P)v + Pm (section 4)", np.where(p, motif, mean)),
    ):
        theta = game(2, 1.0, critic).equilibrium()[:DIMENSION]  # type: ignore[arg-type]
        off, miss = np.abs(theta - expected).max(), np.linalg.norm((theta - motif)[p])
        text = f"largest difference from it {off:.0e}; ‖P(θ* − m)‖ = {miss:.2g}"
        rows.append(Verdict(claim, _says(off < 1e-9, "yes", UNEXPECTED), text))
    return rows


def _instability() -> list[Verdict]:
    some = [case("simultaneous", s, weight=w) for s in (0.01, 0.1, 0.5) for w in (0.5, 1.0, 4.0)]
    everything = [case("simultaneous", s, motif=DIMENSION) for s in (0.1, 0.5, 0.9)]
    turns = [case("alternating", s) for s in (0.1, 0.5, 0.7)]
    normal = case("simultaneous", 0.5, motif=DIMENSION)
    as_said = all(_diverges(*some)) and all(_stable(*everything)) and not any(_diverges(*turns))
    return [
        Verdict(
            "Theorem A.1: gradient descent diverges for every η",
            _says(as_said, "only simultaneously, and only if Ω is not everything", UNEXPECTED),
            f"{some[3]}; Ω everything: ρ = {everything[1].radius:.5f} (η = 0.5); "
            f"alternating stays bounded: ρ = {turns[0].radius:.5f}",
            (*some, *everything, *turns),
        ),
        Verdict(
            "A.1's proof: a singular value above 1 makes the iteration unstable",
            _says(normal.singular > 1 > normal.radius, "no", UNEXPECTED),
            f"Ω everything, {normal}, yet σ = {normal.singular:.5f}: it converges",
            (normal,),
        ),
    ]  # fmt: skip


def _stability() -> list[Verdict]:
    gentle = [case("extragradient", s, weight=w) for s in (0.1, 0.5, 0.9) for w in (0.5, 1.0, 2.0)]
    strong = [case("extragradient", s, weight=4.0) for s in (0.2, 0.3)]
    hidden = [case("extragradient", s, weight=4.0, critic="projected") for s in (0.2, 0.24, 0.26)]
    first = _stable(*gentle) == [True] * 9 and _stable(*strong) == [True, False]
    printed = _printed_matrix(0.1, 4.0)
    derived = case("extragradient", 0.1, weight=4.0, motif=DIMENSION)
    return [
        Verdict(
            "Theorem A.2: extragradient converges, standard critic",
            _says(first, "for η < 1 if μ ≤ 2, else η < (μ − √(μ² − 4))/2", UNEXPECTED),
            f"μ = 1, η = 0.5: ρ = {gentle[4].radius:.5f}; {strong[0]}; {strong[1]}",
            (*gentle, *strong),
        ),
        Verdict(
            "It extends to the projected critic (section 4)",
            _says(_stable(*hidden) == [True, True, False], "for η < min(1, 1/μ)", UNEXPECTED),
            f"{hidden[1]}; {hidden[2]}",
            tuple(hidden),
        ),
        Verdict(
            "A.2's printed matrix is that of the extragradient step",
            _says(printed > 1 > derived.radius, "no: −μP stands where −ημP must", UNEXPECTED),
            f"Ω everything, η = 0.1, μ = 4: ρ = {printed:.4f}, derived {derived.radius:.4f}",
            (derived,),
        ),
    ]  # fmt: skip


def _turns() -> list[Verdict]:
    low = case("three-way", 0.2, weight=4.0)
    high = case("three-way", 0.3, weight=4.0)
    hidden = case("three-way", 0.3, weight=4.0, critic="projected")
    as_said = not _diverges(low)[0] and _diverges(high)[0] and not _diverges(hidden)[0]
    best = case("extragradient", float(np.sqrt(0.5)))
    lookahead = [case("lookahead", s) for s in (0.5, 0.9)]
    return [
        Verdict(
            "Three-way alternation (algorithm 1) works well",
            _says(as_said, "bounded; standard critic only while ημ < 1", UNEXPECTED),
            f"{low}; {high}; {hidden}",
            (low, high, hidden),
        ),
        Verdict(
            "Intermediate steps are what makes a rule converge",
            _says(best.radius < 1 and _stable(*lookahead) == [True, False], "yes", UNEXPECTED),
            f"{best}; {lookahead[0]}; {lookahead[1]} (five steps each)",
            (best, *lookahead),
        ),
    ]


def _printed_matrix(step: float, weight: float) -> float:
    """rho of the matrix printed in appendix A.2, on the motif."""
    printed = np.array(
        [
            [1 - step**2 - weight + step * weight**2, step - step * weight],
            [-step + step * weight, 1 - step**2],
        ]
    )
    return float(np.abs(np.linalg.eigvals(printed)).max())


@dataclass(frozen=True)
class Bound:
    """Largest stable step of a method: in closed form, and found from the update matrix."""

    method: str
    critic: CriticKind
    weight: float
    closed: float | None
    computed: float


def bounds(weights: tuple[float, ...] = (0.5, 1.0, 4.0)) -> list[Bound]:
    """For every method, both critics and some weights of the law."""
    return [
        Bound(
            name, critic, weight,
            CLOSED_FORMS[name].bound(
                weight, projected=critic == "projected", motif=2, dimension=DIMENSION
            ),
            stability_bound(game(2, weight, critic), method),
        )
        for name, method in METHODS.items()
        for critic in CRITICS
        for weight in weights
    ]  # fmt: skip


def grid(points: int = 19) -> list[Case]:
    """Cases over steps, weights, both critics and |Omega| = 0, 2 and everything."""
    steps, weights = np.linspace(0.05, 1.2, points), np.linspace(0.1, 5.0, points)
    return [
        case(name, float(step), weight=float(weight), motif=motif, critic=critic)
        for name in METHODS
        for critic in CRITICS
        for motif in (0, 2, DIMENSION)
        for weight in (weights if motif else weights[:1])
        for step in steps
    ]
