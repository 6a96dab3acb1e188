"""Finite groups, what they do to functions and samples, and tests of invariance."""

from lawful.symmetry.group import (
    Group,
    matrix_group,
    permutations,
    plane_rotations,
    reflections,
    signed_permutations,
    translations,
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
    "Group", "InvarianceTest", "Planar", "Symmetrized", "canonicalize", "equivariance_error",
    "invariance_error", "invariance_test", "matrix_group", "orbit_samples", "permutations",
    "planar", "plane_rotations", "randomize", "reflections", "signed_permutations",
    "translations",
]  # fmt: skip
