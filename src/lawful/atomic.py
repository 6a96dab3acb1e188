"""Files that are there whole or not at all.

A file is written under a temporary name beside its place, `.NAME.PROCESS.part.SUFFIX`, reaches the
disk, and then takes its place at once; of several writers the last one has it. What a killed
process left under such a name is removed by the next write of the same file. Processes are told
apart by their numbers on one machine: on a shared file system two machines must not write the same
file at a time.
"""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path
from threading import Lock

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
