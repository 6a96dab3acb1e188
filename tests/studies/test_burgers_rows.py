"""Rows unlike the trained ones: said to be so, never made worse, within the maximum principle."""

import runpy
from pathlib import Path

import pytest
import torch

import lawful
from lawful.studies.burgers import NEAR, BurgersStudy

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "burgers_rows.py"
STUDY = BurgersStudy.presets()["full"]


@pytest.fixture(scope="module")
def rows():
    """The benchmark's names."""
    return runpy.run_path(str(BENCHMARK))


def test_no_large_error_goes_unsaid_and_no_correction_makes_a_row_worse(rows):
    condition = rows["conditions"](rows["rows"](2, seed=5))
    reference = STUDY.reference(condition, factor=4)
    found = rows["verdicts"](lawful.load("burgers"), condition, reference, (0, 1))
    for _, verdict in found:
        large = verdict.error > 0.05
        assert not verdict.silent().any()
        assert ((verdict.ratio > 0.5) & (verdict.ratio < 2))[large].all()  # whether marked or not
        assert not verdict.worse.any()
        assert not verdict.beyond.any()
    assert large.sum() >= 2


def test_rows_are_marked_by_their_distance_from_the_trained_ones(rows):
    fresh = STUDY.draw(500, torch.Generator().manual_seed(9))["initial"]
    assert (STUDY.distance(fresh) < NEAR).all()
    for kind, initial in rows["rows"](20, seed=6).items():
        near = STUDY.distance(initial) < NEAR
        expected = {"trained: cosines": 1.0, "bumps": pytest.approx(0.1, abs=0.1)}.get(kind, 0.0)
        assert near.float().mean() == expected, kind  # some bumps are like a trained wave


def test_random_rows_stay_bounded_under_corrections():
    initial = torch.rand(12, 64, generator=torch.Generator().manual_seed(3))
    nu = torch.tensor([0.0, 0.01])
    samples = lawful.load("burgers").sample(initial=initial, viscosity=nu, refine=3)
    assert samples.fields.min() > -0.11
    assert samples.fields.max() < 1.11
    assert (samples.report.accepted > 0).any()


def test_nothing_comes_of_a_zero_row():
    samples = lawful.load("burgers").sample(initial=torch.zeros(64), viscosity=[0.0, 0.02])
    assert not samples.fields.any()
    assert not samples.report.estimate.absolute.any()
    assert dict(samples.report.outside)["initial"].all()
