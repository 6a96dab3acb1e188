"""Corrections are kept only where they are judged to be improvements."""

import warnings
from dataclasses import dataclass, replace

import pytest
import torch

from lawful import Study, Training
from lawful.cli.export import arrays_of
from lawful.cli.report import law_blocks
from lawful.corrections import correct
from lawful.errors import LawfulWarning
from lawful.laws import CorrectableLaw, Estimate
from lawful.metrics.report import Summary
from lawful.model import Model, manifest_floors

WEIGHTS = torch.tensor([0.01, 1.0, 1.0, 1.0])
OVERSHOOT = torch.tensor([2.6, 1.0, 1.0, 1.0])  # M A, by mode: too much of the smoothest


class Modes(CorrectableLaw):
    """w (x - 1) = 0, with an M that is no contraction; samples above 10 it turns into NaN."""

    name = "modes"

    def __call__(self, x, c):
        return WEIGHTS.to(x) * (x.flatten(1) - 1)

    def correction(self, x, c):
        change = (OVERSHOOT.to(x) * (1 - x.flatten(1))).view_as(x)
        return change.masked_fill(x > 10, torch.nan)


@dataclass(frozen=True)
class Crude(Study):
    training: Training = Training(steps=1)
    name = "crude"
    about = "a correction that overshoots"

    def laws(self):
        return (Modes(),)

    def network(self):
        return torch.nn.Identity()

    def corrector(self):
        return Modes()


class Unjudged(Crude):
    def estimate(self, network, fields, condition):
        return None


def error(x):
    return (x.flatten(1) - 1).norm(dim=1)


def start():
    wrong = torch.tensor([[1.0, 0.5, 0.0, 0.0], [0.0, 0.5, 0.5, 0.0], [20.0, 0.0, 0.0, 0.0]])
    return (1 + wrong)[:, None, None]


class Start(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.fields = torch.nn.Parameter(start(), requires_grad=False)

    def forward(self, condition):
        return self.fields


NONE = Start()


def test_a_correction_never_makes_a_sample_worse_though_its_violation_falls():
    x, entry = start(), Modes()
    plain = x + entry.correction(x, {})
    assert error(plain)[0] > 1.4 * error(x)[0]
    assert entry.violation(plain, {})[0] < 0.1 * entry.violation(x, {})[0]
    last = error(x)
    for times, taken in ((1, [0, 1, 0]), (2, [1, 1, 0]), (8, [7, 1, 0])):
        fields, accepted, estimate = correct(Crude(), NONE, x, {}, times)
        assert accepted.tolist() == taken
        assert (error(fields) <= last).all()
        last = error(fields)
        fresh = Crude().estimate(NONE, fields, {})
        torch.testing.assert_close(estimate.absolute[:2], fresh.absolute[:2])
    assert last[0] < 5e-3  # half the length contracts: 1 - 2.6 / 2
    assert torch.equal(fields[2], x[2])


def test_a_study_that_estimates_nothing_is_judged_by_the_violation():
    x = start()
    fields, accepted, estimate = correct(Unjudged(), NONE, x, {}, 1)
    assert estimate is None
    assert accepted.tolist() == [1, 1, 0]  # the first is worse now: a violation cannot see it
    solved = fields.index_fill(0, torch.tensor([1]), 1.0)
    assert correct(Unjudged(), NONE, solved, {}, 1)[1][1] == 0  # nothing left to lower


def told(summary):
    """The sentences of a report."""
    return " ".join(part for part in law_blocks(summary.as_dict()) if isinstance(part, str))


def test_without_a_corrector_fields_stay():
    x = start()
    fields, accepted, _ = correct(Crude(), NONE, x, {}, 0)
    assert torch.equal(fields, x)
    assert accepted.tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("study", "judge"), [(Crude, "the estimated error"), (Unjudged, "the viol")]
)
def test_a_report_names_what_judged_the_corrections(study, judge):
    model = Model(study(), Start(), {})
    text = told(Summary.of([model.sample(3, refine=1).report]))
    assert f"lowered {judge}" in text


class Blind(Modes):
    """Sees one mode of four."""

    def correction(self, x, c):
        return torch.nn.functional.pad(super().correction(x, c)[..., 1:2], (1, 2))


class Believes(Crude):
    def corrector(self):
        return Blind()


class Free(Believes):
    def laws(self):
        return (mean,)


def mean(x, c):
    return x.mean((1, 2, 3)) - 1


def test_laws_that_determine_a_field_judge_it_and_its_own_correction_only_elsewhere():
    x = start()[:2]
    judged = Believes().estimate(NONE, x, {})
    torch.testing.assert_close(judged.absolute, error(x) / 2, rtol=1e-3, atol=0)
    assert "all laws together" in judged.judge
    free = Free().estimate(NONE, x, {})
    torch.testing.assert_close(free.absolute, torch.tensor([0.25, 0.25]))
    assert "one correction" in free.judge


class Short(Modes):
    """A share of the way."""

    def __init__(self, share):
        self.share = share

    def correction(self, x, c):
        return self.share * (1 - x)


@dataclass(frozen=True)
class Timid(Crude):
    share: float = 0.05

    def corrector(self):
        return Short(self.share)


@pytest.mark.parametrize(("share", "taken"), [(0.05, 0), (0.2, 1)])
def test_a_fall_of_less_than_a_tenth_is_refused(share, taken):
    assert correct(Timid(share=share), NONE, start()[:1], {}, 1)[1].tolist() == [taken]


def test_a_report_tells_in_words_of_samples_without_an_estimate():
    report = Model(Crude(), Start(), {}).sample(3).report
    lost = replace(report.estimate, absolute=torch.tensor([1.0, torch.nan, 3.0]),
                   relative=torch.tensor([1.0, torch.nan, 3.0]))  # fmt: skip
    summary = Summary.of([replace(report, estimate=lost)])
    assert summary.as_dict()["estimated_error"]["worst"] == 3.0
    assert summary.as_dict()["samples_without_estimate"] == 1
    assert "1 of 3 samples: violation only (the search" in told(summary)
    none = Summary.of([replace(report, estimate=replace(lost, relative=lost.relative * torch.nan))])
    assert none.as_dict()["estimated_error"] is None
    assert "3 of 3 samples: violation only" in told(none)


class Elsewhere(Crude):
    """Judged by the distance from a half, which is not where the law leads."""

    def estimate(self, network, fields, condition):
        return Estimate.of(fields, torch.full_like(fields, 0.5), "a half")


def test_a_tolerance_says_which_samples_got_worse_and_that_it_is_below_a_floor():
    model = Model(Elsewhere(), Start(), {"quality": {"laws": [{"law": "modes", "floor": 0.3}]}})
    network = model.network
    network.fields.data = torch.tensor([0.5, -1.0, 1.0])[:, None, None, None].expand(3, 1, 1, 4)
    with pytest.warns(LawfulWarning) as caught:
        samples = model.sample(3, tolerance=1e-3)
    said = [str(w.message) for w in caught]
    assert ["below the floor of law 'modes', 0.3" in said[0], "1 of 3" in said[1]] == [True, True]
    assert samples.report.projection.worsened.tolist() == [True, False, False]
    found = arrays_of(samples, model.study)["refinement/worsened"].values
    assert found.tolist() == [True, False, False]
    text = told(Summary.of([samples.report], manifest_floors(model.manifest)))
    assert "that 1 of 3 samples are further" in text
    assert "Tolerance 0.001 is below the floor of law 'modes'" in text


def test_a_tolerance_that_makes_nothing_worse_is_silent():
    model = Model(Crude(), Start(), {"quality": {"laws": [{"law": "modes", "floor": 0.3}]}})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = model.sample(3, tolerance=0.3).report
    assert not report.projection.worsened.any()
    text = told(Summary.of([report], manifest_floors(model.manifest)))
    assert "further" not in text
    assert "floor" not in text
