"""Files that are there whole or not at all; nested state as one safetensors file.

A file is written under a temporary name beside its place, `.NAME.PROCESS.part.SUFFIX`, reaches the
disk, and then takes its place at once; of several writers the last one has it. What a killed
process left under such a name is removed by the next write of the same file. Processes are told
apart by their numbers on one machine: on a shared file system two machines must not write the same
file at a time.

State is tensors as tensors and everything else as JSON metadata. Nothing is pickled, so nothing in
a file can run.
"""

import hashlib
import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from safetensors.torch import save as to_bytes

from lawful.errors import InputError
from lawful.reading import read_tensors, refusing

FORMAT, DIGEST = "lawful-state-2", 64
WRITING: set[str] = set()  # temporary files that this process has in use
CHOOSING = Lock()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends without error.

    The file gets the permissions of any new file, whatever the library that wrote it chose.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(path)
    with CHOOSING:
        temporary = next(name for name in _candidates(path) if _place(name) not in WRITING)
        WRITING.add(_place(temporary))
    try:  # nothing is made before, so that an interrupt at any place leaves nothing
        temporary.touch()
        mode = temporary.stat().st_mode
        yield temporary
        temporary.chmod(mode)
        with temporary.open("rb+") as handle:
            os.fsync(handle.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
        WRITING.discard(_place(temporary))


def _place(path: Path | str) -> str:
    return os.path.realpath(path)


def _candidates(path: Path) -> Iterator[Path]:
    """Temporary names of this process for `path`: one, and others for threads that write it too."""
    for number in count():
        own = f"{os.getpid()}-{number}" if number else f"{os.getpid()}"
        yield path.with_name(f".{path.name}.{own}.part{path.suffix}")


def write_all(files: Mapping[Path, bytes]) -> None:
    """Write several files; none takes its place before all are complete, the first takes it last.

    Raises:
        OSError: One cannot be written; then none takes its place. If the last step of one fails,
            its rename, the files after it in the mapping have taken theirs, and it and those
            before it have not.
    """
    with ExitStack() as stack:
        for path, content in files.items():
            stack.enter_context(replacing(path)).write_bytes(content)


def _remove_abandoned(path: Path) -> None:
    """Remove what processes that no longer run, or this one before, left of a write of `path`."""
    pattern = re.compile(rf"\.{re.escape(path.name)}\.(\d+)(?:-\d+)?\.part(\..*)?")
    for entry in os.scandir(path.parent):
        found = pattern.fullmatch(entry.name)
        used = _place(entry.path) in WRITING
        if found and not used and not _runs_elsewhere(int(found[1])):
            with suppress(OSError):
                os.unlink(entry)


def _runs_elsewhere(process: int) -> bool:
    """Whether a process other than this one has the number."""
    if process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # it is another user's
        pass
    return True


def cache() -> Path:
    """`$XDG_CACHE_HOME/lawful`, else `~/.cache/lawful`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lawful"


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
    try:
        # `save_file` writes to a temporary file of its own, which a kill would leave for ever.
        write_all({path: to_bytes(tensors, metadata)})
    except OSError as error:
        raise OSError(f"{path}: cannot be written ({error.strerror})") from None


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
    with refusing(f"checkpoint {path}: truncated or foreign"):
        tree = decode(text, tensors)
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
