"""Files that are there whole or not at all; nested state as one safetensors file.

A file is written under a temporary name beside its place, `.NAME.PROCESS-NUMBER.part.SUFFIX`,
reaches the disk, and then takes its place at once; of several writers the last one has it. What a
killed process left under such a name is removed by the next write of the same file. Processes are
told apart by their numbers on one machine: on a shared file system two machines must not write the
same file at a time.

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
from typing import Any

import torch
from safetensors.torch import save as to_bytes
from torch import Tensor

from lawful.errors import InputError
from lawful.reading import read_tensors, refusing

FORMAT, DIGEST = "lawful-state-2", 64
NUMBERS = count()  # of this process's writes: threads may write one file at a time
WRITING: set[str] = set()  # names of temporary files that this process has in use


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends without error.

    The file gets the permissions of any new file, whatever the library that wrote it chose.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(path)
    name = f".{path.name}.{os.getpid()}-{next(NUMBERS)}.part{path.suffix}"
    temporary = path.with_name(name)
    WRITING.add(name)
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
        WRITING.discard(name)


def _remove_abandoned(path: Path) -> None:
    """Remove what processes that no longer run left of a write of `path`."""
    pattern = re.compile(rf"\.{re.escape(path.name)}\.(\d+)(?:-\d+)?\.part(\..*)?")
    for entry in os.scandir(path.parent):
        if (found := pattern.fullmatch(entry.name)) and not _in_use(entry.name, int(found[1])):
            with suppress(OSError):
                os.unlink(entry)


def _in_use(name: str, process: int) -> bool:
    """Whether the process still writes; this one may have the number of one that was killed."""
    if process == os.getpid():
        return name in WRITING
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # it is another user's
        pass
    return True


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


def cache() -> Path:
    """`$XDG_CACHE_HOME/lawful`, else `~/.cache/lawful`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lawful"


def json_bytes(data: Any) -> bytes:
    """Plain values as JSON; a number that is not finite becomes null."""
    return f"{json.dumps(_finite(data), indent=2, allow_nan=False)}\n".encode()


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(entry) for key, entry in value.items()}
    return [_finite(entry) for entry in value] if isinstance(value, list | tuple) else value


def save(path: Path, tree: dict[str, Any]) -> None:
    """Write dictionaries, lists, tuples, numbers, strings, None and tensors, atomically.

    Tensors that share memory are written once each, as they are.

    Raises:
        InputError: The tree holds something else.
        OSError: The file cannot be written.
    """
    text, tensors = encode(tree)
    # In one entry: the format keeps several in no order, and equal states are to be equal files.
    content = to_bytes(tensors, {FORMAT: _digest(text) + text})
    try:
        write_all({path: content})
    except OSError as error:
        raise OSError(f"{path}: cannot be written ({error.strerror})") from None


def load(path: Path, *, foreign: bool = False) -> dict[str, Any]:
    """What `save` wrote.

    Arguments:
        foreign: Take any file of tensors, as a network's state may be.

    Raises:
        InputError: The file is missing, truncated, or not of this project.
    """
    tensors, metadata = read_tensors(path)
    if FORMAT not in metadata:
        if foreign:
            return dict(tensors)
        raise InputError(f"checkpoint {path}: expected format {FORMAT}, found another")
    digest, text = metadata[FORMAT][:DIGEST], metadata[FORMAT][DIGEST:]
    if _digest(text) != digest:
        raise InputError(f"checkpoint {path}: damaged; its digest is not that of its content")
    with refusing(f"checkpoint {path}: truncated or foreign"):
        tree = decode(text, tensors)
    if not isinstance(tree, dict):
        raise InputError(f"checkpoint {path}: expected names and values")
    return tree


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def encode(tree: dict[str, Any]) -> tuple[str, dict[str, Tensor]]:
    """A tree as JSON with the names of its tensors, and the tensors by these names.

    Raises:
        InputError: Names the first entry that can be neither.
    """
    tensors: dict[str, Tensor] = {}

    def plain(value: Any, place: str) -> Any:
        if value is None or type(value) in (bool, int, float, str):
            return value
        raise InputError(f"state {place}: a {type(value).__name__} cannot be saved")

    def encoded(value: Any, place: str) -> Any:
        below = f"{place}/" if place else ""
        if isinstance(value, Tensor):
            while place in tensors:
                place += "'"  # names with a slash can meet
            kind, tensors[place] = _dense(value.detach(), place)
            return {kind: place}
        if isinstance(value, Mapping):
            return {"items": [[plain(k, place), encoded(v, below + str(k))]
                              for k, v in value.items()]}  # fmt: skip
        if isinstance(value, list | tuple):
            rows = [encoded(v, below + str(i)) for i, v in enumerate(value)]
            return {"tuple": rows} if isinstance(value, tuple) else rows
        return plain(value, place)

    return json.dumps(encoded(tree, "")), tensors


def _dense(value: Tensor, place: str) -> tuple[str, Tensor]:
    """What a file says of a tensor, and the tensor as it holds it."""
    if value.is_complex():
        return "complex", torch.view_as_real(value.cpu().resolve_conj()).contiguous().clone()
    if value.layout is not torch.strided or value.is_quantized:
        raise InputError(f"state {place}: only dense tensors can be saved, not {value.layout}")
    return "tensor", value.cpu().resolve_neg().contiguous().clone()


def decode(text: str, tensors: dict[str, Tensor]) -> Any:
    """The tree that `encode` was given."""

    def decoded(value: Any) -> Any:
        if isinstance(value, list):
            return [decoded(entry) for entry in value]
        if not isinstance(value, dict):
            return value
        if "tensor" in value:
            return tensors[value["tensor"]]
        if "complex" in value:
            # A file does not align its tensors; complex arithmetic wants them aligned.
            return torch.view_as_complex(tensors[value["complex"]].clone())
        if "tuple" in value:
            return tuple(decoded(value["tuple"]))
        return {key: decoded(entry) for key, entry in value["items"]}

    return decoded(json.loads(text))
