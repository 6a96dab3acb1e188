"""Shapes and types of public signatures are checked at run time in every test.

Not in `games`: the checker draws from Python's random generator, which is part of a run's state.
"""

from collections.abc import Iterator

import jaxtyping
import pytest

PARTS = ("physics", "symmetry", "divergences", "data", "laws", "networks", "evaluation")

hook = jaxtyping.install_import_hook([f"lawful.{part}" for part in PARTS], "beartype.beartype")


@pytest.fixture
def unchecked() -> Iterator[None]:
    """No checks of shapes at run time, as for users: what is refused, lawful refuses itself."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
