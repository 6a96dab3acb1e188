"""Nested state as one safetensors file: tensors as tensors, everything else as JSON metadata.

Nothing is pickled, so nothing in a file can run. A file is written beside its place and renamed,
so a reader sees the old one or the new one and never a part.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from lawful.atomic import replacing, write_all
from lawful.errors import InputError
from lawful.reading import DAMAGED, read_tensors, reason

FORMAT, DIGEST = "lawful-state-2", 64


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    write_all({path: text.encode()})


def write_json(path: Path, data: Any) -> None:
    """Write plain values as JSON, atomically; a number that is not finite becomes null."""
    write_all({path: json_bytes(data)})


def json_bytes(data: Any) -> bytes:
    """Plain values as JSON; a number that is not finite becomes null."""
    return f"{json.dumps(_finite(data), indent=2, allow_nan=False)}\n".encode()


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
    """Write dictionaries, lists, tuples, numbers, strings, None and tensors, atomically.

    Tensors that share memory are written once each, as they are.

    Raises:
        InputError: The tree holds something else.
        OSError: The file cannot be written.
    """
    text, tensors = encode(tree)
    # In one entry: the format keeps several in no order, and equal states are to be equal files.
    write_tensors(path, tensors, {FORMAT: _digest(text) + text})


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def load(path: Path) -> dict[str, Any]:
    """What `save` wrote.

    Raises:
        InputError: The file is missing, truncated, or not of this project.
    """
    tensors, metadata = read_tensors(path)
    if FORMAT not in metadata:
        raise InputError(f"checkpoint {path}: expected format {FORMAT}, found another")
    return _tree(path, metadata[FORMAT], tensors)


def load_weights(path: Path) -> dict[str, Any]:
    """A network's state, of `save` or of a plain safetensors file.

    Raises:
        InputError: The file is missing or truncated.
    """
    tensors, metadata = read_tensors(path)
    return _tree(path, metadata[FORMAT], tensors) if FORMAT in metadata else tensors


def _tree(path: Path, entry: str, tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
    digest, text = entry[:DIGEST], entry[DIGEST:]
    if _digest(text) != digest:
        raise InputError(f"checkpoint {path}: damaged; its digest is not that of its content")
    try:
        tree = decode(text, tensors)
    except (RecursionError, *DAMAGED) as error:
        raise InputError(f"checkpoint {path}: truncated or foreign ({reason(error)})") from None
    if not isinstance(tree, dict):
        raise InputError(f"checkpoint {path}: expected names and values")
    return tree


def encode(tree: dict[str, Any]) -> tuple[str, dict[str, torch.Tensor]]:
    """A tree as JSON with the names of its tensors, and the tensors by these names.

    Raises:
        InputError: Names the first entry that can be neither.
    """
    tensors: dict[str, torch.Tensor] = {}
    return json.dumps(_encode(tree, "", tensors)), tensors


def decode(text: str, tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
    """The tree that `encode` was given."""
    tree: dict[str, Any] = _decode(json.loads(text), tensors)
    return tree


def _encode(value: Any, place: str, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(value, torch.Tensor):
        return _encode_tensor(value, place, tensors)
    if isinstance(value, Mapping):
        entries = [
            [_plain(k, place), _encode(v, f"{place}/{k}".removeprefix("/"), tensors)]
            for k, v in value.items()
        ]
        return {"items": entries}
    if isinstance(value, list | tuple):
        rows = [_encode(v, f"{place}/{i}", tensors) for i, v in enumerate(value)]
        return {"tuple": rows} if isinstance(value, tuple) else rows
    return _plain(value, place)


def _plain(value: Any, place: str) -> Any:
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise InputError(f"state {place}: a {type(value).__name__} cannot be saved")


def _encode_tensor(value: torch.Tensor, place: str, tensors: dict[str, torch.Tensor]) -> Any:
    while place in tensors:
        place += "'"  # names with a slash can meet
    found = value.detach()
    if found.dtype in (torch.complex64, torch.complex128):
        tensors[place] = torch.view_as_real(found.cpu().resolve_conj()).contiguous().clone()
        return {"complex": place}
    if found.layout is not torch.strided or found.is_quantized:
        raise InputError(f"state {place}: only dense tensors can be saved, not {value.layout}")
    tensors[place] = found.cpu().resolve_neg().contiguous().clone()
    return {"tensor": place}


def _decode(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(value, list):
        return [_decode(entry, tensors) for entry in value]
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        return tensors[value["tensor"]]
    if "complex" in value:
        # A file does not align its tensors; complex arithmetic wants them aligned.
        return torch.view_as_complex(tensors[value["complex"]].clone())
    if "tuple" in value:
        return tuple(_decode(entry, tensors) for entry in value["tuple"])
    return {key: _decode(entry, tensors) for key, entry in value["items"]}
