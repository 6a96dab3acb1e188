"""Files that are there whole or not at all.

A file is written under a temporary name beside its place, `.NAME.PROCESS.part.SUFFIX`, reaches the
disk, and then takes its place at once. What a killed process left under such a name is removed by
the next write of the same file.
"""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends without error.

    The file gets the permissions of any new file, whatever the library that wrote it chose.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part{path.suffix}")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode
        yield temporary
        temporary.chmod(mode)
        with temporary.open("rb+") as handle:
            os.fsync(handle.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_all(files: Mapping[Path, bytes]) -> None:
    """Write several files; none takes its place before all are complete, the first takes it last.

    Raises:
        OSError: One cannot be written; then none is.
    """
    with ExitStack() as stack:
        for path, content in files.items():
            stack.enter_context(replacing(path)).write_bytes(content)


def _remove_abandoned(path: Path) -> None:
    """Remove what processes that no longer run, or this one before, left of a write of `path`."""
    pattern = re.compile(rf"\.{re.escape(path.name)}\.(\d+)\.part(\..*)?")
    for entry in os.scandir(path.parent):
        found = pattern.fullmatch(entry.name)
        if found and not _runs_elsewhere(int(found[1])):
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
