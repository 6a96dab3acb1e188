"""Studies by name, by the path of a user's own file, or as a manifest records them.

A user's own study is code. Its text runs where the user names it, by a path or a class, and is then
known by its digest: manifests of runs and files carry the digest, and what is known needs not be
named again on the same account. A stranger's run or file never runs code that is not known.
"""

import ast
import hashlib
import importlib
import importlib.machinery
import importlib.util
import inspect
import re
import sys
import traceback
import warnings
from collections import UserDict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

from lawful import catalogue
from lawful.errors import InputError, LawfulWarning, NonFiniteError
from lawful.files import cache, write_all
from lawful.laws import law
from lawful.reading import TEXT, read_bytes
from lawful.study import Study, check_spelling, check_stated
from lawful.typed import shown, spelled

COPY = "study.py"  # of a user's own study, in its run's folder


class _Studies(UserDict[str, Any]):
    """Studies by name; of one that is not imported yet, the module and the class."""

    def __getitem__(self, name: str) -> type[Study]:
        entry: type[Study] | str = self.data[name]
        if isinstance(entry, str):
            module, _, kind = entry.partition(":")
            entry = cast(type[Study], getattr(importlib.import_module(module), kind))
        return entry


STUDIES = _Studies({name: entry.place for name, entry in catalogue.STUDIES.items()})

# What may stand at the top of a file that is read again for its classes.
GUARDS = ("__name__ == '__main__'", "'__main__' == __name__")
DEFINITIONS = (
    ast.Import | ast.ImportFrom | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Pass
)
READING: list[Path] = []  # files of studies that run now, to be read


def find(name: str, others: Iterable[str] = ()) -> type[Study]:
    """The study called `name`, or the one that the Python file `name` defines.

    Arguments:
        others: Names that would have been taken too, for the message.

    Raises:
        InputError: There is no such study, or the file does not define exactly one.
    """
    if name in STUDIES:
        return STUDIES[name]
    path = Path(name)
    if path.suffix != ".py":
        known = ", ".join((*STUDIES, *others))
        raise InputError(f"study {name!r}: expected one of {known}, or a .py file")
    return _from_file(path)


def is_shipped(study: type[Study]) -> bool:
    """Whether a study is one of lawful's own."""
    return STUDIES.get(getattr(study, "name", "")) is study


def _file(study: type[Study]) -> str | None:
    """The file whose text defines a study; there is none of a class typed at a prompt."""
    return getattr(sys.modules.get(study.__module__), "__file__", None)


def source_of(study: type[Study]) -> dict[str, Any]:
    """What a manifest records of a study: its name and, of a user's own, its class and the digest
    of its text: of its file or, where that cannot be read again, of the class as Python tells it
    (none of a class typed at a prompt)."""
    if is_shipped(study):
        return {"study": study.name}
    text, file = text_of(study), _file(study)
    source = {"class": study.__name__}
    if text is None:
        file = None
        with suppress(OSError, TypeError):
            text = inspect.getsource(study).encode()
    if text is not None:
        source["sha256"] = _digest(text)
    return {"study": Path(file).name if file else study.__name__, "source": source}


def text_of(study: type[Study]) -> bytes | None:
    """The text of the file that defines a user's own study, if there is one to be read again."""
    text, file = getattr(sys.modules[study.__module__], "__text__", None), _file(study)
    if is_shipped(study) or (text is None and file is None):
        return None
    if isinstance(text, bytes) or file is None:
        return text
    with suppress(OSError):
        text = Path(file).read_bytes()
        return text if only_defines(text) else None
    return None


def only_defines(text: bytes) -> bool:
    """Whether a file can be read again for its classes: at its top level it imports, defines and
    assigns, and does the rest under `if __name__ == "__main__"`. It is decided without running it.
    """
    try:
        body = ast.parse(text).body
    except (SyntaxError, ValueError):
        return False
    functions = [entry for entry in body if isinstance(entry, ast.FunctionDef)]
    trainers = {"train", *(entry.name for entry in functions if _calls(entry, {"train"}))}
    return all(_defines(entry, trainers) for entry in body)


def _defines(entry: ast.stmt, trainers: set[str]) -> bool:
    if isinstance(entry, ast.If | ast.Try):  # imports by version, or of what may be absent
        if isinstance(entry, ast.If) and ast.unparse(entry.test) in GUARDS:
            return all(_defines(each, trainers) for each in entry.orelse)
        handled = [s for h in getattr(entry, "handlers", ()) for s in h.body]
        parts = (*entry.body, *handled, *entry.orelse, *getattr(entry, "finalbody", ()))
        return all(_defines(each, trainers) for each in parts)
    if isinstance(entry, ast.Expr):
        return isinstance(entry.value, ast.Constant)
    if isinstance(entry, ast.Assign | ast.AnnAssign | ast.AugAssign):
        return not _calls(entry, trainers)
    return isinstance(entry, DEFINITIONS)


def _calls(entry: ast.stmt, names: set[str]) -> bool:
    """Whether one of the functions is called in it, by its name or as a module's."""
    calls = [node.func for node in ast.walk(entry) if isinstance(node, ast.Call)]
    return any(getattr(f, "attr", getattr(f, "id", None)) in names for f in calls)


def told(study: type[Study]) -> str:
    """A study's name, and the file whose text runs where it is a user's own."""
    file = None if is_shipped(study) else _file(study)
    return study.name if file is None else f"{study.name} ({file})"


def _digest(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()


def _known(digest: str) -> Path:
    return cache() / "studies" / f"{digest}.py"


def remember(text: bytes) -> None:
    """Make the text of a study known, so that runs and files with its digest may run it."""
    path = _known(_digest(text))
    with suppress(OSError):  # without a home it has to be named every time
        if not path.is_file():
            write_all({path: text})


def recall(
    manifest: Mapping[str, Any], place: Path, named: type[Study] | Study | str | Path | None = None
) -> type[Study]:
    """The study that a manifest speaks of.

    Arguments:
        place: The run's folder or the file of the manifest; for messages, and for the copy of a
            user's own study.
        named: The study to take, or the file that defines it: needed where its text is not known.

    Raises:
        InputError: The study is not shipped, not named and not known.
    """
    name, source = manifest["study"], manifest.get("source")
    recorded = source if isinstance(source, Mapping) else {}
    if named is not None:
        kind = _named(named, recorded.get("class"))
        if source is not None and source_of(kind).get("source") != recorded:
            said = f"{place}: its study was edited since, or is another; taken as it is now"
            warnings.warn(said, LawfulWarning, stacklevel=3)
        return kind
    if source is None and name in STUDIES:
        return STUDIES[name]
    copy, digest = place / COPY, recorded.get("sha256")
    text = _known_text(digest)
    if text is None:
        where = copy if copy.is_file() else "the file or class that defines it"
        raise InputError(
            f"{place}: its study {name!r} is code that is not known here; read it, then name it by "
            f"study= or --study: {where}"
        )
    path = _known(str(digest))
    if copy.is_file() and read_bytes(copy, TEXT) == text:
        path = copy
    elif copy.is_file():
        said = f"{copy}: edited since; the text that was trained runs, which is known here"
        warnings.warn(said, LawfulWarning, stacklevel=3)
    return _from_text(text, path, recorded.get("class"))


def _named(named: type[Study] | Study | str | Path, wanted: Any) -> type[Study]:
    if isinstance(named, str) and named in STUDIES:
        return STUDIES[named]
    if isinstance(named, str | Path):
        return _from_file(Path(named), wanted)
    kind = named if isinstance(named, type) else type(named)
    if not issubclass(kind, Study):
        raise InputError(f"study: expected a study, its class or its file, got {shown(named)}")
    return kind


def _known_text(digest: Any) -> bytes | None:
    """The text with this digest, if the user ran it before."""
    if not isinstance(digest, str) or not re.fullmatch("[0-9a-f]{64}", digest):
        return None
    with suppress(InputError):
        text = read_bytes(_known(digest), TEXT)
        return text if _digest(text) == digest else None
    return None


@contextmanager
def own_faults(study: type[Study]) -> Iterator[None]:
    """What fails in the block is said to be of `study`, where that is a user's own file.

    Raises:
        InputError: Names the file, its last line that ran, and the error, which is its cause.
    """
    try:
        yield
    except (InputError, NonFiniteError, OSError, MemoryError):
        raise
    except Exception as error:
        if is_shipped(study):
            raise
        path = _file(study) or study.__module__
        lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == path]
        place = f"{path}, line {lines[-1]}" if lines else path
        raise InputError(f"study {place}: {type(error).__name__}: {error}") from error


def _from_file(path: Path, wanted: Any = None) -> type[Study]:
    """The study that a file defines, which the user names, and so makes known."""
    if not path.is_file():
        raise InputError(f"study {path}: no such file; expected a .py file or a study's name")
    text = read_bytes(path, TEXT)
    found = _from_text(text, path.resolve(), wanted)
    remember(text)
    return found


def _from_text(text: bytes, path: Path, wanted: Any = None) -> type[Study]:
    """The one study that a text defines, or of several the class that is wanted."""
    module_name = f"lawful_user_{path.stem}_{_digest(str(path).encode())[:12]}"
    spec = importlib.machinery.ModuleSpec(module_name, None, origin=str(path))
    module = importlib.util.module_from_spec(spec)
    module.__file__ = str(path)
    vars(module)["__text__"] = text
    sys.modules[module_name] = module
    READING.append(path)
    try:
        exec(compile(text, path, "exec"), vars(module))
    except (Exception, SystemExit) as error:
        raise InputError(f"study {path}: {type(error).__name__}: {error}") from error
    finally:
        READING.remove(path)
    found = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Study) and value.__module__ == module_name
    ]
    chosen = [kind for kind in found if kind.__name__ == wanted] or found
    if len(chosen) != 1:
        raise InputError(f"study {path}: expected one Study class, found {len(chosen)}")
    check_named(chosen[0])
    return chosen[0]


def check_named(kind: type[Study]) -> None:
    """Refuse a study without `name` and `about`, or one whose methods are missing."""
    missing = sorted(kind.__abstractmethods__) + [
        name for name in ("name", "about") if not isinstance(getattr(kind, name, None), str)
    ]
    if missing:
        raise InputError(f"study: class {kind.__name__} has no {', '.join(missing)}")


def warn_of_reading(study: Study, folder: Path) -> None:
    """Say where the file of a study cannot be read again, which the commands would do."""
    kind = type(study)
    if not is_shipped(kind) and (file := _file(kind)) is not None and text_of(kind) is None:
        said = (
            f"{file} does more than define when it is read, so only load({str(folder)!r}, "
            f"study={kind.__name__}) can use this run; put the training under "
            'if __name__ == "__main__" to make it usable by the commands'
        )
        warnings.warn(said, LawfulWarning, stacklevel=3)


def check_trainable(study: Study) -> None:
    """Refuse a study without a name, and training that begins while a study's file is read."""
    check_named(type(study))
    check_stated(study)
    names = [law(entry).name for entry in study.laws()]
    check_spelling("laws", names)
    if not all(map(spelled, names)):
        raise InputError(f"laws: expected names with letters, got {', '.join(names)}")
    for name in ("study", "source", "init"):
        if hasattr(study, name) and name in study.config():
            raise InputError(f"study {study.name!r}: a run has a field {name!r} of its own")
    if READING:
        raise InputError("it trains when it is read; put that under if __name__ == '__main__'")
