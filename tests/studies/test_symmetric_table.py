"""What the tables of symmetric studies are made of: runs, curves, equal steps, equal time."""

import json
import math
from dataclasses import asdict, fields, replace

import pytest
import torch

from lawful import InputError
from lawful.files import write_json
from lawful.model import Model
from lawful.studies import histology, histology_table, rotmnist_table
from lawful.studies.histology import HistologyStudy
from lawful.studies.histology_table import histology_result, histology_runs
from lawful.studies.rotmnist import RotatedDigitsStudy, RotatedQuality
from lawful.studies.rotmnist_table import rotmnist_result, rotmnist_runs
from lawful.studies.symmetric import SymmetricStudy
from lawful.studies.symmetric_table import (
    FULL,
    PLAIN,
    Curve,
    curves_figure,
    design_of,
    match,
    match_text,
    ratio,
    seeds_text,
    sheet,
    spread,
    typical,
)

TABLES = [
    (RotatedDigitsStudy, rotmnist_runs, rotmnist_table.DESIGNS),
    (HistologyStudy, histology_runs, histology_table.DESIGNS),
]
FIGURES = RotatedQuality(*(0.5 for _ in fields(RotatedQuality)))


def untrained(study, name, folder=None, watched=None):
    """A model of a run that watched some figures, at steps and seconds 10, 20, …"""
    torch.manual_seed(0)
    manifest = {"steps": study.training.steps, "training_seconds": 90.0}
    if watched is None:
        return Model(study, study.network().eval(), manifest)
    rows = [
        {"step": 10 * k, "seconds": 10.0 * k, **{f"watch/{n}": value for n, value in row.items()}}
        for k, row in enumerate(watched, 1)
    ]
    (folder / name).mkdir()
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / name / "metrics.jsonl").write_text(text)
    return Model(study, study.network().eval(), manifest, folder / name)


def table(result):
    """Rows of the first table by their first cell, each by the heads of its columns."""
    lines = [line for line in result.markdown.split("\n") if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: dict(zip(cells[0], row, strict=True)) for row in cells[2:]}


def stored(result, folder):
    """The data as they are written, of numbers that JSON knows."""
    write_json(folder / "table.json", result.data)
    return json.loads((folder / "table.json").read_text(), parse_constant=pytest.fail)


def missing(quality):
    return {name for name, value in quality.items() if value is None}


# Runs


@pytest.mark.parametrize(("kind", "runs", "designs"), TABLES)
@pytest.mark.parametrize("preset", ["quick", "smoke", "paper"])
def test_every_run_has_a_name_and_a_design_of_its_own(kind, runs, designs, preset):
    found = runs(kind.presets()[preset], preset)
    keys = {str(study.config()) for study in found.values()}
    assert len(keys) == len(found) > len(designs)
    for name, study in found.items():
        design = design_of(name, designs)
        assert {k: getattr(study, k) for k in design.changes} == dict(design.changes)
    assert {design_of(n, designs).name for n in found} == {d.name for d in designs}


@pytest.mark.parametrize(("kind", "runs", "designs"), TABLES)
@pytest.mark.parametrize("preset", ["quick", "smoke", "paper"])
def test_runs_of_a_block_differ_by_their_design_their_steps_and_their_seed(
    kind, runs, designs, preset
):
    """What is compared has the same data, critic and game; the plain pair is not cut short."""
    base = kind.presets()[preset]
    varied = {name for design in designs for name in design.changes}
    found: dict[str, dict[str, SymmetricStudy]] = {}
    for name, study in runs(base, preset).items():
        block, _, ending = name.partition(f"-{design_of(name, designs).name}-")
        assert study.training.seed == base.training.seed + int(ending)
        found.setdefault(block, {})[name] = study
    for block, several in found.items():
        same = [
            replace(
                study,
                training=replace(study.training, seed=0, steps=1),
                **{name: getattr(base, name) for name in varied},
            )
            for study in several.values()
        ]
        assert all(study == same[0] for study in same), block
        steps = {
            which: max((s.training.steps for n, s in several.items()
                        if design_of(n, designs).changes == changes), default=0)
            for which, changes in (("full", FULL), ("plain", PLAIN))
        }  # fmt: skip
        assert steps["plain"] >= steps["full"], block


def test_what_decides_is_trained_with_the_averaging_critic_too():
    quick = RotatedDigitsStudy.presets()["quick"]
    runs = rotmnist_runs(quick, "quick")
    found = {name: study for name, study in runs.items() if "-averaging-" in name}
    assert {design_of(name, rotmnist_table.DESIGNS).name for name in found} == {"plain", "c4"}
    rate = replace(quick.training, learning_rate=rotmnist_table.AVERAGING_RATE)
    for name, study in found.items():
        twin = runs[name.replace("-averaging-", "-")]
        training = replace(rate, steps=study.training.steps, seed=twin.training.seed)
        assert study == replace(twin, training=training, **rotmnist_table.AVERAGING)


@pytest.mark.parametrize(
    ("preset", "share", "kept"),
    [("quick", 0.1, {0.1, 1.0}), ("quick", 0.2, {0.2}), ("paper", 0.1, {0.1, 0.5, 1.0})],
)
def test_shares_over_the_whole_are_left_out(preset, share, kept):
    study = replace(RotatedDigitsStudy.presets()[preset], share=share)
    assert {run.share for run in rotmnist_runs(study, preset).values()} == kept


def test_tissue_is_trained_for_equal_steps():
    for preset, study in HistologyStudy.presets().items():
        runs = histology_runs(study, preset)
        assert {run.training.steps for run in runs.values()} == {study.training.steps}


def test_a_run_of_no_design_is_refused():
    with pytest.raises(InputError, match="quick-ra-other-0"):
        design_of("quick-ra-other-0", histology_table.DESIGNS)


def test_runs_and_models_of_another_study_are_refused():
    results = (rotmnist_result, histology_result)
    for (kind, runs, _), (other, _, _), result in zip(TABLES, TABLES[::-1], results, strict=True):
        smoke = other.presets()["smoke"]
        said = f"{kind.name} table: expected the study {kind.name}, got {other.name}"
        with pytest.raises(InputError, match=said):
            runs(smoke, "smoke")
        with pytest.raises(InputError, match=said):
            result({"run": untrained(smoke, "run")})


# Comparisons


def test_designs_are_compared_at_equal_steps_and_at_equal_time():
    ours = Curve([10, 20], [5.0, 10.0], [4.0, 2.0])
    theirs = Curve([10, 20, 30, 40], [2.0, 4.0, 6.0, 12.0], [9.0, 8.0, 5.0, 7.0])
    found = match([ours], [theirs])
    assert (found.ours, found.theirs, found.in_time, found.best) == ([2.0], [8.0], [5.0], [5.0])
    assert found.data()["ratio"] == 0.25
    text = match_text(found, "distance")
    assert "one seed: 2 after 20 steps; the plain pair 8 at the same steps, 5 after the" in text
    assert "(ratio 0.25 at the same steps, 0.40 to its best)" in text
    assert math.isnan(theirs.at_step(5))
    assert math.isnan(theirs.at_time(1.0))


def test_a_plain_pair_trained_for_less_time_is_not_compared_by_time():
    ours = Curve([10, 20], [5.0, 10.0], [4.0, 2.0])
    theirs = Curve([10, 20], [4.0, 8.0], [9.0, 8.0])
    assert theirs.at_time(8.0) == 8.0
    found = match([ours, ours], [theirs, theirs])
    assert all(map(math.isnan, found.in_time))
    text = match_text(found, "distance")
    assert "after the same time" not in text
    assert "nan" not in text
    assert "8 (8–8) at the same steps, 8 (8–8) at its best" in text


def test_a_ratio_is_of_medians_and_only_to_what_is_above_zero():
    assert ratio([1.0, 9.0, 2.0], [4.0, 4.0, 90.0]) == 0.5
    assert math.isnan(ratio([1.0], [-0.1]))
    assert math.isnan(ratio([1.0], [0.0]))
    text = match_text(match([Curve([1], [1.0], [2.0])], [Curve([1], [1.0], [-0.5])]), "distance")
    assert "ratio" not in text


def test_several_seeds_are_their_median_with_least_and_most():
    assert spread([3.0, 1.0, 2.0], ".1f") == "2.0 (1.0–3.0)"
    assert spread([3.0], ".1f") == "3.0"
    assert seeds_text([3.0]) == "one seed"
    assert seeds_text([3.0, 1.0]) == "median of 2 seeds (least–most)"
    several = [replace(FIGURES, kernel=k, equivariance=k) for k in (1.0, 5.0, 2.0)]
    assert (typical(several).kernel, typical(several).equivariance) == (2.0, 5.0)


@pytest.mark.parametrize(
    ("values", "scale"),
    [([3.0, 0.1], "log"), ([3.0, -0.01], "symlog"), ([3.0, 0.0], "symlog"), ([0.0, 0.0], "linear")],
)
def test_curves_are_drawn_on_a_log_axis_only_where_they_are_above_zero(values, scale):
    above = Curve([1, 2], [1.0, 2.0], [0.0, 0.0] if scale == "linear" else [2.0, 1.0])
    drawn = curves_figure({"a": [above], "b": [Curve([1, 2], [1.0, 2.0], values)]}, "distance")
    assert [axis.get_yscale() for axis in drawn.axes] == [scale, scale]
    low, high = drawn.axes[0].get_ylim()
    assert low < min(values) <= max(values) < high
    drawn.canvas.draw()


def test_a_sheet_is_read_row_by_row():
    images = torch.arange(7.0)[:, None, None, None].expand(7, 1, 2, 3)
    shown = sheet(images, 3)
    assert shown.shape == (4, 9, 1)
    assert shown[::2, ::3, 0].tolist() == [[0, 1, 2], [3, 4, 5]]


# Results


def counted(monkeypatch, module, name, figures=None):
    """Calls of a module's function, with what it was told of elements of the group."""
    calls, real = [], getattr(module, name)

    def wrapped(study, *rest, **named):
        calls.append((study, *named.values()))
        return real(study, *rest, **named) if figures is None else figures

    monkeypatch.setattr(module, name, wrapped)
    return calls


def test_the_table_of_digits_has_a_row_a_design_and_floors(tmp_path, monkeypatch):
    calls = counted(monkeypatch, rotmnist_table, "rotated_quality")
    runs = rotmnist_runs(replace(RotatedDigitsStudy.presets()["smoke"], judged=40), "smoke")
    seen = {
        "plain-0": [50.0, 40.0, 48.0, 45.0, 47.0],
        "c4-0": [20.0, 10.0, 8.0, 5.0],
        "c4-1": [20.0, 14.0, 8.0, 7.0],
        "augmented-0": [60.0, 30.0],
    }
    models = {
        name: untrained(runs[name], name, tmp_path, [{"frechet": v} for v in values])
        for run, values in seen.items()
        for name in [f"smoke-0.2pc-ra-{run}"]
    }
    result = rotmnist_result(models)
    plain, *full, augmented = (model.study for model in models.values())
    posed = [(study, True) for study in full]
    incomplete = [(study, False) for study in full]
    assert calls == [(plain, True), *posed, *incomplete, (augmented, True)]
    rows = table(result)
    words = ["plain G, plain D", "Eqv G, Inv D, C4", "(I)Eqv G, Inv D, C4"]
    last = "plain pair, augmented by quarter turns"
    assert list(rows) == [*words, last, "40 other real digits", "40 of the 120 trained on"]
    errors = [row["equivariance error"] for row in rows.values()]
    assert {errors[0], *errors[2:]} == {""}
    assert float(errors[1]) < 1e-5
    assert rows[words[1]]["minutes"] == "1.5"
    assert {row["slides, 10 %"] for row in rows.values()} == {""}  # the slides' are of 10 %
    monkeypatch.setattr(rotmnist_table, "SLIDES_SHARE", 0.002)
    again = table(rotmnist_result(models))
    assert [again[word]["slides, 10 %"] for word in words] == ["348", "89", "132"]
    assert [rows[word]["steps"] for word in (*words, last)] == ["120", "40", "40", "20"]
    early = [rows[word]["watched"] for word in (*words, last)]
    assert early == ["40.00", "12.00 (10.00–14.00)", "", "30.00"]
    assert "of 40 samples at the last checkpoint up to 20 steps" in result.markdown
    assert "5 after 40 steps; the plain pair 45 at the same steps, 45 after the" in result.markdown
    assert "(ratio 0.11 at the same steps, 0.12 to its best)" in result.markdown
    (block,) = stored(result, tmp_path)["blocks"].values()
    assert [row["row"] for row in block["rows"]] == [*words, last]
    assert [row["watched"] for row in block["rows"]] == [[40.0], [10.0, 14.0], [], [30.0]]
    gaps = [missing(quality) for row in block["rows"] for quality in row["quality"]]
    none = {"equivariance"}
    assert gaps == [none, set(), set(), none, none, none]
    assert [missing(floor) for floor in block["floors"].values()] == 2 * [none]
    frechet = [[quality["frechet"] for quality in row["quality"]] for row in block["rows"]]
    found = [spread(values, ".2f") for values in frechet]
    assert found == [rows[word]["Fréchet"] for word in (*words, last)]
    assert frechet[1] != frechet[2]  # the same weights, but not the same samples
    assert block["watched"]["to_best"] == 0.125
    assert set(result.figures) == {"samples-1", "curves-1"}


def test_where_all_critics_average_there_is_no_block_of_such():
    quick = RotatedDigitsStudy.presets()["quick"]
    runs = rotmnist_runs(replace(quick, critic_kernel=0), "quick")
    assert runs
    assert not any("averaging" in name for name in runs)


@pytest.mark.parametrize("critic_kernel", [3, 7])
def test_runs_of_two_critics_are_two_tables(critic_kernel, monkeypatch):
    for judging in ("rotated_quality", "judge_digits"):
        counted(monkeypatch, rotmnist_table, judging, FIGURES)
    runs = rotmnist_runs(
        replace(RotatedDigitsStudy.presets()["smoke"], critic_kernel=critic_kernel), "smoke"
    )
    names = [f"smoke-{prefix}-plain-0" for prefix in ("0.2pc-ra", "averaging-0.2pc-ra")]
    result = rotmnist_result({name: untrained(runs[name], name) for name in names})
    blocks = result.data["blocks"]
    assert {title.rpartition(", ")[2]: len(block["rows"]) for title, block in blocks.items()} == {
        f"critic of {critic_kernel} × {critic_kernel}": 1, "averaging critic": 1
    }  # fmt: skip
    said = [
        f"last filters see {critic_kernel} × {critic_kernel} of its",
        "head averages all of its",
    ]
    said += ["penalty weighs 1; it takes a step for one of the generator, at rates of 0.001 and"]
    said += ["penalty weighs 0.025; it takes 2 steps for one of the generator, at rates of 0.0004"]
    assert all(text in result.markdown for text in said)
    assert "Watched:" not in result.markdown


def test_floors_of_a_share_are_judged_once_for_all_losses(monkeypatch):
    counted(monkeypatch, rotmnist_table, "rotated_quality", FIGURES)
    calls = counted(monkeypatch, rotmnist_table, "judge_digits", FIGURES)
    runs = rotmnist_runs(RotatedDigitsStudy.presets()["smoke"], "smoke")
    prefixes = ("0.2pc-ra", "averaging-0.2pc-ra", "2pc-ra", "2pc-d2")
    names = [f"smoke-{prefix}-plain-0" for prefix in prefixes]
    result = rotmnist_result({name: untrained(runs[name], name) for name in names})
    assert [study.share for study, *_ in calls] == [0.002, 0.002, 0.02, 0.02]
    assert list(result.data["blocks"]) == [
        "0.2 % of 60,000 digits, RA, critic of 7 × 7",
        "0.2 % of 60,000 digits, RA, averaging critic",
        "2 % of 60,000 digits, RA, critic of 7 × 7",
        "2 % of 60,000 digits, D2, critic of 7 × 7",
    ]
    assert all(block["watched"] is None for block in result.data["blocks"].values())
    assert "Full design" not in result.markdown
    assert set(result.figures) == {f"samples-{k}" for k in range(1, 5)}


def test_a_model_alone_is_one_row_of_its_own_name(monkeypatch):
    counted(monkeypatch, rotmnist_table, "rotated_quality", FIGURES)
    counted(monkeypatch, rotmnist_table, "judge_digits", FIGURES)
    smoke = RotatedDigitsStudy.presets()["smoke"]
    (block,) = rotmnist_result({"runs/mine": untrained(smoke, "")}).data["blocks"].values()
    assert block["rows"] == [
        {"row": "runs/mine", "quality": [asdict(FIGURES)], "steps": 20, "watched": []}
    ]


def test_the_table_of_tissue_is_decided_by_its_own_figures(tmp_path, monkeypatch):
    coarse = torch.nn.Sequential(torch.nn.AvgPool2d(8), torch.nn.Flatten())
    monkeypatch.setattr(histology, "_network", lambda features: coarse)
    calls = counted(monkeypatch, histology_table, "tissue_quality")
    smoke = replace(HistologyStudy.presets()["smoke"], features="coarse pixels")
    runs = histology_runs(smoke, "smoke")
    seen = {"plain": [0.4, 0.5], "d4": [0.9, -0.1, 0.2]}
    models = {
        name: untrained(runs[name], name, tmp_path, [{"kernel": v} for v in values])
        for design, values in seen.items()
        for name in [f"smoke-ra-{design}-0"]
    }
    result = histology_result(models)
    plain, full = (model.study for model in models.values())
    assert calls == [(plain, True), (full, True), (full, False)]
    rows = table(result)
    words = ["plain G, plain D", "Eqv G, Inv D, D4", "(I)Eqv G, Inv D, D4"]
    assert list(rows) == [*words, "patches trained on"]
    floor = rows["patches trained on"]
    assert floor["invariance p"] == floor["equivariance error"] == ""
    assert float(floor["Fréchet"]) > 0
    assert float(rows[words[1]]["equivariance error"]) < 1e-5
    assert rows[words[0]]["equivariance error"] == rows[words[2]]["equivariance error"] == ""
    over = [rows[word]["best, median over training"] for word in words]
    assert over == ["400.0, 450.0", "-100.0, 200.0", ""]
    data = stored(result, tmp_path)
    assert list(data["blocks"]) == ["RA"]
    block = data["blocks"]["RA"]
    assert [row["row"] for row in block["rows"]] == words
    gaps = [missing(quality) for row in block["rows"] for quality in row["quality"]]
    assert gaps == [{"equivariance"}, set(), {"equivariance"}]
    (real,) = data["floors"].values()
    assert missing(real) == {"equivariance", "invariance"}
    theirs, ours = (1000 * row["quality"][0]["kernel"] for row in block["rows"][:2])
    assert (
        f"kernel distance of 32 samples × 1000, one seed: {ours:.3g}; the plain pair "
        f"{theirs:.3g} (ratio {ours / theirs:.2f}). As watched, of 32 samples: 200; the plain "
        "pair 400 (ratio 0.50) at its best checkpoint."
    ) in result.markdown  # the plain pair was trained for less time
    assert "features of coarse pixels" in result.markdown
    assert "nan" not in result.markdown
    assert set(result.figures) == {"samples-ra", "curves-ra"}
    assert {axis.get_yscale() for axis in result.figures["curves-ra"].axes} == {"symlog"}
