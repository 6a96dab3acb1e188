import json

import pytest
import torch

from lawful import InputError, law
from lawful.laws import Bound, Estimate, Law, merge
from lawful.metrics import report as reporting
from lawful.metrics.report import LawReport, Spread, Summary, law_report, relative_error


def mean_law(x, c):
    return x.mean((1, 2, 3)) - c["m"]


def variance(x, c):
    return x.flatten(1).var(1)


def make(batch, seed=0):
    x = torch.randn(batch, 1, 4, 4, generator=torch.Generator().manual_seed(seed)).double()
    return x, {"m": torch.linspace(0, 1, batch).double()}


def test_spread_of_known_numbers():
    spread = Spread.of(torch.arange(1.0, 101.0)[torch.randperm(100)])
    expected = {"mean": 50.5, "median": 51.0, "p95": 96.0, "worst": 100.0, "samples": 100}
    assert spread.as_dict() == expected
    assert Spread.of(torch.tensor([1.0, torch.nan])).as_dict()["worst"] == float("inf")


def test_an_unknown_line_is_named():
    report = law_report([law(mean_law), law(variance)], *make(2))
    with pytest.raises(InputError, match="no law 'x'; there are mean_law, variance"):
        report.line("x")
    with pytest.raises(InputError, match="there are none"):
        LawReport(()).line("x")


def test_violations_are_those_of_the_laws_and_the_floor_is_the_references():
    x, c = make(5)
    laws = [law(mean_law), law(variance)]
    report = law_report(laws, x, c, reference=x + c["m"][:, None, None, None])
    for line, entry in zip(report.lines, laws, strict=True):
        torch.testing.assert_close(line.violation, entry.violation(x, c))
    reference = law_report(laws, x + c["m"][:, None, None, None], c)
    assert report.line("mean_law").floor == pytest.approx(
        float(reference.line("mean_law").violation.mean())
    )


class Diagonal(Law):
    """a x = 1 in every entry; the error is r / a, and its largest entry is bounded by r / min a."""

    name = "diagonal"

    def __call__(self, x, c):
        return c["a"] * x - 1

    def bound(self, x, c):
        residual = self(x, c).flatten(1).abs().amax(1)
        return Bound(residual / c["a"].flatten(1).amin(1), "max")


def test_a_bound_that_a_law_proves_stands_in_the_report():
    x, c = make(6)
    a = 1 + torch.rand(x.shape, generator=torch.Generator().manual_seed(1)).double()
    report = law_report([law(mean_law), Diagonal()], x, {**c, "a": a})
    assert report.bound_norm == "max"
    assert (report.bound >= (x - 1 / a).flatten(1).abs().amax(1)).all()
    assert merge([report, report]).bound.tolist() == report.bound.tolist() * 2
    summary = Summary.of([report, report]).as_dict()
    assert summary["bound_norm"] == "max"
    assert summary["bound"]["worst"] == float(report.bound.max())
    none = law_report([law(mean_law)], x, c)
    assert none.bound is None
    assert none.bound_norm is None
    assert Summary.of([none]).as_dict()["bound"] is None


def test_merging_chunks_is_reporting_the_whole():
    x, c = make(7)
    laws = [law(mean_law), law(variance)]
    parts = [law_report(laws, x[i], {"m": c["m"][i]}) for i in (slice(0, 3), slice(3, 7))]
    whole = Summary.of([law_report(laws, x, c)]).as_dict()
    assert Summary.of([merge(parts)]).as_dict() == whole
    assert Summary.of(parts).as_dict() == whole
    json.dumps(whole, allow_nan=False)


def test_a_spread_is_bounded_and_its_quantiles_stay_near(monkeypatch):
    monkeypatch.setattr(reporting, "KEPT", 500)
    spread, values = Spread(), torch.randperm(5000).double()
    for part in values.split(37):
        spread.add(part)
        assert sum(kept.size for kept in spread.parts) <= 2 * 2 * 500
    found = spread.as_dict()
    assert (found["mean"], found["worst"], found["samples"]) == (2499.5, 4999.0, 5000)
    assert found["median"] == pytest.approx(2500, abs=350)
    assert found["p95"] == pytest.approx(4750, abs=150)


def test_a_selection_does_not_depend_on_the_parts(monkeypatch):
    monkeypatch.setattr(reporting, "KEPT", 50)
    values = torch.randperm(5000).double()
    whole, parts = Spread.of(values), Spread()
    for part in values.split(7):
        parts.add(part)
    assert parts.as_dict() == pytest.approx(whole.as_dict())


def test_an_estimate_is_relative_to_the_corrected_field_and_survives_merging():
    wrong, corrected = torch.ones(3, 1, 4, 4), torch.zeros(3, 1, 4, 4)
    corrected[0], corrected[1] = 4.0, 1e-3  # the third has no scale
    estimate = Estimate.of(wrong, corrected, "a finer law")
    torch.testing.assert_close(estimate.absolute, torch.tensor([3.0, 0.999, 1.0]))
    torch.testing.assert_close(estimate.relative, torch.tensor([0.75, 999.0, 1.0]))
    report = LawReport((), estimate)
    whole = Summary.of([report, report]).as_dict()
    assert Summary.of([merge([report, report])]).as_dict() == whole
    assert whole["judge"] == "a finer law"
    assert whole["estimated_error_absolute"]["worst"] == 3.0


def test_relative_error_is_invariant_to_scale():
    x, _ = make(4)
    y, _ = make(4, seed=1)
    error = relative_error(x, y)
    torch.testing.assert_close(relative_error(7 * x, 7 * y), error)
    assert relative_error(0 * y + 2, 0 * y).tolist() == [2.0] * 4  # no scale: the RMS error
    torch.testing.assert_close(relative_error(1.25 * y, y), torch.full((4,), 0.25).double())


def test_an_estimate_of_some_samples_alone_is_not_merged():
    x, c = make(3)
    plain = law_report([law(mean_law)], x, c)
    judged = LawReport(plain.lines, Estimate(torch.ones(3), torch.ones(3), "a law"))
    assert len(merge([judged, judged]).error) == 6
    assert merge([plain, judged]).error is merge([judged, plain]).error is None
