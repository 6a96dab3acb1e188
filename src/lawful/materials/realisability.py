r"""Whether a two-point correlation can be that of a two-phase medium: necessary conditions.

With the volume fraction :math:`\phi` (Torquato 2002, sections 2.2 and 2.7; Matheron 1987):

1. :math:`0 < \phi < 1`,
2. :math:`p_2(0) = \phi`,
3. :math:`p_2(r) \le \phi`,
4. :math:`p_2(r) \ge \max(0, 2\phi - 1)`,
5. :math:`\phi - p_2` obeys the triangle inequality, as the variogram of an indicator does,
6. :math:`p_2 - \phi^2` has a non-negative spectrum.

They are not sufficient. The fifth and the sixth are exact for exact lags; a radial curve is a mean
over shells, so they hold up to `TRIANGLE` and `SPECTRUM`.
"""

from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import nnls
from torch import Tensor

from lawful.errors import InputError
from lawful.materials.statistics import shells

ORIGIN, BOUND = 1e-3, 1e-3  # probability; a bin of an image of 64 x 64 has 1e-6 or less
TRIANGLE, SPECTRUM = 0.1, 1e-2
STRICT = 1e3
SAME = 0.4  # spread of the ends of a map's lines over that of the squares of their beginnings
SIDE = 128  # of the periodic cell on which the spectrum is sought


def check_target(
    volume_fraction: Float[Tensor, " batch"], two_point: Float[Tensor, "batch radius"]
) -> None:
    """Refuse a target that no two-phase medium has; equal targets are looked at once.

    Raises:
        InputError: Names the first condition that is broken, by how much and where.
    """
    if not bool(torch.isfinite(volume_fraction).all() and torch.isfinite(two_point).all()):
        raise InputError("target: expected finite statistics, got NaN or infinity")
    targets = torch.cat([volume_fraction[:, None], two_point], 1).double()
    for target in targets.unique(dim=0):
        _check(float(target[0]), target[1:])


def check_fraction(volume_fraction: Float[Tensor, " batch"]) -> None:
    """Refuse a medium of one phase.

    Raises:
        InputError: A volume fraction is not between 0 and 1.
    """
    wrong = ~((volume_fraction > 0) & (volume_fraction < 1))
    if bool(wrong.any()):
        phi = float(volume_fraction[wrong][0])
        raise InputError(f"target: expected 0 < volume fraction < 1, got {phi:g}")


def _check(phi: float, curve: Tensor) -> None:
    check_fraction(torch.tensor([phi]))
    if abs(float(curve[0]) - phi) > ORIGIN:
        raise InputError(
            "target: p2(0) is the volume fraction in any medium; got p2(0) = "
            f"{float(curve[0]):.4g} and volume fraction {phi:.4g}"
        )
    lower = max(0.0, 2 * phi - 1)
    for name, excess in (("at most the volume fraction", curve - phi),
                         ("at least max(0, 2 phi - 1)", lower - curve)):  # fmt: skip
        if float(excess.max()) > BOUND:
            r = int(excess.argmax())
            raise InputError(
                f"target: p2 is {name} in any medium; got p2({r}) = {float(curve[r]):.4g} "
                f"with volume fraction {phi:.4g}"
            )
    _check_triangle(phi, curve)
    if (distance := spectral_distance(phi, curve)) > SPECTRUM:
        raise InputError(
            "target: the spectrum of p2 - phi^2 is non-negative in any medium; no such spectrum "
            f"has a p2 nearer than {distance:.2g} (RMS) to this one"
        )


def _check_triangle(phi: float, curve: Tensor) -> None:
    """phi - p2(r + s) <= (phi - p2(r)) + (phi - p2(s)), up to a share of phi (1 - phi)."""
    excess = triangle_excess(phi - curve)
    if float(excess.max()) > TRIANGLE * phi * (1 - phi):
        i, r = divmod(int(excess.argmax()), len(curve))
        raise InputError(
            f"target: phi - p2 obeys the triangle inequality in any medium; between 0, {i} "
            f"and {r} pixels it is broken by {float(excess.max()):.2g}"
        )


def triangle_excess(gamma: Float[Tensor, " radius"]) -> Float[Tensor, "radius radius"]:
    """gamma(r) - gamma(s) - gamma(r - s) at (s, r) for 0 < s < r, 0 elsewhere."""
    r = torch.arange(len(gamma))
    rest = r[None, :] - r[:, None]
    excess = gamma[None, :] - gamma[:, None] - gamma[rest.clamp_min(0)]
    return torch.where((r[:, None] > 0) & (rest > 0), excess, 0.0)


def nearest_realisable(curve: Float[Tensor, " radius"]) -> Float[Tensor, " radius"]:
    """`curve` itself where `check_target` would take it, else the nearest one it would take.

    The estimate from an image that is not periodic need not be the correlation of any medium: few
    pairs of pixels are left at long lags, and the smaller the image, the worse.
    """
    phi = float(curve[0])
    if spectral_distance(phi, curve) > SPECTRUM:
        curve = _with_spectrum(phi, curve)
    bound, variance = TRIANGLE * phi * (1 - phi), phi * (1 - phi)
    excess = float(triangle_excess(phi - curve).max())
    # Mixed with independent pixels, whose variogram is phi (1 - phi) at every distance.
    share = max(0.0, (excess - 0.99 * bound) / (excess + variance))
    mixed = (1 - share) * curve + share * phi**2
    mixed[0] = phi
    return mixed


def _with_spectrum(phi: float, curve: Float[Tensor, " radius"]) -> Float[Tensor, " radius"]:
    """The nearest curve of a non-negative spectrum with the same volume fraction."""
    waves, target = _waves(len(curve)), (curve - phi**2).double().numpy()
    weight = np.ones(len(curve))
    weight[0] = STRICT  # p2(0) is the volume fraction
    power, _ = nnls(weight[:, None] * waves, weight * target)
    found = torch.from_numpy(waves @ power).to(curve) + phi**2
    found[0] = phi
    return found.clamp(max(0.0, 2 * phi - 1), phi)


def spectral_distance(phi: float, curve: Float[Tensor, " radius"]) -> float:
    """Least RMS distance of `curve` from a curve whose p2 - phi^2 has a non-negative spectrum.

    Non-negative least squares over the spectra of a periodic cell (Lawson & Hanson 1974): zero if
    and only if there is a random field, of whatever values, with this autocovariance.
    """
    target = (curve - phi**2).numpy()
    _, norm = nnls(_waves(len(curve)), target)
    return float(norm) / len(curve) ** 0.5


def least_violation(curve: Float[Tensor, " radius"], side: int) -> float:
    """A bound below the violation (RMS) of every periodic binary image of `side` x `side` pixels.

    Of such an image p2 - phi^2 is a sum of the radial p2 of the cell's plane waves with weights of
    at least 0, and the wave of wavelength infinity has none, for the fraction is given. A target
    whose structures are too large for the cell is far from all such sums.
    """
    phi = round(float(curve[0]) * side**2) / side**2
    waves = _waves(len(curve), side)
    waves = waves[:, waves.min(0) < 1]
    _, norm = nnls(waves, (curve.double() - phi**2).numpy())
    return float(norm) / len(curve) ** 0.5


def is_map(curves: Float[Tensor, "batch radius"]) -> bool:
    """Whether the rows are not radial curves but the lines of one map of lags.

    A whole map equals itself turned by half a turn. The lines of a quarter, with the lag 0 in the
    first place, end at one level, phi^2; curves of different fractions each end at their own.
    """
    if len(curves) < (radii := curves.shape[1]):
        return False
    m = curves[:radii].double()
    turned = m.flip(0, 1).roll((1, 1), (0, 1))
    half_turn = float((m - turned).abs().max()) < BOUND * float(m.max() - m.min())
    ends, own = (v.std() / v.mean() for v in (m[:, radii // 2 :].mean(1), m[:, 0].square()))
    return half_turn or (float(m[0, 0]) == float(m.max()) and float(ends) < SAME * float(own))


@lru_cache(maxsize=8)
def _waves(radii: int, side: int = SIDE) -> np.ndarray:
    """Radial p2 of each distinct plane wave of the cell, a column a wave."""
    side = max(side, 2 * radii)
    weights = shells(side, side, radii).T.unflatten(1, (side, side))
    spectra = torch.fft.rfft2(weights).real.flatten(1)
    return np.unique(spectra.numpy().round(10), axis=1)
