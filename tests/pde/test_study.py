"""A study of an equation of the user's own: advection and diffusion, from its few statements."""

from dataclasses import dataclass, replace
from math import pi

import pytest
import torch
from lightning_fabric import Fabric

from lawful import Axis, InputError, Quantity, Training
from lawful.metrics.report import relative_error
from lawful.model import Model
from lawful.pde import AdvectionDiffusion, ConservationStudy, Dirichlet, Grid, Outflow
from lawful.training import State, fit

CONDITION = {
    "velocity": [0.5, 1.0, 0.8],
    "diffusivity": [0.0, 0.02, 0.005],
    "phase": [0.0, 2.0, 4.0],
}


@dataclass(frozen=True)
class Carried(ConservationStudy):
    """Waves 1 + sin(2 pi x + phase) / 2, carried around a ring."""

    training: Training = Training(steps=3, batch=4)
    refinement: int = 1
    name = "carried"
    about = "waves that are carried and diffused"
    axes = (Axis("t", 0, 0.5, nodes=True), Axis("x", 0, 1))
    quantities = (
        Quantity("velocity", 0.5, 1.0),
        Quantity("diffusivity", 0.001, 0.02, minimum=0.0),
        Quantity("phase", 0, 6.3),
        Quantity("initial", 0, 2, shape=(32,), required=False, instead_of="phase"),
    )
    cells, times = 32, 32

    def equation(self, grid, scheme):
        return AdvectionDiffusion(grid, scheme)

    def profile(self, grid, c):
        phase = c["phase"].double()[:, None]
        return grid.averages(lambda x: x - torch.cos(2 * pi * x + phase) / (4 * pi))

    def carried(self):
        return 0.5, 1.0


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return Model(Carried(), Carried().network().eval(), {})


def exact(study):
    """Averages of the solution at the rows."""
    c = {name: torch.tensor(value).double() for name, value in CONDITION.items()}
    c = {name: value[:, None, None] for name, value in c.items()}
    t = torch.linspace(0, 0.5, 32).double()[:, None]
    decay = torch.exp(-c["diffusivity"] * 4 * pi**2 * t)
    moved = lambda x: 2 * pi * (x - c["velocity"] * t) + c["phase"]  # noqa: E731
    return study.grid().averages(lambda x: x - decay * torch.cos(moved(x)) / (4 * pi))[:, None]


def test_its_solver_is_exact_but_for_the_grid(model):
    condition = model.sample(**CONDITION).condition
    found = model.study.reference(condition, factor=2)
    assert relative_error(found, exact(model.study)).max() < 1e-3
    del condition["phase"]  # the row alone is known
    assert relative_error(model.study.reference(condition, 2), found).max() < 1e-3


def test_its_laws_hold_of_solutions_and_corrections_lead_there(model):
    raw, done = (model.sample(**CONDITION, refine=k) for k in (0, 4))
    assert [line.name for line in raw.report.lines] == ["advection-diffusion", "mass", "initial"]
    assert float(raw.report.line("initial").worst.max()) < 1e-6
    truth = exact(model.study)
    assert (relative_error(raw.fields, truth) > 0.2).all()
    assert (relative_error(done.fields, truth) < 5e-3).all()
    solved = {law.name: law.violation(truth, raw.condition) for law in model.study.laws()}
    for line in raw.report.lines:
        assert (solved[line.name] < 0.02 * line.violation.clamp_min(1e-4)).all()
    # The violation is the discrete law's, the estimate that of the field's error.
    ratio = raw.report.estimate.relative / relative_error(raw.fields, truth)
    assert ((ratio > 0.9) & (ratio < 1.1)).all()
    assert raw.report.estimate.judge == "advection-diffusion on 64 cells and 62 steps"


def test_its_samples_stay_within_the_maximum_principle(model):
    fields = torch.linspace(-3, 5, 32).double().expand(1, 1, 32, -1).clone()
    fields[:, :, 0] = exact(model.study)[:1, :, 0]
    seen = model.study.observe(fields)
    assert (seen.amin(), seen.amax()) == pytest.approx((0.4, 1.6), abs=0.01)


def test_it_trains_and_knows_its_quantities():
    study = Carried()
    fabric = Fabric(accelerator="cpu", devices=1)
    state = State.create({"generator": study.network()}, study.game(), fabric)
    list(fit(study.game(), state, fabric, 3))
    assert set(state.values) == {"equation/advection-diffusion correction"}
    lacking = type("Lacking", (Carried,), {"quantities": Carried.quantities[1:]})
    with pytest.raises(InputError, match="expected a quantity 'velocity'"):
        lacking().network()
    both = {"initial": torch.zeros(32), "phase": 0.0}
    with pytest.raises(InputError, match="expected one of the two"):
        Model(study, study.network(), {}).sample(**both, velocity=0.5, diffusivity=0.0)


class Walled(Carried):
    def equation(self, grid, scheme):
        return replace(super().equation(grid, scheme), left=Dirichlet(0.2), right=Dirichlet(0.4))


class Open(Carried):
    def equation(self, grid, scheme):
        return replace(super().equation(grid, scheme), left=Outflow(), right=Outflow())


def test_values_at_faces_are_laws():
    *_, left, right = Walled().laws()
    assert [(law.name, law.value, law.right) for law in (left, right)] == [
        ("boundary", 0.2, False),
        ("right boundary", 0.4, True),
    ]
    assert len(Open().laws()) == len(Carried().laws()) == 3


class Wrong(AdvectionDiffusion):
    """Carries what its test puts in the place of a part."""


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("flux", lambda self, u, c: u.mean(-1, keepdim=True), r"flux of shape \(2, 1\), expected"),
        ("source", lambda self, u, c: torch.ones(3, 7), r"source of shape \(3, 7\)"),
        ("diffusivity", lambda self, c: torch.ones(2, 5), r"diffusivity of shape \(2, 5\)"),
        ("parameters", "velocity", "expected a tuple of names, got 'velocity'"),
    ],
)
def test_an_equation_stated_wrongly_is_named(monkeypatch, part, value, message):
    monkeypatch.setattr(Carried, "equation", lambda self, grid, scheme: Wrong(grid, scheme))
    monkeypatch.setattr(Wrong, part, value)
    with pytest.raises(InputError, match=message):
        Carried().network()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"axes": (Axis("t", 0, 0.5), Axis("x", 0, 1))}, "of time with nodes=True"),
        ({"axes": (Axis("t", 0, 0.5, nodes=True),)}, "expected two axes"),
        ({"patch_rows": 0}, "patch_rows >= 1"),
    ],
)
def test_a_study_stated_wrongly_is_named(monkeypatch, change, message):
    for name, value in change.items():
        monkeypatch.setattr(Carried, name, value)
    with pytest.raises(InputError, match=message):
        Carried().network()


def test_own_speeds_need_a_periodic_equation(monkeypatch):
    ends = lambda self, grid, scheme: AdvectionDiffusion(grid, scheme, Outflow(), Outflow())  # noqa: E731
    monkeypatch.setattr(Carried, "equation", ends)
    monkeypatch.setattr(Carried, "own_speeds", 2)
    with pytest.raises(InputError, match="own_speeds are of periodic equations"):
        Carried().network()


def test_propagators_know_the_length_of_the_domain(monkeypatch):
    monkeypatch.setattr(Carried, "own_speeds", 2)
    monkeypatch.setattr(Carried, "axes", (Axis("t", 0, 0.5, nodes=True), Axis("x", 0, 2)))
    study = Carried()
    c = {name: torch.tensor(value) for name, value in CONDITION.items()}
    start = Grid(32, 0.0, 2.0)
    wave = lambda x: (1 - torch.cos(pi * x)) / pi  # noqa: E731  # sin(pi x), of the period 2
    c["initial"] = start.averages(lambda x: wave(x).expand(3, -1)).float()
    network = study.network()
    base, _ = network.carry(c["initial"], c)
    t = torch.linspace(0, 0.5, 32)[:, None, None]
    faces = start.faces() - c["velocity"][:, None] * t
    decay = torch.exp(-c["diffusivity"][:, None] * pi**2 * t)
    exact = decay * wave(faces).diff(dim=-1) / start.spacing
    torch.testing.assert_close(base[:, 0], exact.transpose(0, 1).float(), rtol=0, atol=1e-5)
