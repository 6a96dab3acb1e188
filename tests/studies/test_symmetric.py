"""What the tables of symmetric studies are made of: runs, curves, equal steps, equal time."""

import json
import math
from dataclasses import replace

import pytest
import torch

from lawful import InputError
from lawful.files import json_bytes
from lawful.model import Model
from lawful.studies import histology, rotmnist
from lawful.studies.histology import HistologyStudy, histology_runs
from lawful.studies.latent import curves_figure, sheets_figure
from lawful.studies.rotmnist import RotatedDigitsStudy, rotmnist_runs
from lawful.studies.symmetric import SymmetricStudy
from lawful.studies.symmetric_table import FULL, PLAIN, compared, last
from lawful.table import row_of, spread

TABLES = [
    (RotatedDigitsStudy, rotmnist_runs, rotmnist.ROWS),
    (HistologyStudy, histology_runs, histology.ROWS),
]
FIGURES = {"frechet": 0.5, "kernel": 0.5, "equivariance": 0.5}


def untrained(study, name, folder=None, watched=None):
    """A model of a run that watched some figures, at steps and seconds 10, 20, …"""
    torch.manual_seed(0)
    manifest = {"steps": study.training.steps, "training_seconds": 90.0}
    if watched is None:
        return Model(study, study.network().eval(), manifest)
    rows = [
        {"step": 10 * k, "seconds": 10.0 * k, f"watch/{study.decisive}": value}
        for k, value in enumerate(watched, 1)
    ]
    (folder / name).mkdir()
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / name / "metrics.jsonl").write_text(text)
    return Model(study, study.network().eval(), manifest, folder / name)


def lines(result, table):
    """Rows of a table by their first cell, each by the heads of its columns."""
    text = [part for part in result.markdown.split("\n\n") if part.startswith("|")][table]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.split("\n")]
    return {row[0]: dict(zip(cells[0], row, strict=True)) for row in cells[2:]}


def stored(result, folder):
    """The data as they are written, of numbers that JSON knows."""
    (folder / "table.json").write_bytes(json_bytes(result.data))
    return json.loads((folder / "table.json").read_text(), parse_constant=pytest.fail)


def curve(*values, seconds=10.0):
    return [{"step": 10 * k, "seconds": seconds * k, "value": v} for k, v in enumerate(values, 1)]


# Runs


@pytest.mark.parametrize(("kind", "runs", "rows"), TABLES)
@pytest.mark.parametrize("preset", ["quick", "smoke", "paper"])
def test_every_run_has_a_name_and_a_design_of_its_own(kind, runs, rows, preset):
    found = runs(kind.presets()[preset], preset)
    keys = {str(study.config()) for study in found.values()}
    assert len(keys) == len(found) > len(rows)
    for name, study in found.items():
        row = row_of(name, rows)
        assert {k: getattr(study, k) for k in row.changes} == dict(row.changes)
    assert {row_of(name, rows).name for name in found} == {row.name for row in rows}


@pytest.mark.parametrize(("kind", "runs", "rows"), TABLES)
@pytest.mark.parametrize("preset", ["quick", "smoke", "paper"])
def test_runs_of_a_block_differ_by_their_design_their_steps_and_their_seed(
    kind, runs, rows, preset
):
    """What is compared has the same data, critic and game; the plain pair is not cut short."""
    base = kind.presets()[preset]
    varied = {name for row in rows for name in row.changes}
    found: dict[str, dict[str, SymmetricStudy]] = {}
    for name, study in runs(base, preset).items():
        block, _, ending = name.partition(f"-{row_of(name, rows).name}-")
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
                        if row_of(n, rows).changes == changes), default=0)
            for which, changes in (("full", FULL), ("plain", PLAIN))
        }  # fmt: skip
        assert steps["plain"] >= steps["full"], block


def test_what_decides_is_trained_with_the_averaging_critic_too():
    quick, paper = (RotatedDigitsStudy.presets()[name] for name in ("quick", "paper"))
    runs = rotmnist_runs(quick, "quick")
    found = {name: study for name, study in runs.items() if "-averaging-" in name}
    assert {row_of(name, rotmnist.ROWS).name for name in found} == {"plain", "c4"}
    for study in found.values():
        assert (
            (study.critic_kernel, study.penalty)
            == (paper.critic_kernel, paper.penalty)
            != (quick.critic_kernel, None)
        )
        assert study.critic_rate == paper.critic_rate
    averaging = rotmnist_runs(replace(quick, critic_kernel=0), "quick")
    assert averaging
    assert not any("averaging" in name for name in averaging)


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


def test_runs_and_models_of_another_study_are_refused():
    results = (rotmnist.TABLE.result, histology.TABLE.result)
    for (kind, runs, _), (other, _, _), result in zip(TABLES, TABLES[::-1], results, strict=True):
        smoke = other.presets()["smoke"]
        said = f"{kind.name} table: expected the study {kind.name}, got {other.name}"
        with pytest.raises(InputError, match=said):
            runs(smoke, "smoke")
        with pytest.raises(InputError, match=said):
            result({"run": untrained(smoke, "run")})


# Comparisons


def test_designs_are_compared_at_equal_steps_and_at_equal_time():
    theirs = curve(9.0, 8.0, 5.0, 7.0, seconds=2.0)
    full = {"row": "full", "kernel": 2.0, "curve": curve(4.0, 2.0, seconds=3.5)}
    pairs = compared([full, {"row": "plain", "kernel": 7.0, "curve": theirs}],
                     "kernel", "full", "plain")  # fmt: skip
    assert list(pairs.values()) == [([2.0], [7.0]), ([2.0], [8.0]), ([2.0], [5.0]), ([2.0], [5.0])]
    assert last(theirs, "step", 25) == 8.0
    assert all(math.isnan(last(theirs, "seconds", limit)) for limit in (1.0, 9.0))


@pytest.mark.parametrize(
    ("values", "scale"),
    [([3.0, 0.1], "log"), ([3.0, -0.01], "symlog"), ([3.0, 0.0], "symlog"), ([0.0, 0.0], "linear")],
)
def test_curves_are_drawn_on_a_log_axis_only_where_they_are_above_zero(values, scale):
    above = curve(*([0.0, 0.0] if scale == "linear" else [2.0, 1.0]))
    drawn = curves_figure({"a": [above], "b": [curve(*values)]}, "distance")
    assert [axis.get_yscale() for axis in drawn.axes] == [scale, scale]
    low, high = drawn.axes[0].get_ylim()
    assert low < min(values) <= max(values) < high
    drawn.canvas.draw()


def test_a_sheet_is_read_row_by_row():
    images = torch.arange(7.0)[:, None, None, None].expand(7, 1, 2, 3)
    (axis,) = sheets_figure({"seven": images}, 3).axes
    shown = axis.images[0].get_array()
    assert shown.shape == (4, 9)
    assert shown[::2, ::3].tolist() == [[0, 1, 2], [3, 4, 5]]


# Results


@pytest.fixture
def same(monkeypatch):
    """Every set of images has the same figures; returns the studies they were asked of."""
    calls = []

    def evaluate(self, images, labels, equivariance=math.nan):
        return calls.append(self) or FIGURES

    monkeypatch.setattr(RotatedDigitsStudy, "evaluate", evaluate)
    return calls


def test_the_table_of_digits_has_a_row_a_design_and_floors(tmp_path, monkeypatch):
    runs = rotmnist_runs(replace(RotatedDigitsStudy.presets()["smoke"], judged=40), "smoke")
    seen = {
        "plain-0": [50.0, 40.0, 48.0, 45.0, 47.0],
        "c4-0": [20.0, 10.0, 8.0, 5.0],
        "c4-1": [20.0, 14.0, 8.0, 7.0],
        "augmented-0": [60.0, 30.0],
    }
    models = {
        name: untrained(runs[name], name, tmp_path, values)
        for run, values in seen.items()
        for name in [f"smoke-0.2pc-ra-{run}"]
    }
    monkeypatch.setattr(rotmnist, "SLIDES_SHARE", 0.002)  # the slides' figures are of 10 %
    result = rotmnist.TABLE.result(models)
    rows = lines(result, 0)
    words = ["plain G, plain D", "Eqv G, Inv D, C4", "(I)Eqv G, Inv D, C4"]
    last_ = "plain pair, augmented by quarter turns"
    assert list(rows) == [*words, last_, "40 other real digits", "40 of the 120 trained on"]
    errors = [row["equivariance error"] for row in rows.values()]
    assert {errors[0], *errors[2:]} == {""}
    assert float(errors[1]) < 1e-5
    assert rows[words[1]]["minutes"] == "1.5"
    assert [rows[word]["slides, 10 %"] for word in words] == ["348", "89", "132"]
    assert [rows[word]["steps"] for word in (*words, last_)] == ["120", "40", "40", "20"]
    early = [rows[word]["watched"] for word in (*words, last_)]
    assert early == ["40.00", "12.00 (10.00–14.00)", "", "30.00"]
    assert "of 40 samples at the last checkpoint up to 20 steps" in result.markdown
    pairs = lines(result, 1)
    assert pairs["watched, after as many steps"] == {
        "Fréchet distance": "watched, after as many steps", "full design": "5", "plain pair": "45",
        "ratio": "0.11",
    }  # fmt: skip
    assert pairs["watched, the plain pair at its best"]["plain pair"] == "40"
    (block,) = stored(result, tmp_path)["blocks"].values()
    found = {}
    for entry in block["records"]:
        found.setdefault(entry["row"], []).append(entry["frechet"])
    assert [spread(values, ".2f") for values in found.values()] == [
        row["Fréchet"] for row in rows.values()
    ]
    assert found[words[1]] != found[words[2]]  # the same weights, but not the same samples
    assert set(result.figures) == {"samples-1", "curves-1"}


@pytest.mark.parametrize("size", [3, 7])
def test_runs_of_two_critics_are_two_tables(size, same):
    smoke = replace(RotatedDigitsStudy.presets()["smoke"], critic_kernel=size)
    runs = rotmnist_runs(smoke, "smoke")
    names = [f"smoke-{prefix}-plain-0" for prefix in ("0.2pc-ra", "averaging-0.2pc-ra")]
    result = rotmnist.TABLE.result({name: untrained(runs[name], name) for name in names})
    titles = [title.rpartition(", ")[2] for title in result.data["blocks"]]
    assert titles == [f"critic of {size} × {size}", "averaging critic"]
    assert "Watched:" not in result.markdown


def test_floors_of_a_share_are_judged_once_for_all_losses(same):
    runs = rotmnist_runs(RotatedDigitsStudy.presets()["smoke"], "smoke")
    prefixes = ("0.2pc-ra", "averaging-0.2pc-ra", "2pc-ra", "2pc-d2")
    names = [f"smoke-{prefix}-plain-0" for prefix in prefixes]
    result = rotmnist.TABLE.result({name: untrained(runs[name], name) for name in names})
    floors = [study.share for study in same[len(names) :]]  # after all models
    assert floors == [0.002, 0.002, 0.02, 0.02]
    assert list(result.data["blocks"]) == [
        "0.2 % of 60,000 digits, RA, critic of 7 × 7",
        "0.2 % of 60,000 digits, RA, averaging critic",
        "2 % of 60,000 digits, RA, critic of 7 × 7",
        "2 % of 60,000 digits, D2, critic of 7 × 7",
    ]
    assert "full design" not in result.markdown
    assert set(result.figures) == {f"samples-{k}" for k in range(1, 5)}


def test_a_model_alone_is_one_row_of_its_own_name(same):
    smoke = RotatedDigitsStudy.presets()["smoke"]
    (block,) = rotmnist.TABLE.result({"runs/mine": untrained(smoke, "")}).data["blocks"].values()
    assert [entry["row"] for entry in block["records"]] == [
        "runs/mine", "200 other real digits", "the 120 trained on"
    ]  # fmt: skip
    assert {**block["records"][0], **FIGURES} == block["records"][0]


def test_the_table_of_tissue_is_decided_by_its_own_figures(tmp_path, monkeypatch):
    coarse = torch.nn.Sequential(torch.nn.AvgPool2d(8), torch.nn.Flatten())
    monkeypatch.setattr(histology, "_network", lambda features: coarse)
    smoke = replace(HistologyStudy.presets()["smoke"], features="coarse pixels")
    runs = histology_runs(smoke, "smoke")
    seen = {"plain": [0.4, 0.5], "d4": [0.9, -0.1, 0.2]}
    models = {
        name: untrained(runs[name], name, tmp_path, values)
        for design, values in seen.items()
        for name in [f"smoke-ra-{design}-0"]
    }
    result = histology.TABLE.result(models)
    rows = lines(result, 0)
    words = ["plain G, plain D", "Eqv G, Inv D, D4", "(I)Eqv G, Inv D, D4"]
    assert list(rows) == [*words, "patches trained on"]
    floor = rows["patches trained on"]
    assert floor["invariance p"] == floor["equivariance error"] == ""
    assert float(floor["Fréchet"]) > 0
    assert float(rows[words[1]]["equivariance error"]) < 1e-5
    assert rows[words[0]]["equivariance error"] == rows[words[2]]["equivariance error"] == ""
    over = [(rows[w]["best over training"], rows[w]["median over training"]) for w in words]
    assert over == [("400.0", "450.0"), ("-100.0", "200.0"), ("", "")]
    (block,) = stored(result, tmp_path)["blocks"].values()
    ours, theirs = block["pairs"]["at the end"]
    assert [entry["kernel"] for entry in block["records"][:2]] == [*theirs, *ours]
    pairs = lines(result, 1)
    assert list(pairs) == ["at the end", "watched, the plain pair at its best"]  # shorter
    assert pairs["at the end"]["ratio"] == f"{ours[0] / theirs[0]:.2g}"
    assert "features of coarse pixels" in result.markdown
    assert "nan" not in result.markdown
    assert set(result.figures) == {"samples-ra", "curves-ra"}
    assert {axis.get_yscale() for axis in result.figures["curves-ra"].axes} == {"symlog"}
