"""The Darcy study: its families, what lies outside them, its judges and its table."""

import dataclasses

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
import torch
from lightning_fabric import Fabric

import lawful
from lawful import InputError
from lawful.metrics.report import relative_error
from lawful.model import Model
from lawful.pde.elliptic import EllipticLaw
from lawful.studies import darcy
from lawful.studies.darcy import DarcyStudy, darcy_result, field_statistics, fresh, judged
from lawful.training import State, fit

STUDY = DarcyStudy.presets()["smoke"]
SMALL = dataclasses.replace(STUDY, width=8, depth=1)
PLACE = torch.arange(64)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return Model(SMALL, SMALL.network().eval(), {})


def two_valued(mask):
    return torch.where(mask, 12.0, 3.0)[None]


def test_families_have_the_stated_values_and_are_drawn_in_turn():
    jumps, smooth = fresh("two-valued", 64), fresh("lognormal", 64)
    assert set(jumps.unique().tolist()) == {3.0, 12.0}
    assert abs(float((jumps == 3).float().mean()) - 0.5) < 0.05
    log = (smooth / 6).log2()
    assert log.mean((1, 2)).abs().max() < 1e-5
    assert abs(float(log.square().mean()) - 1) < 0.1
    both = STUDY.draw(6, rng())["coefficient"]
    assert [len(a.unique()) == 2 for a in both] == [True, False] * 3
    assert torch.equal(both, STUDY.draw(6, rng())["coefficient"])


@pytest.mark.parametrize("preset", DarcyStudy.presets())
def test_a_step_of_every_preset(preset):
    study = DarcyStudy.presets()[preset]
    training = dataclasses.replace(study.training, steps=2, batch=2)
    study = dataclasses.replace(study, training=training, width=8)
    fabric, game = Fabric(accelerator="cpu", devices=1), study.game()
    state = State.create(study.players(), game, fabric)
    for _ in fit(game, state, fabric, 2):
        pass
    assert set(state.values) == {"equation/darcy correction"}


def test_training_lowers_the_error_below_that_of_the_start():
    training = dataclasses.replace(STUDY.training, steps=40, batch=8, average=0.8)
    study = dataclasses.replace(SMALL, training=training, start=1)
    fabric, game = Fabric(accelerator="cpu", devices=1), study.game()
    torch.manual_seed(0)
    state = State.create(study.players(), game, fabric, average={"generator": 0.8})
    for _ in fit(game, state, fabric, 40):
        pass
    found = judged(state.averages["generator"].module.eval(), fresh("two-valued", 8))
    assert (found["error"] < found["start"] / 2).all()


def test_reference_is_the_direct_solution_of_the_discrete_equation():
    """Assembled from one-dimensional differences, with SciPy's sparse direct solver."""
    a = fresh("two-valued", 1)
    n, cell = 64, a[0].double().numpy()
    step = scipy.sparse.diags([1.0, -1.0], [0, -1], shape=(n + 1, n)) * n
    faces = np.concatenate([cell[:1], 2 / (1 / cell[1:] + 1 / cell[:-1]), cell[-1:]])
    down, whole = np.array(faces), np.eye(n)
    down[[0, -1]] *= 2
    cell = cell.T
    along = np.concatenate([cell[:1], 2 / (1 / cell[1:] + 1 / cell[:-1]), cell[-1:]])
    along[[0, -1]] *= 2
    over_y, over_x = scipy.sparse.kron(step, whole), scipy.sparse.kron(whole, step)
    matrix = over_y.T @ scipy.sparse.diags(down.ravel()) @ over_y
    matrix = matrix + over_x.T @ scipy.sparse.diags(along.T.ravel()) @ over_x
    expected = scipy.sparse.linalg.spsolve(matrix.tocsc(), np.ones(n * n)).reshape(n, n)
    found = STUDY.reference({"coefficient": a})
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found[0, 0], expected, rtol=0, atol=1e-8 * expected.max())


def test_discrete_solutions_of_one_medium_converge():
    """Cells of one medium are split: differences of averages fall as the cells do."""
    a, found = fresh("two-valued", 2), []
    for factor in (1, 2, 4):
        fine = a.repeat_interleave(factor, 1).repeat_interleave(factor, 2)
        u = EllipticLaw().solution({"coefficient": fine})
        found.append(torch.nn.functional.avg_pool2d(u, factor))
    first, second = relative_error(found[0], found[2]), relative_error(found[1], found[2])
    assert (second < 0.45 * first).all()
    assert (first < 0.02).all()


def test_samples_are_judged_corrected_and_differentiated(model):
    samples = model.sample(4, seed=2)
    error = relative_error(samples.fields, STUDY.reference(samples.condition))
    torch.testing.assert_close(samples.report.error, error.float(), rtol=1e-3, atol=0)
    corrected = model.sample(4, seed=2, refine=1)
    assert (corrected.report.accepted == 1).all()
    assert (corrected.report.error < samples.report.error / 3).all()
    assert not any(bool(marks.any()) for _, marks in samples.report.outside)
    a = samples.condition["coefficient"].clone().requires_grad_()
    fields = model.sample(coefficient=a, grad=True).fields
    # Of a field that scales as 1 / a: Euler's theorem.
    slope = torch.autograd.grad(fields.sum(), a)[0]
    torch.testing.assert_close((slope * a).sum(), -fields.sum().detach(), rtol=1e-3, atol=0)


def test_samples_are_projected_by_the_solver(model):
    samples = model.sample(4, seed=2, tolerance=0.01)
    done = samples.report.projection
    assert done.reached.all()
    assert (samples.report.line("darcy").violation <= 0.01).all()
    assert ((done.iterations > 1) & (done.iterations < 40)).all()
    assert (done.raw > 0.01).all()
    loose = model.sample(4, seed=2, tolerance=1e3).report.projection
    assert (loose.iterations == 0).all()


@pytest.mark.parametrize(
    "mask",
    [
        *((PLACE[:, None] // k + PLACE // k) % 2 == 0 for k in (1, 4, 16)),
        *(((PLACE // k) % 2 == 0).expand(64, 64) for k in (2, 8, 32)),
        (PLACE[:, None] + PLACE) // 8 % 2 == 0,
        torch.ones(64, 64, dtype=torch.bool),
        torch.rand(64, 64, generator=rng()) < 0.5,
    ],
    ids=["checks 1", "checks 4", "checks 16", "stripes 2", "stripes 8", "halves", "diagonal",
         "constant", "noise"],
)  # fmt: skip
def test_patterns_are_outside(mask, model):
    marked = STUDY.outside(model.network, {"coefficient": two_valued(mask)})
    assert marked["coefficient"].all()


def test_fresh_fields_are_inside_and_other_families_are_not(model):
    def share(study, a):
        return float(study.outside(model.network, {"coefficient": a})["coefficient"].float().mean())

    for family in ("two-valued", "lognormal"):
        assert share(STUDY, fresh(family, 256)) < 0.01
    layers = dataclasses.replace(STUDY, family="two-valued")
    assert share(layers, fresh("lognormal", 64)) == 1
    assert share(layers, fresh("two-valued", 256)) < 0.01
    assert share(STUDY, 6 * (fresh("two-valued", 64) / 6) ** 3) == 1  # contrast 64
    assert share(STUDY, 50 * fresh("two-valued", 64)) == 1  # beyond the range


def test_statistics_are_those_of_increments():
    log = torch.linspace(0, 6.3, 64).expand(2, 64, 64)
    found = field_statistics(log.exp())
    assert found[0, 0] == pytest.approx(6.3, rel=1e-5)
    lags = torch.tensor(darcy.LAGS) * 0.1
    torch.testing.assert_close(found[0, 2:8], torch.zeros(6), rtol=0, atol=1e-5)
    torch.testing.assert_close(found[0, 8:], lags.float(), rtol=1e-4, atol=0)


def test_wrong_coefficients_are_refused(model):
    with pytest.raises(InputError, match="coefficient: expected 64 x 64 per sample, got 8 x 8"):
        model.sample(coefficient=torch.ones(8, 8))
    with pytest.raises(InputError, match="coefficient: expected at least 1e-06, got -1"):
        model.sample(coefficient=-torch.ones(64, 64))


def test_shipped_model_is_worth_more_steps_than_it_takes():
    shipped = lawful.load("darcy")
    for family, most in (("two-valued", 1e-3), ("lognormal", 2e-3)):
        found = judged(shipped.network, fresh(family, 16))
        assert found["error"].mean() < most
        steps = shipped.study.start + found["steps_from_sample"].mean()
        assert steps < found["steps_from_zero"].mean() - 1


def test_table(monkeypatch, model):
    monkeypatch.setattr(darcy, "FRESH", 4)
    result = darcy_result({"run": model})
    rows = [line.split("|")[1].strip() for line in result.markdown.splitlines() if "|" in line]
    assert rows[2:] == ["two-valued", "lognormal"]
    for entry in result.data["records"]:
        assert entry["estimate"] == pytest.approx(1, abs=0.05)
        assert 1 <= entry["sharpened"] <= entry["bound"] <= entry["bound_worst"]
        assert entry["corrected"] < entry["error"]
    measured = SMALL.measure(model.network)
    assert measured["two_valued_bound_worst"] <= 2
    assert measured["lognormal_error"] == pytest.approx(result.data["records"][1]["error"])
