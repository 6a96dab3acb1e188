"""Figures 4 to 7 of InvNet, and what a trained generator of microstructures adds.

Models that were trained on images are held against held-out images, beside the same code without a
network and direct optimisation; models trained by the law alone, against their one target.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from lawful.errors import InputError
from lawful.materials import dataset as cahn_hilliard
from lawful.materials import statistics
from lawful.materials.dataset import Images
from lawful.materials.levelcut import level_cut
from lawful.model import Model
from lawful.project import Projected
from lawful.studies import microstructure_peers as peers
from lawful.studies.microstructure import MicrostructureStudy, own
from lawful.studies.microstructure_figures import (
    curves_figure,
    fixed_moments_figure,
    morphology_figure,
    single_target_figures,
)
from lawful.studies.microstructure_quality import (
    HeldOut,
    Likeness,
    generate,
    held_out,
    likeness,
    noise,
)
from lawful.studies.microstructure_targets import load_data
from lawful.study import Study
from lawful.table import Recipe, Result, markdown_table

TOLERANCE = 1e-3
TARGETS, ALIKE, FRESH = 256, 1_000, 1_600
SEED = 50_000
FREE: Mapping[str, Mapping[str, Any]] = {
    "a": {"target": "held-out 3"},
    "b": {"target": "held-out 9"},
    "c": {"target": "held-out 9", "enforced": 8},
}
ACCURACY = ("samples", "p1 error × N², worst", "p2 RMSE, median", "95th %", "worst", "within 1e-3",
            "steps", "exchanges", "moved")  # fmt: skip
MORPHOLOGY = ("targets", "samples", "surface / image's", "p2 RMSE", "lineal-path RMSE",
              "components (image's)", "difference in components")  # fmt: skip


def microstructure_runs(study: Study, preset: str) -> Mapping[str, Study]:
    """The preset; for one without data, the three models of figures 6 and 7; for `full`, both."""
    if not isinstance(study, MicrostructureStudy):
        raise InputError(f"microstructure table: expected its study, got {study.name}")
    free = study if study.objective == "law" else MicrostructureStudy.presets()["data-free"]
    three = {f"data-free-{name}": replace(free, **changes) for name, changes in FREE.items()}
    if study.objective == "law":
        return three
    return {f"run-{preset}": study, **(three if preset == "full" else {})}


def microstructure_result(models: Mapping[str, Model]) -> Result:
    """Tables and figures for all models that there are."""
    parts: list[str] = []
    data: dict[str, Any] = {}
    figures: dict[str, Figure] = {}
    alone = {name: model for name, model in models.items() if _study(model).target}
    for name, model in models.items():
        if name not in alone:
            _learned(name, model, parts, data, figures)
    if alone:
        _free(alone, parts, data, figures)
    title = "Two-phase microstructures (InvNet, figures 4 to 7)"
    return Result(title, "\n\n".join(parts), data, figures)


def targets_of(data: str) -> tuple[Images, str, bool]:
    """Images that a model trained on `data` has not seen, their origin, whether they are periodic.

    Of the project's own set, images of another seed: neither trained on nor looked at before.
    """
    if data == "cahn-hilliard":
        fresh = cahn_hilliard.small(FRESH, seed=1)
        parts = [list(vars(part).values()) for part in (fresh.train, fresh.held_out)]
        images = Images(*(torch.cat(pair) for pair in zip(*parts, strict=True)))
        return images, f"{fresh.source} (trained on seed 0)", True
    found = load_data(data)
    return found.held_out, f"what is held out of {found.source}", found.periodic


def _study(model: Model) -> MicrostructureStudy:
    if not isinstance(model.study, MicrostructureStudy):
        raise InputError(f"microstructure table: got a model of {model.study.name}")
    return model.study


def _learned(
    name: str, model: Model, parts: list[str], data: dict[str, Any], figures: dict[str, Figure]
) -> None:
    """A model trained on images: accuracy, morphology, diversity, figures 4 and 5."""
    images, source, periodic = targets_of(_study(model).data)
    against = held_out(images, TARGETS, periodic=periodic)
    made, done = _samples(model, against)
    found = {way: likeness(x, against) for way, x in made.items()}
    if against.replicates is not None:
        found["another simulation"] = likeness(against.replicates.unsqueeze(1), against)
    size = against.images[0].numel()
    rows = [[way, *_accuracy(found[way], done.get(way), size)] for way in found]
    kinds = morphology_rows(found, against)
    alike = _diversity(model, against)
    parts += [
        f"## {name}",
        f"{len(against.images)} targets with volume fractions in [0.3, 0.7], of {source}. Every "
        "figure is of binary samples, exactly counted. Moved: share of pixels "
        "that refinement changed. Another simulation, of the target's composition and time, is "
        "the natural spread.",
        markdown_table(("way", *ACCURACY), rows),
        "Morphology, medians over the targets; components are means. Phases are exchanged where "
        "phase 1 is the majority. Droplets: minority fraction below 0.35; spinodal: above 0.42.",
        markdown_table(MORPHOLOGY, kinds),
        "Diversity: samples of one target, overlap (correlation coefficient) of pairs after the "
        f"best shift, and how many of {ALIKE:,} equal an earlier one.",
        markdown_table(("samples", "overlap, mean over pairs", "equal"), alike),
    ]
    data[name] = {way: {k: np.asarray(v).tolist() for k, v in _medians(f).items()}
                  for way, f in found.items()}  # fmt: skip
    figures["figure-4"] = fixed_moments_figure(model.network, against)
    figures["figure-5"] = curves_figure(made["generator, raw"], against)
    figures["morphology"] = morphology_figure(made, against)


def _samples(model: Model, against: HeldOut) -> tuple[dict[str, Tensor], dict[str, Projected]]:
    """Samples of the held-out targets by every way, and what refinement did."""
    study, network = _study(model), own(model.network)
    condition = {**against.condition, "noise": noise(len(against.images), study.side, SEED)}
    done = {
        f"generator, refined to {TOLERANCE:g}": study.project(network, condition, TOLERANCE),
        f"blurred field, refined to {TOLERANCE:g}": peers.from_blurred_field(condition, TOLERANCE),
    }
    with torch.no_grad():
        bare = peers.unlearned(network, condition)
        blurred = level_cut(peers.blurred_field(condition), condition["volume_fraction"])
    made = {
        "generator, raw": generate(network, against.condition, study.side, SEED),
        **{way: refined.fields for way, refined in done.items()},
        "blurred field": blurred,
        "blurred field, the sampler's law steps": bare,
        "L-BFGS from noise": peers.optimise_from_noise(
            condition["volume_fraction"], condition["two_point"], condition["noise"]
        ),
    }
    return made, done


def _accuracy(found: Likeness, done: Projected | None, size: int) -> list[str]:
    figures = [
        str(len(found.two_point)), f"{found.volume.max() * size:.2f}",
        f"{np.median(found.two_point):.2e}", f"{np.quantile(found.two_point, 0.95):.2e}",
        f"{found.two_point.max():.2e}", f"{(found.two_point <= TOLERANCE).mean():.1%}",
    ]  # fmt: skip
    if done is None:
        return [*figures, "–", "–", "–"]
    means = (done.iterations.float(), done.exchanges.float(), done.displacement)
    steps, exchanges, moved = (float(value.mean()) for value in means)
    return [*figures, f"{steps:.1f}", f"{exchanges:.1f}", f"{moved:.1%}"]


def morphology_rows(found: Mapping[str, Likeness], against: HeldOut) -> list[list[str]]:
    """A row per way of all targets, then of each group of them."""
    rows = []
    for group, members in {"all": np.arange(len(against.images)), **against.groups()}.items():
        for way, figures in found.items():
            few = figures.of(members[members < len(figures.two_point)])
            rows.append([
                group, f"{way} ({len(few.two_point)})", f"{np.median(few.surface):.3f}",
                f"{np.median(few.two_point):.2e}", f"{np.median(few.lineal_path):.2e}",
                f"{few.components.mean():.1f} ({few.expected.mean():.1f})",
                f"{np.abs(few.components - few.expected).mean():.1f}",
            ])  # fmt: skip
    return rows


def _medians(found: Likeness) -> dict[str, Any]:
    return {
        "p1_error_worst": found.volume.max(),
        "p2_rmse": [*np.quantile(found.two_point, (0.5, 0.95, 1.0))],
        "within_tolerance": (found.two_point <= TOLERANCE).mean(),
        "surface_ratio": [*np.quantile(found.surface, (0.05, 0.5, 0.95))],
        "lineal_path_rmse": [*np.quantile(found.lineal_path, (0.5, 0.95))],
    }


def _diversity(model: Model, against: HeldOut) -> list[list[str]]:
    """Overlap of samples of one target, and of independent simulations of like composition."""
    study, network = _study(model), own(model.network)
    target = {name: value[:1] for name, value in against.condition.items()}
    many = {name: value.expand(ALIKE, *value.shape[1:]) for name, value in target.items()}
    raw = generate(network, many, study.side, SEED + 1)[:, 0]
    refined = study.project(
        network, {n: v[:200] for n, v in many.items()} | {"noise": noise(200, study.side, SEED)},
        TOLERANCE,
    ).fields[:, 0]  # fmt: skip
    sets = {
        "generator, raw, one target": raw,
        "generator, refined, one target": refined,
        "independent simulations, the 48 nearest in p2": _nearest(against, 48),
    }
    return [
        [name, f"{statistics.mean_pairwise_overlap(x):.3f}",
         f"{len(x) - len(x.unique(dim=0))} of {len(x):,}"] for name, x in sets.items()
    ]  # fmt: skip


def _nearest(against: HeldOut, count: int) -> Tensor:
    """Images of different runs' pairs whose correlations are nearest to the first target's."""
    curves = against.condition["two_point"]
    order = (curves - curves[:1]).square().mean(1).argsort()
    first: dict[int, int] = {}
    for row in order.tolist():
        first.setdefault(int(against.pair[row]), row)
    return against.images[list(first.values())[:count]]


def _free(
    models: Mapping[str, Model], parts: list[str], data: dict[str, Any], figures: dict[str, Figure]
) -> None:
    """Figures 6 and 7: models trained by the law alone on one target each."""
    rows, shown = [], {}
    for name, model in models.items():
        study = _study(model)
        phi, curve = study.statistics()
        condition = {"volume_fraction": phi.expand(64), "two_point": curve.expand(64, -1)}
        made = generate(model.network, condition, study.side, SEED)
        found = statistics.two_point(made[:, 0] > 0.5).float()
        error = (found - curve).square()
        part = error[:, : study.enforced].mean(1).sqrt()
        whole = error.mean(1).sqrt()
        mean_curve = float((found.mean(0) - curve[0]).square().mean().sqrt())
        minutes = float(model.manifest["training_seconds"]) / 60
        rows.append([
            name, f"0 to {study.enforced - 1}", f"{float(part.median()):.2e}",
            f"{float(part.quantile(0.95)):.2e}", f"{float(whole.median()):.2e}",
            f"{mean_curve:.2e}", f"{minutes:.1f}",
        ])  # fmt: skip
        shown[name] = (study.target_image(), made, found, curve[0], study.enforced)
        data[name] = {"enforced": study.enforced, "p2_rmse_enforced": part.tolist()}
    head = ("model", "radii in the law", "p2 RMSE there, median of 64", "95th %",
            "over all radii", "of the mean curve", "minutes")  # fmt: skip
    parts += ["## Data-free", "Trained by the law alone, on one target each, from blurred white "
              "noise; one law step in the sampler.", markdown_table(head, rows)]  # fmt: skip
    figures["figure-6"], figures["figure-7"] = single_target_figures(shown)


RECIPE = Recipe(microstructure_result, microstructure_runs)
