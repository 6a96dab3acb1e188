"""Shapes and types of public signatures are checked at run time in every test.

Not in `games`: the checker draws from Python's random generator, which is part of a run's state.
"""

from jaxtyping import install_import_hook

PARTS = ("physics", "symmetry", "divergences", "data", "laws", "networks", "evaluation")

hook = install_import_hook([f"lawful.{part}" for part in PARTS], "beartype.beartype")
