"""A two-phase image beside the curves that describe it."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

SHOWN = 2048  # pixels a side of the image that is drawn; of larger ones every second, third, …
COLOURS = {"all directions": "#1f4e79", "down": "#d1752b", "across": "#4f9a5b"}


def statistics_figure(
    image: Bool[np.ndarray, "rows columns"],
    distance: Float[np.ndarray, " radius"],
    two_point: Mapping[str, Float[np.ndarray, " radius"]],
    lineal_path: Float[np.ndarray, " radius"],
    *,
    unit: str = "pixels",
) -> Figure:
    """The indicator (phase in white), its two-point correlations and its lineal path.

    Arguments:
        distance: Of each entry of the curves, in `unit`.
        two_point: Curves of `all directions`, `down` and `across`.
    """
    rows, columns = image.shape
    width = float(np.clip(3.4 * columns / rows, 2.0, 6.0))
    figure = Figure(figsize=(width + 7.6, 3.6), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=[width, 3.6, 3.6])
    p1 = float(image.mean())
    step = 1 + max(rows, columns) // SHOWN
    left.imshow(image[::step, ::step], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    left.set_title(f"phase (white): {100 * p1:.1f} %", fontsize=10)
    left.set_xticks([])
    left.set_yticks([])
    _two_point(middle, distance, two_point, p1)
    _lineal_path(right, distance, lineal_path)
    for axis in (middle, right):
        axis.set_xlabel(f"distance / {unit}")
        axis.set_xlim(0, float(distance[-1]) or 1.0)
        axis.spines[["top", "right"]].set_visible(False)
    return figure


def _two_point(
    axis: Axes, distance: np.ndarray, curves: Mapping[str, np.ndarray], p1: float
) -> None:
    for name, curve in curves.items():
        axis.plot(distance, curve, color=COLOURS[name], lw=1.8 if name == "all directions" else 1.0,
                  label=name)  # fmt: skip
    axis.axhline(p1**2, color="0.6", lw=0.9, ls="--", label="p1²", zorder=0)
    axis.set_title("two-point correlation p2", fontsize=10)
    axis.legend(frameon=False, fontsize=8)


def _lineal_path(axis: Axes, distance: np.ndarray, curve: np.ndarray) -> None:
    """On a logarithmic scale, where independent chords make a straight line."""
    some = curve > 0
    axis.semilogy(distance[some], curve[some], color=COLOURS["all directions"], lw=1.8)
    axis.set_title("lineal path", fontsize=10)
