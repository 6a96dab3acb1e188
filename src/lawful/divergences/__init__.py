"""Divergences between data and generator: critics' objectives, penalties, kernels, transport."""

from lawful.divergences.divergence import (
    Divergence,
    Hinge,
    LeastSquares,
    NonSaturating,
    Original,
    RelativisticAverage,
    RelativisticPairing,
    Wasserstein,
    r3gan,
)
from lawful.divergences.fgamma import KL, Alpha, FGamma, Hellinger, JensenShannon, ReverseKL
from lawful.divergences.penalties import (
    R1,
    R2,
    OneSided,
    OneSidedSquared,
    Penalty,
    TwoSided,
    spectral_norm,
)
from lawful.divergences.samples import (
    MMD,
    Energy,
    Gaussian,
    Polynomial,
    RationalQuadratic,
    Sinkhorn,
)

__all__ = [
    "KL",
    "MMD",
    "R1",
    "R2",
    "Alpha",
    "Divergence",
    "Energy",
    "FGamma",
    "Gaussian",
    "Hellinger",
    "Hinge",
    "JensenShannon",
    "LeastSquares",
    "NonSaturating",
    "OneSided",
    "OneSidedSquared",
    "Original",
    "Penalty",
    "Polynomial",
    "RationalQuadratic",
    "RelativisticAverage",
    "RelativisticPairing",
    "ReverseKL",
    "Sinkhorn",
    "TwoSided",
    "Wasserstein",
    "r3gan",
    "spectral_norm",
]
