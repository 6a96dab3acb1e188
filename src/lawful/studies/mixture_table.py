"""The toy of structure-preserving GANs: plain, flawed and full pairs of players."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from statistics import median
from typing import Any

import torch
from torch import Tensor

from lawful.errors import InputError
from lawful.model import Model
from lawful.studies.mixture import MIXTURE, MixtureStudy, generate
from lawful.studies.mixture_quality import (
    FRESH,
    TESTED,
    MixtureQuality,
    mixture_quality,
    plane_figure,
)
from lawful.study import Study
from lawful.table import Recipe, Result, markdown_table

PLAIN: Mapping[str, Any] = {"generator": "plain", "critic": "plain"}
FLAWED: Mapping[str, Any] = {"generator": "plain", "critic": "invariant"}
FULL: Mapping[str, Any] = {"generator": "random-element", "critic": "invariant"}
MANY = 10_000
# Changes of the preset, and how many seeds.
ROWS: Sequence[tuple[Mapping[str, Any], int]] = (
    (PLAIN, 3),
    ({**PLAIN, "augment": True}, 3),
    (FLAWED, 3),
    ({**FULL, "critic": "plain"}, 3),
    (FULL, 3),
    ({**FULL, "generator": "equivariant"}, 3),
    *(({**design, "alpha": alpha}, 1) for alpha in (5.0, 10.0, 100.0) for design in (PLAIN, FULL)),
    ({**PLAIN, "points": MANY}, 1),
    ({**FULL, "points": MANY}, 1),
)
BASE: Mapping[str, Any] = {"alpha": 2.0, "augment": False}
HEAD = ("players", "seeds", "energy distance", "of the orbits", "rarest cluster", "median radius",
        "90th percentile", "off the plane", "p", "minutes")  # fmt: skip
SHOWN = 6


def mixture_runs(study: Study, preset: str) -> Mapping[str, Study]:
    """Every row's configuration and seed at the preset's size, by the name of its run."""
    if not isinstance(study, MixtureStudy):
        raise InputError(f"mixture table: expected the study mixture, got {study.name}")
    runs = {}
    for changes, seeds in ROWS:
        for seed in range(seeds):
            training = replace(study.training, seed=seed)
            row = replace(study, training=training, **{**BASE, **changes})
            words = label(row).lower().replace("α", "alpha").replace(",000", "000")
            runs[f"{preset}-{re.sub('[^a-z0-9]+', '-', words)}-{seed}"] = row
    return runs


def label(study: MixtureStudy) -> str:
    """A configuration in the words of the table: what its rows differ in."""
    parts = [f"{study.generator} generator, {study.critic} critic"]
    parts += ["augmented points"] if study.augment else []
    parts += [] if study.alpha == BASE["alpha"] else [f"α = {study.alpha:g}"]
    parts += [f"{study.points:,} points"] if study.points >= MANY else []
    return ", ".join(parts)


def mixture_result(models: Mapping[str, Model]) -> Result:
    """The table over all models and samples of its first rows."""
    groups: dict[str, list[Model]] = {}
    for model in models.values():
        groups.setdefault(label(_study(model)), []).append(model)
    judged = {name: [_judged(model) for model in rows] for name, rows in groups.items()}
    first = min((_study(model) for model in models.values()), key=lambda study: study.points)
    sets = _references(first)
    floors = {name: mixture_quality(x, MIXTURE) for name, x in sets.items()}
    rows = [_line(name, groups[name], qualities) for name, qualities in judged.items()]
    rows += [[name, "", *_figures(quality), ""] for name, quality in floors.items()]
    rows[-1][-2] = "–"  # turns of the same points are not independent, as the test has it
    training = first.training
    text = "\n\n".join(
        [
            f"{first.points:,} training points where not said otherwise; {training.steps:,} steps, "
            f"batches of {training.batch:,}, reverse α = {BASE['alpha']:g}. In the plane, on the "
            f"scale of arcsinh: energy distance of {FRESH:,} samples from as many fresh ones, and "
            "of all their quarter turns, which is what an invariant critic sees. Rarest cluster: "
            "least share of samples nearest to a centre, 25 % of the distribution. Radius: "
            "distance from the nearest centre. Off the plane: median error of the ten constant "
            f"coordinates. p: of the test of invariance on {TESTED} samples. Rows of several "
            "seeds, each with points of its own: medians, least and most of the energy distance.",
            markdown_table(HEAD, rows),
            *_comparison(judged),
        ]
    )
    data = {
        "rows": {name: [asdict(q) for q in qualities] for name, qualities in judged.items()},
        "references": {name: asdict(quality) for name, quality in floors.items()},
    }
    shown = {name: generate(rows[0].network, 1_000) for name, rows in list(groups.items())[:SHOWN]}
    figure = plane_figure({"fresh samples": sets["fresh samples (the floor)"], **shown}, MIXTURE)
    return Result("Heavy-tailed clusters from few points", text, data, {"plane": figure})


def _study(model: Model) -> MixtureStudy:
    if not isinstance(model.study, MixtureStudy):
        raise InputError(f"mixture table: expected a model of mixture, got {model.study.name}")
    return model.study


def _judged(model: Model) -> MixtureQuality:
    """What was measured when the model was made."""
    quality = model.manifest["quality"]
    return MixtureQuality(**{name: quality[name] for name in MixtureQuality.__dataclass_fields__})


def _references(study: MixtureStudy) -> dict[str, Tensor]:
    """Sets of points that need no training."""
    plain, turned = (replace(study, augment=flag).data().flatten(1) for flag in (False, True))
    fresh = MIXTURE.sample(FRESH, torch.Generator().manual_seed(70_000))
    return {
        "fresh samples (the floor)": fresh,
        f"the {study.points:,} training points": plain,
        "their quarter turns": turned,
    }


def _figures(quality: MixtureQuality) -> list[str]:
    q = quality
    return [
        f"{q.energy:.3f}", f"{q.symmetrized:.3f}", f"{q.least:.1%}", f"{q.radius:.1f}",
        f"{q.tail:.0f}", f"{q.off_plane:.2f}", f"{q.p_value:.3f}",
    ]  # fmt: skip


def _line(name: str, models: Sequence[Model], judged: Sequence[MixtureQuality]) -> list[str]:
    figures = _figures(MixtureQuality.median(judged))
    if len(judged) > 1:
        energies = sorted(quality.energy for quality in judged)
        figures[0] += f" ({energies[0]:.3f}–{energies[-1]:.3f})"
    minutes = median(float(model.manifest["training_seconds"]) for model in models) / 60
    return [name, str(len(judged)), *figures, f"{minutes:.1f}"]


def _comparison(judged: Mapping[str, Sequence[MixtureQuality]]) -> list[str]:
    """The full pair against the plain one, wherever both were trained alike."""
    rows = []
    words = f"{PLAIN['generator']} generator, {PLAIN['critic']} critic"
    full = f"{FULL['generator']} generator, {FULL['critic']} critic"
    for name, theirs in judged.items():
        ours = judged.get(name.replace(words, full))
        if name.startswith(words) and ours:
            energy, other = (MixtureQuality.median(side).energy for side in (ours, theirs))
            rest = name.removeprefix(words).removeprefix(", ") or "as above"
            rows.append([rest, f"{energy / other:.3f}"])
    head = ("full against plain pair", "ratio of energy distances")
    return [markdown_table(head, rows)] if rows else []


RECIPE = Recipe(mixture_result, mixture_runs)
