"""Shapes and types of public signatures are checked at run time in every test.

Not in `training`: the checker draws from Python's random generator, which is part of a run's state.
"""

from collections.abc import Iterator

import jaxtyping
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

PARTS = ("pde", "materials", "symmetry", "divergences", "data", "nn", "metrics", "laws",
         "least_squares", "project")  # fmt: skip

hook = jaxtyping.install_import_hook([f"lawful.{part}" for part in PARTS], "beartype.beartype")


@pytest.fixture
def unchecked() -> Iterator[None]:
    """No checks of shapes at run time, as for users: what is refused, lawful refuses itself."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


class Largest(TorchDispatchMode):
    """While it is entered, `most` is the number of entries of the largest tensor made."""

    most = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        # A view that repeats entries needs no memory for them.
        sizes = [x.untyped_storage().nbytes() // x.itemsize
                 for x in tree_leaves(made) if isinstance(x, torch.Tensor)]  # fmt: skip
        self.most = max(self.most, *sizes, 0)
        return made


@pytest.fixture
def largest() -> Largest:
    """Counts memory rather than time."""
    return Largest()
