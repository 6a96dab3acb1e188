"""Figures of fields beside their reference."""

from collections.abc import Mapping, Sequence
from math import ceil, sqrt

import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from lawful.evaluation.report import relative_error


def montage_figure(fields: Float[Tensor, "batch channel h w"], *, images: bool = False) -> Figure:
    """Fields on a grid as square as can be: of each the first channel, on one colour scale.

    Arguments:
        images: The fields are pictures: first row on top, grey, or RGB where they have three
            channels; else the first row is the bottom.
    """
    columns = ceil(sqrt(len(fields)))
    rows = ceil(len(fields) / columns)
    size = 0.8 if images else 1.3
    figure = Figure(figsize=(size * columns, size * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    low, high = float(fields[:, 0].min()), float(fields[:, 0].max())
    place, colours = ("upper", "gray") if images else ("lower", "viridis")
    for axis in axes:
        axis.axis("off")
    coloured = images and fields.shape[1] == 3
    for axis, field in zip(axes, fields, strict=False):
        shown = field.movedim(0, 2).clamp(0, 1) if coloured else field[0]
        axis.imshow(
            shown.numpy(), origin=place, cmap=colours, vmin=low, vmax=high, interpolation="nearest"
        )
    return figure


def comparison_figure(
    fields: Float[Tensor, "batch channel h w"],
    reference: Float[Tensor, "batch channel h w"],
    titles: Sequence[str],
    *,
    extent: tuple[float, float, float, float] = (0, 1, 0, 1),
    labels: tuple[str, str] = ("", ""),
) -> Figure:
    """Rows: generated, numerical, difference; a column a sample.

    Arguments:
        extent: Left, right, bottom and top of the fields; the first row of a field is the bottom.
        labels: Names of the horizontal and the vertical coordinate.
    """
    figure = Figure(figsize=(2.1 * len(titles) + 1.0, 6.2), layout="constrained")
    axes = figure.subplots(3, len(titles), squeeze=False, sharex=True, sharey=True)
    error = relative_error(fields, reference)
    both = torch.cat([fields.double(), reference.double()])
    low, high = min(float(both.min()), 0.0), float(both.max())
    kinds = (("generated", "viridis", low, high), ("numerical", "viridis", low, high),
             ("difference", "RdBu_r", -0.2 * high, 0.2 * high))  # fmt: skip
    for column, title in enumerate(titles):
        ours, truth = fields[column, 0].double(), reference[column, 0].double()
        axes[0, column].set_title(f"{title}\nerror {float(error[column]):.4f}", fontsize=9)
        axes[2, column].set_xlabel(labels[0])
        images = [
            axes[row, column].imshow(
                field.numpy(), origin="lower", extent=extent, aspect="auto", cmap=colours,
                vmin=bottom, vmax=top, interpolation="nearest",
            )
            for row, (field, (_, colours, bottom, top)) in enumerate(
                zip((ours, truth, ours - truth), kinds, strict=True)
            )
        ]  # fmt: skip
    for row, (name, *_) in enumerate(kinds):
        axes[row, 0].set_ylabel(f"{name}\n{labels[1]}")
        figure.colorbar(images[row], ax=axes[row, :], shrink=0.9, pad=0.01)
    return figure


def scatter_figure(error: Float[Tensor, " batch"], estimate: Float[Tensor, " batch"]) -> Figure:
    """Estimated against true error, a point a sample."""
    figure = Figure(figsize=(4.2, 3.8), layout="constrained")
    axes = figure.subplots()
    axes.loglog(error.numpy(), estimate[: len(error)].numpy(), "o", ms=4, alpha=0.7)
    both = torch.cat([error.double(), estimate.double()])
    ends = [float(both.min()) * 0.8, float(both.max()) * 1.2]
    axes.plot(ends, ends, color="0.5", lw=1)
    axes.set_xlabel("true relative error")
    axes.set_ylabel("estimated, without a reference")
    return figure


def strips_figure(strips: Mapping[str, Float[Tensor, "_ 1 h w"]]) -> Figure:
    """Rows of pictures in grey, a title over each."""
    count = max(len(images) for images in strips.values())
    figure = Figure(figsize=(0.5 * count + 0.2, 0.72 * len(strips) + 0.2), layout="constrained")
    axes = figure.subplots(len(strips), 1, squeeze=False)[:, 0]
    for axis, (title, images) in zip(axes, strips.items(), strict=True):
        axis.imshow(torch.cat(list(images[:, 0]), 1).numpy(), cmap="gray", vmin=0, vmax=1)
        axis.set_title(title, loc="left", fontsize=7, pad=2)
        axis.axis("off")
    return figure
