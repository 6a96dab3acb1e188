r"""Figures 4 to 7 of InvNet, and what a trained generator of microstructures adds.

Models that were trained on images are held against held-out images, beside the same code without a
network and direct optimisation; models trained by the law alone, against their one target.

`optimise_from_noise` is direct optimisation (as Seibert, Ambati, Raßloff & Kästner, Computational
Materials Science 2021, who optimise grey pixels; here a smooth field, which is stronger):

.. math::
    \min_u \sum_r \bigl(p_2[\chi](r) - p_2^*(r)\bigr)^2,\qquad
    \chi = \sigma(\beta\, k * u)

with k a Gaussian kernel and :math:`\sigma` a sigmoid. The level is 0 and stays there: since
:math:`p_2^*(0) = \phi`, the volume fraction is among what is fitted. The optimised field is then
cut at the level of exactly round(phi N) pixels.

`blurred_field` is what the network starts from. With `project_latent` it is the study's own
refinement without a network, `unlearned` the sampler's law steps. What they leave to be gained is
what training is for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from textwrap import fill
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from scipy.optimize import minimize
from torch import Tensor, nn

from lawful.laws import Condition
from lawful.materials.compare import Figures, chosen, groups, likeness
from lawful.materials.dataset import PER_IMAGE, Microstructures, one_thread, open_set, small
from lawful.materials.fields import blur_transfer, level_cut
from lawful.materials.figures import MADE, TARGET, curves, pictures
from lawful.materials.network import (
    BLUR,
    DAMPING,
    MicrostructureSampler,
    project_latent,
    spectral_field,
    target_of,
)
from lawful.materials.statistics import Radial, Samples, mean_pairwise_overlap, minority, two_point
from lawful.model import Model
from lawful.project import Projected, unrolled
from lawful.studies.microstructure import MicrostructureStudy, generate, noise, own
from lawful.study import Study
from lawful.table import Column, Recipe, Record, Result, checked, markdown_table, table

TOLERANCE = 1e-3
TARGETS, ALIKE, FRESH = 256, 1_000, 1_600
SEED = 50_000
SIGMOID = 10.0  # beta, in inverse standard deviations of the first field
SCALE = 1e6  # of the objective of direct optimisation, for single precision
RAW = "generator, raw"
FREE: Mapping[str, Mapping[str, Any]] = {
    "a": {"target": "held-out 3"},
    "b": {"target": "held-out 9"},
    "c": {"target": "held-out 9", "enforced": 8},
}


def _p95(values: Sequence[float]) -> float:
    return float(np.quantile(values, 0.95))


def _within(values: Sequence[float]) -> float:
    return fmean(value <= TOLERANCE for value in values)


ACCURACY = {
    "samples": Column("p2_rmse", "d", of=len),
    "p1 error × N², worst": Column("p1_pixels", ".2f", of=max),
    "p2 RMSE, median": Column("p2_rmse", ".2e"),
    "95th %": Column("p2_rmse", ".2e", of=_p95),
    "worst": Column("p2_rmse", ".2e", of=max),
    "within 1e-3": Column("p2_rmse", ".1%", of=_within),
    "steps": Column("iterations", ".1f", of=fmean),
    "exchanges": Column("exchanges", ".1f", of=fmean),
    "moved": Column("displacement", ".1%", of=fmean),
}
MORPHOLOGY = {
    "samples": Column("p2_rmse", "d", of=len),
    "surface / image's": Column("surface", ".3f"),
    "p2 RMSE": Column("p2_rmse", ".2e"),
    "lineal-path RMSE": Column("lineal_path_rmse", ".2e"),
    "components": Column("components", ".1f", of=fmean),
    "image's": Column("expected", ".1f", of=fmean),
    "difference in components": Column("difference", ".1f", of=fmean),
}
FREE_COLUMNS = {
    "radii in the law": Column("radii", "s"),
    "p2 RMSE there, median of 64": Column("enforced", ".2e"),
    "95th %": Column("enforced", ".2e", of=_p95),
    "over all radii": Column("whole", ".2e"),
    "of the mean curve": Column("mean_curve", ".2e"),
    "minutes": Column("minutes", ".1f"),
}


def microstructure_runs(study: Study, preset: str) -> Mapping[str, Study]:
    """The preset; for one without data, the three models of figures 6 and 7; for `full`, both."""
    study = checked(study, MicrostructureStudy)
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
    for name in models.keys() - alone.keys():
        against, replicates = chosen(targets_of(_study(models[name]).data), TARGETS)
        made, done = _samples(models[name], against)
        natural = {} if replicates is None else {"another simulation": replicates[:, None]}
        data[name] = records(made | natural, done, against)
        count = len(against.images)
        words = f"{count} targets with volume fractions in [0.3, 0.7], of {against.source}."
        parts += [f"## {name}", words, *_tables(models[name], data[name], against)]
        figures["figure-4"] = _fixed_moments_figure(models[name].network, against)
        figures["figure-5"] = _curves_figure(made[RAW], against)
        figures["morphology"] = _morphology_figure(made, against)
    if alone:
        samples = {name: (_study(model), free_samples(model)) for name, model in alone.items()}
        data["data-free"] = [
            row for name, (study, made) in samples.items()
            for row in _free(name, study, made, alone[name].manifest)
        ]  # fmt: skip
        parts += ["## Data-free", table(data["data-free"], FREE_COLUMNS, "model")]
        figures["figure-6"], figures["figure-7"] = _single_target_figures(samples)
    title = "Two-phase microstructures (InvNet, figures 4 to 7)"
    return Result(title, "\n\n".join(parts), data, figures)


def targets_of(data: str) -> Microstructures:
    """Images that a model trained on `data` has not seen.

    Of the project's own set, images of another seed: neither trained on nor looked at before.
    """
    if data != "cahn-hilliard":
        found = open_set(data)[1]
        return replace(found, source=f"what is held out of {found.source}")
    parts = small(FRESH, seed=1)
    both: dict[str, Any] = {n: torch.cat([getattr(p, n) for p in parts]) for n in PER_IMAGE}
    return replace(parts[0], **both, source=f"{parts[0].source} (trained on seed 0)")


def _study(model: Model) -> MicrostructureStudy:
    return checked(model.study, MicrostructureStudy)


def _samples(
    model: Model, against: Microstructures
) -> tuple[dict[str, Tensor], dict[str, Projected]]:
    """Samples of the held-out targets by every way, and what refinement did."""
    study, network = _study(model), own(model.network)
    condition = {**against.statistics, "noise": noise(len(against.images), study.side, SEED)}
    with torch.no_grad():
        blurred, bare = blurred_field(condition), unlearned(network, condition)
    done = {
        f"generator, refined to {TOLERANCE:g}": study.project(network, condition, TOLERANCE),
        f"blurred field, refined to {TOLERANCE:g}": project_latent(blurred, condition, TOLERANCE),
    }
    made = {
        RAW: generate(network, against.statistics, study.side, SEED),
        **{way: refined.fields for way, refined in done.items()},
        "blurred field": level_cut(blurred, condition["volume_fraction"]),
        "blurred field, the sampler's law steps": bare,
        "L-BFGS from noise": optimise_from_noise(condition),
    }
    return made, done


def optimise_from_noise(condition: Condition, iterations: int = 100) -> Samples:
    """Binary images by L-BFGS (Liu & Nocedal 1989), a sample at a time, from white noise.

    Arguments:
        iterations: Of L-BFGS at most, each of one or more evaluations.
    """
    with one_thread(), torch.enable_grad():  # a sample at a time: a second thread only waits
        pairs = zip(condition["two_point"], condition["noise"], strict=True)
        fields = [_optimised(curve, start, iterations) for curve, start in pairs]
    return level_cut(torch.stack(fields).unsqueeze(1), condition["volume_fraction"])


def _optimised(
    target: Radial, start: Float[Tensor, "rows columns"], iterations: int
) -> Float[Tensor, "rows columns"]:
    """The field of one sample."""
    size = start.shape
    kernel = blur_transfer(tuple(size), BLUR).to(start)

    def field(u: Tensor) -> Tensor:
        return torch.fft.irfft2(torch.fft.rfft2(u) * kernel, s=size)

    def objective(values: np.ndarray) -> tuple[float, np.ndarray]:
        u = torch.from_numpy(values).to(start).view(size).requires_grad_()
        soft = torch.sigmoid(SIGMOID * field(u))
        loss = SCALE * (two_point(soft, len(target)) - target).square().mean()
        (slope,) = torch.autograd.grad(loss, u)
        return float(loss.detach()), slope.double().numpy().ravel()

    first = start / field(start).square().mean().sqrt()
    limits = {"maxiter": iterations, "ftol": 0.0, "gtol": 0.0}
    found = minimize(
        objective, first.double().numpy().ravel(), jac=True, method="L-BFGS-B", options=limits
    )
    return field(torch.from_numpy(found.x).to(start).view(size))


def blurred_field(condition: Condition) -> Samples:
    """Noise coloured to the target's Gaussian correlation, and blurred: the network's start."""
    phi, curve, sign = minority(condition["volume_fraction"], condition["two_point"])
    field = spectral_field(condition["noise"], phi, curve)
    return (field * sign[:, None, None]).unsqueeze(1)


def unlearned(network: MicrostructureSampler, condition: Condition) -> Samples:
    """Binary images of the blurred field after the law steps of the sampler."""
    start, target = blurred_field(condition), target_of(condition)
    w = unrolled(network.problem, start, target, network.steps, DAMPING)
    return level_cut(w, condition["volume_fraction"])


def records(
    made: Mapping[str, Tensor], done: Mapping[str, Projected], against: Microstructures
) -> list[Record]:
    """A record per way and target: how sample and image compare, and what refinement did."""
    found: list[Record] = []
    for way, samples in made.items():
        figures: Figures = likeness(samples, against)
        figures["p1_pixels"] = figures["p1_error"] * against.images[0].numel()
        figures["difference"] = np.abs(figures["components"] - figures["expected"])
        if refined := done.get(way):
            for name in ("iterations", "exchanges", "displacement"):
                figures[name] = getattr(refined, name).numpy()
        rows = zip(*(values.tolist() for values in figures.values()), strict=True)
        found += [{"row": way, **dict(zip(figures, row, strict=True))} for row in rows]
    return found


def _tables(model: Model, found: Sequence[Record], against: Microstructures) -> list[str]:
    """Accuracy, morphology of every group of targets, and diversity."""
    return [
        table(found, ACCURACY, "way"),
        "Morphology. Phases are exchanged where phase 1 is the majority. Droplets: minority "
        "fraction below 0.35; spinodal: above 0.42.",
        table(morphology_records(found, against), MORPHOLOGY, "targets: samples"),
        f"Diversity: overlap of pairs after the best shift, and how many of {ALIKE:,} equal an "
        "earlier one.",
        markdown_table(("samples", "overlap, mean over pairs", "equal"),
                       _diversity(model, against)),
    ]  # fmt: skip


def morphology_records(found: Sequence[Record], against: Microstructures) -> list[Record]:
    """The records of all targets, then of each group of them."""
    count = len(against.images)  # the records of a way follow each other
    members = {"all": np.arange(count), **groups(against)}
    return [
        {**found[first + place], "row": f"{group}: {found[first]['row']}"}
        for group, places in members.items()
        for first in range(0, len(found), count)
        for place in places.tolist()
    ]


def _diversity(model: Model, against: Microstructures) -> list[list[str]]:
    """Overlap of samples of one target, and of independent simulations of like composition."""
    study, network = _study(model), own(model.network)
    many = _repeated(against, 0, ALIKE)
    few = {**_repeated(against, 0, 200), "noise": noise(200, study.side, SEED)}
    curve = against.statistics["two_point"]
    order = (curve - curve[:1]).square().mean(1).argsort()
    first: dict[int, int] = {}  # the nearest image of each pair of runs
    for row in order.tolist():
        first.setdefault(int(against.pair[row]), row)
    sets = {
        f"{RAW}, one target": generate(network, many, study.side, SEED + 1)[:, 0],
        "generator, refined, one target": study.project(network, few, TOLERANCE).fields[:, 0],
        "independent simulations, the 48 nearest in p2": against.images[list(first.values())[:48]],
    }
    return [
        [name, f"{mean_pairwise_overlap(x):.3f}", f"{len(x) - len(x.unique(dim=0))} of {len(x):,}"]
        for name, x in sets.items()
    ]


def _repeated(against: Microstructures, row: int, count: int) -> Condition:
    """The statistics of one image, as the target of many samples."""
    return {n: v[row].expand(count, *v.shape[1:]) for n, v in against.statistics.items()}


def free_samples(model: Model) -> tuple[Tensor, Tensor]:
    """The curve that is the one target of a model, and 64 raw samples of it."""
    study = _study(model)
    target = {n: v[:1].expand(64, *v.shape[1:]) for n, v in study.statistics().items()}
    made = generate(model.network, target, study.side, SEED)
    return target["two_point"][0], made[:, 0]


def _free(
    name: str,
    study: MicrostructureStudy,
    samples: tuple[Tensor, Tensor],
    manifest: Mapping[str, Any],
) -> list[Record]:
    """A record per sample of a model that was trained by the law alone on one target."""
    curve, made = samples
    error = two_point(made > 0.5).float() - curve
    part, whole = (e.square().mean(1).sqrt() for e in (error[:, : study.enforced], error))
    said = {
        "row": name, "radii": f"0 to {study.enforced - 1}",
        "minutes": float(manifest.get("training_seconds", 0)) / 60,
        "mean_curve": float(error.mean(0).square().mean().sqrt()),
    }  # fmt: skip
    pairs = zip(part.tolist(), whole.tolist(), strict=True)
    return [{**said, "enforced": e, "whole": w} for e, w in pairs]


def _fixed_moments_figure(network: nn.Module, against: Microstructures, targets: int = 3) -> Figure:
    """Figure 4: several samples of the same moments; the first image of a row is the real one."""
    order = against.statistics["volume_fraction"].argsort()
    places = order[torch.linspace(0.1, 0.9, targets).mul(len(order) - 1).long()].tolist()
    asked = [_repeated(against, index, 32) for index in places]
    side = against.images.shape[-1]
    made = [generate(network, c, side, 60_000 + row)[:, 0] for row, c in enumerate(asked)]
    rows = [[against.images[i], *x[:6]] for i, x in zip(places, made, strict=True)]
    pairs = [(x, c["two_point"][0]) for x, c in zip(made, asked, strict=True)]
    return pictures(rows, ("held-out image", "samples"), beside=pairs)


def _curves_figure(made: Tensor, against: Microstructures) -> Figure:
    """Figure 5: volume fractions asked for and found, and four targets' curves."""
    figure = Figure(figsize=(11, 2.8), layout="constrained")
    first, *rest = figure.subplots(1, 5)
    asked = against.statistics["volume_fraction"].numpy()
    bins = np.linspace(asked.min() - 0.01, asked.max() + 0.01, 25)
    first.hist(asked, bins, color=TARGET, alpha=0.9, label="targets")
    found = made.mean((1, 2, 3)).numpy()
    first.hist(found, bins, histtype="step", color=MADE, lw=1.5, label="samples")
    first.set_xlabel("volume fraction p1", fontsize=8)
    first.tick_params(labelsize=7)
    first.set_ylim(top=1.3 * first.get_ylim()[1])
    first.legend(fontsize=7, frameon=False)
    order = asked.argsort()
    places = (np.linspace(0.05, 0.95, 4) * (len(order) - 1)).astype(int)
    for axis, index in zip(rest, order[places], strict=True):
        target = against.statistics["two_point"][index]
        curves(axis, made[index], target, f"p1 {asked[index]:.3f}\n")
    rest[0].legend(fontsize=7, frameon=False)
    return figure


def _morphology_figure(made: Mapping[str, Tensor], against: Microstructures) -> Figure:
    """Droplets, in-between and spinodal targets: the image, then a sample of every way."""
    places = [(group, int(i)) for group, members in groups(against).items() for i in members[:2]]
    rows = [[against.images[i], *(way[i, 0] for way in made.values())] for _, i in places]
    titles = ("held-out image", *(fill(way, 22) for way in made))
    return pictures(rows, titles, [group for group, _ in places])


def _single_target_figures(
    models: Mapping[str, tuple[MicrostructureStudy, tuple[Tensor, Tensor]]],
) -> tuple[Figure, Figure]:
    """Figures 6 and 7: samples of models of one target each, and their curves."""
    rows = [[study.target_image(), *made[:5]] for study, (_, made) in models.values()]
    plots = Figure(figsize=(3.5 * len(models), 2.8), layout="constrained")
    axes = plots.subplots(1, len(models), squeeze=False)[0]
    for axis, (name, (study, (curve, made))) in zip(axes, models.items(), strict=True):
        curves(axis, made, curve, f"{name}: ")
        if study.enforced < len(curve):
            axis.axvspan(0, study.enforced - 1, color="0.92", zorder=0, label="in the law")
    axes[0].legend(fontsize=7, frameon=False)
    return pictures(rows, ("target", "samples"), list(models)), plots


RECIPE = Recipe(microstructure_result, microstructure_runs)
