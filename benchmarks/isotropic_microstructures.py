"""A symmetry beside a law: two-phase images whose law is isotropic, trained by statistics alone.

    python benchmarks/isotropic_microstructures.py [--steps 600] [--out runs/isotropic]

The moment law (volume fraction, radial two-point correlation) does not see a direction, so a
generator that obeys it may still prefer one. The same training without data, once with a plain
generator and once with its group mean over D4: error against the target, equivariance in the
noise, and the test of invariance on the samples' structure factor, which does see directions.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch import Tensor

from lawful.cli.train import train_with_progress
from lawful.materials import statistics
from lawful.model import Model, load
from lawful.studies.microstructure import MicrostructureStudy
from lawful.symmetry.invariance import invariance_test
from lawful.symmetry.planar import planar
from lawful.symmetry.symmetrize import equivariance_error
from lawful.table import markdown_table

COUNT, MODES, SETS = 256, 6, 9
HEAD = ("generator", "p2 error, median", "worst", "equivariance error",
        "invariance p of nine sets, median (range)", "distance over its median under invariance",
        "minutes")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--out", type=Path, default=Path("runs/isotropic"))
    options = parser.parse_args()
    rows = []
    for preset in ("data-free", "data-free-isotropic"):
        study = MicrostructureStudy.presets()[preset]
        study = replace(study, training=replace(study.training, steps=options.steps))
        train_with_progress(study, options.out / preset, resume=True)
        rows.append([preset, *row(load(options.out / preset))])
    print(markdown_table(HEAD, rows))


@torch.no_grad()
def row(model: Model) -> list[str]:
    """Figures of one model."""
    group, network = planar("D4"), model.network
    samples = model.sample(COUNT, seed=1)
    fields, target = samples.fields[:, 0].numpy(), samples.condition["two_point"].numpy()
    error = np.sqrt(np.square(statistics.two_point(fields > 0.5).numpy() - target).mean(1))
    few = {name: value[:8] for name, value in samples.condition.items() if name != "noise"}
    noise = torch.randn(8, *samples.fields.shape[-2:], generator=torch.Generator().manual_seed(2))
    moved = equivariance_error(
        lambda z: network.latent({**few, "noise": z})[:, 0], noise, group, group
    )
    tests = [
        invariance_test(
            model.sample(COUNT, seed=seed, **target_of(samples.condition)).fields, group,
            features=structure_factor,
        )
        for seed in range(2, 2 + SETS)
    ]  # fmt: skip
    p, ratio = [t.p_value for t in tests], [t.statistic / t.typical for t in tests]
    return [
        f"{np.median(error):.2e}", f"{error.max():.2e}", f"{float(moved.max()):.1e}",
        f"{median(p):.3f} ({min(p):.3f}–{max(p):.3f})", f"{median(ratio):.2f}",
        f"{model.manifest['training_seconds'] / 60:.1f}",
    ]  # fmt: skip


def target_of(condition: dict[str, Tensor]) -> dict[str, Tensor]:
    """The statistics of the first sample."""
    return {name: condition[name][:1] for name in ("volume_fraction", "two_point")}


def structure_factor(images: Tensor) -> Tensor:
    """|x̂(k)| of the lowest modes, those of one half plane."""
    spectrum = torch.fft.fft2(images[:, 0] - images.mean((1, 2, 3))[:, None, None]).abs()
    rows = torch.arange(-MODES, MODES + 1)
    return spectrum[:, rows][:, :, : MODES + 1].flatten(1) / images.shape[-1]


if __name__ == "__main__":
    main()
