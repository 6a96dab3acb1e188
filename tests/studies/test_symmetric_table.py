"""What the tables of symmetric studies are made of: runs, curves, equal steps, equal time."""

import math

import pytest
import torch

from lawful import InputError
from lawful.studies import histology_table, rotmnist_table
from lawful.studies.histology import HistologyStudy
from lawful.studies.rotmnist import RotatedDigitsStudy
from lawful.studies.symmetric_table import Curve, design_of, match, match_text, sheet

TABLES = [
    (RotatedDigitsStudy, rotmnist_table.rotmnist_runs, rotmnist_table.DESIGNS),
    (HistologyStudy, histology_table.histology_runs, histology_table.DESIGNS),
]


@pytest.mark.parametrize(("kind", "runs", "designs"), TABLES)
@pytest.mark.parametrize("preset", ["quick", "smoke", "paper"])
def test_every_run_has_a_name_and_a_design_of_its_own(kind, runs, designs, preset):
    found = runs(kind.presets()[preset], preset)
    keys = {str(study.config()) for study in found.values()}
    assert len(keys) == len(found) > len(designs)
    for name, study in found.items():
        design = design_of(name, designs)
        assert {k: getattr(study, k) for k in design.changes} == dict(design.changes)
    counts = {d.name: sum(design_of(n, designs) is d for n in found) for d in designs}
    assert min(counts.values()) >= 2  # in every block


def test_a_run_of_no_design_is_refused():
    with pytest.raises(InputError, match="quick-ra-other-0"):
        design_of("quick-ra-other-0", histology_table.DESIGNS)


def test_runs_of_another_study_are_refused():
    for (kind, _, _), (_, runs, _) in zip(TABLES, TABLES[::-1], strict=True):
        with pytest.raises(InputError, match=kind.name):
            runs(kind.presets()["smoke"], "smoke")


def test_designs_are_compared_at_equal_steps_and_at_equal_time():
    ours = Curve([10, 20], [5.0, 10.0], [4.0, 2.0])
    theirs = Curve([10, 20, 30, 40], [2.0, 4.0, 6.0, 12.0], [9.0, 8.0, 5.0, 7.0])
    found = match([ours], [theirs])
    assert (found.ours, found.theirs, found.in_time, found.best) == ([2.0], [8.0], [5.0], [5.0])
    assert found.ratio == 0.25
    assert "ratio 0.25" in match_text(found, "distance", 1, 20)
    assert math.isnan(theirs.at_step(5))
    assert math.isnan(theirs.at_time(1.0))


def test_a_sheet_is_read_row_by_row():
    images = torch.arange(7.0)[:, None, None, None].expand(7, 1, 2, 3)
    shown = sheet(images, 3)
    assert shown.shape == (4, 9, 1)
    assert shown[::2, ::3, 0].tolist() == [[0, 1, 2], [3, 4, 5]]
