"""Steady diffusion: the operator, its inverse, the solver, and bounds that are proven."""

from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import scipy.fft
import scipy.sparse
import scipy.sparse.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lawful.errors import InputError
from lawful.pde import elliptic
from lawful.pde.elliptic import Elliptic, EllipticLaw, inner, solve
from lawful.pde.random_fields import neumann_field

ROWS, COLUMNS, LENGTHS = 12, 9, (1.5, 0.7)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(*shape, seed=0):
    return torch.randn(shape, generator=rng(seed), dtype=torch.float64)


def two_valued(count=4, cells=32, contrast=4.0, seed=1):
    field = neumann_field(noise(count, cells, cells, seed=seed))
    return torch.where(field > 0, contrast, 1.0).double()


def lognormal(count=4, cells=32, contrast=4.0, seed=1):
    field = neumann_field(noise(count, cells, cells, seed=seed))
    low, high = field.amin((1, 2), keepdim=True), field.amax((1, 2), keepdim=True)
    return contrast ** ((field - low) / (high - low))


def assembled(a, lengths):
    """The matrix, cell by cell and face by face, as a sparse one of SciPy."""
    rows, columns = a.shape
    h = lengths[0] / rows, lengths[1] / columns
    entries = {}
    for i in range(rows):
        for j in range(columns):
            me = i * columns + j
            for di, dj in ((1, 0), (-1, 0), (0, 1), (0, -1)):
                square = h[0 if di else 1] ** 2
                k, m = i + di, j + dj
                if 0 <= k < rows and 0 <= m < columns:
                    face = 2 / (1 / a[i, j] + 1 / a[k, m]) / square
                    entries[me, k * columns + m] = -face
                else:
                    face = 2 * a[i, j] / square
                entries[me, me] = entries.get((me, me), 0) + face
    places = np.array(list(entries)).T
    return scipy.sparse.csc_matrix((list(entries.values()), places))


def test_operator_is_the_assembled_matrix_and_symmetric():
    a = noise(2, ROWS, COLUMNS).exp()
    u, v = noise(2, ROWS, COLUMNS, seed=1), noise(2, ROWS, COLUMNS, seed=2)
    operator = Elliptic.of(a, LENGTHS)
    for k in range(2):
        expected = assembled(a[k].numpy(), LENGTHS) @ u[k].flatten().numpy()
        np.testing.assert_allclose(operator(u)[k].flatten(), expected, rtol=1e-12, atol=1e-9)
    torch.testing.assert_close(inner(v, operator(u)), inner(operator(v), u), rtol=1e-12, atol=0)
    area = LENGTHS[0] * LENGTHS[1] / (ROWS * COLUMNS)
    energy = (area * inner(u, operator(u))).sqrt()
    torch.testing.assert_close(operator.energy(u), energy, rtol=1e-12, atol=0)


def test_constant_coefficient_is_inverted_and_sines_are_its_modes():
    operator = Elliptic.of(torch.ones(2, ROWS, COLUMNS).double(), LENGTHS)
    u = noise(2, ROWS, COLUMNS)
    torch.testing.assert_close(operator.unit_inverse(operator(u)), u, rtol=0, atol=1e-12)
    torch.testing.assert_close(operator.precondition(operator(u)), u, rtol=0, atol=1e-12)
    y, x = ((torch.arange(n).double() + 0.5) / n for n in (ROWS, COLUMNS))
    mode = torch.sin(3 * torch.pi * y)[:, None] * torch.sin(2 * torch.pi * x)
    h = LENGTHS[0] / ROWS, LENGTHS[1] / COLUMNS
    value = (2 / h[0] * np.sin(3 * np.pi / 2 / ROWS)) ** 2
    value += (2 / h[1] * np.sin(2 * np.pi / 2 / COLUMNS)) ** 2
    found = Elliptic.of(torch.full((1, ROWS, COLUMNS), 5.0).double(), LENGTHS)(mode[None])
    torch.testing.assert_close(found[0], 5 * value * mode, rtol=0, atol=1e-10)


def test_flux_through_layers_is_exact():
    """Across layers a flux is constant where the slope is its inverse coefficient."""
    layers = torch.tensor([1.0, 1.0, 7.0, 7.0, 0.2, 0.2, 0.2, 3.0]).double()
    widths = torch.full((8,), 1 / 8).double()
    faces = torch.cat([torch.zeros(1).double(), (widths / layers).cumsum(0)])
    u = (faces[:-1] + faces[1:]) / 2
    found = Elliptic.of(layers.expand(1, 6, 8))(u.expand(1, 6, 8))
    assert found[0, 1:-1, :-1].abs().max() < 1e-12 * 8**2


@pytest.mark.parametrize("family", [two_valued, lognormal])
def test_solver_finds_what_a_sparse_direct_solver_finds(family):
    a, f = family(2, 24, 50.0), noise(2, 24, 24, seed=3)
    found = solve(Elliptic.of(a), f, tolerance=1e-12)
    for k in range(2):
        matrix = assembled(a[k].numpy(), (1, 1))
        expected = scipy.sparse.linalg.spsolve(matrix, f[k].flatten().numpy())
        np.testing.assert_allclose(found.solution[k].flatten(), expected, rtol=0, atol=1e-11)
    assert (found.residual < 1e-12).all()
    assert (found.iterations < 60).all()


def test_second_order_towards_a_smooth_solution():
    pi, errors = torch.pi, []
    for n in (16, 32, 64):
        y, x = torch.meshgrid(*[(torch.arange(n).double() + 0.5) / n] * 2, indexing="ij")
        a, u = torch.exp(x + y), torch.sin(pi * x) * torch.sin(pi * y)
        slopes = torch.cos(pi * x) * torch.sin(pi * y) + torch.sin(pi * x) * torch.cos(pi * y)
        f = a * (2 * pi**2 * u - pi * slopes)
        found = solve(Elliptic.of(a[None]), f[None], tolerance=1e-12).solution[0]
        errors.append(float((found - u).square().mean().sqrt()))
    for coarse, fine in pairwise(errors):
        assert 3.8 < coarse / fine < 4.2


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from([two_valued, lognormal]),
    st.floats(1, 1000),
    st.integers(0, 2**31),
    st.integers(0, 3),
    st.floats(-6, 0),
)
def test_bounds_hold(family, contrast, seed, corrections, size):
    """Of fields that are near the solution, smooth or rough, and of zero."""
    law, c = EllipticLaw(), {"coefficient": family(3, 16, contrast, seed)}
    solution = law.solution(c, 1e-13)
    x = solution.clone()
    x[0] = 0
    x[1:] += 10**size * noise(2, 1, 16, 16, seed=seed) * solution[1:].abs().amax()
    x[2] = x[2] * 1.1
    error, bound = law.operator(c).energy((x - solution)[:, 0]), law.bound(x, c)
    assert bound.norm == "energy"
    assert bound.lower is not None
    assert (error <= bound.value * (1 + 1e-9)).all()
    assert (bound.lower <= error * (1 + 1e-9)).all()
    assert (bound.value <= error * contrast**0.5 * (1 + 1e-9)).all()
    sharper = law.bound(x, c, corrections=corrections)
    assert (error <= sharper.value * (1 + 1e-9)).all()
    assert (sharper.lower <= error * (1 + 1e-9)).all()
    assert (sharper.value <= bound.value * (1 + 1e-9)).all()


def test_bounds_of_a_solution_are_zero_and_corrections_close_the_gap():
    law, c = EllipticLaw(), {"coefficient": two_valued()}
    solution = law.solution(c, 1e-13)
    assert (law.bound(solution, c).value < 1e-12).all()
    gaps = [law.bound(0.9 * solution, c, corrections=k) for k in (0, 1, 3)]
    ratios = [float((b.value / b.lower).max()) for b in gaps]
    assert ratios[0] <= 2 + 1e-9
    assert ratios[2] < 1.02 < ratios[1]


def test_corrections_contract_and_stop_at_the_solution():
    law, c = EllipticLaw(), {"coefficient": two_valued(cells=64)}
    solution, energy = law.solution(c, 1e-13), law.operator(c).energy
    x = solution + 1e-4 * noise(4, 1, 64, 64, seed=4)
    moved = x + law.correction(x, c)
    assert (energy((moved - solution)[:, 0]) < energy((x - solution)[:, 0]) / 13).all()
    assert law.correction(solution, c).abs().max() < 1e-12
    loss = law.correction_loss(x.requires_grad_(), c)
    assert torch.isfinite(torch.autograd.grad(loss, x)[0]).all()


def test_samples_are_solved_alone_and_a_start_saves_steps():
    a = torch.cat([two_valued(2), lognormal(2, contrast=100.0)])
    operator, f = Elliptic.of(a), torch.ones_like(a)
    whole = solve(operator, f, tolerance=1e-4)
    for k in range(4):
        alone = solve(Elliptic.of(a[k : k + 1]), f[k : k + 1], tolerance=1e-4)
        torch.testing.assert_close(alone.solution[0], whole.solution[k], rtol=0, atol=1e-14)
        assert alone.iterations == whole.iterations[k]
    near = solve(operator, f, whole.solution, tolerance=1e-6)
    assert (near.iterations < solve(operator, f, tolerance=1e-6).iterations).all()
    exact = solve(operator, f, solve(operator, f, tolerance=1e-12).solution, tolerance=1e-4)
    assert (exact.iterations == 0).all()
    few = solve(operator, f, tolerance=0.0, steps=2)
    assert (few.iterations == 2).all()


def test_smooth_coefficients_are_scaled_and_jumps_are_not():
    """With the scaling the contrast of a smooth coefficient costs hardly a step."""
    jumps, smooth = Elliptic.of(two_valued()), Elliptic.of(lognormal(contrast=400.0))
    assert torch.equal(jumps.scale, torch.ones_like(jumps.scale))
    assert (smooth.scale.amax((1, 2)) > 4 * smooth.scale.amin((1, 2))).all()
    f = torch.ones_like(smooth.scale)
    assert (solve(smooth, f, tolerance=1e-4).iterations < 14).all()


def test_single_precision_serves():
    law = EllipticLaw()
    c = {"coefficient": torch.cat([two_valued(cells=64), lognormal(cells=64)]).float()}
    solution, f = law.solution(c), law.forcing(c)
    found = solve(law.operator(c), f, tolerance=1e-5)
    error = (found.solution.double() - solution[:, 0]).flatten(1).norm(dim=1)
    assert (error < 1e-5 * solution.flatten(1).norm(dim=1)).all()
    assert (found.iterations < 20).all()
    # More steps than it takes do no harm.
    x = solution.float() + law.correction(solution.float(), c)
    torch.testing.assert_close(x.double(), solution, rtol=0, atol=1e-5 * float(solution.max()))


def test_condition_may_have_a_source_and_sizes_carry_over():
    law, a = EllipticLaw(LENGTHS), noise(2, ROWS, COLUMNS).exp()
    c = {"coefficient": a, "source": 3 * torch.ones_like(a)}
    plain = law.solution({"coefficient": a})
    torch.testing.assert_close(law.solution(c), 3 * plain)
    torch.testing.assert_close(law.solution({"coefficient": 5 * a}), plain / 5)
    assert law.violation(plain, {"coefficient": a}).max() < 1e-5


@pytest.mark.parametrize("wrong", [0.0, -1.0, float("nan"), float("inf")])
def test_coefficients_that_are_not_positive_are_refused(wrong):
    a = torch.ones(1, 4, 4)
    a[0, 2, 1] = wrong
    with pytest.raises(InputError, match="coefficient: expected positive and finite"):
        Elliptic.of(a)


def test_random_fields_have_the_stated_covariance():
    fields = neumann_field(noise(20_000, 8, 8)).flatten(1)
    assert fields.mean(1).abs().max() < 1e-12
    k, x = np.arange(8), (np.arange(8) + 0.5) / 8
    variance = (np.pi**2 * (k[:, None] ** 2 + k**2) + 9) ** -2.0
    variance[0, 0] = 0
    modes = np.cos(np.pi * k[:, None] * x) * np.where(k[:, None], 2**0.5, 1)
    expected = np.einsum("kl,ki,lj,km,ln->ijmn", variance / variance.sum(), *[modes] * 4)
    found = (fields.mT @ fields / len(fields)).reshape(8, 8, 8, 8).numpy()
    np.testing.assert_allclose(found, expected, atol=0.06)
    np.testing.assert_allclose(np.einsum("ijij->", expected), 64, rtol=1e-12)
    # The transform is the cosine transform of SciPy.
    xi = noise(1, 8, 8, seed=7)
    scaled = (variance / variance.sum()) ** 0.5 * xi[0].numpy()
    by_scipy = scipy.fft.idctn(scaled, type=2, norm="ortho") * 8
    np.testing.assert_allclose(neumann_field(xi)[0], by_scipy, atol=1e-12)


def test_jumps_that_the_scaled_preconditioner_cannot_take_are_solved_by_the_plain_one():
    noise = torch.randn(1, 64, 64, generator=torch.Generator().manual_seed(0))
    a = torch.where(noise > 0, 1e2, 1e-2).double()
    c, law = {"coefficient": a}, EllipticLaw()
    x = law.solution(c)
    residual = law(x, c)
    assert x.isfinite().all()
    assert residual.abs().max() < 1e-3


def test_what_conjugate_gradients_do_not_reach_is_not_called_a_solution(monkeypatch):
    few = partial(solve, steps=3)
    monkeypatch.setattr(elliptic, "solve", few)
    noise = torch.rand(2, 16, 16, generator=torch.Generator().manual_seed(0))
    assert EllipticLaw().solution({"coefficient": 1 + 9 * noise}).isnan().all()


def test_corrections_of_a_bound_are_counted():
    c = {"coefficient": torch.ones(1, 8, 8)}
    with pytest.raises(InputError, match="expected a whole number >= 0"):
        EllipticLaw().bound(torch.zeros(1, 1, 8, 8), c, corrections=-1)


@pytest.mark.parametrize("options", [{"lengths": (0.0, 1.0)}, {"steps": -1}])
def test_impossible_laws_are_refused(options):
    with pytest.raises(InputError, match="sides above 0 and steps >= 1"):
        EllipticLaw(**options)


def test_large_coefficients_do_not_overflow():
    c = {"coefficient": torch.full((1, 8, 8), 6e20)}
    assert EllipticLaw()(torch.zeros(1, 1, 8, 8), c).isfinite().all()
    assert EllipticLaw().operator(c).largest == pytest.approx(6e20)
