"""Weights of a network from a file."""

from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from lawful.errors import InputError
from lawful.reading import read_tensors, reason

Network = TypeVar("Network", bound=nn.Module)


def device_of(network: nn.Module) -> torch.device:
    """Where a network's first parameter is; the processor's where it has none."""
    return next((p.device for p in network.parameters()), torch.device("cpu"))


def load_weights(network: Network, path: Path) -> Network:
    """`network` in evaluation mode with the weights of a safetensors file.

    Raises:
        InputError: The file is missing, truncated, or of another network.
    """
    tensors, _ = read_tensors(path)
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise InputError(f"weights {path}: of another network ({reason(error)})") from None
    return network.eval()
