"""The theory of structure-preserving GANs, computed: theorems, premises, the flawed design."""

from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lawful.table import Result, markdown_table
from lawful.theory.symmetry_claims import LEVEL, Claim, Computed, claims, small
from lawful.theory.symmetry_dynamics import Dynamics, both_penalties
from lawful.theory.symmetry_finite import alpha_divergence, group_mean
from lawful.theory.symmetry_poses import (
    CENTRES,
    TESTED,
    Judged,
    PValues,
    designs,
    p_values,
)
from lawful.theory.symmetry_theory import (
    LIPSCHITZ,
    POINTS,
    QUARTERS,
    Collapse,
    Identity,
    P,
    Pushed,
    Q,
    collapses,
    identities,
    poses,
    pushed,
    random_identities,
)

RANDOM = 60


def result() -> Result:
    """All tables and pictures; some forty seconds, most of them small trainings."""
    return made_of(
        Computed(
            identities(), list(random_identities(RANDOM)), pushed(), p_values(), collapses(),
            designs(), both_penalties(),
        )
    )  # fmt: skip


def made_of(found: Computed) -> Result:
    """The tables and figures of what was computed."""
    rows = claims(found)
    text = "\n\n".join(
        [
            "## What is claimed, and what holds",
            markdown_table(
                ("claim", "holds", "figures"), [(r.claim, r.holds, r.figures) for r in rows]
            ),
            "## Divergences of two distributions on eight points of a circle",
            f"20 Q = {_whole(Q)}, 20 P = {_whole(P)}. Γ: change by at most 1 from point to point, "
            "where not said otherwise. A gap is the distance between a critic's lower and a "
            "distribution's upper bound; MMD has a closed form.",
            _identity_table(found.identities),
            "## Images of noise",
            _pushed_table(found.pushed),
            _p_value_table(found.p_values),
            "## An invariant critic alone: on the circle, data SQ",
            _collapse_table(found.collapses),
            "## The same in the plane, trained",
            "Two orbits of four clusters; relativistic average with R1; an invariant critic "
            f"throughout. p: of the test of invariance on {TESTED} samples, at least 0.001.",
            _design_table(found.designs),
            "## Dynamics of the incomplete and the full generator",
            _dynamics_table(found.dynamics),
        ]
    )
    return Result(
        "Structure-preserving GANs: the theory", text, _plain(found, rows),
        {"divergences": _bars(found.collapses[0]), "poses": _planes(found.designs),
         "p-values": _steps(found.p_values)},
    )  # fmt: skip


def _whole(distribution: np.ndarray) -> str:
    return f"({', '.join(f'{20 * value:g}' for value in distribution)})"


def _identity_table(rows: Sequence[Identity]) -> str:
    head = ("divergence", "group", "D(Q, P)", "D_inv(Q, P)", "D(SQ, SP)", "D_inv(SQ, SP)",
            "S_Σ[Γ] ⊂ Γ", "gap")  # fmt: skip
    lines = [
        [r.name, r.group, *(f"{abs(v):.6f}" for v in (r.plain, r.invariant, r.averaged, r.both)),
         "yes" if r.closed else "no", small(r.gap) if r.gap else "–"]
        for r in rows
    ]  # fmt: skip
    return markdown_table(head, lines)


def _pushed_table(rows: Sequence[Pushed]) -> str:
    head = ("map g, noise P_Z; C4", "maps", "‖S g#P_Z − g#P_Z‖, least", "most")
    return markdown_table(
        head, [(r.what, str(r.maps), f"{r.least:.2g}", f"{r.most:.2g}") for r in rows]
    )


def _p_value_table(rows: Sequence[PValues]) -> str:
    first = rows[0]
    head = (
        f"networks; {len(first.values)} seeds, {first.count} samples each",
        "p ≤ 0.05",
        "5 %",
        "median",
        "95 %",
        "uniform",
    )
    lines = [
        [r.what, f"{np.mean([p <= LEVEL for p in r.values]):.0%}",
         *(f"{np.quantile(r.values, q):.3f}" for q in (0.05, 0.5, 0.95)), f"{r.uniform:.2g}"]
        for r in rows
    ]  # fmt: skip
    told = "Uniform: p-value of Kolmogorov and Smirnov's test that the p-values are."
    return f"{markdown_table(head, lines)}\n\n{told}"


def _collapse_table(rows: Sequence[Collapse]) -> str:
    head = ("generated distribution", "D_inv(Q, P_g)", "D(Q, P_g)", "total variation",
            "shares by pose, even points", "odd points")  # fmt: skip
    lines = [
        [r.what, f"{small(abs(r.seen))}", f"{abs(r.true):.5f}", f"{r.distance:.3f}",
         *(_shares(orbit) for orbit in poses(r.generated))]
        for r in rows
    ]  # fmt: skip
    return markdown_table(head, lines)


def _design_table(rows: Sequence[Judged]) -> str:
    head = ("design", "seed", "shares by pose, inner orbit", "outer orbit", "off a centre", "p")
    lines = [
        [r.design, str(r.seed), *(_shares(orbit) for orbit in r.shares.tolist()), f"{r.off:.2f}",
         f"{r.p_value:.3f}"]
        for r in rows
    ]  # fmt: skip
    return markdown_table(head, lines)


def _shares(orbit: Sequence[float]) -> str:
    return " ".join(f"{share:.2f}" for share in orbit)


def _dynamics_table(rows: Sequence[Dynamics]) -> str:
    head = ("penalty", "generator's loss", "its gradient", "critic's gradient",
            "weights at the end", "size of gradients")  # fmt: skip
    lines = [
        [r.penalty, *(f"{small(v)}" for v in (r.loss, r.generator, r.critic, r.players)),
         f"{r.scale:.2f}"]
        for r in rows
    ]  # fmt: skip
    told = (
        "Largest differences, in double precision, between a plain generator and the same with a "
        "random element on its output; at the end: after "
        f"{rows[0].turns} turns of gradient steps on the same batches."
    )
    return f"{markdown_table(head, lines)}\n\n{told}"


def _plain(found: Computed, rows: Sequence[Claim]) -> dict[str, Any]:
    """Everything as plain values; of samples, what was measured of them."""
    data: dict[str, Any] = {"claims": [asdict(row) for row in rows]}
    for field in fields(found):
        data[field.name] = [_entry(entry) for entry in getattr(found, field.name)]
    return data


def _entry(entry: Any) -> dict[str, Any]:
    values = {f.name: getattr(entry, f.name) for f in fields(entry) if f.name != "samples"}
    return {name: v.tolist() if hasattr(v, "tolist") else v for name, v in values.items()}


def _bars(collapsed: Collapse) -> Figure:
    """Q, P, their means and a collapsed generator, each pair with its best critic."""
    mean = group_mean(QUARTERS, POINTS)
    cases = (
        ("two distributions", ("Q", "P"), Q, P, LIPSCHITZ),
        ("their means; the best invariant γ of Q and P", ("SQ", "SP"), mean @ Q, mean @ P,
         LIPSCHITZ.invariant(mean)),
        ("invariant data, one pose an orbit", ("SQ", "P_g"), mean @ Q, collapsed.generated,
         LIPSCHITZ),
    )  # fmt: skip
    figure = Figure(figsize=(11, 3.2), layout="constrained")
    for axis, (title, names, q, p, critics) in zip(figure.subplots(1, 3), cases, strict=True):
        found = alpha_divergence(q, p, critics)
        _pair(axis, q, p, names)
        line = axis.twinx()
        line.plot(range(POINTS), found.critic - found.shift, "k.-", lw=1)
        line.set_ylabel("best γ − ν", fontsize=8)
        line.margins(y=0.25)
        line.tick_params(labelsize=7)
        axis.set_title(f"{title}\nD = {found.value:.5f}", fontsize=9)
    return figure


def _pair(axis: Axes, q: np.ndarray, p: np.ndarray, names: tuple[str, str]) -> None:
    places = np.arange(POINTS)
    for shift, values, name in zip((-0.2, 0.2), (q, p), names, strict=True):
        axis.bar(places + shift, values, 0.4, label=name)
    axis.set_ylim(0, 1.25 * max(q.max(), p.max()))
    axis.legend(fontsize=7, loc="upper center", ncols=2)
    axis.set_xlabel("point of the circle", fontsize=8)
    axis.tick_params(labelsize=7)


def _planes(rows: Sequence[Judged]) -> Figure:
    """Samples of the first seed of every design."""
    shown = [row for row in rows if row.seed == 0]
    figure = Figure(figsize=(2.5 * len(shown), 3.3), layout="constrained")
    centres = CENTRES.flatten(0, 1)
    for axis, row in zip(figure.subplots(1, len(shown)), shown, strict=True):
        axis.plot(*centres.T.tolist(), "k+", ms=6)
        axis.plot(*row.samples[:600].T.tolist(), ".", ms=2, alpha=0.5)
        axis.set(xlim=(-3.5, 3.5), ylim=(-3.5, 3.5), aspect="equal", xticks=[], yticks=[])
        words = row.design.replace(": ", ":\n")
        axis.set_title(f"{words}\np = {row.p_value:.3f}", fontsize=8)
    return figure


def _steps(rows: Sequence[PValues]) -> Figure:
    """Empirical distribution functions of the p-values."""
    figure = Figure(figsize=(4.6, 3.4), layout="constrained")
    axis = figure.subplots()
    for row in rows:
        axis.ecdf(row.values, label=row.what, lw=1.2)
    axis.plot([0, 1], [0, 1], color="0.6", ls=":", lw=1)
    axis.set_xlabel("p-value of the test of invariance")
    axis.set_ylabel("share of seeds below")
    axis.legend(fontsize=7)
    return figure
