"""The Burgers study: its domain, its draws, its presets and its references."""

import dataclasses
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning_fabric import Fabric

from lawful import InputError
from lawful.metrics.report import Summary, relative_error
from lawful.model import Model
from lawful.pde.laws import InitialLaw
from lawful.project import project
from lawful.studies.burgers import BurgersStudy
from lawful.studies.burgers_table import euler_reference, fresh_conditions, table_conditions
from lawful.training import State, fit

PRESETS = BurgersStudy.presets()
SOLVED = PRESETS["full"].reference


def untrained(kind=BurgersStudy, **changes):
    torch.manual_seed(0)
    study = dataclasses.replace(kind.presets()["smoke"], **changes)
    return Model(study, study.network().eval(), {})


class Unjudged(BurgersStudy):
    """Without the estimate, which costs more than the sample."""

    def estimate(self, network, fields, condition):
        return None


def wave(c, nu):
    c, nu = torch.tensor(c), torch.tensor(nu)
    return BurgersStudy.condition(PRESETS["smoke"], {"frequency": c, "viscosity": nu})


@given(st.integers(0, 2**31))
@settings(max_examples=20, deadline=None)
def test_draws_are_inside_the_domain(seed):
    generator = torch.Generator().manual_seed(seed)
    drawn = PRESETS["full"].draw(16, generator)
    initial, viscosity = drawn["initial"], drawn["viscosity"]
    assert initial.shape == (16, 64)
    assert initial.min() >= 0
    assert initial.max() <= 1 + 1e-6
    positive = viscosity[viscosity != 0]
    assert ((positive >= 0.001) & (positive <= 0.0501)).all()


def test_no_wave_below_the_trained_frequencies_is_drawn():
    # Half of each batch is the paper's family itself: its frequency is where it first returns.
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        plain = PRESETS["full"].draw(16, generator)["initial"][:8]
        first_peak = plain[:, : 64 // 4].argmax(1)  # the peak is at 1 / (2 c), c >= 3
        assert (plain[torch.arange(8), first_peak] > 0.95).all()


@pytest.mark.parametrize("preset", PRESETS)
def test_a_step_of_every_preset(preset):
    study = dataclasses.replace(
        PRESETS[preset], training=dataclasses.replace(PRESETS[preset].training, steps=2, batch=4)
    )
    fabric = Fabric(accelerator="cpu", devices=1)
    game = study.game()
    state = State.create({"generator": study.network()}, game, fabric)
    for _ in fit(game, state, fabric, 2):
        pass
    expected = {"paper": {"equation/burgers (Sobel)", "initial/initial"}}
    assert set(state.values) == expected.get(preset, {"equation/burgers correction"})
    rebuilt = BurgersStudy.from_config(study.config())
    assert rebuilt == study


def test_the_papers_residual_has_the_spacing_of_the_rows():
    # u = x / (1 + t) solves the inviscid equation; a spacing that is 1.6 % off would show.
    t = torch.linspace(0, 0.2, 64).double()[:, None]
    x = (torch.arange(64).double() + 0.5) / 64
    exact, c = (x / (1 + t))[None, None], {"viscosity": torch.zeros(1).double()}
    residual = PRESETS["paper"].sobel()(exact, c)[:, 1:-1, 1:-1]
    assert residual.abs().max() < 1e-4


def test_the_reference_is_converged():
    condition = wave([2.0, 6.0], [0.0, 0.006])
    coarse, fine = (SOLVED(condition, factor) for factor in (8, 16))
    assert (relative_error(coarse, fine) < torch.tensor([1e-3, 2e-4])).all()


def test_reference_from_averages_agrees_with_the_exact_wave():
    condition = wave([3.0, 6.0], [0.01, 0.0])
    exact = SOLVED(condition, 8)
    del condition["frequency"]
    assert relative_error(SOLVED(condition, 8), exact).max() < 2e-3


def test_explicit_euler_is_the_coarse_reference_of_the_paper():
    condition = wave([4.0, 5.5], [0.002, 0.03])
    error = relative_error(euler_reference(PRESETS["full"], condition), SOLVED(condition, 8))
    assert 0.05 < error[0] < 0.2
    assert 0.01 < error[1] < 0.05


def test_samples_have_the_published_layout():
    samples = untrained().sample(frequency=[3.0, 5.0, 6.0], viscosity=0.01, seed=3)
    assert samples.fields.shape == (3, 1, 64, 64)
    assert samples.fields.dtype == torch.float32
    assert samples.report.line("initial").worst.max() < 1e-6
    assert samples.condition["viscosity"].tolist() == pytest.approx([0.01] * 3)


def test_a_sample_does_not_depend_on_how_many_are_drawn():
    model = untrained(Unjudged)
    some, more = model.sample(70, seed=5), model.sample(90, seed=5)
    assert torch.equal(some.condition["initial"][:64], more.condition["initial"][:64])
    torch.testing.assert_close(some.fields[:64], more.fields[:64], rtol=0, atol=1e-5)
    assert not torch.equal(some.condition["initial"][64:], model.sample(70, seed=6).condition[
        "initial"][64:])  # fmt: skip


def test_refinement_approaches_the_solver_from_an_untrained_start():
    given_here = {"frequency": [4.0, 5.5], "viscosity": [0.006, 0.03]}
    errors = []
    for steps in (0, 2, 5):
        samples = untrained(Unjudged).sample(**given_here, refine=steps)
        assert samples.report.tried == steps
        errors.append(relative_error(samples.fields, SOLVED(samples.condition, 8)))
    assert (errors[0] > 0.3).all()
    assert (errors[1] < 0.5 * errors[0]).all()
    assert (errors[2] < 0.02).all()


def test_an_initial_condition_of_the_users_own():
    step = torch.zeros(64)
    step[8:24] = 0.8
    samples = untrained().sample(initial=step, viscosity=[0.0, 0.02])
    assert samples.fields.shape == (2, 1, 64, 64)
    torch.testing.assert_close(samples.fields[:, 0, 0], step.expand(2, -1), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("given_here", "message"),
    [
        ({"viscosity": -0.01}, "viscosity: expected at least 0, got -0.01"),
        ({"viscosity": float("nan")}, "viscosity: expected finite"),
        ({"viscosity": "thick"}, "viscosity: expected numbers"),
        ({"viscosity": []}, "viscosity: expected at least one value"),
        ({"initial": torch.zeros(63)}, "initial: expected 64 per sample, got 63"),
        ({"initial": torch.full((2, 64), torch.nan)}, "initial: expected finite"),
        ({"initial": -torch.ones(64)}, "initial: expected at least 0"),
        ({"initial": torch.zeros(64), "frequency": 4.0}, "expected one of the two"),
        ({"colour": 1.0}, "colour: unknown condition"),
    ],
)
def test_conditions_that_cannot_be_used_are_named(given_here, message):
    with pytest.raises(InputError, match=re.escape(message)):
        untrained().sample(**given_here)


def test_conditions_outside_the_trained_range_are_marked():
    report = untrained().sample(viscosity=[0.0, 0.02, 0.0005, 0.08], frequency=[4.0, 2.0]).report
    outside = dict(report.outside)
    assert outside["viscosity"].tolist() == [False, False, True, True]
    assert outside["frequency"].tolist() == [False, True, False, True]
    assert Summary.of([report]).as_dict()["outside_trained_range"] == {
        "frequency": 2,
        "viscosity": 2,
    }


def test_conditions_of_the_tables():
    cells = table_conditions()
    assert cells["frequency"][:4].tolist() == [2.0, 4.0, 5.5, 6.0]
    assert cells["viscosity"][:4].tolist() == [0.0] * 4
    c, nu = fresh_conditions(40).values()
    assert ((c >= 3) & (c <= 6)).all()
    assert (nu == 0).sum() == 10
    assert float(nu.max()) > 0.03


@pytest.mark.parametrize("change", [{"colour": 1}, {"training": {"steps": 1, "pace": 2}}])
def test_foreign_configurations_are_refused(change):
    with pytest.raises(InputError, match="unknown entry"):
        BurgersStudy.from_config({**PRESETS["smoke"].config(), **change})


def test_the_estimate_is_near_the_true_error_without_a_solution():
    # The true solution, made wrong by a known amount and as it is on the law's own cells.
    condition = wave([3.3, 4.6, 5.7, 5.1], [0.002, 0.02, 0.006, 0.05])
    study = PRESETS["full"]
    fine = study.network()(condition).detach()
    for _ in range(8):
        fine = fine + study.corrector().correction(fine, condition)
    reference = SOLVED(condition, 8)
    for size in (0.0, 0.03):
        bump = torch.sin(torch.linspace(0, 6, 128)) * torch.linspace(0, 1, 64)[:, None]
        wrong = fine + size * bump
        true = relative_error(study.observe(wrong), reference)
        ratio = study.estimate(study.network(), wrong, condition).relative / true
        assert ((ratio > 0.6) & (ratio < 1.5)).all(), ratio


class Shifted(BurgersStudy):
    """Refined samples, and enforced ones, of which a row is far above all initial values."""

    def project(self, network, condition, tolerance):
        done = project(self.laws(), self.observe(network(condition)), condition, tolerance=1e9)
        return dataclasses.replace(done, fields=raised(done.fields))

    def laws(self):
        return self.law(), Raised()


class Raised(InitialLaw):
    def enforce(self, x, c):
        return raised(x)


def raised(x):
    return torch.cat([x[:, :, :5], x[:, :, 5:6] + 3, x[:, :, 6:]], 2)


@pytest.mark.parametrize("options", [{"tolerance": 0.1}, {"enforce": True}])
def test_what_is_shown_keeps_the_maximum_principle_and_is_what_is_estimated(options):
    plain = untrained()
    study = Shifted.from_config(plain.study.config())
    model = Model(study, plain.network, {})
    done = model.sample(3, seed=1, **options)
    row = done.fields[:, :, :1]
    slack = 0.1 * row.amax((1, 2, 3)) + 1e-6  # the boundary value is 0
    assert (done.fields.amax((1, 2, 3)) <= row.amax((1, 2, 3)) + slack).all()
    judged = study.estimate(model.network, done.fields, done.condition)
    torch.testing.assert_close(done.report.estimate.absolute, judged.absolute)
    if options.get("tolerance"):
        assert not bool(done.report.projection.reached.any())
