"""What the paper claims of the linear game, what holds, and by which computed figure.

Every spectral radius comes from a whole update matrix; beside it stands the same from the closed
forms of the game's blocks, which share no code with it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy import ndarray

from lawful.theory import methods
from lawful.theory.closed_forms import CLOSED_FORMS
from lawful.theory.linear_game import LinearGame, invnet_game
from lawful.theory.methods import Method, stability_bound

DIMENSION = 6
METHODS: Mapping[str, Method] = {
    "simultaneous": methods.Simultaneous(),
    "alternating": methods.Turns(("generator", "critic")),
    "algorithm 1": methods.Turns(("generator", "critic", "law")),
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
    p, weight = np.arange(DIMENSION) < 2, 3.0
    claims: tuple[tuple[CriticKind, str, ndarray, ndarray], ...] = (
        ("standard", "Standard critic: θ⋆ = v, ψ⋆ = μP(θ⋆ − m): no motif is planted (section 4)",
         mean, np.where(p, weight * (mean - motif), 0)),
        ("projected", "Projected critic: θ⋆ = (I − P)v + Pm, ψ⋆ = 0 off Ω (section 4)",
         np.where(p, motif, mean), np.zeros(DIMENSION)),
    )  # fmt: skip
    rows = []
    for critic, claim, theta, psi in claims:
        found = game(2, weight, critic).equilibrium()
        off = np.abs(found - np.concatenate([theta, psi])).max()
        miss = np.linalg.norm((found[:DIMENSION] - motif)[p])
        text = f"largest difference from it {off:.0e}; ‖P(θ⋆ − m)‖ = {miss:.2g}"
        rows.append(Verdict(claim, _says(off < 1e-9, "yes", UNEXPECTED), text))
    return rows


def _instability() -> list[Verdict]:
    some = [
        case("simultaneous", step, weight=weight, critic=critic)
        for critic in CRITICS
        for step in (0.01, 0.1, 0.5)
        for weight in (0.5, 1.0, 4.0)
    ]
    everything = [case("simultaneous", s, motif=DIMENSION) for s in (0.1, 0.5, 0.9, 1.1)]
    strong = [case("simultaneous", s, weight=4.0, motif=DIMENSION) for s in (0.5, 0.6)]
    hidden = [
        case("simultaneous", s, weight=4.0, motif=DIMENSION, critic="projected")
        for s in (0.48, 0.52)
    ]
    turns = [case("alternating", s) for s in (0.1, 0.5, 0.7)]
    whole = [True, True, True, False, True, False, True, False]
    as_said = (
        all(_diverges(*some))
        and _stable(*everything, *strong, *hidden) == whole
        and not any(_diverges(*turns))
    )
    normal = everything[1]
    return [
        Verdict(
            "Theorem A.1: gradient descent diverges for every η, both critics",
            _says(
                as_said,
                "only simultaneously, and only if Ω is not everything and (θ, ψ) does not start at "
                "(v, 0) off Ω; else it converges, under the standard critic for η < μ (μ ≤ 2), "
                "η < μ − √(μ² − 4) (μ > 2), under the projected one for η < 2/μ",
                UNEXPECTED,
            ),
            f"{some[4]}; {some[13]}; Ω everything, μ = 1: ρ = {normal.radius:.5f} (η = 0.5), "
            f"{everything[3].radius:.5f} (η = 1.1), {hidden[0]}, {hidden[1].radius:.5f} at "
            f"η = 0.52; alternating stays bounded: ρ = {turns[1].radius:.5f} (η = 0.5)",
            (*some, *everything, *strong, *hidden, *turns),
        ),
        Verdict(
            "A.1's proof: a singular value above 1 makes the iteration unstable",
            _says(normal.singular > 1 > normal.radius, "no", UNEXPECTED),
            f"Ω everything, {normal}, yet σ = {normal.singular:.5f}: it converges",
            (normal,),
        ),
    ]


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
            f"μ = 1, η = 0.5: ρ = {gentle[4].radius:.5f}, σ = {gentle[4].singular:.5f}; "
            f"{strong[0]}; {strong[1]}",
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
            _says(printed > 1 > derived.radius, "no: powers of η are missing in it", UNEXPECTED),
            f"Ω everything, η = 0.1, μ = 4: ρ = {printed:.4f}, derived {derived.radius:.4f}",
            (derived,),
        ),
    ]


def _turns() -> list[Verdict]:
    whole = [case("algorithm 1", s, weight=4.0) for s in (0.3, 0.6)]
    apart = [case("three-way", s, weight=4.0) for s in (0.2, 0.3)]
    hidden = case("three-way", 0.3, weight=4.0, critic="projected")
    bounded = _diverges(*whole, *apart, hidden) == [False, True, False, True, False]
    best, half = case("extragradient", float(np.sqrt(0.5))), _half_extrapolated(0.5)
    heun, past = case("heun", 0.5), case("optimistic", 0.4)
    neither = best.radius < 1 < min(heun.radius, half) and past.radius < 1
    return [
        Verdict(
            "Alternating in three ways converges in practice (section 2, algorithm 1)",
            _says(bounded, "it stays bounded at best: ρ = 1 off Ω", UNEXPECTED),
            f"{whole[0]}, {whole[1].radius:.5f} at η = 0.6; without the law in the generator's "
            f"step, which needs ημ < 1 under the standard critic only: {apart[1]}; {hidden}",
            (*whole, *apart, hidden),
        ),
        Verdict(
            "Methods that take intermediate gradient steps converge (section 2)",
            _says(neither, "neither necessary nor sufficient", UNEXPECTED),
            f"{best}; extrapolation by η/2: ρ = {half:.5f}; {heun}; without one: {past}",
            (best, heun, past),
        ),
    ]


def _half_extrapolated(step: float) -> float:
    """rho of extragradient with half the step for the extrapolation."""
    return methods.Extragradient(0.5).update(game(2, 1.0, "standard"), step).spectral_radius()


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


def grid(points: int = 13) -> list[Case]:
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
