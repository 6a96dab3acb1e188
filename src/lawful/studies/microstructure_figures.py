"""Figures of microstructures: images beside their curves."""

from collections.abc import Mapping, Sequence
from textwrap import fill

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

from lawful.laws import Condition
from lawful.materials.statistics import RADII, two_point
from lawful.studies.microstructure_quality import HeldOut, generate

TARGET, MADE = "#d1752b", "#1f4e79"
Shown = tuple[Tensor, Tensor, Tensor, Tensor, int]


def show(axis: Axes, image: Tensor, title: str = "", colour: str = "black") -> None:
    """A binary image, phase 1 in white, in a frame of one colour."""
    axis.imshow(image.numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axis.set_title(title, fontsize=8, color=colour, pad=3)
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set_color(colour)
        spine.set_linewidth(1.5)


def curves(axis: Axes, made: np.ndarray, target: np.ndarray, title: str = "") -> None:
    """p2 of samples (thin) and of their target (dashed)."""
    r = np.arange(len(target))
    axis.plot(r, made.T, color=MADE, lw=0.5, alpha=0.35)
    axis.plot([], [], color=MADE, lw=1, label="samples")
    axis.plot(r, target, color=TARGET, lw=1.6, ls="--", label="target")
    axis.axhline(target[0] ** 2, color="0.7", lw=0.8, zorder=0)
    error = np.sqrt(np.square(made - target).mean(1))
    axis.set_title(f"{title}p2 RMSE {np.median(error):.1e} (median)", fontsize=8)
    axis.set_xlabel("r / pixels", fontsize=8)
    axis.tick_params(labelsize=7)
    axis.spines[["top", "right"]].set_visible(False)


def targets_figure(fields: Tensor, condition: Condition, shown: int = 4) -> Figure:
    """The first few targets, each beside the curves of all samples that have it."""
    targets, which = condition["two_point"].unique(dim=0, return_inverse=True)
    first = list(dict.fromkeys(which.tolist()))[:shown]
    figure = Figure(figsize=(3.0 * len(first), 2.6), layout="constrained")
    axes = figure.subplots(1, len(first), squeeze=False)[0]
    for axis, number in zip(axes, first, strict=True):
        made = fields[which == number, 0] > 0.5
        curves(axis, two_point(made, RADII).numpy(), targets[number].numpy())
    axes[0].legend(fontsize=7, frameon=False)
    return figure


def fixed_moments_figure(network: nn.Module, against: HeldOut, targets: int = 3) -> Figure:
    """Figure 4: several samples of the same moments; the first image of a row is the real one."""
    figure = Figure(figsize=(10.6, 1.55 * targets), layout="constrained")
    axes = figure.subplots(targets, 8, width_ratios=[1] * 7 + [1.4])
    order = against.condition["volume_fraction"].argsort()
    chosen = order[torch.linspace(0.1, 0.9, targets).mul(len(order) - 1).long()]
    for row, index in enumerate(chosen.tolist()):
        one = {n: v[index].expand(32, *v.shape[1:]) for n, v in against.condition.items()}
        made = generate(network, one, against.images.shape[-1], 60_000 + row)[:, 0]
        show(axes[row, 0], against.images[index], "held-out image" if not row else "", TARGET)
        for column in range(1, 7):
            title = "samples" if column == 1 and not row else ""
            show(axes[row, column], made[column - 1], title, MADE)
        target = against.condition["two_point"][index].numpy()
        curves(axes[row, 7], two_point(made > 0.5, RADII).numpy(), target)
    axes[0, 7].legend(fontsize=7, frameon=False)
    return figure


def curves_figure(made: Tensor, against: HeldOut) -> Figure:
    """Figure 5: volume fractions asked for and found, and four targets' curves."""
    figure = Figure(figsize=(11, 2.8), layout="constrained")
    first, *rest = figure.subplots(1, 5)
    asked = against.condition["volume_fraction"].numpy()
    found = made.mean((1, 2, 3)).numpy()
    bins = np.linspace(asked.min() - 0.01, asked.max() + 0.01, 25)
    first.hist(asked, bins, color=TARGET, alpha=0.9, label="targets")
    first.hist(found, bins, histtype="step", color=MADE, lw=1.5, label="samples")
    first.set_xlabel("volume fraction p1", fontsize=8)
    first.tick_params(labelsize=7)
    first.set_ylim(top=1.3 * first.get_ylim()[1])
    first.legend(fontsize=7, frameon=False)
    order = asked.argsort()
    places = np.linspace(0.05, 0.95, 4) * (len(order) - 1)
    for axis, index in zip(rest, order[places.astype(int)], strict=True):
        target = against.condition["two_point"][index].numpy()
        curves(axis, two_point(made[index] > 0.5, RADII).numpy(), target,
               f"p1 {asked[index]:.3f}\n")  # fmt: skip
    rest[0].legend(fontsize=7, frameon=False)
    return figure


def morphology_figure(made: Mapping[str, Tensor], against: HeldOut) -> Figure:
    """Droplets, in-between and spinodal targets: the image, then a sample of every way."""
    ways = ["generator, raw", *(w for w in made if w != "generator, raw")]
    groups = {g: m[m < min(len(x) for x in made.values())] for g, m in against.groups().items()}
    rows = [(group, int(i)) for group, members in groups.items() for i in members[:2]]
    figure = Figure(figsize=(1.55 * (len(ways) + 1), 1.62 * len(rows) + 0.3), layout="constrained")
    axes = figure.subplots(len(rows), len(ways) + 1, squeeze=False)
    for number, (line, (group, index)) in enumerate(zip(axes, rows, strict=True)):
        first = number == 0
        show(line[0], against.images[index], "held-out image" if first else "", TARGET)
        line[0].set_ylabel(group, fontsize=8)
        for axis, way in zip(line[1:], ways, strict=True):
            show(axis, made[way][index, 0], fill(way, 22) if first else "", MADE)
    return figure


def single_target_figures(shown: Mapping[str, Shown]) -> tuple[Figure, Figure]:
    """Figures 6 and 7: samples of models of one target each, and their curves."""
    pictures = Figure(figsize=(9.6, 1.75 * len(shown)), layout="constrained")
    lines = pictures.subplots(len(shown), 6, squeeze=False)
    plots = Figure(figsize=(3.5 * len(shown), 2.8), layout="constrained")
    axes = plots.subplots(1, len(shown), squeeze=False)[0]
    for line, axis, (name, entry) in zip(lines, axes, shown.items(), strict=True):
        target, made, found, curve, enforced = entry
        show(line[0], target, "target", TARGET)
        line[0].set_ylabel(name, fontsize=8)
        for place, sample in zip(line[1:], made, strict=False):
            show(place, sample[0], "", MADE)
        curves(axis, found.numpy(), curve.numpy(), f"{name}: ")
        if enforced < len(curve):
            axis.axvspan(0, enforced - 1, color="0.92", zorder=0, label="in the law")
    axes[0].legend(fontsize=7, frameon=False)
    return pictures, plots


def like_figure(images: Sequence[tuple[str, Tensor, Tensor, Tensor]], *, crop: int = 128) -> Figure:
    """A row a picture: a part of it, samples like it at the same scale, and both curves.

    Arguments:
        images: Title, picture, samples `(batch, 1, N, N)`, and the target's curve.
        crop: Pixels a side that are shown.
    """
    figure = Figure(figsize=(9.4, 2.0 * len(images)), layout="constrained")
    axes = figure.subplots(len(images), 4, width_ratios=[1, 1, 1, 1.35], squeeze=False)
    for line, (title, picture, samples, curve) in zip(axes, images, strict=True):
        show(line[0], picture[:crop, :crop].float(), title, TARGET)
        for axis, sample in zip(line[1:3], samples, strict=False):
            show(axis, sample[0, :crop, :crop], "", MADE)
        found = two_point(samples[:, 0] > 0.5, RADII).numpy()
        curves(line[3], found, curve.numpy())
    axes[0, 1].set_title("samples like it", fontsize=8, color=MADE, pad=3)
    axes[0, 3].legend(fontsize=7, frameon=False)
    return figure
