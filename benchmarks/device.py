"""Generators beside the library's own batched solvers, on a card where there is one.

    python benchmarks/device.py [--models burgers burgers-periodic darcy] [--count 4096]

For each model, on one device and in one run: milliseconds of one sample and of each of `count`
fresh ones, by the generator and by the solver at the coarsest setting that is as accurate; the
relative error of each against the study's reference; and training steps per second. A
generator is one pass; a solver in time is many dependent launches. Without a card the processor is
measured, with the number of its threads.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

import lawful
from lawful.laws import Condition
from lawful.metrics.report import relative_error
from lawful.pde.elliptic import Elliptic, solve
from lawful.pde.grid import coarsen, refine
from lawful.pde.schemes import Weno5
from lawful.pde.solve import solve as solve_in_time
from lawful.pde.study import ConservationStudy

FACTORS = (1, 2, 4, 8)  # cells of the solver per cell that users see
JUDGED = 64  # samples whose errors are measured
BATCH = 256
TRAINED = 16  # samples per step of training


def seconds(work: Callable[[], object], repeats: int) -> float:
    """Median time of a call."""
    times = []
    for _ in range(repeats):
        wait()
        start = time.perf_counter()
        work()
        wait()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def wait() -> None:
    """Until the card has done what was asked of it."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def part(c: Condition, first: int, count: int) -> dict[str, Tensor]:
    """Some samples of a condition."""
    return {name: value[first : first + count] for name, value in c.items()}


def marched(study: ConservationStudy, factor: int) -> Callable[[Condition], Tensor]:
    """The library's solver in time, in float32, on so many cells per cell."""
    equation = study.equation(study.grid(factor), Weno5())
    end = study.axes[0]
    times = torch.linspace(end.lower, end.upper, study.times)

    def solved(c: Condition) -> Tensor:
        rows = refine(c["initial"], factor, nonnegative=study.nonnegative)
        return coarsen(solve_in_time(equation, rows, c, times), factor).unsqueeze(1)

    return solved


def iterated(steps: int) -> Callable[[Condition], Tensor]:
    """So many preconditioned conjugate gradients."""

    def solved(c: Condition) -> Tensor:
        a = c["coefficient"]
        found = solve(Elliptic.of(a), torch.ones_like(a), tolerance=0.0, steps=steps)
        return found.solution.unsqueeze(1)

    return solved


def solvers(study: lawful.Study) -> dict[str, Callable[[Condition], Tensor]]:
    """Solvers from the coarsest on."""
    if isinstance(study, ConservationStudy):
        return {f"{k * study.cells} cells": marched(study, k) for k in FACTORS}
    return {f"{k} iterations": iterated(k) for k in range(1, 12)}


@torch.no_grad()
def rows(name: str, count: int, device: torch.device) -> list[str]:
    """The lines of one model."""
    model = lawful.load(name)
    study, network = model.study, model.network.to(device)
    c = study.draw(count, torch.Generator().manual_seed(5))
    c = {key: value.to(device) for key, value in c.items()}
    judged, one = part(c, 0, JUDGED), part(c, 0, 1)
    batch = count if device.type == "cuda" else BATCH
    truth = study.reference(judged)

    def generated(of: Condition) -> Tensor:
        return study.observe(network(of))

    def line(way: str, work: Callable[[Condition], Tensor]) -> str:
        def all_of_them() -> None:
            for first in range(0, count, batch):
                work(part(c, first, batch))

        error = float(relative_error(work(judged), truth).mean())
        work(part(c, 0, batch))  # warms up
        single, many = seconds(lambda: work(one), 5), seconds(all_of_them, 1) / count
        return f"{name:18} {way:14} {error:8.4f} {1e3 * single:10.2f} {1e3 * many:12.4f}"

    lines, best = [line("generator", generated)], relative_error(generated(judged), truth).mean()
    for way, work in solvers(study).items():
        if float(relative_error(work(judged), truth).mean()) <= float(best):
            return [*lines, line(way, work)]
    return [*lines, f"{name:18} no coarser solver is as accurate"]


def steps_per_second(name: str, device: torch.device, steps: int = 20) -> float:
    """Steps of training on the correction."""
    model = lawful.load(name)
    study, network = model.study, model.network.to(device).train()
    law, optimizer = study.corrector(), torch.optim.Adam(network.parameters(), 1e-6)
    c = study.draw(TRAINED, torch.Generator().manual_seed(6))
    c = {key: value.to(device) for key, value in c.items()}

    def step() -> None:
        optimizer.zero_grad()
        law.correction_loss(network(c), c).backward()
        optimizer.step()

    step()
    return 1 / seconds(step, steps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["burgers", "burgers-periodic", "darcy"])
    parser.add_argument("--count", type=int, default=4_096)
    options = parser.parse_args()
    card = torch.cuda.is_available()
    device = torch.device("cuda" if card else "cpu")
    print(torch.cuda.get_device_name() if card else f"processor, {torch.get_num_threads()} threads")
    print(f"{'model':18} {'':14} {'error':>8} {'one, ms':>10} {'each, ms':>12}")
    for name in options.models:
        for text in rows(name, options.count, device):
            print(text, flush=True)
    for name in options.models:
        rate = steps_per_second(name, device)
        print(f"{name:18} {rate:.1f} training steps per second, of {TRAINED} samples", flush=True)


if __name__ == "__main__":
    main()
