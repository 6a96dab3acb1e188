"""Figure 2 of InvNet: standard against projected critic, and other ways to plant a motif."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from statistics import median
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from lawful.errors import InputError
from lawful.metrics.figures import strips_figure
from lawful.model import Model
from lawful.run import history, snapshots
from lawful.studies.digit_quality import SAMPLES, DigitQuality, digit_quality, real_floor
from lawful.studies.motif import MotifStudy, generate
from lawful.study import Study
from lawful.table import Recipe, Result, markdown_table

STANDARD: Mapping[str, Any] = {"critic": "standard"}
WGAN: Mapping[str, Any] = {
    "law": "alternation", "divergence": "wasserstein", "penalty": 10.0, "critic_steps": 2,
}  # fmt: skip
PLAIN: Mapping[str, Any] = {
    "motif": "plus", "critic": "projected", "law": "penalty", "weight": 10.0,
    "divergence": "non-saturating", "penalty": 1.0, "critic_steps": 1, "law_steps": 1,
}  # fmt: skip
# Changes of the plain configuration, and how many seeds.
ROWS: Sequence[tuple[Mapping[str, Any], int]] = (
    ({}, 3),
    (STANDARD, 3),
    (WGAN, 1),
    ({**WGAN, **STANDARD}, 1),
    ({"motif": "cross"}, 1),
    ({"motif": "cross", **STANDARD}, 1),
    ({**STANDARD, "weight": 1.0}, 1),
    ({**STANDARD, "weight": 100.0}, 1),
    ({"law": "alternation"}, 1),
    ({**STANDARD, "law": "alternation"}, 1),
    ({**STANDARD, "law": "lagrangian"}, 1),
    ({**STANDARD, "law": "config"}, 1),
    ({"law": "enforce"}, 1),
    ({**STANDARD, "law": "enforce"}, 1),
    ({**WGAN, **STANDARD, "law": "data"}, 1),
    ({**STANDARD, "law": "none"}, 1),
)
WAYS = {
    "penalty": "penalty", "alternation": "alternation", "lagrangian": "multipliers",
    "config": "ConFIG", "enforce": "enforced", "data": "motif pasted into the digits",
    "none": "motif pasted onto the samples",
}  # fmt: skip
HEAD = ("way", "seeds", "motif MSE", "Fréchet", "kernel", "confident", "least class", "precision",
        "recall", "coverage", "minutes")  # fmt: skip


def motif_runs(study: Study, preset: str) -> Mapping[str, Study]:
    """Every row's configuration and seed at the preset's size, by the name of its run."""
    if not isinstance(study, MotifStudy):
        raise InputError(f"motif table: expected the study motif, got {study.name}")
    runs = {}
    for changes, seeds in ROWS:
        for seed in range(seeds):
            training = replace(study.training, seed=seed)
            row = replace(study, training=training, **{**PLAIN, **changes})
            words = label(row).lower().replace("μ", "mu")
            runs[f"{preset}-{re.sub('[^a-z0-9]+', '-', words)}-{seed}"] = row
    return runs


def label(study: MotifStudy) -> str:
    """A configuration in the words of the table: what its rows differ in."""
    parts = [f"{study.critic} critic, {WAYS[study.law]}"]
    parts += [f"μ = {study.weight:g}"] if study.law in ("penalty", "lagrangian") else []
    parts += [] if study.divergence == "non-saturating" else [study.divergence]
    parts += [] if study.motif == "plus" else [_motif_name(study)]
    return ", ".join(parts)


def motif_result(models: Mapping[str, Model]) -> Result:
    """The table over all models, and figure 2 (a) to (d)."""
    groups = _grouped(models)
    judged = {name: [_judge(model) for model in rows] for name, rows in groups.items()}
    first = _study(next(iter(models.values())))
    law, digits = first.planted(), first.data()
    floor = real_floor(law, digits)
    random = torch.Generator().manual_seed(0)
    noise = digit_quality(torch.rand(digits.held_out.shape, generator=random), law, digits)
    rows = [_line(name, groups[name], qualities) for name, qualities in judged.items()]
    rows += [[name, "", "", *_figures(quality)[1:], ""] for name, quality in
             (("real digits (the floor)", floor), ("uniform noise", noise))]  # fmt: skip
    text = "\n\n".join(
        [
            f"Digits: {digits.source}; {min(len(digits.held_out), SAMPLES):,} held out to judge as "
            "many samples by. Figures but the motif's "
            "are of the pixels outside the motif. Sure: the classifier gives a class 0.9 or more; "
            "it is as confident of noise, so read it beside the distances, on 64 features of an "
            "autoencoder of digits. Least class: share of all samples that are confidently of the "
            "rarest class. Rows of several seeds: medians, least and most of the Fréchet "
            f"distance. {first.training.steps:,} steps, batches of {first.training.batch}.",
            *_strangers(models, digits.source),
            markdown_table(HEAD, rows),
            *_comparisons(judged),
        ]
    )
    data = {
        "digits": digits.source,
        "floor": asdict(floor),
        "noise": asdict(noise),
        "rows": {name: [asdict(q) for q in qualities] for name, qualities in judged.items()},
    }
    return Result("Motifs in digits (InvNet, figure 2)", text, data, _pictures(groups))


def _grouped(models: Mapping[str, Model]) -> dict[str, list[Model]]:
    """Models of equal configuration but for the seed, by label; a second one keeps its own name."""
    groups: dict[str, list[Model]] = {}
    seedless: dict[str, MotifStudy] = {}
    for name, model in models.items():
        study = _study(model)
        bare = replace(study, training=replace(study.training, seed=0))
        words = label(study)
        words = words if seedless.setdefault(words, bare) == bare else name
        groups.setdefault(words, []).append(model)
    return groups


def _study(model: Model) -> MotifStudy:
    if not isinstance(model.study, MotifStudy):
        raise InputError(f"motif table: expected a model of motif, got {model.study.name}")
    return model.study


def _images(model: Model, count: int) -> Tensor:
    """Samples as the row means them: a model without a law has the motif pasted on."""
    study = _study(model)
    images = generate(model.network, count)
    return study.planted().enforce(images, {}) if study.law == "none" else images


def _judge(model: Model) -> DigitQuality:
    study = _study(model)
    digits = study.data()
    return digit_quality(
        _images(model, min(len(digits.held_out), SAMPLES)), study.planted(), digits
    )


def _figures(quality: DigitQuality) -> list[str]:
    q = quality
    return [
        f"{q.motif:.1e}", f"{q.frechet:.2f}", f"{q.kernel:.3f}", f"{q.confident:.1%}",
        f"{q.least_class:.1%}", f"{q.precision:.2f}", f"{q.recall:.2f}", f"{q.coverage:.2f}",
    ]  # fmt: skip


def _line(name: str, models: Sequence[Model], judged: Sequence[DigitQuality]) -> list[str]:
    middle = {key: median(getattr(q, key) for q in judged) for key in asdict(judged[0])}
    figures = _figures(DigitQuality(**middle))
    if len(judged) > 1:
        all_of_them = sorted(q.frechet for q in judged)
        figures[1] += f" ({all_of_them[0]:.2f}–{all_of_them[-1]:.2f})"
    minutes = median(float(model.manifest["training_seconds"]) for model in models) / 60
    return [name, str(len(judged)), *figures, f"{minutes:.1f}"]


def _strangers(models: Mapping[str, Model], source: str) -> list[str]:
    """A remark on models that were trained on other digits than they are judged against."""
    found = {str(model.manifest.get("data", {}).get("digits")) for model in models.values()}
    others = sorted(found - {source})
    return [f"Note: trained on {', '.join(others)}; judged against {source}."] if others else []


def _comparisons(judged: Mapping[str, Sequence[DigitQuality]]) -> list[str]:
    """Projected against standard critic, wherever both were trained alike."""
    rows = []
    for name, ours in judged.items():
        theirs = judged.get(name.replace("projected", "standard"))
        if name.startswith("projected") and theirs:
            pair = [median(q.frechet for q in side) for side in (ours, theirs)]
            motif = [median(q.motif for q in side) for side in (ours, theirs)]
            way = name.removeprefix("projected critic, ")
            rows.append([way, f"{pair[0] / pair[1]:.2f}", *(f"{m:.1e}" for m in motif)])
    head = ("projected against standard critic", "ratio of Fréchet distances",
            "motif MSE, projected", "standard")  # fmt: skip
    return [markdown_table(head, rows)] if rows else []


def _motif_name(study: MotifStudy) -> str:
    return study.motif if study.motif in ("plus", "cross") else "motif from a picture"


def _pictures(groups: Mapping[str, Sequence[Model]]) -> dict[str, Figure]:
    shown = {name: models[0] for name, models in groups.items()}
    strips = {name: _images(model, 16) for name, model in shown.items()}
    figures = {"figure-2ab": strips_figure(strips)}
    curves = {name: rows for name, model in shown.items() if (rows := _critic_curve(model))}
    if curves:
        figures["figure-2c"] = _curves_figure(curves)
    first = next(iter(shown.values()))
    if first.folder is not None and (kept := snapshots(first.folder)):
        figures["figure-2d"] = strips_figure({f"step {s:,}": x for s, x in kept.items()})
    return figures


def _critic_curve(model: Model) -> list[tuple[float, float]]:
    """Step and critic's loss, of the rows that figure 2 (c) is about."""
    study = _study(model)
    plain = study.law == "penalty" and study.weight == 10 and study.motif == "plus"
    if model.folder is None or not (plain or study.divergence == "wasserstein"):
        return []
    names = ("critic/critic", "players/critic")
    rows = history(model.folder)
    return [(row["step"], row[name]) for row in rows for name in names if name in row]


def _curves_figure(curves: Mapping[str, Sequence[tuple[float, float]]]) -> Figure:
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    axes = figure.subplots(1, 2)
    for name, points in curves.items():
        axis = axes[int("wasserstein" in name)]
        steps, values = zip(*points, strict=True)
        axis.plot(steps, _smooth(values), lw=1, label=name.removesuffix(", wasserstein"))
    for axis, title in zip(axes, ("non-saturating", "WGAN-GP"), strict=True):
        axis.set_title(title, fontsize=9)
        axis.set_xlabel("step")
        if axis.lines:
            axis.legend(fontsize=7)
    axes[0].set_ylabel("critic's loss, mean of the last 20 entries")
    return figure


def _smooth(values: Sequence[float], window: int = 20) -> list[float]:
    ends = range(1, len(values) + 1)
    return [sum(part) / len(part) for k in ends if (part := values[max(0, k - window) : k])]


RECIPE = Recipe(motif_result, motif_runs, "quick")
