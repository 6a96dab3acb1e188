"""Weights of networks: where they are, that they can be loaded, and from a file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from lawful import files
from lawful.errors import InputError
from lawful.reading import reason

Network = TypeVar("Network", bound=nn.Module)


def device_of(network: nn.Module) -> torch.device:
    """Where a network's first parameter is; the processor's where it has none."""
    return next((p.device for p in network.parameters()), torch.device("cpu"))


def make_dense(network: nn.Module, place: str) -> None:
    """Give expanded buffers memory of their own: nothing can be copied into them otherwise.

    Raises:
        InputError: A parameter has no shape yet.
    """
    for name, parameter in network.named_parameters():
        if is_lazy(parameter):
            raise InputError(
                f"{place}: {name} has no shape yet; call the network once where it is made"
            )
    for module in network.modules():
        for name, buffer in module.named_buffers(recurse=False, remove_duplicate=False):
            strided = buffer.layout is torch.strided
            if strided and any(
                n > 1 and s == 0 for n, s in zip(buffer.shape, buffer.stride(), strict=True)
            ):
                setattr(module, name, buffer.contiguous())


def restored(network: Network, state: Mapping[str, Any], place: str) -> Network:
    """`network` in evaluation mode with a saved state.

    Raises:
        InputError: The state is of another network.
    """
    make_dense(network, place)
    try:
        network.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise InputError(f"{place}: truncated or of another network ({reason(error)})") from None
    return network.eval()


def load_weights(network: Network, path: Path) -> Network:
    """`network` in evaluation mode with the weights in a file.

    Raises:
        InputError: The file is missing, truncated, or of another network.
    """
    return restored(network, files.load(path, foreign=True), f"weights {path}")
