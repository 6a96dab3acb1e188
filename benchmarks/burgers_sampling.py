"""Cost of a sample beside solvers at equal accuracy, and memory against N; needs `[bench]`.

    python benchmarks/burgers_sampling.py

One run measures all rows in turn, several times, and quotes medians; the last column is the
ratio to the generator. *compiled* is a solver for this equation alone (`compiled_burgers.py`),
the others are the library's batched tensors. All rows use as many threads as torch does. Memory is
the peak of `lawful sample` as a process of its own.
"""

import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import numba
import torch
from compiled_burgers import muscl

import lawful
from lawful.corrections import correct
from lawful.metrics.report import relative_error
from lawful.pde.grid import Grid, coarsen
from lawful.pde.schemes import Muscl, Scheme, Weno5
from lawful.pde.solve import solve
from lawful.studies.burgers import CELLS, DURATION, raised_cosine
from lawful.studies.burgers_table import fresh_conditions
from lawful.table import markdown_table

BATCH, ROUNDS = 64, 5


def main() -> None:
    model = lawful.load("burgers")
    given = fresh_conditions(BATCH)
    c, nu = given["frequency"], given["viscosity"]
    condition = model.study.condition(given)
    reference = model.study.reference(condition)
    times = model.study.times
    rows = torch.linspace(0, DURATION, times)

    def generated(refine: int) -> Callable[[], torch.Tensor]:
        def run() -> torch.Tensor:
            with torch.no_grad():
                fields = model.network(condition)
                for _ in range(refine):
                    fields = fields + model.study.corrector().correction(fields, condition)
                return model.study.observe(fields)

        return run

    def solved(scheme: Scheme, cells: int) -> Callable[[], torch.Tensor]:
        grid = Grid(cells)
        initial, equation = raised_cosine(grid, c).float(), model.study.equation(grid, scheme)
        return lambda: coarsen(
            solve(equation, initial, condition, rows, courant=0.9), cells // CELLS
        ).unsqueeze(1)

    def compiled(cells: int) -> Callable[[], torch.Tensor]:
        initial = raised_cosine(Grid(cells), c).numpy()
        return lambda: torch.from_numpy(
            muscl(initial, nu.numpy(), DURATION, times, CELLS)
        ).unsqueeze(1)

    numba.set_num_threads(torch.get_num_threads())

    def judged(refine: int) -> Callable[[], torch.Tensor]:
        def run() -> torch.Tensor:
            with torch.no_grad():
                fields = model.network(condition)
                fields, _, _ = correct(model.study, model.network, fields, condition, refine)
                return model.study.observe(fields)

        return run

    methods = {
        "generator": generated(0),
        "generator + estimate": judged(0),
        "generator + 1 correction, judged": judged(1),
        "generator + 1 correction": generated(1),
        "compiled MUSCL, 128 cells": compiled(128),
        "compiled MUSCL, 192 cells": compiled(192),
        "compiled MUSCL, 256 cells": compiled(256),
        "MUSCL, 128 cells": solved(Muscl(), 128),
        "WENO5, 128 cells": solved(Weno5(), 128),
        "WENO5, 256 cells": solved(Weno5(), 256),
    }
    for run in methods.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    for _ in range(ROUNDS):
        for name, run in methods.items():
            began = time.perf_counter()
            run()
            seconds[name].append((time.perf_counter() - began) / BATCH)
    base = statistics.median(seconds["generator"])
    table = []
    for name, run in methods.items():
        error, cost = relative_error(run(), reference), statistics.median(seconds[name])
        viscous, inviscid = error[nu > 0], error[nu == 0]
        table.append([name, *(f"{float(v):.4f}" for v in (viscous.mean(), viscous.max(),
                      inviscid.mean(), inviscid.max())),
                      f"{1000 * cost:.3f}", f"{cost / base:.3f}"])  # fmt: skip
    head = ["method", "viscous: mean", "worst", "inviscid: mean", "worst", "ms per sample", "ratio"]
    print(markdown_table(head, table))
    print("\n" + command_line())


def command_line() -> str:
    """Samples per minute and peak memory of the command, start-up included, for growing N."""
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        for count in (1000, 4000, 16000):
            arguments = ["sample", "burgers", "-n", str(count), "--out", f"{folder}/a.h5"]
            began = time.perf_counter()
            subprocess.run(
                [sys.executable, "-m", "lawful", *arguments], check=True, capture_output=True
            )
            took = time.perf_counter() - began
            # The largest child so far: N grows, so a flat figure is a flat memory.
            peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
            lines.append(f"N = {count}: {60 * count / took:,.0f} samples per minute, {peak:.0f} MB")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
