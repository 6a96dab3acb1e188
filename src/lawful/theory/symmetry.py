r"""The theory of structure-preserving GANs (Birrell et al. 2022), computed.

On the points of a circle its theorems are computed by `lawful.theory.finite`. Here small networks
play in the plane: two orbits of four clusters under quarter turns, the relativistic average with R1
on data, an invariant critic. A generator that is not invariant may collapse to a pose per orbit;
full designs are the same generator with a random element of the group on its output, and an
equivariant one with invariant noise.

Every computed row is a record; tables, claims, figures and the stored data are made of records.
"""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from itertools import islice
from math import cos, pi
from statistics import median

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from scipy.stats import kstest
from torch import Tensor, nn

from lawful.divergences import R1, Penalty, RelativisticAverage, TwoSided
from lawful.symmetry import Symmetrized, invariance_test, plane_rotations, randomize
from lawful.symmetry.invariance import distances
from lawful.table import Claim, Record, Result, claims_table, markdown_table
from lawful.theory import finite

NOISE, WIDTH, SPREAD = 4, 32, 0.15
STEPS, BATCH, DECAY = 500, 64, 0.98
TESTED, SHOWN, RANDOM = 300, 2_000, 60
LEVEL, AGREE, SAME, DIFFERENT = 0.05, 1e-6, 1e-12, 1e-3  # AGREE: within the solver's gap
PLANE, LATENT = plane_rotations(4, 2), plane_rotations(4, NOISE)
RADII, ANGLES = torch.tensor([1.0, 2.5]), torch.tensor([0.15, 0.35]) * pi
CENTRES = PLANE.orbit(RADII[:, None] * torch.stack([ANGLES.cos(), ANGLES.sin()], 1))
Found = Mapping[str, Sequence[Record]]


def data(count: int, random: torch.Generator) -> Float[Tensor, "count 2"]:
    """Clusters at the images of two points under quarter turns: orbit and pose uniform."""
    orbit = torch.randint(len(RADII), (count,), generator=random)
    pose = torch.randint(PLANE.order, (count,), generator=random)
    return CENTRES[pose, orbit] + SPREAD * torch.randn(count, 2, generator=random)


def network(inputs: int, outputs: int) -> nn.Module:
    """Two hidden layers."""
    return nn.Sequential(
        nn.Linear(inputs, WIDTH), nn.LeakyReLU(0.2), nn.Linear(WIDTH, WIDTH), nn.LeakyReLU(0.2),
        nn.Linear(WIDTH, outputs),
    )  # fmt: skip


def generator(*, equivariant: bool = False) -> nn.Module:
    """Noise to points in the plane."""
    plain = network(NOISE, 2)
    return Symmetrized(plain, LATENT, PLANE) if equivariant else plain


def critic() -> nn.Module:
    """An invariant critic of points."""
    return Symmetrized(network(2, 1), PLANE)


def play(
    pair: Sequence[nn.Module],
    penalty: Penalty,
    optimizers: Sequence[torch.optim.Optimizer],
    random: torch.Generator,
    *,
    random_element: bool = False,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Generator and critic in turn, without end: loss and gradient of every move, as it is made.

    The loss is the relativistic average, that of the paper's digits.
    """
    loss, (ours, theirs) = RelativisticAverage((penalty,)), pair
    like = next(ours.parameters())
    while True:
        for player, optimizer in zip(pair, optimizers, strict=True):
            noise = torch.randn(BATCH, NOISE, generator=random).to(like)
            element = PLANE.random(BATCH, random)
            real, fake = data(BATCH, random).to(like), ours(noise)
            fake = PLANE.act_each(fake, element) if random_element else fake
            if player is ours:
                value = loss.generator_loss(theirs(real), theirs(fake))
            else:
                terms = loss.critic_terms(theirs, real, fake.detach())
                value = torch.stack(list(terms.values())).sum()
            weights = list(player.parameters())
            gradients = torch.autograd.grad(value, weights)
            for weight, gradient in zip(weights, gradients, strict=True):
                weight.grad = gradient
            optimizer.step()
            yield value.detach(), _flat(gradients)


def _flat(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat([part.detach().flatten() for part in parts])


def trained(seed: int, *, equivariant: bool = False, steps: int = STEPS) -> nn.Module:
    """The generator after training against the invariant critic, its weights averaged."""
    torch.manual_seed(seed)
    pair = [generator(equivariant=equivariant), critic()]
    average = deepcopy(pair[0])
    optimizers = [torch.optim.Adam(p.parameters(), lr=2e-3, betas=(0.0, 0.9)) for p in pair]
    rate = lambda k: min(1.0, (k + 1) / (0.05 * steps)) * (1 + cos(pi * k / steps)) / 2  # noqa: E731
    schedules = [torch.optim.lr_scheduler.LambdaLR(one, rate) for one in optimizers]
    moves = play(pair, R1(0.1), optimizers, torch.Generator().manual_seed(1009 * seed))
    for turn in range(steps):
        for schedule in schedules:
            next(moves)
            schedule.step()
        # The average forgets its start: its decay rises to the last one.
        decay = min(DECAY, (1 + turn) / (10 + turn)) if turn else 0.0
        for mean, now in zip(average.parameters(), pair[0].parameters(), strict=True):
            mean.detach().lerp_(now.detach(), 1 - decay)
    return average


def shares(x: Float[Tensor, "batch 2"]) -> Float[Tensor, "orbit pose"]:
    """Share of each orbit's samples in each of its poses, by the nearest centre."""
    nearest = distances(x, CENTRES.flatten(0, 1).to(x)).argmin(1)
    counts = nearest.bincount(minlength=8).reshape(PLANE.order, len(RADII)).T.double()
    return counts / counts.sum(1, keepdim=True).clamp_min(1)


@torch.no_grad()
def judge(design: str, seed: int, x: Float[Tensor, "batch 2"]) -> Record:
    """Shares of poses, median distance `off` a centre, and the test of invariance of the first."""
    off = distances(x, CENTRES.flatten(0, 1)).amin(1).median()
    p_value = invariance_test(x[:TESTED], PLANE, seed=seed).p_value
    return {"design": design, "seed": seed, "samples": x, "shares": shares(x).tolist(),
            "off": float(off), "p_value": p_value}  # fmt: skip


def designs(seeds: int = 3, equivariant_seeds: int = 2, steps: int = STEPS) -> list[Record]:
    """Every design and seed: data, flawed, its two ways to be full, and a premise left out."""
    rows = [judge("data", 0, data(SHOWN, torch.Generator().manual_seed(1)))]
    for seed in range(seeds):
        random = torch.Generator().manual_seed(100 + seed)
        noise = torch.randn(SHOWN, NOISE, generator=random)
        x = trained(seed, steps=steps)(noise).detach()
        rows.append(judge("flawed: plain generator", seed, x))
        rows.append(judge("full: the same, random element", seed, randomize(x, PLANE, random)))
        if seed < equivariant_seeds:
            full, moved = trained(seed, equivariant=True, steps=steps), noise + torch.eye(NOISE)[0]
            rows.append(judge("full: equivariant generator", seed, full(noise).detach()))
            rows.append(judge("equivariant, noise not invariant", seed, full(moved).detach()))
    return rows


def dynamics(penalty: Penalty, seed: int = 0, turns: int = 50) -> Record:
    r"""A plain generator and the same with a random element, against one invariant critic.

    With :math:`\gamma \circ T_\sigma = \gamma` no score tells T_σ g(z) from g(z), so the
    generator's loss and gradient are the same, and the critic's wherever its penalty does not see
    samples. The record has the largest absolute differences, in double precision with the same
    weights, batches and chance, and beside them the `scale` of the gradients.
    """
    runs = []
    for random_element in (False, True):
        torch.manual_seed(seed)
        pair = [generator().double(), critic().double()]
        optimizers = [torch.optim.SGD(player.parameters(), lr=0.05) for player in pair]
        random = torch.Generator().manual_seed(seed)
        torch.manual_seed(seed)  # of the penalty's points
        moves = play(pair, penalty, optimizers, random, random_element=random_element)
        (loss, ours), (_, theirs), *_ = islice(moves, 2 * turns)
        weights = _flat([p for player in pair for p in player.parameters()])
        runs.append({"loss": loss, "generator": ours, "critic": theirs, "players": weights})
    plain, full = runs
    apart = {what: float((plain[what] - full[what]).abs().max()) for what in plain}
    scale = float(torch.cat([plain["generator"], plain["critic"]]).abs().max())
    return {"penalty": penalty.name, **apart, "turns": turns, "scale": scale}


@torch.no_grad()
def p_values(seeds: int = 100, count: int = 150) -> Sequence[Record]:
    """The test of invariance of untrained networks and fresh noise, premises left out in turn.

    `uniform` is the p-value of Kolmogorov and Smirnov's test that the p-values are uniform.
    """
    cases = {
        "equivariant, invariant noise": (True, 0.0),
        "equivariant, noise not invariant": (True, 1.0),
        "not equivariant, invariant noise": (False, 0.0),
    }
    rows = []
    for what, (equivariant, shift) in cases.items():
        values = []
        for seed in range(seeds):
            torch.manual_seed(seed)
            player = generator(equivariant=equivariant).double()
            noise = torch.randn(count, NOISE, dtype=torch.float64)
            noise[:, 0] += shift
            values.append(invariance_test(player(noise), PLANE, draws=199, seed=seed).p_value)
        rows.append({
            "what": what, "count": count, "values": values,
            "uniform": float(kstest(values, "uniform").pvalue),
            "rejected": float(np.mean([p <= LEVEL for p in values])),
            "quantiles": np.quantile(values, (0.05, 0.5, 0.95)).tolist(),
        })  # fmt: skip
    return rows


def result() -> Result:
    """All tables and pictures; some forty seconds, most of them small trainings."""
    return made_of({
        "identities": finite.identities(), "random": list(finite.random_identities(RANDOM)),
        "pushed": finite.pushed(), "p_values": p_values(), "collapses": finite.collapses(),
        "designs": designs(), "dynamics": [dynamics(R1(0.1)), dynamics(TwoSided(10.0))],
    })  # fmt: skip


def small(value: float) -> str:
    """One digit and the power of ten."""
    return f"{abs(value):.0e}" if value else "0"


def claims(found: Found) -> list[Claim]:
    """What is claimed, decided by the computed records."""
    return [
        *_of_divergences(found["identities"], found["random"]),
        *_of_generators(found["pushed"], found["p_values"]),
        *_of_designs(found["collapses"], found["designs"]),
        _of_dynamics(*found["dynamics"]),
    ]


def _of_divergences(identities: Sequence[Record], random: Sequence[Record]) -> list[Claim]:
    closed = [r for r in identities if r["closed"]]
    others = [r for r in identities if not r["closed"]]
    apart = max(r["apart"] for r in (*closed, *random))
    gap = max(r["gap"] for r in (*closed, *random))
    fine = max(apart, gap) < AGREE and all(r["closed"] for r in random)
    first, sample = closed[0], others[0]
    return [
        Claim(
            "S_Σ[Γ] ⊂ Γ: D^Γ(SQ‖SP) = D^Γ_inv(Q‖P)",
            "{group}, {name}: D_inv(Q, P) = {invariant:.5f}, D(SQ, SP) = {averaged:.5f}, "
            "D_inv(SQ, SP) = {both:.5f}, while D(Q, P) = {plain:.5f}; ".format(**first)
            + f"{len(closed)} cases and {len(random)} random ones differ by at most "
            f"{small(apart)}; largest duality gap {small(gap)}",
            fine and first["plain"] - first["invariant"] > DIFFERENT,
        ),
        Claim(
            "The premise S_Σ[Γ] ⊂ Γ is needed",
            sample["name"].removeprefix("α = 2, ")
            + ": D(SQ, SP) = {averaged:.5f}, D_inv(Q, P) = {invariant:.5f}".format(**sample),
            all(r["apart"] > DIFFERENT for r in others),
        ),
    ]


def _of_generators(pushed: Sequence[Record], tests: Sequence[Record]) -> list[Claim]:
    (eight, product, *missing), (invariant, *others) = pushed, tests
    exact = max(eight["most"], product["most"])
    caught = min(other["rejected"] for other in others)
    return [
        Claim(
            "P_Z invariant, g equivariant: g#P_Z is invariant",
            f"all {eight['maps']} equivariant maps of Z_8, {product['maps']} of a product space: "
            f"‖S g#P_Z − g#P_Z‖ at most {small(exact)}; symmetrised networks, "
            f"{len(invariant['values'])} seeds: p ≤ 0.05 in {invariant['rejected']:.0%}, as often "
            "as chance has it",
            exact < 1e-15 and invariant["uniform"] > 0.01,
        ),
        Claim(
            "Both premises are needed",
            f"noise not invariant: at least {missing[0]['least']:.2f}; g not equivariant: at least "
            f"{missing[1]['least']:.2f}; networks: p ≤ 0.05 in {caught:.0%} or more",
            min(entry["least"] for entry in missing) > DIFFERENT and caught > 0.9,
        ),
    ]


def _of_designs(collapses: Sequence[Record], trained: Sequence[Record]) -> list[Claim]:
    constructed, *descents = collapses
    free = [c for c in descents if "any generator" in c["what"]]
    own = [c for c in descents if "any generator" not in c["what"]]
    flawed = [d for d in trained if d["design"].startswith("flawed")]
    full = [d for d in trained if d["design"].startswith("full")]
    seen, true = max(c["seen"] for c in free), max(c["true"] for c in own)
    mistaken = min(c["true"] for c in (constructed, *free))
    low, high = max(d["p_value"] for d in flawed), min(d["p_value"] for d in full)
    most = median(np.max(d["shares"], 1).mean() for d in flawed)
    return [
        Claim(
            "An invariant critic alone forces no more than S^Σ P_g = Q",
            f"one pose an orbit: D_inv(Q, P_g) = {small(constructed['seen'])}, D(Q, P_g) = "
            f"{constructed['true']:.2f}; {len(free)} descents end at D_inv ≤ {small(seen)}, D ≥ "
            f"{min(c['true'] for c in free):.2f}; with an invariant generator at D ≤ {small(true)}",
            max(constructed["seen"], seen, true) < AGREE and mistaken > 0.1,
        ),
        Claim(
            "The flawed design collapses to poses, the full ones do not",
            f"flawed: {most:.0%} of an orbit in its commonest pose, p ≤ {low:.3f} in "
            f"{len(flawed)} seeds; full: p ≥ {high:.3f} in {len(full)}",
            low <= LEVEL < len(full) * high,  # the least of several p-values: Bonferroni
        ),
    ]


def _of_dynamics(at_data: Record, between: Record) -> Claim:
    gradients = max(at_data["generator"], at_data["critic"])
    same = max(at_data["loss"], gradients, at_data["players"], between["loss"])
    return Claim(
        "With an invariant critic the incomplete and the full generator train alike",
        f"{at_data['penalty']}: losses differ by {small(at_data['loss'])}, gradients by "
        f"{small(gradients)}, all weights after {at_data['turns']} turns by "
        f"{small(at_data['players'])}; {between['penalty']}: critics' gradients by "
        f"{small(between['critic'])}",
        max(same, between["generator"]) < SAME and between["critic"] > 1e-6,
        "yes where the penalty is taken at data; else the critics' gradients differ",
    )


# Of every table: its heading, then the format of each column by the column's heading.
TABLES: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "identities": ("Divergences of two distributions on eight points of a circle", {
        "divergence": "{name}", "group": "{group}", "D(Q, P)": "{plain:.6f}",
        "D_inv(Q, P)": "{invariant:.6f}", "D(SQ, SP)": "{averaged:.6f}",
        "D_inv(SQ, SP)": "{both:.6f}", "S_Σ[Γ] ⊂ Γ": "{closed}", "gap": "{gap:.0e}",
    }),
    "pushed": ("Images of noise", {
        "map g, noise P_Z; C4": "{what}", "maps": "{maps}",
        "‖S g#P_Z − g#P_Z‖, least": "{least:.2g}", "most": "{most:.2g}",
    }),
    "p_values": ("The test of invariance on samples of networks, a p-value per seed", {
        "networks": "{what}", "p ≤ 0.05": "{rejected:.0%}", "5 %": "{quantiles[0]:.3f}",
        "median": "{quantiles[1]:.3f}", "95 %": "{quantiles[2]:.3f}", "uniform": "{uniform:.2g}",
    }),
    "collapses": ("An invariant critic alone: on the circle, data SQ", {
        "generated distribution": "{what}", "D_inv(Q, P_g)": "{seen:.0e}",
        "D(Q, P_g)": "{true:.5f}", "total variation": "{distance:.3f}",
        "shares by pose, even points": "{shares[0]}", "odd points": "{shares[1]}",
    }),
    "designs": ("The same in the plane, trained", {
        "design": "{design}", "seed": "{seed}", "shares by pose, inner orbit": "{shares[0]}",
        "outer orbit": "{shares[1]}", "off a centre": "{off:.2f}", "p": "{p_value:.3f}",
    }),
    "dynamics": ("Dynamics of the incomplete and the full generator", {
        "penalty": "{penalty}", "generator's loss": "{loss:.0e}", "its gradient": "{generator:.0e}",
        "critic's gradient": "{critic:.0e}", "weights at the end": "{players:.0e}",
        "size of gradients": "{scale:.2f}",
    }),
}  # fmt: skip


def made_of(found: Found) -> Result:
    """The tables and figures of what was computed; docs/symmetry-theory.md says what they mean."""
    decided = claims(found)
    parts = ["## What is claimed, and what holds", claims_table(decided)]
    for name, (heading, columns) in TABLES.items():
        rows = [[_cell(form, entry) for form in columns.values()] for entry in found[name]]
        parts += [f"## {heading}", markdown_table(list(columns), rows)]
    stored = {
        name: [{k: v for k, v in entry.items() if k != "samples"} for entry in entries]
        for name, entries in found.items()
    }
    stored["claims"] = [
        {"claim": c.statement, "holds": c.verdict, "figures": c.found} for c in decided
    ]
    return Result(
        "Structure-preserving GANs: the theory",
        "\n\n".join(parts),
        stored,
        {"divergences": _bars(found["collapses"][0]), "poses": _planes(found["designs"])},
    )


def _cell(form: str, entry: Record) -> str:
    shown = dict(entry)
    if "shares" in entry:
        shown["shares"] = [" ".join(f"{share:.2f}" for share in one) for one in entry["shares"]]
    if "closed" in entry:
        shown["closed"] = "yes" if entry["closed"] else "no"
    return form.format(**shown).replace("0e+00", "0")


def _bars(collapsed: Record) -> Figure:
    """Q, P, their means and a collapsed generator, each pair with its best critic."""
    mean, critics = finite.MEAN, finite.LIPSCHITZ
    one_pose, places = np.array(collapsed["generated"]), np.arange(finite.POINTS)
    cases = (
        ("two distributions", ("Q", "P"), finite.Q, finite.P, critics),
        ("their means; the best invariant γ of Q and P", ("SQ", "SP"),
         mean @ finite.Q, mean @ finite.P, critics.invariant(mean)),
        ("invariant data, one pose an orbit", ("SQ", "P_g"), mean @ finite.Q,
         one_pose, critics),
    )  # fmt: skip
    figure = Figure(figsize=(11, 3.2), layout="constrained")
    for axis, (title, names, q, p, gamma) in zip(figure.subplots(1, 3), cases, strict=True):
        found = finite.alpha_divergence(q, p, gamma)
        for shift, values, name in zip((-0.2, 0.2), (q, p), names, strict=True):
            axis.bar(places + shift, values, 0.4, label=name)
        axis.set_ylim(0, 1.25 * max(q.max(), p.max()))
        axis.legend(fontsize=7, loc="upper center", ncols=2)
        axis.set_xlabel("point of the circle", fontsize=8)
        line = axis.twinx()
        line.plot(places, found.critic - found.shift, "k.-", lw=1)
        line.set_ylabel("best γ − ν", fontsize=8)
        line.margins(y=0.25)
        for side in (axis, line):
            side.tick_params(labelsize=7)
        axis.set_title(f"{title}\nD = {found.value:.5f}", fontsize=9)
    return figure


def _planes(rows: Sequence[Record]) -> Figure:
    """Samples of the first seed of every design."""
    shown = [row for row in rows if row["seed"] == 0]
    figure = Figure(figsize=(2.5 * len(shown), 3.3), layout="constrained")
    for axis, row in zip(figure.subplots(1, len(shown)), shown, strict=True):
        axis.plot(*CENTRES.flatten(0, 1).T.tolist(), "k+", ms=6)
        axis.plot(*row["samples"][:600].T.tolist(), ".", ms=2, alpha=0.5)
        axis.set(xlim=(-3.5, 3.5), ylim=(-3.5, 3.5), aspect="equal", xticks=[], yticks=[])
        words = row["design"].replace(": ", ":\n")
        axis.set_title(f"{words}\np = {row['p_value']:.3f}", fontsize=8)
    return figure
