r"""Two-point correlations by FFT, in Torquato's convention.

.. math:: p_2(\mathbf r) = \langle \chi(\mathbf x)\, \chi(\mathbf x + \mathbf r) \rangle

for the indicator :math:`\chi` of the phase whose value is 1: :math:`p_2(0) = p_1`, and
:math:`p_2(\infty) = p_1^2` (Torquato 2002, section 2.2). Nothing is subtracted or divided by p1.
The radial curve at the integer r is the mean over all lags whose length rounds to r.
"""

from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from lawful.errors import InputError

RADII = 32
WINDOW = 4  # sides over radii beyond which only near lags are looked at


def correlation_map(
    x: Float[Tensor, "*batch rows columns"], *, periodic: bool = True
) -> Float[Tensor, "*batch lag_rows lag_columns"]:
    """p2 at every lag, resolved by direction; the lag (dy, dx) stands at (dy, dx) modulo the size.

    Arguments:
        periodic: Lags wrap round, and the map has the size of `x`. Otherwise `x` is padded with
            zeros to (2 rows - 1, 2 columns - 1), and each lag is the mean over the pairs of pixels
            that are both inside.
    """
    rows, columns = x.shape[-2:]
    size = (rows, columns) if periodic else (2 * rows - 1, 2 * columns - 1)
    power = torch.view_as_real(torch.fft.rfft2(x, s=size)).square().sum(-1)
    counts = torch.fft.irfft2(power, s=size)
    return counts / (rows * columns) if periodic else counts / pairs(rows, columns).to(counts)


@lru_cache(maxsize=8)
def pairs(rows: int, columns: int) -> Float[Tensor, "lag_rows lag_columns"]:
    """Number of pairs of pixels inside at each lag of the zero-padded map."""
    down, along = _lags(2 * rows - 1).abs(), _lags(2 * columns - 1).abs()
    return (rows - down)[:, None] * (columns - along)[None, :]


def _lags(size: int) -> Float[Tensor, " size"]:
    """Signed lag at each index, float64."""
    return torch.fft.fftfreq(size, 1 / size, dtype=torch.float64).round()


@lru_cache(maxsize=16)
def shells(rows: int, columns: int, radii: int = RADII) -> Float[Tensor, "radius pixel"]:
    """Weights of the lags in each radial mean, a row a radius, each of sum 1; float64.

    Raises:
        InputError: A shell is empty or would wrap round: more radii than half the image.
    """
    if 2 * (radii - 1) > min(rows, columns):
        raise InputError(
            f"two-point correlation: {radii} radii need at least {2 * (radii - 1)} pixels a side, "
            f"got {rows} x {columns}"
        )
    distance = (_lags(rows)[:, None].square() + _lags(columns)[None, :].square()).sqrt()
    shell = distance.round().flatten()
    weights = (shell[None, :] == torch.arange(radii)[:, None]).double()
    return weights / weights.sum(1, keepdim=True)


@lru_cache(maxsize=16)
def shell_spectra(rows: int, columns: int, radii: int = RADII) -> Float[Tensor, "radius rows half"]:
    """Fourier transform of every shell: real, since shells are even; 1 at the origin; float64."""
    weights = shells(rows, columns, radii).unflatten(1, (rows, columns))
    return torch.fft.rfft2(weights).real.contiguous()


def radial_mean(
    lag_map: Float[Tensor, "*batch rows columns"], radii: int = RADII
) -> Float[Tensor, "*batch radius"]:
    """Means over the lags whose length rounds to 0, 1, …, radii - 1."""
    rows, columns = lag_map.shape[-2:]
    with torch.autocast(lag_map.device.type, enabled=False):
        if min(rows, columns) <= WINDOW * radii:
            return lag_map.flatten(-2) @ _columns(rows, columns, radii, lag_map.dtype).to(
                lag_map.device
            )
        reach = torch.arange(1 - radii, radii, device=lag_map.device)  # the lags that are needed
        near = lag_map[..., (reach % rows)[:, None], reach % columns]
        distance = (reach[:, None].square() + reach.square()).double().sqrt().round().flatten()
        inside = (distance == torch.arange(radii, device=reach.device)[:, None]).to(lag_map)
        return near.flatten(-2) @ (inside / inside.sum(1, keepdim=True)).T


@lru_cache(maxsize=16)
def _columns(
    rows: int, columns: int, radii: int, dtype: torch.dtype
) -> Float[Tensor, "pixel radius"]:
    """The transpose of `shells`, as it is used."""
    return shells(rows, columns, radii).T.to(dtype)


def two_point(
    x: Float[Tensor, "*batch rows columns"], radii: int = RADII, *, periodic: bool = True
) -> Float[Tensor, "*batch radius"]:
    """The radial two-point correlation of fields in [0, 1]."""
    return radial_mean(correlation_map(x, periodic=periodic), radii)


def directional_two_point(
    x: Float[Tensor, "*batch rows columns"],
    direction: tuple[int, int],
    count: int = RADII,
    *,
    periodic: bool = True,
) -> Float[Tensor, "*batch lag"]:
    """p2 at the lags 0, d, 2 d, … along the integer vector d = (rows, columns).

    Raises:
        InputError: The direction is zero, or a lag does not fit into the image.
    """
    if direction == (0, 0):
        raise InputError("two-point correlation: the direction (0, 0) has no length")
    reach = [(count - 1) * abs(step) for step in direction]
    if not periodic and any(r >= n for r, n in zip(reach, x.shape[-2:], strict=True)):
        raise InputError(f"two-point correlation: {count} lags along {direction} leave the image")
    lag_map = correlation_map(x, periodic=periodic)
    (down, along), (rows, columns) = direction, lag_map.shape[-2:]
    steps = torch.arange(count)
    return lag_map[..., (steps * down) % rows, (steps * along) % columns]
