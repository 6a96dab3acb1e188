"""One table: rows of seeds, columns with median and range, claims, recipes."""

import importlib
from dataclasses import replace
from math import nan
from pathlib import Path

import pytest

from lawful import InputError
from lawful.catalogue import COMPUTED
from lawful.model import Model
from lawful.registry import STUDIES, find
from lawful.studies.results import recipe_of
from lawful.study import Training
from lawful.table import (
    Claim,
    Column,
    Row,
    checked,
    claims_table,
    ratios,
    record,
    row_of,
    spread,
    table,
)

Tiny = find(str(Path(__file__).with_name("tiny.py")))
ROWS = (Row("plain, μ = 10,000", seeds=3, steps=2.0), Row("not so plain", name="c4"))


def test_a_row_makes_a_run_per_seed_of_the_presets_own():
    study = Tiny(Training(steps=5, seed=4))
    runs = ROWS[0].runs(study, "quick")
    assert list(runs) == [f"quick-plain-mu-10000-{k}" for k in range(3)]
    assert [run.training.seed for run in runs.values()] == [4, 5, 6]
    assert {run.training.steps for run in runs.values()} == {10}
    assert all(row_of(name, ROWS) is ROWS[0] for name in runs)
    assert row_of("quick-ra-c4-0", ROWS) is ROWS[1]
    assert row_of("x-a-b-0", [Row("b"), Row("a-b")]).slug == "a-b"
    with pytest.raises(InputError, match="run quick-other-0: of none of the rows plain-mu-10000"):
        row_of("quick-other-0", ROWS)


def test_a_line_has_the_median_of_its_records_and_words_as_they_are():
    study = Tiny(Training(steps=5))
    models = [
        Model(replace(study, training=Training(5, seed=k)), study.network(),
              {"steps": 5, "training_seconds": 60.0 * k})
        for k in range(3)
    ]  # fmt: skip
    records = [
        record("ours", "run", m, {"error": 0.1 * k, "said": "yes"}) for k, m in enumerate(models)
    ]
    records += [{"row": "floor", "error": 0.25, "p": nan}]
    columns = {"error": Column("error", ".2f", ranged=True), "p": Column("p"),
               "worst": Column("error", ".1%", of=max), "said": Column("said")}  # fmt: skip
    assert table(records, columns, "players").splitlines() == [
        "| players | seeds | error | p | worst | said | minutes |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| ours | 3 | 0.10 (0.00–0.20) |  | 20.0% | yes | 1.0 |",
        "| floor |  | 0.25 |  | 25.0% |  |  |",
    ]
    assert table(records[-1:], {"error": Column("error")}).endswith("| floor | 0.25 |")
    assert spread([0.5]) == "0.5"


def test_ratios_are_of_medians_of_rows_that_differ_by_a_pair_of_words():
    figures = {"old, big": [4.0, 4.0, 90.0], "new, big": [1.0, 9.0, 2.0], "new": [1.0],
               "old": [-0.1], "new, small": [nan], "old, small": [1.0]}  # fmt: skip
    records = [{"row": row, "error": v} for row, values in figures.items() for v in values]
    lines = ratios(records, "error", ("new", "old"), "g", "error").splitlines()
    assert lines[0] == "| error | new | old | ratio |"
    assert lines[2:] == ["| big | 2 (1–9) | 4 (4–90) | 0.5 |", "| as above | 1 | -0.1 |  |"]
    assert ratios(records, "error", ("new", "third"), "g", "") == ""


def test_a_claim_is_answered_only_where_its_figures_bear_it_out():
    true, odd = (Claim("it converges", "ρ = 0.9", holds, "for η < 1") for holds in (True, False))
    lines = claims_table([true, odd]).splitlines()[2:]
    assert lines[0] == "| it converges | for η < 1 | ρ = 0.9 |"
    assert lines[1] == "| it converges | not as derived: see the figures | ρ = 0.9 |"


def test_a_study_of_another_kind_is_refused():
    with pytest.raises(InputError, match="motif table: expected the study motif, got tiny"):
        checked(Tiny(Training(5)), STUDIES["motif"])


@pytest.mark.parametrize("name", STUDIES)
def test_every_recipe_takes_one_of_its_studys_presets(name):
    recipe = recipe_of(STUDIES[name])
    presets = STUDIES[name].presets()
    preset = recipe.preset or next(iter(presets))
    assert recipe.runs(presets[preset], preset)


def test_computed_results_are_where_they_are_said_to_be():
    for entry in COMPUTED.values():
        assert callable(importlib.import_module(entry.place).result)
