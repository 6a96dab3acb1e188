"""What a Gauss-Newton step on the two-point law owes to its smoothing and to its modes.

    python benchmarks/microstructure_steps.py

One full step, and refinement to 1e-3, from the blurred field of 128 training targets, no network.
"""

import statistics
import time
from functools import partial
from itertools import product

import numpy as np
import torch

from lawful.laws import Law
from lawful.least_squares import Problem
from lawful.materials.compare import chosen, likeness
from lawful.materials.dataset import open_set
from lawful.materials.fields import LevelCut, level_cut
from lawful.materials.laws import TwoPoint
from lawful.materials.network import DAMPING, EXCHANGES, ITERATIONS, STEEPNESS
from lawful.project import CHUNK, project, unrolled
from lawful.studies.microstructure import noise
from lawful.studies.microstructure_table import blurred_field
from lawful.table import markdown_table

COUNT, TOLERANCE = 128, 1e-3
HEAD = ("smoothing, pixels", "modes", "one step: p2 RMSE, median", "95 %", "surface",
        "to 1e-3: steps", "exchanges", "surface")  # fmt: skip


def main() -> None:
    against, _ = chosen(open_set("cahn-hilliard")[0], COUNT, seed=7)
    target = against.statistics
    w = blurred_field({**target, "noise": noise(COUNT, against.images.shape[-1], 7)})
    rows = []
    for blur, modes in product((1e-3, 0.7, 1.5, 2.0), (8, 10, None)):
        way = LevelCut(STEEPNESS, blur)
        once = unrolled(Problem.of([TwoPoint(modes=modes)], way, 1.0), w, target, 1, DAMPING)
        step = likeness(level_cut(once, target["volume_fraction"]), against)
        errors = (np.median(step["p2_rmse"]), np.quantile(step["p2_rmse"], 0.95))
        row = [f"{blur:g}", str(modes or "all radii"), *(f"{e:.2e}" for e in errors)]
        row.append(f"{np.median(step['surface']):.3f}")
        if modes is None:
            done = project([TwoPoint()], w, target, tolerance=TOLERANCE, through=way,
                          iterations=ITERATIONS, damping=DAMPING, exchanges=EXCHANGES)  # fmt: skip
            found = likeness(done.fields, against)
            means = (done.iterations.float().mean(), done.exchanges.float().mean())
            row += [*(f"{float(m):.1f}" for m in means), f"{np.median(found['surface']):.3f}"]
        rows.append(row + [""] * (len(HEAD) - len(row)))
    print(markdown_table(HEAD, rows))
    print("\n" + jacobians(level_cut(w, target["volume_fraction"]), target))


def jacobians(x: torch.Tensor, c: dict[str, torch.Tensor]) -> str:
    """Cost of the two-point law's Jacobian by FFT against one vectorised pass of autograd."""
    few = {name: value[:CHUNK] for name, value in c.items()}
    ways = {"FFT": TwoPoint().jacobian, "autograd": partial(Law.jacobian, TwoPoint())}
    medians = {}
    for name, way in ways.items():
        taken = []
        for _ in range(15):
            began = time.perf_counter()
            way(x[:CHUNK], few)
            taken.append(1e3 * (time.perf_counter() - began) / CHUNK)
        medians[name] = statistics.median(taken)
    ratio = medians["autograd"] / medians["FFT"]
    return (
        f"Jacobian of the two-point law, ms a sample: {medians['FFT']:.2f} by FFT, "
        f"{medians['autograd']:.2f} by autograd, ratio {ratio:.1f}"
    )


if __name__ == "__main__":
    with torch.no_grad():
        main()
