"""What is claimed of structure-preserving GANs, whether it holds, and by which computed figures."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from lawful.theory.symmetry_dynamics import Dynamics
from lawful.theory.symmetry_poses import Judged, PValues
from lawful.theory.symmetry_theory import AGREE, Collapse, Identity, Pushed

UNEXPECTED = "not as derived: see the figures"
LEVEL = 0.05
SAME, DIFFERENT = 1e-12, 1e-3


@dataclass(frozen=True)
class Computed:
    """All that the tables and figures are made of."""

    identities: Sequence[Identity]
    random: Sequence[Identity]
    pushed: Sequence[Pushed]
    p_values: Sequence[PValues]
    collapses: Sequence[Collapse]
    designs: Sequence[Judged]
    dynamics: Sequence[Dynamics]


@dataclass(frozen=True)
class Claim:
    """What is claimed, whether it holds as computed, and the figures that decide."""

    claim: str
    holds: str
    figures: str


def claims(found: Computed) -> list[Claim]:
    """The rows of the first table."""
    return [*_of_divergences(found), *_of_generators(found), *_of_designs(found)]


def small(value: float) -> str:
    """One digit and the power of ten."""
    return f"{abs(value):.0e}" if value else "0"


def _says(yes: bool, text: str = "yes") -> str:
    return text if yes else UNEXPECTED


def _of_divergences(found: Computed) -> list[Claim]:
    closed = [r for r in found.identities if r.closed]
    others = [r for r in found.identities if not r.closed]
    apart = max(r.apart for r in (*closed, *found.random))
    gap = max(r.gap for r in (*closed, *found.random))
    first, sample = closed[0], others[0]
    fine = apart < AGREE and gap < 10 * AGREE and all(r.closed for r in found.random)
    return [
        Claim(
            "S_Σ[Γ] ⊂ Γ: D^Γ(SQ‖SP) = D^Γ_inv(Q‖P)",
            _says(fine and first.plain - first.invariant > DIFFERENT),
            f"{first.group}, {first.name}: D_inv(Q, P) = {first.invariant:.5f}, D(SQ, SP) = "
            f"{first.averaged:.5f}, D_inv(SQ, SP) = {first.both:.5f}, while D(Q, P) = "
            f"{first.plain:.5f}; {len(closed)} cases and {len(found.random)} random ones differ by "
            f"at most {small(apart)}; largest duality gap {small(gap)}",
        ),
        Claim(
            "The premise S_Σ[Γ] ⊂ Γ is needed",
            _says(all(r.apart > DIFFERENT for r in others)),
            f"{sample.name.removeprefix('α = 2, ')}: D(SQ, SP) = {sample.averaged:.5f}, "
            f"D_inv(Q, P) = {sample.invariant:.5f}",
        ),
    ]


def _of_generators(found: Computed) -> list[Claim]:
    eight, product, *missing = found.pushed
    invariant, *others = found.p_values
    exact = max(eight.most, product.most)
    share = np.mean([p <= LEVEL for p in invariant.values])
    caught = min(float(np.mean([p <= LEVEL for p in other.values])) for other in others)
    return [
        Claim(
            "P_Z invariant, g equivariant: g#P_Z is invariant",
            _says(exact < 1e-15 and invariant.uniform > 0.01),
            f"all {eight.maps} equivariant maps of Z_8, {product.maps} of a product space: "
            f"‖S g#P_Z − g#P_Z‖ at most {small(exact)}; symmetrised networks, "
            f"{len(invariant.values)} seeds: p ≤ 0.05 in {share:.0%}, as often as chance has it",
        ),
        Claim(
            "Both premises are needed",
            _says(min(entry.least for entry in missing) > DIFFERENT and caught > 0.9),
            f"noise not invariant: at least {missing[0].least:.2f}; g not equivariant: at least "
            f"{missing[1].least:.2f}; networks: p ≤ 0.05 in {caught:.0%} or more",
        ),
    ]


def _of_designs(found: Computed) -> list[Claim]:
    constructed = found.collapses[0]
    free = [c for c in found.collapses[1:] if "any generator" in c.what]
    own = [c for c in found.collapses[1:] if "any generator" not in c.what]
    blind = max(abs(c.seen) for c in (constructed, *free)) < 1e-10
    mistaken = min(c.true for c in (constructed, *free))
    flawed = [d for d in found.designs if d.design.startswith("flawed")]
    full = [d for d in found.designs if d.design.startswith("full")]
    end, true = (max(abs(v) for v in vs) for vs in ([c.seen for c in free], [c.true for c in own]))
    low, high = max(d.p_value for d in flawed), min(d.p_value for d in full)
    most = median(float(d.shares.amax(1).mean()) for d in flawed)
    return [
        Claim(
            "An invariant critic alone forces no more than S^Σ P_g = Q",
            _says(blind and mistaken > 0.1 and max(c.true for c in own) < AGREE),
            f"one pose an orbit: D_inv(Q, P_g) = {small(constructed.seen)}, D(Q, P_g) = "
            f"{constructed.true:.2f}; {len(free)} descents end at D_inv ≤ "
            f"{small(end)}, D ≥ {min(c.true for c in free):.2f}; with an invariant generator at "
            f"D ≤ {small(true)}",
        ),
        Claim(
            "The flawed design collapses to poses, the full ones do not",
            _says(low <= LEVEL < len(full) * high),  # the least of several p-values: Bonferroni
            f"flawed: {most:.0%} of an orbit in its commonest pose, p ≤ {low:.3f} in "
            f"{len(flawed)} seeds; full: p ≥ {high:.3f} in {len(full)}",
        ),
        _of_dynamics(*found.dynamics),
    ]


def _of_dynamics(data: Dynamics, between: Dynamics) -> Claim:
    same = max(data.loss, data.generator, data.critic, data.players, between.loss)
    return Claim(
        "With an invariant critic the incomplete and the full generator train alike",
        _says(max(same, between.generator) < SAME and between.critic > 1e-6,
              "yes where the penalty is taken at data; else the critics' gradients differ"),
        f"{data.penalty}: losses differ by {small(data.loss)}, gradients by "
        f"{small(max(data.generator, data.critic))}, all weights after {data.turns} turns by "
        f"{small(data.players)}; {between.penalty}: critics' gradients by "
        f"{small(between.critic)}",
    )  # fmt: skip
