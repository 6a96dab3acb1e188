"""Conditions: what a sample is asked to be, as named tensors with one leading batch axis."""

from collections.abc import Mapping

from torch import Tensor

Condition = Mapping[str, Tensor]
