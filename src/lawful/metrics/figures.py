"""Figures of fields, alone or beside their reference.

A field has channels over one, two or three axes of space. It is shown channel by channel: on a line
as a curve, in the plane as an image, in space as three cuts through its middle.
"""

from collections.abc import Sequence
from math import ceil, sqrt
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from lawful.metrics.report import relative_error

PANELS, COLUMNS = 64, 12  # most of a montage, most of a comparison
Places = tuple[str, np.ndarray]


def montage_figure(
    fields: Float[Tensor, "batch channel *space"], *, images: bool = False
) -> Figure:
    """Fields on a grid as square as can be, each channel on one scale; at most 64 panels.

    Arguments:
        images: The fields are pictures: first row on top, grey, or RGB where they have three
            channels; else the first row is the bottom.
    """
    coloured = images and fields.ndim == 4 and fields.shape[1] == 3
    views = [(0, -1)] if coloured else _views(fields)
    fields = fields[: max(1, PANELS // len(views))]
    columns = len(views) * ceil(sqrt(len(fields) / len(views)))
    rows = ceil(len(fields) * len(views) / columns)
    size = 0.8 if images else 1.3
    figure = Figure(figsize=(size * columns, size * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    limits = [_limits(fields[:, channel]) for channel in range(fields.shape[1])]
    for axis in axes:
        axis.axis("off")
    panels = [(field, *view) for field in fields for view in views]
    for axis, (field, channel, cut) in zip(axes, panels, strict=False):
        shown = field.movedim(0, 2).clamp(0, 1) if coloured else _view(field, channel, cut)
        _draw(axis, shown, limits[channel], "gray" if images else "viridis", upper=images)
    return figure


def comparison_figure(
    fields: Float[Tensor, "batch channel *space"],
    reference: Float[Tensor, "batch channel *space"],
    titles: Sequence[str],
    places: Sequence[Places],
) -> Figure:
    """Rows: generated, numerical, difference; a column a sample, or several for what it shows.

    Arguments:
        places: For each axis of space its label and the places of the cells' centres; the first row
            of a field is the bottom.
    """
    views = _views(fields)
    count = min(len(titles), max(1, COLUMNS // len(views)))
    panels = [(number, cut) for number in range(count) for c, cut in views if c == 0]
    channels, width = fields.shape[1], len(panels)
    figure = Figure(figsize=(2.1 * channels * width + 1.0, 6.2), layout="constrained")
    axes = figure.subplots(3, channels * width, squeeze=False)
    shown = {"generated": fields.double(), "numerical": reference.double()}
    shown["difference"] = shown["generated"] - shown["numerical"]
    error = relative_error(fields, reference)
    for channel in range(channels):
        own = axes[:, channel * width : (channel + 1) * width]
        low, high = _limits(torch.cat([fields[:, channel], reference[:, channel].to(fields)]))
        most = 0.2 * max(abs(low), abs(high)) or 1.0
        for row, (kind, values) in zip(own, shown.items(), strict=True):
            limits = (-most, most) if kind == "difference" else (min(low, 0.0), high)
            colours = "RdBu_r" if kind == "difference" else "viridis"
            drawn = [
                _draw(axis, _view(values[number], channel, cut), limits, colours,
                      places=[place for i, place in enumerate(places) if i != cut], kind=kind)
                for axis, (number, cut) in zip(row, panels, strict=True)
            ]  # fmt: skip
            if fields.ndim > 3:
                figure.colorbar(drawn[0], ax=list(row), shrink=0.9, pad=0.01)
        for axis, (number, cut) in zip(own[0], panels, strict=True):
            words = [titles[number], f"error {float(error[number]):.4f}"]
            words += [f"channel {channel}"] if channels > 1 else []
            words += [f"across {places[cut][0]}"] if cut >= 0 else []
            axis.set_title("\n".join(words), fontsize=9)
    return figure


def _views(fields: Tensor) -> list[tuple[int, int]]:
    """What is shown of a field: a channel, and the axis that a middle cut is across, else -1."""
    cuts = (0, 1, 2) if fields.ndim == 5 else (-1,)
    return [(channel, cut) for channel in range(fields.shape[1]) for cut in cuts]


def _view(field: Tensor, channel: int, cut: int) -> Tensor:
    values = field[channel]
    return values if cut < 0 else values.select(cut, values.shape[cut] // 2)


def _limits(values: Tensor) -> tuple[float, float]:
    """Least and largest of the finite values."""
    finite = values[values.isfinite()]
    return (float(finite.min()), float(finite.max())) if finite.numel() else (0.0, 1.0)


def _draw(
    axis: Axes,
    values: Tensor,
    limits: tuple[float, float],
    colours: str,
    *,
    upper: bool = False,
    places: Sequence[Places] = (),
    kind: str = "",
) -> Any:
    """A curve or an image, with labels where it has places; returns what a colour bar needs."""
    low, high = limits
    if places:
        axis.set_xlabel(places[-1][0])
        axis.set_ylabel("\n".join([kind, *(label for label, _ in places[:-1])]))
        axis.label_outer()
    if values.ndim == 1:
        along = places[0][1] if places else np.arange(len(values))
        margin = 0.05 * (high - low) or 1.0
        axis.set_ylim(low - margin, high + margin)
        return axis.plot(along, values.numpy(), lw=1, marker="." if len(values) == 1 else "")
    return axis.imshow(
        values.numpy(), origin="upper" if upper else "lower", cmap=colours, vmin=low, vmax=high,
        extent=(*_ends(places[1][1]), *_ends(places[0][1])) if places else None,
        aspect="auto" if places else "equal", interpolation="nearest",
    )  # fmt: skip


def _ends(places: np.ndarray) -> tuple[float, float]:
    """Where the first cell begins and the last ends."""
    half = float(np.ptp(places)) / max(len(places) - 1, 1) / 2 or 0.5
    return float(places[0]) - half, float(places[-1]) + half


def scatter_figure(error: Float[Tensor, " batch"], estimate: Float[Tensor, " batch"]) -> Figure:
    """Estimated against true error, a point a sample; those without a logarithm are left out."""
    figure = Figure(figsize=(4.2, 3.8), layout="constrained")
    axes = figure.subplots()
    pairs = torch.stack([error.double(), estimate[: len(error)].double()])
    pairs = pairs[:, (pairs.isfinite() & (pairs > 0)).all(0)]
    axes.loglog(*pairs.numpy(), "o", ms=4, alpha=0.7)
    if pairs.numel():
        ends = [float(pairs.min()) * 0.8, float(pairs.max()) * 1.2]
        axes.plot(ends, ends, color="0.5", lw=1)
    axes.tick_params(axis="x", which="both", labelrotation=45)  # labels within a decade are long
    axes.set_xlabel("true relative error")
    axes.set_ylabel("estimated, without a reference")
    return figure
