"""Studies by name, or by the path of a user's own file."""

import hashlib
import importlib.util
import sys
from collections.abc import Iterable
from pathlib import Path

from lawful.errors import InputError
from lawful.studies.burgers import BurgersStudy
from lawful.studies.digits import DigitsStudy
from lawful.studies.histology import HistologyStudy
from lawful.studies.microstructure import MicrostructureStudy
from lawful.studies.mixture import MixtureStudy
from lawful.studies.motif import MotifStudy
from lawful.studies.rotmnist import RotatedDigitsStudy
from lawful.studies.study import Study

STUDIES: dict[str, type[Study]] = {
    study.name: study
    for study in (
        BurgersStudy,
        MotifStudy,
        DigitsStudy,
        MicrostructureStudy,
        RotatedDigitsStudy,
        HistologyStudy,
        MixtureStudy,
    )
}


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
    if not path.is_file():
        raise InputError(f"study {name}: no such file")
    return _from_file(path.resolve())


def source_of(study: type[Study]) -> str:
    """What `find` takes to give `study` back."""
    if STUDIES.get(study.name) is study:
        return study.name
    return str(sys.modules[study.__module__].__file__)


def _from_file(path: Path) -> type[Study]:
    digest = hashlib.sha256(str(path).encode()).hexdigest()[:12]
    module_name = f"lawful_user_{path.stem}_{digest}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise InputError(f"study {path}: cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise InputError(f"study {path}: {type(error).__name__}: {error}") from error
    found = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Study) and value.__module__ == module_name
    ]
    if len(found) != 1:
        raise InputError(f"study {path}: expected one Study class, found {len(found)}")
    for name in ("name", "about"):
        if not isinstance(getattr(found[0], name, None), str):
            raise InputError(f"study {path}: class {found[0].__name__} has no {name}")
    return found[0]
