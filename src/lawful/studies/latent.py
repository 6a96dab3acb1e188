"""What generators of images share: latent vectors, batches, samples, distances, pictures."""

from collections.abc import Callable, Mapping, Sequence
from math import inf
from statistics import fmean

import torch
from jaxtyping import Float, Int
from matplotlib.figure import Figure
from skimage.util import montage
from torch import Tensor, nn

from lawful.laws import Condition
from lawful.model import Model
from lawful.run import history
from lawful.study import Quantity
from lawful.training import Batch
from lawful.weights import device_of

SEED, CHUNK = 40_000, 250
Curve = Sequence[Mapping[str, float]]


def latent_quantity(size: int) -> Quantity:
    """A standard normal vector of `size` entries, the condition `noise`."""
    return Quantity("noise", -inf, inf, shape=(size,), distribution="normal", about="latent vector")


def latent_vectors(count: int, size: int, seed: int = SEED) -> Float[Tensor, "count size"]:
    """Latent vectors drawn with a seed of their own."""
    return torch.randn(count, size, generator=torch.Generator().manual_seed(seed))


def draws(
    data: Float[Tensor, "n *shape"],
    batch: int,
    latent: int,
    labels: Int[Tensor, " n"] | None = None,
) -> Callable[[torch.Generator], Batch]:
    """Draws of a batch of data, with replacement, each with a latent vector.

    Arguments:
        latent: Entries of the latent vector.
        labels: Labels, drawn with the data as the condition `label`; none where not given.
    """

    def draw(generator: torch.Generator) -> Batch:
        rows = torch.randint(len(data), (batch,), generator=generator)
        condition = {"noise": torch.randn(batch, latent, generator=generator)}
        if labels is not None:
            condition["label"] = labels[rows]
        return Batch(condition, data[rows])

    return draw


@torch.no_grad()
def generate(network: nn.Module, condition: Condition) -> Float[Tensor, "n *shape"]:
    """Samples of a condition on the processor, computed part by part on the network's device."""
    device, count = device_of(network), len(condition["noise"])
    parts = [
        {name: value[first : first + CHUNK].to(device) for name, value in condition.items()}
        for first in range(0, count, CHUNK)
    ]
    return torch.cat([network(part).cpu() for part in parts])


def sheets_figure(sheets: Mapping[str, Float[Tensor, "_ channel h w"]], columns: int) -> Figure:
    """Sheets of images, read row by row, under their titles; at most three side by side."""
    tiles = {}
    for title, images in sheets.items():
        rows = len(images) // columns
        shown = images[: rows * columns].movedim(1, 3).numpy()
        tiles[title] = montage(shown, grid_shape=(rows, columns), channel_axis=3)
    across = min(3, len(sheets))
    down = -(-len(sheets) // across)
    high, wide, _ = next(iter(tiles.values())).shape
    size = (2.9 * across, (2.9 * high / wide + 0.2) * down)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(down, across, squeeze=False).flatten()
    for axis in axes:
        axis.axis("off")
    for axis, (title, tile) in zip(axes, tiles.items(), strict=False):
        axis.imshow(tile, cmap="gray", vmin=0, vmax=1)
        axis.set_title(title, loc="left", fontsize=7, pad=2)
    return figure


def curve(model: Model, name: str, mean: int = 1) -> Curve:
    """An entry of a run's history: `step`, `seconds`, `value`; empty where it is not there.

    Arguments:
        mean: Entries that a value is the mean of, itself the last.
    """
    rows = [row for row in history(model.folder) if name in row] if model.folder else []
    values = [row[name] for row in rows]
    means = (fmean(values[max(0, k - mean) : k]) for k in range(1, len(rows) + 1))
    return [
        {"step": row["step"], "seconds": row["seconds"], "value": value}
        for row, value in zip(rows, means, strict=True)
    ]


def curves_figure(curves: Mapping[str, Sequence[Curve]], words: str) -> Figure:
    """A figure against steps and minutes of training: a line per run, a colour per label."""
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for number, (label, runs) in enumerate(curves.items()):
        for k, run in enumerate(runs):
            for axis, place, unit in zip(axes, ("step", "seconds"), (1, 60), strict=True):
                x, y = [p[place] / unit for p in run], [p["value"] for p in run]
                axis.plot(x, y, label="" if k else label, color=f"C{number % 10}", lw=1)
    values = [point["value"] for runs in curves.values() for run in runs for point in run]
    for axis, title in zip(axes, ("steps", "minutes"), strict=True):
        axis.set_xlabel(title)
        if min(values) > 0:
            axis.set_yscale("log")
            axis.yaxis.set_major_formatter("{x:g}")
            axis.yaxis.set_minor_formatter("{x:g}")
        elif most := max(map(abs, values)):  # logarithmic, but linear around 0
            axis.set_yscale("symlog", linthresh=most / 100)
    axes[0].set_ylabel(words)
    axes[0].legend(fontsize=6)
    return figure
