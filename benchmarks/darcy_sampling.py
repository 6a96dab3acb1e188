"""Cost and accuracy of the Darcy generator beside the library's own solver, in one run.

    python benchmarks/darcy_sampling.py

Rows are measured in turn, several times, in single precision and with as many threads as torch
has; medians. SciPy's sparse direct solver, in double precision, solves one sample after the other.
"""

import statistics
import time
from collections.abc import Callable

import numpy as np
import scipy.sparse
import torch
from scipy.sparse.linalg import spsolve
from torch import Tensor

import lawful
from lawful.metrics.report import relative_error
from lawful.pde.elliptic import Elliptic, EllipticLaw, solve
from lawful.studies.darcy import fresh
from lawful.table import markdown_table

BATCH, ROUNDS, STEPS = 64, 5, (3, 4, 5, 6, 8)


def main() -> None:
    model, law = lawful.load("darcy"), EllipticLaw()
    for family in ("two-valued", "lognormal"):
        c = {"coefficient": fresh(family, BATCH)}
        f, reference = law.forcing(c), law.solution(c)

        def generated(corrections: int, c=c) -> Tensor:
            with torch.no_grad():
                x = model.network(c)
                for _ in range(corrections):
                    x = x + law.correction(x, c)
            return x

        def solved(steps: int, c=c, f=f) -> Tensor:
            return solve(law.operator(c), f, tolerance=0.0, steps=steps).solution[:, None]

        rows: dict[str, Callable[[], Tensor]] = {
            "generator": lambda: generated(0),
            "generator, corrected once": lambda: generated(1),
            **{f"solver, {k} steps": lambda k=k: solved(k) for k in STEPS},
            "SciPy's direct solver": lambda c=c: direct(c["coefficient"]),
        }
        print(f"\n{family}\n")
        print(measured(rows, reference))


def measured(rows: dict[str, Callable[[], Tensor]], reference: Tensor) -> str:
    """Mean error and median time of each row, the rows in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in rows}
    for _ in range(ROUNDS):
        for name, run in rows.items():
            began = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - began)
    middle = {name: statistics.median(values) for name, values in seconds.items()}
    lines = [
        [
            name,
            f"{float(relative_error(run(), reference).mean()):.5f}",
            f"{1e3 * middle[name] / BATCH:.3g}",
            f"{middle[name] / middle['generator']:.2g}",
        ]
        for name, run in rows.items()
    ]
    return markdown_table(("", "mean error", "ms per sample", "ratio"), lines)


def direct(coefficient: Tensor) -> Tensor:
    """Every sample's matrix from its face coefficients, factorised."""
    operator, n = Elliptic.of(coefficient.double()), coefficient.shape[-1]
    step = scipy.sparse.diags([1.0, -1.0], [0, -1], shape=(n + 1, n))
    down, along = (
        scipy.sparse.kron(*pair).tocsr()
        for pair in ((step, scipy.sparse.eye(n)), (scipy.sparse.eye(n), step))
    )
    found = []
    for over, across in zip(operator.down, operator.along, strict=True):
        matrix = down.T @ scipy.sparse.diags(over.flatten().numpy()) @ down
        matrix = matrix + along.T @ scipy.sparse.diags(across.flatten().numpy()) @ along
        found.append(spsolve(matrix.tocsc(), np.ones(n * n)).reshape(n, n))
    return torch.from_numpy(np.stack(found))[:, None]


if __name__ == "__main__":
    main()
