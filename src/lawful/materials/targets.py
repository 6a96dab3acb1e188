r"""Targets: whether a medium has such statistics, whether a sample can, what a trained model keeps.

With the volume fraction :math:`\phi`, the two-point correlation of any two-phase medium obeys
(Torquato 2002, sections 2.2 and 2.7; Matheron 1987):

1. :math:`0 < \phi < 1`,
2. :math:`p_2(0) = \phi`,
3. :math:`p_2(r) \le \phi`,
4. :math:`p_2(r) \ge \max(0, 2\phi - 1)`,
5. :math:`\phi - p_2` obeys the triangle inequality, as the variogram of an indicator does,
6. :math:`p_2 - \phi^2` has a non-negative spectrum.

They are necessary, not sufficient. The fifth and the sixth are exact for exact lags; a radial curve
is a mean over shells, so they hold up to `TRIANGLE` and `SPECTRUM`.
"""

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.optimize import nnls
from torch import Tensor, nn

from lawful.errors import InputError
from lawful.laws import Condition
from lawful.materials.images import Correlation, Micrograph, read_like
from lawful.materials.statistics import RADII, Curve, Fraction, Radial, minority, shells, two_point
from lawful.reading import as_path
from lawful.symmetry.invariance import distances

ORIGIN, BOUND = 1e-3, 1e-3  # probability; a bin of an image of 64 x 64 has 1e-6 or less
TRIANGLE, SPECTRUM = 0.1, 1e-2
STRICT = 1e3  # weight of p2(0), which is known, in a least-squares fit
SAME = 0.4  # spread of the ends of a map's lines over that of the squares of their beginnings
SIDE = 128  # of the periodic cell on which the spectrum is sought
SEVERAL, LARGEST, STEP = 8, 256, 32  # targets, and sides, for which a sample's bound is sought
KEPT, NEAREST = 512, 16  # targets that come with a model; those of nearly the same fraction
MARGIN = 0.01  # of a volume fraction beyond the kept ones
LEAST = 1e-3  # of the distance of trained targets, in normalised correlation
FAR = 0.995  # quantile of these distances beyond which a target is marked


def check_target(volume_fraction: Fraction, two_point: Curve) -> None:
    """Refuse a target that no two-phase medium has; equal targets are looked at once.

    Raises:
        InputError: Names the first condition that is broken, by how much and where.
    """
    if not bool(torch.isfinite(volume_fraction).all() and torch.isfinite(two_point).all()):
        raise InputError("target: expected finite statistics, got NaN or infinity")
    check_fraction(volume_fraction)
    targets = torch.cat([volume_fraction[:, None], two_point], 1).double()
    for target in targets.unique(dim=0):
        if broken := _broken(float(target[0]), target[1:]):
            raise InputError(f"target: {broken}")


def check_fraction(volume_fraction: Fraction) -> None:
    """Refuse a medium of one phase.

    Raises:
        InputError: A volume fraction is not between 0 and 1.
    """
    for phi in volume_fraction.tolist():
        if not 0 < phi < 1:
            raise InputError(f"target: expected 0 < volume fraction < 1, got {phi:g}")


def _broken(phi: float, curve: Tensor) -> str:
    """The first condition that the curve breaks, in words; empty where it obeys all."""
    if abs(float(curve[0]) - phi) > ORIGIN:
        return (
            "p2(0) is the volume fraction in any medium; got p2(0) = "
            f"{float(curve[0]):.4g} and volume fraction {phi:.4g}"
        )
    for name, excess in (
        ("at most the volume fraction", curve - phi),
        ("at least max(0, 2 phi - 1)", max(0.0, 2 * phi - 1) - curve),
    ):
        r = int(excess.argmax())
        if float(excess[r]) > BOUND:
            found = f"p2({r}) = {float(curve[r]):.4g} with volume fraction {phi:.4g}"
            return f"p2 is {name} in any medium; got {found}"
    excess = triangle_excess(phi - curve)
    if float(excess.max()) > TRIANGLE * phi * (1 - phi):
        i, r = divmod(int(excess.argmax()), len(curve))
        return (
            f"phi - p2 obeys the triangle inequality in any medium; between 0, {i} and {r} pixels "
            f"it is broken by {float(excess.max()):.2g}"
        )
    if (distance := spectral_distance(phi, curve)) > SPECTRUM:
        return (
            "the spectrum of p2 - phi^2 is non-negative in any medium; no such spectrum has a p2 "
            f"nearer than {distance:.2g} (RMS) to this one"
        )
    return ""


def triangle_excess(gamma: Radial) -> Float[Tensor, "radius radius"]:
    """gamma(r) - gamma(s) - gamma(r - s) at (s, r) for 0 < s < r, 0 elsewhere."""
    r = torch.arange(len(gamma))
    rest = r[None, :] - r[:, None]
    excess = gamma[None, :] - gamma[:, None] - gamma[rest.clamp_min(0)]
    return torch.where((r[:, None] > 0) & (rest > 0), excess, 0.0)


@lru_cache(maxsize=8)
def _waves(radii: int, side: int = SIDE) -> Float[np.ndarray, "radius wave"]:
    """Radial p2 of each distinct plane wave of a periodic cell."""
    side = max(side, 2 * radii)
    weights = shells((side, side), radii).T.unflatten(1, (side, side))
    spectra = torch.fft.rfft2(weights).real.flatten(1).numpy()  # real, for shells are even
    return np.unique(spectra.round(10), axis=1)


def _rms_distance(waves: Float[np.ndarray, "radius wave"], curve: Tensor) -> float:
    """Least distance of a curve from sums of waves of weight 0 or more (Lawson & Hanson 1974)."""
    return float(nnls(waves, curve.double().numpy())[1]) / len(curve) ** 0.5


def spectral_distance(phi: float, curve: Radial) -> float:
    """Least RMS distance of `curve` from a curve whose p2 - phi^2 has a non-negative spectrum.

    Zero if and only if there is a random field, of whatever values, with this autocovariance.
    """
    return _rms_distance(_waves(len(curve)), curve - phi**2)


def least_violation(curve: Radial, side: int) -> float:
    """A bound below the violation (RMS) of every periodic binary image of `side` x `side` pixels.

    Of such an image p2 - phi^2 is a sum of the radial p2 of the cell's plane waves with weights of
    at least 0, and the wave of wavelength infinity has none, for the fraction is given. A target
    whose structures are too large for the cell is far from all such sums.
    """
    phi, waves = round(float(curve[0]) * side**2) / side**2, _waves(len(curve), side)
    return _rms_distance(waves[:, waves.min(0) < 1], curve.double() - phi**2)


def nearest_realisable(curve: Radial) -> Radial:
    """`curve` itself where `check_target` would take it, else the nearest one it would take.

    The estimate from an image that is not periodic need not be the correlation of any medium: few
    pairs of pixels are left at long lags, and the smaller the image, the worse.
    """
    phi = float(curve[0])
    variance = phi * (1 - phi)
    if spectral_distance(phi, curve) > SPECTRUM:
        waves, target = _waves(len(curve)), (curve - phi**2).double().numpy()
        weight = np.ones(len(curve))
        weight[0] = STRICT
        power, _ = nnls(weight[:, None] * waves, weight * target)
        curve = torch.from_numpy(waves @ power).to(curve) + phi**2
        curve = curve.clamp(max(0.0, 2 * phi - 1), phi)
    excess = float(triangle_excess(phi - curve).max())
    # Mixed with independent pixels, whose variogram is phi (1 - phi) at every distance.
    share = max(0.0, (excess - 0.99 * TRIANGLE * variance) / (excess + variance))
    mixed = (1 - share) * curve + share * phi**2
    mixed[0] = phi
    return mixed


def is_map(curves: Curve) -> bool:
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


def obstacle(condition: Condition, side: int, tolerance: float) -> str | None:
    """Why some periodic samples of `side` x `side` pixels cannot be within a tolerance.

    Their structures are too large, or there are too few pixels for the fraction. None where neither
    is known.
    """
    cell, count = f"{side} x {side} pixels", side**2
    fraction = condition["volume_fraction"]
    rest = float(((fraction * count).round() / count - fraction).abs().max())
    if rest > tolerance:
        return f"No image of {cell} comes nearer than {rest:.1e} to a volume fraction asked for"
    targets = condition["two_point"].cpu().unique(dim=0)[:SEVERAL]
    bounds = [least_violation(t, side) for t in targets] if side <= LARGEST else [0.0]
    if max(bounds) <= tolerance:
        return None
    worst = targets[int(np.argmax(bounds))]
    sizes = range(side, LARGEST + 1, STEP)
    able = (str(n) for n in sizes if least_violation(worst, n) <= tolerance / 2)
    least = next(able, "")
    return (
        f"No periodic image of {cell} comes nearer than {max(bounds):.1e} to a two-point "
        "correlation asked for: its structures are too large. Ask for samples of "
        f"{f'{least} pixels or more' if least else 'more pixels'} a side, or scale the picture down"
    )


def target_like(shown: Micrograph | Correlation | str | Path, given: Condition) -> Condition:
    """The target of samples like a picture, which is not taken for periodic.

    Arguments:
        shown: A file, what was read from one, or a two-point correlation at 0, 1, 2, … pixels.
        given: A volume fraction scales the correlation of the picture to it.

    Raises:
        InputError: A correlation is given too, the file cannot be read, or it has too few radii.
    """
    if "two_point" in given:
        raise InputError("like, two_point: expected one of the two, got both")
    if not isinstance(shown, Micrograph | np.ndarray):
        shown = read_like(as_path(shown, "like"))
    if isinstance(shown, Micrograph):
        found = two_point(shown.image, RADII, periodic=False)
    elif len(found := torch.from_numpy(shown[:RADII])) < RADII:
        raise InputError(f"like: expected p2 at {RADII} distances, got {len(shown)}")
    curve = nearest_realisable(found)[None].float()
    phi = given.get("volume_fraction", curve[:, 0])
    scaled = curve
    if "volume_fraction" in given:
        scaled = at_fraction(curve.expand(len(phi), -1), phi)
    return {**given, "volume_fraction": phi, "two_point": scaled}


def at_fraction(curve: Curve, phi: Fraction) -> Curve:
    """The curve of the same normalised correlation at another volume fraction."""
    own, share = curve[:, :1], phi[:, None]
    rho = (curve - own.square()) / (own * (1 - own)).clamp_min(1e-6)
    scaled = share.square() + rho * share * (1 - share)
    return scaled.clamp(min=(2 * share - 1).clamp_min(0), max=share)


def _normalised(phi: Fraction, curve: Curve) -> Curve:
    """(p2 - phi^2) / (phi (1 - phi)) of the minority phase: of either phase, in fact."""
    small, own, _ = minority(phi, curve)
    return (own - small.square()[:, None]) / (small * (1 - small)).clamp_min(1e-4)[:, None]


class TrainedTargets(nn.Module):
    """Targets of the training kept with a model's weights.

    They are what is drawn where no statistics are asked for, and the measure of what is outside
    the training: the distance of a correlation, normalised by phi (1 - phi), from the nearest kept
    one, against the same distance of trained targets that are not kept.
    """

    phi: Tensor
    curve: Tensor
    reach: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("phi", torch.full((KEPT,), 0.5))
        self.register_buffer("curve", torch.zeros(KEPT, RADII))
        self.register_buffer("reach", torch.tensor(0.0))

    def fill(
        self, volume_fraction: Float[Tensor, " targets"], two_point: Float[Tensor, "targets radius"]
    ) -> None:
        """Keep targets at equal distances in the list; measure how far the others are from them."""
        count = len(volume_fraction)
        places = torch.linspace(0, count - 1, KEPT).round().long()
        self.phi.copy_(volume_fraction[places])
        self.curve.copy_(two_point[places])
        others = torch.ones(count, dtype=torch.bool).index_fill(0, places, False)
        apart = torch.zeros(1)
        if bool(others.any()):
            rest = torch.where(others)[0][:4096]
            apart = self._distance(volume_fraction[rest], two_point[rest])
        elif count > 1:
            every = _normalised(volume_fraction, two_point)
            apart = distances(every, every).fill_diagonal_(torch.inf).amin(1) / RADII**0.5
        self.reach.copy_(apart.quantile(FAR).clamp_min(LEAST))

    def far(self, volume_fraction: Fraction, two_point: Curve) -> Bool[Tensor, " batch"]:
        """Whether a target is farther from the kept ones than nearly all trained ones are."""
        phi, kept = (torch.minimum(p, 1 - p) for p in (volume_fraction, self.phi))
        beyond = phi < kept.min() - MARGIN
        return beyond | (self._distance(volume_fraction, two_point) > self.reach + 1e-6)

    def _distance(self, phi: Tensor, curve: Tensor) -> Tensor:
        apart = distances(_normalised(phi, curve), _normalised(self.phi, self.curve)).amin(1)
        return apart / RADII**0.5

    def complete(self, given: Condition, count: int, generator: torch.Generator) -> Condition:
        """The target with what is not given taken from images like the trained ones.

        A volume fraction alone takes the correlation of one of the kept targets whose fractions are
        nearest, scaled to it; a correlation alone has its p2(0).

        Raises:
            InputError: No two-phase medium has what is given.
        """
        phi = given.get("volume_fraction")
        if "two_point" in given:
            curve = given["two_point"]
            if is_map(curve):
                raise InputError(
                    f"two_point: a map of lags; expected radial curves of {RADII}, one per target"
                )
            phi = curve[:, 0] if phi is None else phi
            check_target(phi, curve)
            return {"volume_fraction": phi, "two_point": curve}
        kept_phi, kept = self.phi.cpu(), self.curve.cpu()
        if phi is None:
            rows = torch.randint(KEPT, (count,), generator=generator)
            return {"volume_fraction": kept_phi[rows], "two_point": kept[rows]}
        check_fraction(phi)
        near = (kept_phi[None, :] - phi[:, None]).abs().argsort(dim=1, stable=True)[:, :NEAREST]
        rows = near.gather(1, torch.randint(NEAREST, (count, 1), generator=generator))[:, 0]
        return {"volume_fraction": phi, "two_point": at_fraction(kept[rows], phi)}
