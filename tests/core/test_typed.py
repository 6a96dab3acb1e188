"""Values from outside against the types and ranges that are stated."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from math import inf, nan
from typing import Annotated, Any, Literal, Required, TypedDict

import numpy as np
import pytest
import yaml

from lawful import InputError, Training
from lawful.registry import STUDIES
from lawful.study import Study, headline
from lawful.typed import Within, build, check_fields, shown, typed

Share = Annotated[float, Within(0, 1, above=True, below=True)]


@dataclass(frozen=True)
class Inner:
    size: Annotated[int, Within(1, 8)] = 1


@dataclass(frozen=True)
class Outer:
    inner: Inner = Inner()
    share: Share | None = None
    names: tuple[str, ...] = ()
    pair: tuple[int, float] = (1, 2.0)
    kind: Literal["a", 3] = "a"
    rest: Any = None


class Record(TypedDict, total=False):
    name: Required[str]
    sizes: dict[str, int]


@pytest.mark.parametrize(
    ("value", "hint", "found"),
    [
        (3, int, 3),
        (3, float, 3),
        (np.int64(3), int, 3),
        (np.uint8(3), float, 3),
        (np.float32(0.5), float, 0.5),
        (np.int64(3), Literal["a", 3], 3),
        ([np.int32(1)], tuple[Annotated[int, Within(1, 8)], ...], (1,)),
        (None, Share | None, None),
        (0.5, Share | None, 0.5),
        ([1, 2], tuple[int, ...], (1, 2)),
        ([1, 2.5], tuple[int, float], (1, 2.5)),
        ({"a": [1]}, dict[str, list[int]], {"a": [1]}),
        ({"name": "x", "more": 1}, Record, {"name": "x", "more": 1}),
        ("b", Literal["a", "b"], "b"),
        (nan, Any, pytest.approx(nan, nan_ok=True)),
        ([1, {}], list[Any], [1, {}]),
    ],
)
def test_sound_values_are_taken(value, hint, found):
    assert typed(value, hint, "x") == found


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (np.True_, int), (np.float64(1), int), (np.int64(2**40), int),
        (True, int), (1.0, int), ("1", int), (2**31, int), (-(2**63), int), (10**400, int),
        (10**400, float), (nan, float), (inf, float), (3.5e38, float), (None, float),
        (False, float), (0.0, Share), (1.0, Share), (nan, Share), ("x", Share | None), (1, str),
        (b"a", str), ("abc", tuple[str, ...]), ([1], tuple[int, float]), ([1, None], list[int]),
        (3, dict[str, int]), ({1: 2}, dict[str, int]), ({"a": "b"}, Mapping[str, int]),
        ([], Record), ({}, Record), ({"name": 1}, Record),
        ({"name": "x", "sizes": {"a": 2.5}}, Record), ("c", Literal["a", "b"]),
        ([], Literal["a"]), ({}, Literal["a"]), ("x", bool), (1, bool),
    ],
)  # fmt: skip
def test_others_are_refused_in_one_short_line(value, hint):
    with pytest.raises(InputError, match=r"^place") as caught:
        typed(value, hint, "place")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_a_dataclass_is_built_of_plain_values_and_names_what_it_refuses():
    made = build(Outer, {"inner": {"size": 8}, "names": ["a"], "pair": [1, 2]}, "outer")
    assert made == Outer(Inner(8), names=("a",), pair=(1, 2))
    for config, message in (
        ({"inner": {"size": 9}}, "config of outer.inner: size: expected at most 8, got 9"),
        ({"inner": 3}, "config of outer.inner: expected names and values, got 3"),
        ({"other": 1}, "unknown entry 'other'"),
        ({3: 1, "a": 2}, "unknown entry 3"),
        ([], "expected names and values"),
        ({"kind": 4}, "expected one of a, 3, got 4"),
    ):
        with pytest.raises(InputError, match=message):
            build(Outer, config, "outer")


def test_what_is_shown_of_a_value_is_one_short_line():
    assert shown(10**5000) == "a number of 5001 digits"
    assert len(shown("a\n" * 1000)) < 70
    assert "\n" not in shown([["a\nb"], {"c": "\n\n"}])


@pytest.mark.parametrize("name", STUDIES)
@pytest.mark.parametrize("value", [-(2**63), 2**63, 10**400, nan, inf, 3.5e38, "x", [], {}, True])
def test_every_number_of_every_study_has_a_range(name, value):
    preset = next(iter(STUDIES[name].presets().values()))
    config = preset.config()
    for entry, usual in [*config.items(), *config["training"].items()]:
        if type(usual) not in (int, float):
            continue
        inner = entry in config["training"]
        changed = {"training": {**config["training"], entry: value}} if inner else {entry: value}
        with pytest.raises(InputError) as caught:
            STUDIES[name].from_config({**config, **changed})
        assert entry in str(caught.value)


@pytest.mark.parametrize("name", STUDIES)
def test_presets_are_in_their_ranges(name):
    for preset in STUDIES[name].presets().values():
        check_fields(preset)
        assert STUDIES[name].from_config(preset.config()) == preset


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_made_of_wrong_types_is_refused_in_one_line(name):
    preset = next(iter(STUDIES[name].presets().values()))
    for entry in fields(preset):
        for value in (0.9, "x", [None], {"a": 1}, None):
            with suppress(InputError):  # anything else would be a traceback
                replace(preset, **{entry.name: value})


def test_training_names_its_entries():
    with pytest.raises(InputError, match=r"training\.steps: expected at least 1, got 0"):
        Training(steps=0)
    with pytest.raises(InputError, match=r"training\.learning_rate: expected at most"):
        Training(steps=1, learning_rate=3.5e38)


def test_numbers_of_numpy_are_kept_as_plain_ones():
    training = Training(steps=np.int64(3), average=np.float32(0.5))
    assert yaml.safe_dump(vars(training)["steps"]) == yaml.safe_dump(3)
    assert type(training.steps) is int
    assert type(training.average) is float


@pytest.mark.parametrize("template", ["a {0} b", "{} of it", "{energy", lambda self: "", 3])
def test_a_headline_that_could_not_be_filled_in_is_refused_with_its_class(template):
    with pytest.raises(InputError, match="headline"):
        type("Mine", (Study,), {"headline": template})


def test_a_headline_never_costs_a_model():
    mine = type("Mine", (Study,), {"headline": "{energy:q}", "name": "mine"})
    assert headline(mine, {"energy": 1.0}) == "not all figures are there"
