"""Nested state as one safetensors file: tensors as tensors, everything else as JSON metadata.

Nothing is pickled, so nothing in a file can run. A file is written beside its place and renamed,
so a reader sees the old one or the new one and never a part.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from lawful.atomic import replacing
from lawful.errors import InputError

FORMAT = "lawful-state-1"


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, data: Any) -> None:
    """Write plain values as JSON, atomically; a number that is not finite becomes null."""
    text = json.dumps(_finite(data), indent=2, allow_nan=False)
    write_text(path, text + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(entry) for key, entry in value.items()}
    return [_finite(entry) for entry in value] if isinstance(value, list | tuple) else value


def write_tensors(
    path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Write a safetensors file atomically.

    Raises:
        OSError: The file cannot be written.
    """
    with replacing(path) as temporary:
        try:
            save_file(tensors, temporary, metadata=metadata)
        except SafetensorError as error:
            raise OSError(f"{path}: cannot be written ({error})") from None


def save(path: Path, tree: dict[str, Any]) -> None:
    """Write dictionaries, lists, numbers, strings, None and tensors to `path`, atomically."""
    tensors: dict[str, torch.Tensor] = {}
    text = json.dumps(_encode(tree, "", tensors))
    write_tensors(path, tensors, {"format": FORMAT, "tree": text})


def load(path: Path) -> dict[str, Any]:
    """What `save` wrote.

    Raises:
        InputError: The file is missing, truncated, or not of this project.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise InputError(f"checkpoint {path}: expected format {FORMAT}, found another")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        tree: dict[str, Any] = _decode(json.loads(metadata["tree"]), tensors)
        return tree
    except FileNotFoundError:
        raise InputError(f"checkpoint {path}: no such file") from None
    except (SafetensorError, OSError, KeyError, json.JSONDecodeError) as error:
        raise InputError(f"checkpoint {path}: truncated or foreign ({error})") from None


def _encode(value: Any, place: str, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(value, torch.Tensor):
        tensors[place] = value.detach().cpu().clone().contiguous()
        return {"tensor": place}
    if isinstance(value, dict):
        return {"items": [[k, _encode(v, f"{place}/{k}", tensors)] for k, v in value.items()]}
    if isinstance(value, list | tuple):
        return [_encode(v, f"{place}/{i}", tensors) for i, v in enumerate(value)]
    return value


def _decode(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(value, dict):
        if "tensor" in value:
            return tensors[value["tensor"]]
        return {key: _decode(entry, tensors) for key, entry in value["items"]}
    return [_decode(entry, tensors) for entry in value] if isinstance(value, list) else value
