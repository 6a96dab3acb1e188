"""What the paper claims of the linear game, what holds, and by which computed figure.

Every spectral radius comes from a whole update matrix; beside it stands the same from the closed
forms of the game's blocks, which share no code with it.

The game is also played on samples, by the trainer's own moves, rules and losses on two vectors.
Data are drawn from N(v, I), the generator is z + θ, the critic ⟨ψ, x⟩ (InvNet, eq. 9). n samples
tell the mean to √(k / n) in k coordinates, the sampling error. Batches are drawn afresh, or from n
data once drawn: nothing that sees those alone comes closer to v than their mean v̂ does.

Every batch adds noise of its own. A rotation is damped by η² per step and shaken by η times the
noise, so the last iterate keeps trembling by the error of a *batch*, however small η: the average
of the iterates is what converges.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from math import sqrt
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from matplotlib.figure import Figure
from numpy import ndarray
from torch import Tensor, nn

from lawful.data.masks import MotifLaw
from lawful.divergences import Wasserstein
from lawful.errors import InputError
from lawful.table import Claim, Record, Result, claims_table, markdown_table
from lawful.theory.linear_game import (
    METHODS,
    Critic,
    LinearGame,
    invnet_game,
    linearise,
    stability_bound,
)
from lawful.training import RULES, SGD, Batch, Constraints, Game, State, adversarial_moves, fit
from lawful.training.rules import extragradient

DIMENSION, AGREE = 6, 1e-8
SAMPLED, MOTIF, DATA, BATCH = 16, 4, 1_000, 100  # of the game on samples: d, |Ω|, n
STEPS, DECAY, RATE = 2_000, 0.997, SGD(0.2)
MASK = torch.arange(SAMPLED) < MOTIF
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
    fine = "within" if apart <= AGREE else "NOT within"
    text = "\n\n".join(
        [
            "## What the paper claims, and what holds",
            claims_table([claim for claim, _ in decided]),
            f"The {count} radii behind this table and the closed forms of the game's blocks differ "
            f"by at most {apart:.0e} ({fine} {AGREE:.0e}); the {len(cases):,} of the grid (η from "
            "0.05 to 1.2, μ from 0.1 to 5, |Ω| = 0, 2, 6 of 6, both critics) by at most "
            f"{on_grid:.0e} relatively.",
            "## Largest stable step, closed form and computed (|Ω| = 2 of 6)",
            _bounds_table(limits),
            "## On samples: d = 16, |Ω| = 4, batches of 100",
            _played_table(played),
            "With 1,000 data their mean v̂ is {data_error:.3g} off v; θ is {to_data:.3g} from v̂."
            "".format(**played[-1]),
        ]
    )
    data: dict[str, Any] = {
        "claims": [
            {**asdict(entry), "cases": [asdict(case) for case in own]} for entry, own in decided
        ],
        "largest_difference": apart,
        "largest_difference_on_grid": on_grid,
        "bounds": limits,
        "sampled": played,
    }
    figures = {
        "radius": _maps(cases, "radius"),
        "singular": _maps(cases, "singular"),
        "trajectories": _trajectories(),
        "sampled": _sampled(played),
    }
    return Result("The linear InvNet game (section 4, appendix A)", text, data, figures)


class Vector(nn.Module):
    """A player that is a vector, zero at first, and a function of it."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.values, self.function = nn.Parameter(torch.zeros(SAMPLED)), function

    def forward(self, *inputs: Any) -> Tensor:
        return self.function(self.values, *inputs)


def sampling_errors(count: int) -> tuple[float, float]:
    """What `count` samples leave unknown of the mean, on the motif and off it."""
    return sqrt(MOTIF / count), sqrt((SAMPLED - MOTIF) / count)


def play(
    rule: str, critic: Critic, *, data: int | None = None, steps: int = STEPS, seed: int = 0
) -> Record:
    """Play the sampled game at d = 16, |Omega| = 4, Pv ≠ m, with μ = 1 and η = 0.2.

    The record has, of the average θ of the iterates, `off` ‖(I - P)(θ - v)‖ and `on` ‖P(θ - m)‖
    after every tenth step, `to_v` ‖θ - v‖ and `to_data` ‖(I - P)(θ - v̂)‖ at the end; `last`
    ‖(I - P)(θ - v)‖ of the last iterate, and `data_error` ‖(I - P)(v̂ - v)‖.

    Arguments:
        rule: One of `lawful.training.RULES`, for generator and critic together.
        data: Number of data that batches are drawn from; None for fresh ones, and v̂ is v.

    Raises:
        InputError: There is no such rule or critic.
    """
    if rule not in RULES or critic not in CRITICS:
        raise InputError(f"linear game: no rule {rule!r} with critic {critic!r}")
    random = torch.Generator().manual_seed(10_000 + seed)
    mean = torch.randn(SAMPLED, generator=random)
    law = MotifLaw(MASK, 2 * torch.randn(SAMPLED, generator=random))
    kept = None if data is None else mean + torch.randn(data, 1, SAMPLED, generator=random)

    def draw(generator: torch.Generator) -> Batch:
        noise = torch.randn(BATCH, 1, SAMPLED, generator=generator)
        if kept is None:
            fresh = mean + torch.randn(BATCH, 1, SAMPLED, generator=generator)
            return Batch({"noise": noise}, fresh)
        rows = torch.randint(len(kept), (BATCH,), generator=generator)
        return Batch({"noise": noise}, kept[rows])

    # The law's loss is a mean over the motif, the game's term half a sum.
    moves = adversarial_moves(
        Wasserstein(), Constraints((law,), weight=MOTIF / 2), generator=RATE, critic=RATE,
        view=law.hide if critic == "projected" else None, rule=RULES[rule],
    )  # fmt: skip
    game, fabric = Game(moves, draw), Fabric(accelerator="cpu", devices=1)
    players = {
        "generator": Vector(lambda theta, condition: condition["noise"] + theta),
        "critic": Vector(lambda psi, x, condition: x[:, 0] @ psi),
    }
    state = State.create(players, game, fabric, seed=seed, average={"generator": DECAY})
    theta, last = (
        next(module["generator"].parameters()).detach()
        for module in (state.averages, state.players)
    )
    record: dict[str, Any] = {"rule": rule, "critic": critic, "data": data, "off": [], "on": []}
    for entry in fit(game, state, fabric, steps):
        if entry.step % 10 == 0:
            record["off"].append(float((theta - mean)[~MASK].norm()))
            record["on"].append(float((theta - law.motif)[MASK].norm()))
    known = mean if kept is None else kept.mean((0, 1))
    return record | {
        "to_v": float((theta - mean).norm()),
        "to_data": float((theta - known)[~MASK].norm()),
        "last": float((last - mean)[~MASK].norm()),
        "data_error": float((known - mean)[~MASK].norm()),
    }


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
    update = METHODS[method].update(game(motif, weight, critic), step)
    closed = METHODS[method].spectral_radius(step, weight, critic, motif=motif, dimension=DIMENSION)
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


def bounds(weights: Sequence[float] = (0.5, 1.0, 4.0)) -> list[Record]:
    """The largest stable step, in closed form and found from the update matrix, by method, critic
    and weight of the law."""
    return [
        {
            "method": name, "critic": critic, "weight": weight,
            "closed": method.bound(weight, critic, motif=2, dimension=DIMENSION),
            "computed": stability_bound(game(2, weight, critic), method.update),
        }
        for name, method in METHODS.items() for critic in CRITICS for weight in weights
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


def _bounds_table(limits: Sequence[Record]) -> str:
    lines: dict[str, list[str]] = {}
    for entry in limits:
        known = "–" if entry["closed"] is None else "{closed:.4f}".format(**entry)
        cells = lines.setdefault("{method}, {critic}".format(**entry), [])
        cells.append(f"{known} / {entry['computed']:.4f}")
    weights = sorted({entry["weight"] for entry in limits})
    head = ("method, critic", *(f"μ = {weight:g}" for weight in weights))
    return markdown_table(head, [(name, *cells) for name, cells in lines.items()])


def _played_table(played: Sequence[Record]) -> str:
    head = ("rule, critic, data", "‖P(θ − m)‖", "‖(I − P)(θ − v)‖", "last iterate", "‖θ − v‖")
    found = [(_label(p), p["on"][-1], p["off"][-1], p["last"], p["to_v"]) for p in played]
    errors = [(f"sampling error of {n:,}", *sampling_errors(n)) for n in (BATCH, DATA)]
    rows: list[list[str]] = []
    for label, *values in (*found, *errors):
        cells = [f"{value:.3g}" for value in values]
        rows.append([str(label), *cells, *[""] * (len(head) - 1 - len(cells))])
    return markdown_table(head, rows)


def _label(entry: Record) -> str:
    data = "fresh" if entry["data"] is None else f"{entry['data']:,}"
    return f"{entry['rule']}, {entry['critic']}, {data}"


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
            update = METHODS[name].update(game(2, 1.0, critic), step)
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


def _sampled(played: Sequence[Record]) -> Figure:
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    axes = figure.subplots(1, 2, sharex=True)
    names = {"on": "‖P(θ − m)‖", "off": "‖(I − P)(θ − v)‖"}
    for axis, error, (name, title) in zip(axes, sampling_errors(DATA), names.items(), strict=True):
        for entry in played:
            steps = 10 * np.arange(1, len(entry[name]) + 1)
            axis.semilogy(steps, entry[name], lw=1, label=_label(entry))
        axis.axhline(error, color="0.4", ls=":", lw=1)
        axis.set_title(f"{title} (dotted: of 1,000 samples)", fontsize=9)
        axis.set_xlabel("step")
    axes[0].legend(fontsize=7)
    return figure
