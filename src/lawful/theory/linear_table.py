"""The linear InvNet game, computed: equilibria, update matrices, bounds, trajectories, verdicts."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from lawful.table import Result, markdown_table
from lawful.theory.linear_samples import BATCH, DATA, STEPS, Played, play, sampling_errors
from lawful.theory.linear_verdicts import (
    CRITICS,
    DIMENSION,
    METHODS,
    Bound,
    Case,
    CriticKind,
    Verdict,
    bounds,
    game,
    grid,
    vectors,
    verdicts,
)

# Rule, critic, data, steps; simultaneous steps leave the range of numbers after two thousand.
PLAYED: tuple[tuple[str, CriticKind, int | None, int], ...] = (
    ("extragradient", "projected", None, STEPS), ("extragradient", "standard", None, STEPS),
    ("optimistic", "projected", None, STEPS), ("lookahead", "projected", None, STEPS),
    ("consensus", "projected", None, STEPS), ("alternating", "projected", None, STEPS),
    ("simultaneous", "projected", None, 500), ("extragradient", "projected", DATA, STEPS),
)  # fmt: skip
AGREE = 1e-8


def result() -> Result:
    """All tables and pictures; some twenty seconds."""
    rows, cases, limits = verdicts(), grid(), bounds()
    played = [play(r, critic, data=data, steps=steps) for r, critic, data, steps in PLAYED]
    decided = [entry for row in rows for entry in row.cases]
    apart = max(abs(entry.radius - entry.closed) for entry in decided)
    on_grid = max(abs(entry.radius - entry.closed) / max(1.0, entry.closed) for entry in cases)
    text = "\n\n".join(
        [
            "## What the paper claims, and what holds",
            _verdict_table(rows),
            f"ρ, the spectral radius of the whole update matrix, decides. The {len(decided)} radii "
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
        "verdicts": [asdict(row) for row in rows],
        "largest_difference": apart,
        "largest_difference_on_grid": on_grid,
        "bounds": [asdict(entry) for entry in limits],
        "sampled": [asdict(entry) for entry in played],
    }
    figures = {
        "radius": _maps(cases, "radius"),
        "singular": _maps(cases, "singular"),
        "trajectories": _trajectories(),
        "sampled": _sampled(played),
    }
    return Result("The linear InvNet game (section 4, appendix A)", text, data, figures)


def _verdict_table(rows: Sequence[Verdict]) -> str:
    return markdown_table(
        ("claim", "holds", "figures"), [(row.claim, row.holds, row.figures) for row in rows]
    )


def _bounds_table(limits: Sequence[Bound]) -> str:
    weights = sorted({entry.weight for entry in limits})
    head = ["method, critic", *(f"μ = {weight:g}" for weight in weights)]
    found = {(b.method, b.critic, b.weight): b for b in limits}
    lines = []
    for method in METHODS:
        for critic in CRITICS:
            entries = [found[(method, critic, weight)] for weight in weights]
            cells = [f"{_closed(b)} / {b.computed:.4f}" for b in entries]
            lines.append([f"{method}, {critic}", *cells])
    return markdown_table(head, lines)


def _closed(bound: Bound) -> str:
    return "–" if bound.closed is None else f"{bound.closed:.4f}"


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
        for row, (place, critic) in enumerate(((5, "projected"), (0, "standard"))):
            update = METHODS[name].update(game(2, 1.0, critic), step)  # type: ignore[arg-type]
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
