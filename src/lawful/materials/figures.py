"""Figures of two-phase images: the image, its curves, and samples beside their targets."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from lawful.laws import Condition
from lawful.materials.statistics import two_point

SHOWN = 2048  # pixels a side of an image that is drawn; of larger ones every second, third, …
COLOURS = {"all directions": "#1f4e79", "down": "#d1752b", "across": "#4f9a5b"}
TARGET, MADE = "#d1752b", "#1f4e79"


def statistics_figure(
    image: Bool[np.ndarray, "rows columns"],
    distance: Float[np.ndarray, " radius"],
    correlations: Mapping[str, Float[np.ndarray, " radius"]],
    lineal_path: Float[np.ndarray, " radius"],
    *,
    unit: str = "pixels",
) -> Figure:
    """The indicator (phase in white), its two-point correlations and its lineal path.

    Arguments:
        distance: Of each entry of the curves, in `unit`.
        correlations: Curves of `all directions`, `down` and `across`.
    """
    rows, columns = image.shape
    width = float(np.clip(3.4 * columns / rows, 2.0, 6.0))
    figure = Figure(figsize=(width + 7.6, 3.6), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=[width, 3.6, 3.6])
    p1, step = float(image.mean()), 1 + max(rows, columns) // SHOWN
    show(left, image[::step, ::step])
    left.set_title(f"phase (white): {100 * p1:.1f} %", fontsize=10)
    for name, curve in correlations.items():
        width = 1.8 if name == "all directions" else 1.0
        middle.plot(distance, curve, color=COLOURS[name], lw=width, label=name)
    middle.axhline(p1**2, color="0.6", lw=0.9, ls="--", label="p1²", zorder=0)
    middle.set_title("two-point correlation p2", fontsize=10)
    middle.legend(frameon=False, fontsize=8)
    some = lineal_path > 0  # on a logarithmic scale independent chords make a straight line
    right.semilogy(distance[some], lineal_path[some], color=COLOURS["all directions"], lw=1.8)
    right.set_title("lineal path", fontsize=10)
    for axis in (middle, right):
        axis.set_xlabel(f"distance / {unit}")
        axis.set_xlim(0, float(distance[-1]) or 1.0)
        axis.spines[["top", "right"]].set_visible(False)
    return figure


def show(
    axis: Axes,
    image: Tensor | np.ndarray,
    title: str = "",
    colour: str = "black",
    frame: float = 0.8,
) -> None:
    """A binary image, phase 1 in white, in a frame of one colour."""
    axis.imshow(np.asarray(image), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axis.set_title(title, fontsize=8, color=colour, pad=3)
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set_color(colour)
        spine.set_linewidth(frame)


def pictures(
    rows: Sequence[Sequence[Tensor]],
    titles: Sequence[str] = (),
    labels: Sequence[str] = (),
    beside: Sequence[tuple[Tensor, Tensor]] = (),
) -> Figure:
    """Rows of binary images, the first of each a target and the others samples.

    Arguments:
        titles: Of the first columns.
        labels: Of the rows.
        beside: For each row samples, and the target that their curves are drawn with.
    """
    columns = len(rows[0])
    widths = [1.0] * columns + [1.4] * bool(beside)
    figure = Figure(figsize=(1.55 * sum(widths), 1.62 * len(rows) + 0.3), layout="constrained")
    axes = figure.subplots(len(rows), len(widths), squeeze=False, width_ratios=widths)
    for number, (line, images) in enumerate(zip(axes, rows, strict=True)):
        for place, image in enumerate(images):
            title = "" if number or place >= len(titles) else titles[place]
            show(line[place], image, title, MADE if place else TARGET, 1.5)
        if labels:
            line[0].set_ylabel(labels[number], fontsize=8)
        if beside:
            curves(line[-1], *beside[number])
    if beside:
        axes[0, -1].legend(fontsize=7, frameon=False)
    return figure


def curves(axis: Axes, samples: Tensor, target: Tensor, title: str = "") -> None:
    """p2 of binary samples (thin) and of their target (dashed)."""
    made = two_point(samples > 0.5, len(target)).numpy()
    axis.plot(made.T, color=MADE, lw=0.5, alpha=0.35)
    axis.plot([], [], color=MADE, lw=1, label="samples")
    axis.plot(target, color=TARGET, lw=1.6, ls="--", label="target")
    axis.axhline(float(target[0]) ** 2, color="0.7", lw=0.8, zorder=0)
    error = np.sqrt(np.square(made - target.numpy()).mean(1))
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
        curves(axis, fields[which == number, 0], targets[number])
    axes[0].legend(fontsize=7, frameon=False)
    return figure
