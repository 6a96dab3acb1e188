"""Figure 2 of InvNet: standard against projected critic, and other ways to plant a motif."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import Any

import torch
from matplotlib.figure import Figure

from lawful.errors import InputError
from lawful.laws.motif import MotifLaw
from lawful.studies.digit_quality import DigitQuality, digit_quality, real_floor
from lawful.studies.model import Model
from lawful.studies.motif import MotifStudy, generate
from lawful.studies.result import Result, markdown_table
from lawful.studies.run import history, snapshots
from lawful.studies.study import Study

SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Row:
    """A way to plant the motif.

    Arguments:
        label: In the table.
        changes: Of the preset's configuration.
        pasted: Paste the motif onto the samples before they are judged.
        seeds: How many runs.
    """

    label: str
    changes: Mapping[str, Any]
    pasted: bool = False
    seeds: int = 1


WGAN = {"divergence": "wasserstein", "penalty": 10.0, "critic_steps": 2}
ROWS: Mapping[str, Row] = {
    "projected": Row("projected critic, alternation", {}, seeds=3),
    "standard": Row("standard critic, alternation", {"critic": "standard"}, seeds=3),
    "projected-penalty": Row("projected critic, penalty", {"law": "penalty"}),
    "standard-penalty": Row("standard critic, penalty", {"critic": "standard", "law": "penalty"}),
    "standard-lagrangian": Row(
        "standard critic, multipliers", {"critic": "standard", "law": "lagrangian"}
    ),
    "standard-config": Row("standard critic, ConFIG", {"critic": "standard", "law": "config"}),
    "projected-enforce": Row("projected critic, enforced", {"law": "enforce"}),
    "standard-enforce": Row("standard critic, enforced", {"critic": "standard", "law": "enforce"}),
    "wgan-projected": Row("projected critic, alternation, WGAN-GP", WGAN, seeds=3),
    "wgan-standard": Row(
        "standard critic, alternation, WGAN-GP", {**WGAN, "critic": "standard"}, seeds=3
    ),
    "wgan-data": Row(
        "WGAN-GP on digits with the motif pasted in",
        {**WGAN, "critic": "standard", "law": "data"},
    ),
    "pasted": Row(
        "no law; pasted onto the samples", {"critic": "standard", "law": "none"}, pasted=True
    ),
}
HEAD = ("way", "motif MSE", "Fréchet", "kernel", "sure", "least class", "precision", "recall",
        "coverage", "minutes")  # fmt: skip


def motif_runs(study: Study, preset: str) -> Mapping[str, Study]:
    """Every row's configuration and seed at the preset's size."""
    if not isinstance(study, MotifStudy):
        raise InputError(f"motif table: expected the study motif, got {study.name}")
    return {
        f"{preset}-{name}-{seed}": replace(
            study, training=replace(study.training, seed=seed), **row.changes
        )
        for name, row in ROWS.items()
        for seed in SEEDS[: row.seeds]
    }


def motif_result(models: Mapping[str, Model]) -> Result:
    """The table over all models, and figure 2 (a) to (d)."""
    first = _study(next(iter(models.values())))
    law, digits = first.planted(), first.data()
    floor = real_floor(law, digits)
    judged = {name: _judge(name, model, law) for name, model in models.items()}
    lines = [_line(label, [judged[n] for n in names], [models[n] for n in names])
             for label, names in _grouped(models).items()]  # fmt: skip
    real = ["real training digits (the floor)", "–", *_figures(floor)[1:], "–"]
    table = markdown_table(HEAD, [*lines, real])
    seeds = max(len(names) for names in _grouped(models).values())
    text = (
        f"Digits: {digits.source}; {len(digits.held_out)} held out. Motif: {_motif_name(first)}, "
        f"{int(law.mask.sum())} pixels. All figures but the first are of the pixels outside the "
        f"motif, 2,000 samples a model{f', median of up to {seeds} seeds' if seeds > 1 else ''}. "
        "Distances are on 64 features of an autoencoder of digits and cannot be compared with "
        "others'.\n\n" + table + "\n\n" + _comparisons(judged)
    )
    data = {
        "digits": digits.source,
        "floor": asdict(floor),
        "runs": {name: asdict(quality) for name, quality in judged.items()},
    }
    return Result("Motifs in digits (InvNet, figure 2)", text, data, _pictures(models, law))


def _study(model: Model) -> MotifStudy:
    if not isinstance(model.study, MotifStudy):
        raise InputError(f"motif table: expected a model of motif, got {model.study.name}")
    return model.study


def _row_of(name: str) -> str | None:
    """The row that a run's name `preset-row-seed` stands for."""
    parts = name.split("-")
    return next((row for row in ROWS if row == "-".join(parts[1:-1])), None)


def _grouped(models: Mapping[str, Model]) -> dict[str, list[str]]:
    """Names of models by label of their row; a single model stands for itself."""
    groups: dict[str, list[str]] = {}
    for name in models:
        row = _row_of(name)
        groups.setdefault(name if row is None else ROWS[row].label, []).append(name)
    return groups


def _judge(name: str, model: Model, law: MotifLaw) -> DigitQuality:
    images = generate(model.network)
    row = _row_of(name)
    if row is not None and ROWS[row].pasted:
        images = law.enforce(images, {})
    return digit_quality(images, law, _study(model).data())


def _figures(quality: DigitQuality) -> list[str]:
    q = quality
    return [
        f"{q.motif:.1e}", f"{q.frechet:.2f}", f"{q.kernel:.3f}", f"{q.sure:.1%}",
        f"{q.least_class:.1%}", f"{q.precision:.2f}", f"{q.recall:.2f}", f"{q.coverage:.2f}",
    ]  # fmt: skip


def _line(label: str, judged: Sequence[DigitQuality], models: Sequence[Model]) -> list[str]:
    middle = {
        name: median(getattr(quality, name) for quality in judged) for name in asdict(judged[0])
    }
    minutes = median(float(model.manifest["training_seconds"]) for model in models) / 60
    return [label, *_figures(DigitQuality(**middle)), f"{minutes:.1f}"]


def _comparisons(judged: Mapping[str, DigitQuality]) -> str:
    """Projected against standard critic, where both were trained."""
    lines = []
    for ours, theirs, label in (
        ("projected", "standard", "non-saturating"),
        ("wgan-projected", "wgan-standard", "WGAN-GP"),
    ):
        pair = [
            [q.frechet for n, q in judged.items() if _row_of(n) == row] for row in (ours, theirs)
        ]
        if all(pair):
            ratio = median(pair[0]) / median(pair[1])
            lines.append(
                f"Fréchet distance, projected over standard critic, {label}: {ratio:.2f} "
                f"(medians {median(pair[0]):.2f} and {median(pair[1]):.2f})."
            )
    return "\n".join(lines)


def _motif_name(study: MotifStudy) -> str:
    return study.motif if study.motif in ("plus", "cross") else "from a picture"


def _pictures(models: Mapping[str, Model], law: MotifLaw) -> dict[str, Figure]:
    shown = {label: models[names[0]] for label, names in _grouped(models).items()}
    figures = {"figure-2ab": _samples_figure(shown)}
    curves = {label: rows for label, model in shown.items() if (rows := _critic_curve(model))}
    if curves:
        figures["figure-2c"] = _curves_figure(curves)
    first = next(iter(models.values()))
    if first.folder is not None and (kept := snapshots(first.folder)):
        figures["figure-2d"] = _evolution_figure(kept)
    return figures


def _critic_curve(model: Model) -> list[tuple[float, float]]:
    rows = [] if model.folder is None else history(model.folder)
    names = ("critic/critic", "players/critic")
    return [(row["step"], row[name]) for row in rows for name in names if name in row]


def _samples_figure(models: Mapping[str, Model], count: int = 12) -> Figure:
    """A row of samples for each model."""
    figure = Figure(figsize=(0.62 * count + 2.6, 0.66 * len(models) + 0.3), layout="constrained")
    axes = figure.subplots(len(models), 1, squeeze=False)[:, 0]
    for axis, (label, model) in zip(axes, models.items(), strict=True):
        images = generate(model.network, count)[:, 0]
        if (row := ROWS.get(_label_row(label))) and row.pasted:
            images = _study(model).planted().enforce(images[:, None], {})[:, 0]
        axis.imshow(torch.cat(list(images), 1).numpy(), cmap="gray", vmin=0, vmax=1)
        axis.set_ylabel(label, rotation=0, ha="right", va="center", fontsize=8)
        axis.set_xticks([])
        axis.set_yticks([])
    return figure


def _label_row(label: str) -> str:
    return next((name for name, row in ROWS.items() if row.label == label), "")


def _curves_figure(curves: Mapping[str, Sequence[tuple[float, float]]]) -> Figure:
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots(1, 2)
    for label, points in curves.items():
        axis = axes[int("WGAN" in label)]
        steps, values = zip(*points, strict=True)
        axis.plot(steps, _smooth(values), lw=1, label=label)
    for axis, title in zip(axes, ("non-saturating", "WGAN-GP"), strict=True):
        axis.set_title(title, fontsize=9)
        axis.set_xlabel("step")
        if axis.lines:
            axis.legend(fontsize=6)
    axes[0].set_ylabel("critic's loss, mean of the last 20 entries")
    return figure


def _smooth(values: Sequence[float], window: int = 20) -> list[float]:
    ends = range(1, len(values) + 1)
    return [sum(part) / len(part) for k in ends if (part := values[max(0, k - window) : k])]


def _evolution_figure(kept: Mapping[int, torch.Tensor]) -> Figure:
    """The same eight latent vectors over the training."""
    figure = Figure(figsize=(6, 0.62 * len(kept) + 0.3), layout="constrained")
    axes = figure.subplots(len(kept), 1, squeeze=False)[:, 0]
    for axis, (step, fields) in zip(axes, kept.items(), strict=True):
        axis.imshow(torch.cat(list(fields[:, 0]), 1).numpy(), cmap="gray", vmin=0, vmax=1)
        axis.set_ylabel(f"{step:,}", rotation=0, ha="right", va="center", fontsize=8)
        axis.set_xticks([])
        axis.set_yticks([])
    return figure
