"""Finite groups, what they do to functions and samples, and tests of invariance."""

from lawful.symmetry.group import (
    Fields,
    Fixed,
    Group,
    MatrixGroup,
    Reflections,
    Translations,
    permutations,
    plane_rotations,
    signed_permutations,
)
from lawful.symmetry.invariance import InvarianceTest, invariance_test
from lawful.symmetry.planar import Planar, planar
from lawful.symmetry.symmetrize import (
    Symmetrized,
    canonicalize,
    equivariance_error,
    invariance_error,
    orbit_samples,
    randomize,
)

__all__ = [
    "Fields",
    "Fixed",
    "Group",
    "InvarianceTest",
    "MatrixGroup",
    "Planar",
    "Reflections",
    "Symmetrized",
    "Translations",
    "canonicalize",
    "equivariance_error",
    "invariance_error",
    "invariance_test",
    "orbit_samples",
    "permutations",
    "planar",
    "plane_rotations",
    "randomize",
    "signed_permutations",
]
