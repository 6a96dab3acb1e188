"""The door for values: plain values from outside against the types and ranges that are stated.

What does not fit is refused by an `InputError` of one line: place, expectation and value.

A number without a stated range is within one that every computation survives: whole numbers below
2^31 in size, others finite and below 1e30, which float32 holds with room for squares of deviations.
"""

import re
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from math import inf
from numbers import Integral, Real
from typing import (
    Annotated,
    Any,
    Literal,
    NotRequired,
    Required,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from lawful.errors import InputError

T = TypeVar("T")
SHOWN = 60  # characters of a value that a message shows


@dataclass(frozen=True)
class Within:
    """The range of a number, written in its annotation: `Annotated[int, Within(1, 4096)]`.

    Arguments:
        lower, upper: The least and the largest value.
        above: Whether the least value itself is left out.
        below: Whether the largest value itself is left out.
    """

    lower: float
    upper: float
    above: bool = False
    below: bool = False

    def check(self, value: float, place: str) -> None:
        """Refuse a number beyond the range, and NaN."""
        over = value > self.lower if self.above else value >= self.lower
        under = value < self.upper if self.below else value <= self.upper
        if over and under:
            return
        if self.lower <= REAL.lower and not abs(value) < inf:
            wanted = "a finite number"
        elif not over:
            wanted = f"above {self.lower:g}" if self.above else f"at least {self.lower:g}"
        else:
            wanted = f"below {self.upper:g}" if self.below else f"at most {self.upper:g}"
        raise InputError(f"{place}: expected {wanted}, got {shown(value)}")


WHOLE = Within(-(2**31), 2**31, above=True, below=True)
REAL = Within(-1e30, 1e30)
Positive = Annotated[float, Within(0, 1e6, above=True)]  # rates, lengths
Weight = Annotated[float, Within(0, 1e12)]  # of a term of a loss
Count = Annotated[int, Within(1, 100_000)]  # repetitions, points, pictures
Size = Annotated[int, Within(1, 4096)]  # channels, pixels
Seed = Annotated[int, Within(0, 2**63 - 1)]
Number = Annotated[int, Within(1, 10**9)]  # of samples
Tries = Annotated[int, Within(0, 1_000)]  # of corrections


@dataclass(frozen=True, kw_only=True)
class Options:
    """How samples are drawn and what is done to them, in Python and on the command line.

    Arguments:
        n: Number of samples; where not given, as many as the longest condition has values.
        seed: Seed of the conditions that are drawn.
        refine: Corrections by the law that are tried on each raw sample.
        enforce: Enforce the affine laws exactly.
        tolerance: Project samples until every violation is below this.
    """

    n: Number | None = None
    seed: Annotated[int, Within(-(2**63), 2**63 - 1)] = 0
    refine: Tries = 0
    enforce: bool = False
    tolerance: Annotated[float, Within(0, 1e30, above=True)] | None = None


def shown(value: object) -> str:
    """A value in a message, in one short line."""
    if isinstance(value, int) and abs(value) >= 10**SHOWN:
        return f"a number of {int(value.bit_length() * 0.30103) + 1} digits"
    text = f"{value:g}" if isinstance(value, float) else " ".join(repr(value).split())
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def spelled(name: str) -> str:
    """A name as an option spells it: words joined by `-`."""
    return re.sub(r"[\W_]+", "-", name).strip("-")


def typed(value: Any, hint: Any, place: str) -> Any:
    """`value` as the type says: a number in its range, lists as tuples where these are asked for.

    Types that are not made of plain values are looked at by `isinstance`; others are let through.
    """
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if hint in USUAL:
        return typed(value, Annotated[hint, USUAL[hint]], place)
    if origin in (Required, NotRequired):
        return typed(value, inner[0], place)
    if origin is Annotated:
        ranges = [note for note in hint.__metadata__ if isinstance(note, Within)]
        checked = (_plain if ranges else typed)(value, inner[0], place)
        for entry in ranges:
            entry.check(checked, place)
        return checked
    if origin in (Union, types.UnionType):
        return _one_of(value, inner, place)
    if origin is Literal:
        value = _number(value)
        if not isinstance(value, str | int | bool) or value not in inner:
            choices = ", ".join(map(str, inner))
            raise InputError(f"{place}: expected one of {choices}, got {shown(value)}")
        return value
    if origin in (tuple, list, Sequence):
        return _several(value, origin, inner, place)
    if origin in (dict, Mapping):
        return {
            typed(key, inner[0], place): typed(entry, inner[1], f"{place}.{key}"[:SHOWN])
            for key, entry in _plain(value, Mapping, place).items()
        }
    if is_typeddict(hint):
        return _record(value, hint, place)
    if isinstance(hint, type) and is_dataclass(hint) and isinstance(value, Mapping):
        return build(hint, value, place)
    return _plain(value, hint, place)


def _plain(value: Any, hint: Any, place: str) -> Any:
    """A value of a class; whole numbers are numbers, and truth values are not. NumPy's numbers
    become Python's."""
    if not isinstance(hint, type) or get_origin(hint) is not None:
        return value
    if hint in USUAL:
        value = _number(value)
    wanted: Any = (int, float) if hint is float else hint
    if not isinstance(value, wanted) or (hint in USUAL and isinstance(value, bool)):
        raise InputError(f"{place}: expected {WORDS.get(hint, hint.__name__)}, got {shown(value)}")
    return value


def _number(value: Any) -> Any:
    if isinstance(value, int | float) and type(value).__module__ != "numpy":
        return value
    if isinstance(value, Integral):
        return int(value)
    return float(value) if isinstance(value, Real) else value


USUAL: Mapping[Any, Within] = {int: WHOLE, float: REAL}
WORDS: Mapping[Any, str] = {
    int: "a whole number", float: "a number", str: "text", bool: "true or false",
    dict: "names and values", Mapping: "names and values", list: "a list", type(None): "nothing",
}  # fmt: skip


def _one_of(value: Any, hints: tuple[Any, ...], place: str) -> Any:
    if value is None and type(None) in hints:
        return None
    refusals = []
    for hint in hints:
        if hint is not type(None):
            try:
                return typed(value, hint, place)
            except InputError as error:
                refusals.append(error)
    raise refusals[0]


def _several(value: Any, origin: type, hints: tuple[Any, ...], place: str) -> Any:
    if not isinstance(value, list | tuple):
        raise InputError(f"{place}: expected several values, got {shown(value)}")
    fixed = origin is tuple and hints[-1:] != (...,)
    if fixed and len(value) != len(hints):
        raise InputError(f"{place}: expected {len(hints)} values, got {len(value)}")
    kinds = hints if fixed else hints[:1] * len(value)
    entries = [typed(entry, kind, place) for entry, kind in zip(value, kinds, strict=True)]
    return tuple(entries) if origin is tuple else entries


def _record(value: Any, hint: Any, place: str) -> Any:
    """Names and values of which some are known; the others are left as they are."""
    known, given = _hints(hint), _plain(value, Mapping, place)
    if missing := sorted(hint.__required_keys__ - given.keys()):
        raise InputError(f"{place}: has no entry {missing[0]!r}")
    return {
        name: typed(entry, known[name], f"{place}: {name}") if name in known else entry
        for name, entry in given.items()
    }


def _hints(kind: Any) -> dict[str, Any]:
    try:
        return get_type_hints(kind, include_extras=True)
    except NameError as error:
        raise InputError(f"{kind.__name__}: the type of a field is not known ({error})") from None


def check_fields(config: Any, place: str = "") -> None:
    """Hold every field of a dataclass against its type, its range and its choices, and keep it as
    that type: NumPy's numbers as Python's, lists as tuples.

    Arguments:
        place: What stands in front of a field's name in messages.
    """
    hints = _hints(type(config))
    for field in fields(config):
        said = field.metadata.get("name", field.name)
        value = typed(getattr(config, field.name), hints[field.name], f"{place}{said}")
        object.__setattr__(config, field.name, value)  # frozen ones too


def build(kind: type[T], config: Any, place: str) -> T:
    """A dataclass from names and values, as a file has them."""
    said, hints, values = f"config of {place}", _hints(kind), {}
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    for name, value in _plain(config, Mapping, said).items():
        if name not in known:
            raise InputError(f"{said}: unknown entry {shown(name)}")
        nested = is_dataclass(hints[name])
        values[name] = (
            build(hints[name], value, f"{place}.{name}")
            if nested
            else typed(value, hints[name], f"{said}: {name}")
        )
    try:
        return kind(**values)
    except TypeError as error:
        raise InputError(f"{said}: {error}") from None
