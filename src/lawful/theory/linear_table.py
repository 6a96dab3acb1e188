"""What the paper claims of the linear game, what holds, and by which computed figure.

Every spectral radius comes from a whole update matrix; beside it stands the same from the closed
forms of the game's blocks, which share no code with it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy import ndarray

from lawful.table import Claim, Result, markdown_table
from lawful.theory.closed_forms import CLOSED_FORMS
from lawful.theory.linear_game import (
    Critic,
    LinearGame,
    Method,
    invnet_game,
    linearise,
    runge_kutta,
    stability_bound,
)
from lawful.theory.linear_samples import BATCH, DATA, STEPS, Played, play, sampling_errors
from lawful.training.rules import (
    alternating,
    consensus,
    extragradient,
    lookahead,
    optimistic,
    simultaneous,
)

DIMENSION, AGREE = 6, 1e-8
METHODS: Mapping[str, Method] = {
    "simultaneous": partial(linearise, simultaneous()),
    "alternating": partial(linearise, alternating()),
    "algorithm 1": partial(linearise, alternating(), parts=("generator", "critic", "law")),
    "three-way": partial(linearise, alternating(), parts=("critic", "adversarial", "law")),
    "extragradient": partial(linearise, extragradient()),
    "optimistic": partial(linearise, optimistic()),
    "consensus": partial(linearise, consensus()),
    "lookahead": partial(linearise, lookahead()),
    "heun": partial(runge_kutta, 2),
    "rk4": partial(runge_kutta, 4),
}
CRITICS: tuple[Critic, ...] = ("standard", "projected")
# Rule, critic, data, steps; simultaneous steps leave the range of numbers after two thousand.
PLAYED: tuple[tuple[str, Critic, int | None, int], ...] = (
    ("extragradient", "projected", None, STEPS), ("extragradient", "standard", None, STEPS),
    ("optimistic", "projected", None, STEPS), ("lookahead", "projected", None, STEPS),
    ("consensus", "projected", None, STEPS), ("alternating", "projected", None, STEPS),
    ("simultaneous", "projected", None, 500), ("extragradient", "projected", DATA, STEPS),
)  # fmt: skip


def result() -> Result:
    """All tables and pictures; some twenty seconds."""
    decided, cases, limits = claims(), grid(), bounds()
    played = [play(r, critic, data=data, steps=steps) for r, critic, data, steps in PLAYED]
    count = sum(len(own) for _, own in decided)
    apart = max(abs(entry.radius - entry.closed) for _, own in decided for entry in own)
    on_grid = max(abs(entry.radius - entry.closed) / max(1.0, entry.closed) for entry in cases)
    rows = [(entry.statement, entry.verdict, entry.found) for entry, _ in decided]
    text = "\n\n".join(
        [
            "## What the paper claims, and what holds",
            markdown_table(("claim", "holds", "figures"), rows),
            f"ρ, the spectral radius of the whole update matrix, decides. The {count} radii "
            f"behind this table and the closed forms of the game's blocks differ by at most "
            f"{apart:.0e} ({'within' if apart <= AGREE else 'NOT within'} {AGREE:.0e}); the "
            f"{len(cases):,} of the grid (η from 0.05 to 1.2, μ from 0.1 to 5, |Ω| = 0, 2, 6 of 6, "
            f"both critics) by at most {on_grid:.0e} relatively.",
            "## Largest stable step, closed form and computed (|Ω| = 2 of 6)",
            _bounds_table(limits),
            "– : no closed form is known to us. 0: no step is stable.",
            "## On samples: d = 16, |Ω| = 4, batches of 100",
            _played_table(played),
            "The trainer's own rules and losses; both half-steps of extragradient see the same "
            "batch and noise. η = 0.2, 2,000 steps, simultaneous 500; γ = ½. θ is the exponential "
            "average of the iterates: the last one trembles by the error of a batch, whatever η. "
            "With 1,000 data θ can come no closer to v than the mean v̂ of those data, which is "
            f"{played[-1].data_error:.3g} off; θ is {played[-1].to_data:.3g} from v̂.",
        ]
    )
    data: dict[str, Any] = {
        "claims": [
            {**asdict(entry), "cases": [asdict(case) for case in own]} for entry, own in decided
        ],
        "largest_difference": apart,
        "largest_difference_on_grid": on_grid,
        "bounds": [
            {"method": m, "critic": c, "weight": w, "closed": closed, "computed": computed}
            for (m, c, w), (closed, computed) in limits.items()
        ],
        "sampled": [asdict(entry) for entry in played],
    }
    figures = {
        "radius": _maps(cases, "radius"),
        "singular": _maps(cases, "singular"),
        "trajectories": _trajectories(),
        "sampled": _sampled(played),
    }
    return Result("The linear InvNet game (section 4, appendix A)", text, data, figures)


@dataclass(frozen=True)
class Case:
    """A method on a game, with its radius by two ways.

    Arguments:
        radius, closed: rho of the update matrix, and by the blocks' characteristic polynomials.
        singular: sigma, the update matrix's largest singular value.
    """

    method: str
    critic: Critic
    step: float
    weight: float
    motif: int
    radius: float
    closed: float
    singular: float

    def __str__(self) -> str:
        mu = f", μ = {self.weight:g}" if self.motif else ""
        return f"{self.method}, {self.critic}, η = {self.step:g}{mu}: ρ = {self.radius:.5f}"


def game(motif: int, weight: float, critic: Critic) -> LinearGame:
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
    critic: Critic = "standard",
) -> Case:
    """Compute one case both ways."""
    update = METHODS[method](game(motif, weight, critic), step)
    closed = CLOSED_FORMS[method].spectral_radius(
        step, weight, projected=critic == "projected", motif=motif, dimension=DIMENSION
    )
    return Case(
        method, critic, step, weight, motif,
        update.spectral_radius(), closed, update.largest_singular_value(),
    )  # fmt: skip


Decided = tuple[Claim, Sequence[Case]]


def _stable(*cases: Case) -> list[bool]:
    return [entry.radius < 1 for entry in cases]


def _diverges(*cases: Case) -> list[bool]:
    return [entry.radius > 1 + 1e-12 for entry in cases]


def claims() -> list[Decided]:
    """The paper's claims, each with the cases that decide it."""
    return [*_equilibria(), *_instability(), *_stability(), *_alternation()]


def _equilibria() -> list[Decided]:
    mean, motif = vectors()
    p, weight = np.arange(DIMENSION) < 2, 3.0
    stated: tuple[tuple[Critic, str, ndarray, ndarray], ...] = (
        ("standard", "Standard critic: θ⋆ = v, ψ⋆ = μP(θ⋆ − m): no motif is planted (section 4)",
         mean, np.where(p, weight * (mean - motif), 0)),
        ("projected", "Projected critic: θ⋆ = (I − P)v + Pm, ψ⋆ = 0 off Ω (section 4)",
         np.where(p, motif, mean), np.zeros(DIMENSION)),
    )  # fmt: skip
    rows: list[Decided] = []
    for critic, statement, theta, psi in stated:
        found = game(2, weight, critic).equilibrium()
        off = np.abs(found - np.concatenate([theta, psi])).max()
        miss = np.linalg.norm((found[:DIMENSION] - motif)[p])
        text = f"largest difference from it {off:.0e}; ‖P(θ⋆ − m)‖ = {miss:.2g}"
        rows.append((Claim(statement, text, bool(off < 1e-9)), []))
    return rows


def _instability() -> list[Decided]:
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
    normal, *_, last = everything[1:]
    converges = [True, True, True, False, True, False, True, False]
    gradient_descent = Claim(
        "Theorem A.1: gradient descent diverges for every η, both critics",
        f"{some[4]}; {some[13]}; Ω everything, μ = 1: ρ = {normal.radius:.5f} (η = 0.5), "
        f"{last.radius:.5f} (η = 1.1), {hidden[0]}, {hidden[1].radius:.5f} at "
        f"η = 0.52; alternating stays bounded: ρ = {turns[1].radius:.5f} (η = 0.5)",
        all(_diverges(*some))
        and _stable(*everything, *strong, *hidden) == converges
        and not any(_diverges(*turns)),
        "only simultaneously, and only if Ω is not everything and (θ, ψ) does not start at "
        "(v, 0) off Ω; else it converges, under the standard critic for η < μ (μ ≤ 2), "
        "η < μ − √(μ² − 4) (μ > 2), under the projected one for η < 2/μ",
    )
    singular = Claim(
        "A.1's proof: a singular value above 1 makes the iteration unstable",
        f"Ω everything, {normal}, yet σ = {normal.singular:.5f}: it converges",
        normal.singular > 1 > normal.radius,
        "no",
    )
    return [
        (gradient_descent, [*some, *everything, *strong, *hidden, *turns]),
        (singular, [normal]),
    ]


def _stability() -> list[Decided]:
    gentle = [case("extragradient", s, weight=w) for s in (0.1, 0.5, 0.9) for w in (0.5, 1.0, 2.0)]
    strong = [case("extragradient", s, weight=4.0) for s in (0.2, 0.3)]
    hidden = [case("extragradient", s, weight=4.0, critic="projected") for s in (0.2, 0.24, 0.26)]
    printed = _printed_radius(0.1, 4.0)
    derived = case("extragradient", 0.1, weight=4.0, motif=DIMENSION)
    standard = Claim(
        "Theorem A.2: extragradient converges, standard critic",
        f"μ = 1, η = 0.5: ρ = {gentle[4].radius:.5f}, σ = {gentle[4].singular:.5f}; "
        f"{strong[0]}; {strong[1]}",
        _stable(*gentle, *strong) == [True] * 10 + [False],
        "for η < 1 if μ ≤ 2, else η < (μ − √(μ² − 4))/2",
    )
    projected = Claim(
        "It extends to the projected critic (section 4)",
        f"{hidden[1]}; {hidden[2]}",
        _stable(*hidden) == [True, True, False],
        "for η < min(1, 1/μ)",
    )
    matrix = Claim(
        "A.2's printed matrix is that of the extragradient step",
        f"Ω everything, η = 0.1, μ = 4: ρ = {printed:.4f}, derived {derived.radius:.4f}",
        printed > 1 > derived.radius,
        "no: powers of η are missing in it",
    )
    return [(standard, [*gentle, *strong]), (projected, hidden), (matrix, [derived])]


def _alternation() -> list[Decided]:
    whole = [case("algorithm 1", s, weight=4.0) for s in (0.3, 0.6)]
    apart = [case("three-way", s, weight=4.0) for s in (0.2, 0.3)]
    hidden = case("three-way", 0.3, weight=4.0, critic="projected")
    best, heun, past = (case("extragradient", float(np.sqrt(0.5))), case("heun", 0.5),
                        case("optimistic", 0.4))  # fmt: skip
    # Extragradient with half the step for the extrapolation.
    half = linearise(extragradient(0.5), game(2, 1.0, "standard"), 0.5).spectral_radius()
    three = Claim(
        "Alternating in three ways converges in practice (section 2, algorithm 1)",
        f"{whole[0]}, {whole[1].radius:.5f} at η = 0.6; without the law in the generator's "
        f"step, which needs ημ < 1 under the standard critic only: {apart[1]}; {hidden}",
        _diverges(*whole, *apart, hidden) == [False, True, False, True, False],
        "it stays bounded at best: ρ = 1 off Ω",
    )
    intermediate = Claim(
        "Methods that take intermediate gradient steps converge (section 2)",
        f"{best}; extrapolation by η/2: ρ = {half:.5f}; {heun}; without one: {past}",
        best.radius < 1 < min(heun.radius, half) and past.radius < 1,
        "neither necessary nor sufficient",
    )
    return [(three, [*whole, *apart, hidden]), (intermediate, [best, heun, past])]


def _printed_radius(step: float, weight: float) -> float:
    """rho of the matrix printed in appendix A.2, on the motif."""
    printed = np.array(
        [
            [1 - step**2 - weight + step * weight**2, step - step * weight],
            [-step + step * weight, 1 - step**2],
        ]
    )
    return float(np.abs(np.linalg.eigvals(printed)).max())


def bounds(
    weights: Sequence[float] = (0.5, 1.0, 4.0),
) -> dict[tuple[str, Critic, float], tuple[float | None, float]]:
    """The largest stable step, in closed form and found from the update matrix, by method, critic
    and weight of the law."""
    return {
        (name, critic, weight): (
            CLOSED_FORMS[name].bound(
                weight, projected=critic == "projected", motif=2, dimension=DIMENSION
            ),
            stability_bound(game(2, weight, critic), method),
        )
        for name, method in METHODS.items()
        for critic in CRITICS
        for weight in weights
    }


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


def _bounds_table(
    limits: Mapping[tuple[str, Critic, float], tuple[float | None, float]],
) -> str:
    weights = sorted({weight for _, _, weight in limits})
    lines: dict[str, list[str]] = {}
    for (method, critic, _), (closed, computed) in limits.items():
        known = "–" if closed is None else f"{closed:.4f}"
        lines.setdefault(f"{method}, {critic}", []).append(f"{known} / {computed:.4f}")
    head = ("method, critic", *(f"μ = {weight:g}" for weight in weights))
    return markdown_table(head, [(name, *cells) for name, cells in lines.items()])


def _played_table(played: Sequence[Played]) -> str:
    head = ("rule, critic, data", "‖P(θ − m)‖", "‖(I − P)(θ − v)‖", "last iterate", "‖θ − v‖")
    lines = [
        [_label(p), *(f"{x:.3g}" for x in (p.on[-1], p.off[-1], p.last, p.to_v))] for p in played
    ]
    errors = [
        [f"sampling error of {n:,}", *(f"{x:.3g}" for x in sampling_errors(n)), "", ""]
        for n in (BATCH, DATA)
    ]
    return markdown_table(head, [*lines, *errors])


def _label(entry: Played) -> str:
    data = "fresh" if entry.data is None else f"{entry.data:,}"
    return f"{entry.rule}, {entry.critic}, {data}"


def _maps(cases: Sequence[Case], name: str) -> Figure:
    """ρ or σ over step and weight, a panel a method, both critics; contour where it is 1."""
    symbol = {"radius": "ρ", "singular": "σ"}[name]
    figure = Figure(figsize=(1.45 * len(METHODS) + 1, 4.0), layout="constrained")
    axes = figure.subplots(2, len(METHODS), sharex=True, sharey=True)
    image = None
    for row, critic in enumerate(CRITICS):
        for axis, method in zip(axes[row], METHODS, strict=True):
            mine = [e for e in cases if (e.method, e.critic, e.motif) == (method, critic, 2)]
            steps, weights = sorted({e.step for e in mine}), sorted({e.weight for e in mine})
            values = np.array([getattr(e, name) for e in mine]).reshape(len(weights), len(steps))
            image = axis.pcolormesh(steps, weights, values, vmin=0.6, vmax=1.4, cmap="RdBu_r")
            level = 1 + 1e-6  # where ρ is 1 exactly, rounding draws no line
            if values.min() < level < values.max():
                axis.contour(steps, weights, values, levels=[level], colors="k", linewidths=0.8)
            axis.tick_params(labelsize=6)
            axis.set_title("" if row else method, fontsize=8)
        axes[row, 0].set_ylabel(f"{critic} critic", fontsize=8)
    figure.supxlabel("step η", fontsize=8)
    figure.supylabel("weight μ of the law", fontsize=8)
    if image is not None:
        figure.colorbar(image, ax=axes, shrink=0.8, label=f"{symbol}, |Ω| = 2 of 6")
    return figure


def _trajectories(steps: int = 150, step: float = 0.2) -> Figure:
    """Off and on the motif: one coordinate of the generator against the critic's."""
    mean, motif = vectors()
    figure = Figure(figsize=(9, 4.6), layout="constrained")
    axes = figure.subplots(2, 4)
    names = ("simultaneous", "alternating", "extragradient", "optimistic")
    for column, name in enumerate(names):
        for row, (place, critic) in enumerate(zip((5, 0), CRITICS[::-1], strict=True)):
            update = METHODS[name](game(2, 1.0, critic), step)
            start = np.concatenate([mean + 1.0, np.ones(DIMENSION)])
            points = update.trajectory(start, steps)
            axis = axes[row, column]
            axis.plot(points[:, place], points[:, DIMENSION + place], lw=0.8)
            axis.plot(*points[-1, [place, DIMENSION + place]], "o", ms=4)
            axis.axvline(mean[place], color="0.6", lw=0.8)
            if row:
                axis.axvline(motif[place], color="C3", lw=0.8, ls="--")
            axis.tick_params(labelsize=6)
            axis.set_title(f"{name}\n{'on' if row else 'off'} Ω, {critic}", fontsize=8)
    figure.supxlabel("θ (grey: v, red: m)", fontsize=8)
    figure.supylabel("ψ", fontsize=8)
    return figure


def _sampled(played: Sequence[Played]) -> Figure:
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    axes = figure.subplots(1, 2, sharex=True)
    for entry in played:
        steps = 10 * np.arange(1, len(entry.off) + 1)
        label = _label(entry)
        axes[0].semilogy(steps, entry.on, lw=1, label=label)
        axes[1].semilogy(steps, entry.off, lw=1, label=label)
    for axis, error, name in zip(
        axes,
        sampling_errors(DATA),
        ("‖P(θ − m)‖", "‖(I − P)(θ − v)‖"),
        strict=True,
    ):
        axis.axhline(error, color="0.4", ls=":", lw=1)
        axis.set_title(f"{name} (dotted: of 1,000 samples)", fontsize=9)
        axis.set_xlabel("step")
    axes[0].legend(fontsize=7)
    return figure
