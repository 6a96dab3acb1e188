"""Weights of a network from a file."""

from pathlib import Path
from typing import TypeVar

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from lawful.errors import InputError

Network = TypeVar("Network", bound=nn.Module)


def load_weights(network: Network, path: Path) -> Network:
    """`network` in evaluation mode with the weights of a safetensors file.

    Raises:
        InputError: The file is missing, truncated, or of another network.
    """
    try:
        network.load_state_dict(load_file(path))
    except (SafetensorError, OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:120]
        raise InputError(f"weights {path}: truncated or of another network ({reason})") from None
    return network.eval()
