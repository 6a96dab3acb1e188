"""What every law must satisfy: zero on a lawful field, positive when perturbed, batch-independent,
differentiable; and what affine, linearised and correctable laws add."""

from math import hypot

import pytest
import torch

from lawful.data.masks import MotifLaw, cross
from lawful.errors import InputError
from lawful.laws import AffineLaw, CorrectableLaw, Law, law
from lawful.materials.laws import TwoPoint, VolumeFraction
from lawful.pde.elliptic import EllipticLaw
from lawful.pde.equations import AdvectionDiffusion, Burgers
from lawful.pde.grid import Dirichlet, Grid, Inflow, Outflow
from lawful.pde.laws import BoundaryLaw, InitialLaw, MassLaw, ThetaLaw
from lawful.pde.schemes import FirstOrder, Muscl, Weno5
from lawful.studies.burgers import SobelBurgersLaw

ROWS, CELLS, DT = 6, 16, 0.004
RADII = 4  # half of the rows, and the origin
MASK = cross(CELLS, 5, 3, 7)[:ROWS]


def burgers(scheme, theta=0.5):
    return ThetaLaw(Burgers(Grid(CELLS), scheme, Dirichlet(0.0), Outflow()), DT, theta)


def carried(scheme, theta=0.5):
    return ThetaLaw(AdvectionDiffusion(Grid(CELLS), scheme, Outflow(), Inflow(0.4)), DT, theta)


def volume(x, c):
    return x.mean((-2, -1)) - c["volume_fraction"][:, None]


LAWS = {
    "first-order implicit": burgers(FirstOrder(), 1.0),
    "first-order": burgers(FirstOrder()),
    "muscl": burgers(Muscl()),
    "weno5": burgers(Weno5(1e-2)),
    "weno5 explicit": burgers(Weno5(1e-2), 0.0),
    "advection, first-order": carried(FirstOrder(), 1.0),
    "advection, muscl": carried(Muscl()),
    "advection, weno5": carried(Weno5(1e-2)),
    "periodic advection": ThetaLaw(AdvectionDiffusion(Grid(CELLS), Weno5(1e-2)), DT),
    "darcy": EllipticLaw((1.0, 2.0)),
    "mass": MassLaw(burgers(FirstOrder())),
    "mass, advection": MassLaw(carried(Muscl())),
    "initial": InitialLaw(),
    "boundary": BoundaryLaw(0.25),
    "right boundary": BoundaryLaw(0.25, right=True),
    "sobel": SobelBurgersLaw(1 / 320, 1 / 64),
    "motif": MotifLaw(MASK, torch.linspace(0, 1, ROWS * CELLS).view(ROWS, CELLS).double()),
    "function": law(volume),
    "volume fraction": VolumeFraction(),
    "two-point": TwoPoint(RADII),
    "two-point, weights": TwoPoint(RADII, weights=(0.0, 1.0, 0.0, 0.5)),
    "two-point, modes": TwoPoint(RADII, modes=2),
    "two-point, weights and modes": TwoPoint(RADII, weights=(1.0, 0.0, 2.0, 1.0), modes=2),
    "two-point, not periodic": TwoPoint(RADII, periodic=False),
}
LINEARISED = {name: entry for name, entry in LAWS.items() if type(entry).jacobian != Law.jacobian}


def condition(entry=None, batch=3):
    generator = torch.Generator().manual_seed(5)
    periodic = getattr(entry, "periodic", True)
    curves = torch.stack([looped_two_point(x[0], periodic) for x in field()])
    return {
        "viscosity": torch.tensor([0.0, 0.01, 0.05]).double()[:batch],
        "velocity": torch.tensor([-0.7, 0.4, 1.0]).double()[:batch],
        "diffusivity": torch.tensor([0.01, 0.0, 0.05]).double()[:batch],
        "initial": torch.rand(batch, CELLS, generator=generator).double(),
        "volume_fraction": torch.tensor([0.2, 0.5, 0.9]).double()[:batch],
        "two_point": curves[:batch],
        "coefficient": 1 + 9 * torch.rand(3, ROWS, CELLS, generator=generator).double()[:batch],
    }


def field(batch=3):
    generator = torch.Generator().manual_seed(6)
    return 0.2 + 0.6 * torch.rand(batch, 1, ROWS, CELLS, generator=generator).double()


def looped_two_point(x, periodic):
    """Means over the lags whose length rounds to each radius, lag by lag."""
    means = [[] for _ in range(RADII)]
    for down in range(-RADII, RADII) if not periodic else range(-(ROWS // 2), ROWS // 2):
        for along in range(-RADII, RADII):
            pairs = x * x.roll((-down, -along), (0, 1))
            if not periodic:
                pairs = pairs[max(0, -down) : ROWS - max(0, down)]
                pairs = pairs[:, max(0, -along) : CELLS - max(0, along)]
            if (r := round(hypot(down, along))) < RADII:
                means[r].append(pairs.mean())
    return torch.stack([torch.stack(shell).mean() for shell in means])


def lawful_field(entry, c):
    """A field that obeys the law, made without its own `loss`."""
    x = field()
    if isinstance(entry, MassLaw):
        return lawful_field(entry.law, c)
    if isinstance(entry, EllipticLaw):
        return entry.solution(c, tolerance=1e-13)
    if isinstance(entry, CorrectableLaw):
        return _marched(entry, x, c)
    if isinstance(entry, InitialLaw):
        x[:, 0, 0] = c["initial"]
    elif isinstance(entry, BoundaryLaw):
        beside, following = (-1, -2) if entry.right else (0, 1)
        x[..., following] = 3 * x[..., beside] - 2 * entry.value
    elif isinstance(entry, MotifLaw):
        x[..., entry.mask] = entry.motif[entry.mask]
    elif isinstance(entry, SobelBurgersLaw):
        x[:] = 0.7  # a constant state is a solution
    elif isinstance(entry, TwoPoint):
        pass  # the target is this field's
    else:
        x += (c["volume_fraction"] - x.mean((1, 2, 3)))[:, None, None, None]
    return x


def _marched(entry, x, c):
    """Rows solved one after the other by fixed-point iteration of the theta method."""
    rows = [x[:, 0, 0]]
    c = entry.equation.coefficients(c, rows[0])
    for _ in range(ROWS - 1):
        old, new = rows[-1], rows[-1]
        explicit = (1 - entry.theta) * entry.equation.tendency(old, c)
        for _ in range(40):
            new = old + DT * (entry.theta * entry.equation.tendency(new, c) + explicit)
        rows.append(new)
    return torch.stack(rows, 1).unsqueeze(1)


each_law = pytest.mark.parametrize("entry", LAWS.values(), ids=LAWS.keys())


@each_law
def test_zero_on_a_lawful_field_and_positive_when_perturbed(entry):
    c = condition(entry)
    x = lawful_field(entry, c)
    assert (entry.violation(x, c) < 1e-9).all()
    assert (entry.worst(x, c) < 1e-8).all()
    perturbed = x + 0.05 * torch.randn(x.shape, generator=torch.Generator().manual_seed(1)).double()
    assert (entry.violation(perturbed, c) > 1e-4).all()


@each_law
def test_residual_of_a_sample_does_not_depend_on_its_batch(entry):
    c, x = condition(entry), field()
    together = entry(x, c)
    assert together.shape[0] == 3
    for i in range(3):
        alone = entry(x[i : i + 1], {name: value[i : i + 1] for name, value in c.items()})
        torch.testing.assert_close(together[i], alone[0], rtol=0, atol=1e-12)


@each_law
def test_loss_and_violation_are_derived_from_the_residual(entry):
    c, x = condition(entry), field()
    r = entry(x, c)
    torch.testing.assert_close(entry.loss(x, c), r.square().mean())
    torch.testing.assert_close(entry.violation(x, c).square().mean(), entry.loss(x, c))
    assert (entry.worst(x, c) >= entry.violation(x, c) - 1e-12).all()


@each_law
def test_gradients(entry):
    c = condition(entry, 1)
    ramp = torch.linspace(0.2, 0.8, CELLS).double() ** 2  # no kink of a limiter nearby
    x = (ramp + 0.05 * torch.arange(ROWS)[:, None]).reshape(1, 1, ROWS, CELLS).requires_grad_()
    assert torch.autograd.gradcheck(lambda v: entry.loss(v, c), x)


@pytest.mark.parametrize("entry", LINEARISED.values(), ids=LINEARISED.keys())
def test_closed_jacobians_are_those_of_automatic_differentiation(entry):
    c, x = condition(entry), field()
    rows = entry.jacobian(x, c)
    assert rows.shape == (3, entry(x, c).flatten(1).shape[1], *x.shape[1:])
    torch.testing.assert_close(rows, Law.jacobian(entry, x, c), rtol=0, atol=1e-10)
    assert float(rows.abs().amax((2, 3, 4)).min()) > 1e-4


@pytest.mark.parametrize(
    "entry", [InitialLaw(), BoundaryLaw(0.25), BoundaryLaw(0.25, True), VolumeFraction()]
)
def test_affine_laws_project_orthogonally(entry):
    assert isinstance(entry, AffineLaw)
    c, x = condition(), field()
    y, hidden = entry.enforce(x, c), entry.hide(x, c)
    assert entry(y, c).abs().max() < 1e-14
    torch.testing.assert_close(entry.enforce(y, c), y, rtol=0, atol=1e-14)
    torch.testing.assert_close(entry.hide(hidden, c), hidden, rtol=0, atol=1e-14)
    # The change is orthogonal to every direction along the law.
    along = entry.hide(torch.randn(x.shape).double(), c)
    inner = ((y - x) * along).sum((1, 2, 3))
    torch.testing.assert_close(inner, torch.zeros(3).double(), rtol=0, atol=1e-12)


def test_initial_law_of_a_finer_field_speaks_of_its_averages():
    c, x = condition(), torch.rand(3, 1, ROWS, 2 * CELLS).double()
    y = InitialLaw().enforce(x, c)
    torch.testing.assert_close(y[:, 0, 0].unflatten(-1, (-1, 2)).mean(-1), c["initial"])
    assert torch.equal(y[:, :, 1:], x[:, :, 1:])
    with pytest.raises(InputError, match="multiple"):
        InitialLaw()(torch.zeros(3, 1, ROWS, CELLS + 1), c)


def test_a_residual_may_be_one_number_a_sample_and_nothing_less():
    def mean(x, c):
        return x.mean((1, 2, 3))

    x = field()
    torch.testing.assert_close(law(mean).violation(x, {}), x.mean((1, 2, 3)))
    for wrong in (lambda x, c: x.mean(), lambda x, c: x.mean(0)):
        with pytest.raises(InputError, match="expected a residual of shape"):
            law(wrong).loss(x, {})


def test_impossible_laws_are_refused():
    with pytest.raises(InputError, match="theta"):
        ThetaLaw(Burgers(Grid(8)), 0.1, theta=1.5)
