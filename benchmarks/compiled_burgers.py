r"""Burgers' equation as somebody would solve it who needs only this one: compiled, in batches.

A MUSCL-Hancock scheme (van Leer 1984) with the monotonised central slope and the Engquist-Osher
flux. A step is :math:`(1 - \tfrac12 dt\,\nu D)\,u' = (1 + \tfrac12 dt\,\nu D)\,u - dt\,\nabla F`, D
the second difference: one flux and one tridiagonal solve. The face states of the half time hold
half of what viscosity did in the last step, without which the coupling would be of first order.
Samples lie side by side in memory, so that all of it runs in vector registers.

The domain is [0, 1] with u = 0 at the face of the left end and outflow at the right.
"""

import numpy as np
from numba import njit, prange

LANES = 16  # samples side by side
FLOAT = np.float32
HALF, ONE, TWO, ZERO = FLOAT(0.5), FLOAT(1), FLOAT(2), FLOAT(0)
compiled = njit(fastmath=True, error_model="numpy")


def muscl(
    initial: np.ndarray, viscosity: np.ndarray, duration: float, rows: int, coarse: int,
    courant: float = 1.0,
) -> np.ndarray:  # fmt: skip
    """Averages over `coarse` cells at `rows` even times, float32, from averages (batch, cells).

    The number of steps between two rows keeps the largest Courant number of the batch below
    `courant`; the scheme is stable up to 1.
    """
    count, cells = initial.shape
    padded = np.resize(initial.astype(FLOAT), (-(-count // LANES) * LANES, cells))
    nu = np.resize(viscosity.astype(FLOAT), len(padded)).reshape(-1, LANES)
    blocks = np.ascontiguousarray(padded.reshape(-1, LANES, cells).transpose(0, 2, 1))
    interval = duration / (rows - 1)
    steps = max(1, int(np.ceil(interval * cells * np.abs(initial).max() / courant - 1e-6)))
    out = np.empty((len(blocks), rows, coarse, LANES), FLOAT)
    _all(blocks, nu, FLOAT(interval / steps), steps, out)
    return out.transpose(0, 3, 1, 2).reshape(-1, rows, coarse)[:count]


@njit(parallel=True, fastmath=True, error_model="numpy")
def _all(blocks, nu, dt, steps, out):
    for b in prange(len(blocks)):
        _block(blocks[b], nu[b], dt, steps, out[b])


@compiled
def _block(initial, nu, dt, steps, out):
    """The rows `out` (row, coarse cell, lane) of one block (cell, lane)."""
    cells, lanes = initial.shape
    ratio, number = FLOAT(dt * cells), nu * FLOAT(HALF * dt * cells * cells)
    u, spread = np.zeros((cells + 4, lanes), FLOAT), np.zeros((cells + 4, lanes), FLOAT)
    left, right = np.empty((cells + 2, lanes), FLOAT), np.empty((cells + 2, lanes), FLOAT)
    upper, pivot = np.empty((cells, lanes), FLOAT), np.empty((cells, lanes), FLOAT)
    u[2 : cells + 2] = initial
    _factor(number, upper, pivot)
    _average(u, out[0])
    for row in range(1, len(out)):
        for _ in range(steps):
            _states(u, spread, ratio, left, right)
            _advance(u, spread, ratio, number, left, right, upper, pivot)
        _average(u, out[row])


@compiled
def _factor(number, upper, pivot):
    """LU factors of 1 - number (1, -2, 1); its left end is odd, its right end even."""
    cells, lanes = pivot.shape
    for i in range(cells):
        for j in range(lanes):
            center = ONE + number[j] * FLOAT(3 if i == 0 else 1 if i == cells - 1 else 2)
            below = number[j] * upper[i - 1, j] if i else ZERO
            pivot[i, j] = ONE / (center - below)
            upper[i, j] = number[j] * pivot[i, j]


@compiled
def _states(u, spread, ratio, left, right):
    """States at the two faces of each cell and ghost at half the step."""
    end, lanes = len(u) - 2, u.shape[1]
    for j in range(lanes):
        u[1, j], u[0, j], u[end, j], u[end + 1, j] = (
            -u[2, j],
            -u[3, j],
            u[end - 1, j],
            u[end - 1, j],
        )
        spread[1, j], spread[end, j] = -spread[2, j], spread[end - 1, j]
    for i in range(1, end + 1):
        for j in range(lanes):
            a, c = u[i, j] - u[i - 1, j], u[i + 1, j] - u[i, j]
            sign = HALF * (np.sign(a) + np.sign(c))
            slope = sign * min(TWO * min(abs(a), abs(c)), HALF * abs(a + c))
            low, high = u[i, j] - HALF * slope, u[i, j] + HALF * slope
            move = FLOAT(0.25) * ratio * (low * low - high * high) + HALF * spread[i, j]
            left[i - 1, j], right[i - 1, j] = low + move, high + move


@compiled
def _advance(u, spread, ratio, number, left, right, upper, pivot):
    """One step of `u` in place; `spread` becomes what viscosity did in it."""
    cells, lanes = pivot.shape
    for i in range(cells + 1):  # the flux takes the place of the states that it was made of
        for j in range(lanes):
            up, down = max(right[i, j], ZERO), min(left[i + 1, j], ZERO)
            right[i, j] = HALF * (up * up + down * down)
    for i in range(cells):
        for j in range(lanes):
            bend = u[i + 1, j] - TWO * u[i + 2, j] + u[i + 3, j]
            moved = u[i + 2, j] - ratio * (right[i + 1, j] - right[i, j])
            spread[i + 2, j] = -moved
            before = number[j] * left[i - 1, j] if i else ZERO
            left[i, j] = (moved + number[j] * bend + before) * pivot[i, j]
    for i in range(cells - 1, -1, -1):
        for j in range(lanes):
            later = upper[i, j] * u[i + 3, j] if i < cells - 1 else ZERO
            u[i + 2, j] = left[i, j] + later
            spread[i + 2, j] += u[i + 2, j]


@compiled
def _average(u, out):
    factor, lanes = (len(u) - 4) // len(out), u.shape[1]
    for i in range(len(out)):
        for j in range(lanes):
            total = ZERO
            for k in range(factor):
                total += u[2 + i * factor + k, j]
            out[i, j] = total / FLOAT(factor)
