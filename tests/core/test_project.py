"""Projection: exact where laws are linear, honest everywhere, binary where samples are."""

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lawful import InputError
from lawful.data.masks import MotifLaw
from lawful.laws import law
from lawful.least_squares import Parametrisation, Problem, mean_diagonals
from lawful.materials.dataset import small
from lawful.materials.fields import LevelCut, latent_correlation, level, level_cut, random_field
from lawful.materials.laws import TwoPoint, VolumeFraction
from lawful.materials.statistics import RADII, two_point
from lawful.project import exchange_pixels, interface, project, unrolled

seeds = st.integers(0, 10**6)
ROWS = torch.randn(5, 24, generator=torch.Generator().manual_seed(99)).double()


def linear(x, c):
    return x.flatten(1) @ ROWS.T - c["b"]


def energy(x, c):
    return x.square().mean((1, 2, 3)) - c["energy"]


def grey(seed=0, batch=3):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, 1, 4, 6, generator=generator).double()


def sides(seed=0, batch=3):
    return torch.randn(batch, 5, generator=torch.Generator().manual_seed(seed + 1)).double()


@lru_cache
def coarsened():
    """Statistics of Cahn-Hilliard images, float64."""
    images = small(64)[0].images[::3][:12].double()
    curve = two_point(images)
    return {"volume_fraction": curve[:, 0], "two_point": curve}


def latent(c, side=64, seed=0):
    """Blurred Gaussian fields of the target's spectrum."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(len(c["two_point"]), side, side, generator=generator).to(c["two_point"])
    correlation = latent_correlation(c["two_point"], c["volume_fraction"])
    return random_field(noise, correlation, blur=1.5).unsqueeze(1)


def single(c):
    return {name: value.float() for name, value in c.items()}


def some(c, rows):
    return {name: value[rows] for name, value in c.items()}


def little(count=12):
    """A small problem: binary fields of 32 x 32 with the statistics of others, float64."""
    c = some(coarsened(), slice(count))
    other = level_cut(latent(c, 32, 5), c["volume_fraction"])
    curve = two_point(other[:, 0], 12)
    c = {"volume_fraction": curve[:, 0], "two_point": curve}
    return TwoPoint(12), latent(c, 32), c


@given(seed=seeds)
@settings(max_examples=10, deadline=None)
def test_a_linear_law_is_solved_in_one_step_of_least_norm(seed):
    x, b = grey(seed), sides(seed)
    found = project([linear], x, {"b": b}, tolerance=1e-8, damping=1e-13)
    assert found.iterations.tolist() == [1, 1, 1]
    assert bool(found.reached.all())
    shortest = (b - x.flatten(1) @ ROWS.T) @ torch.linalg.pinv(ROWS).T
    moved = (found.fields - x).flatten(1)
    torch.testing.assert_close(moved, shortest, rtol=0, atol=1e-8)
    torch.testing.assert_close(found.displacement, moved.abs().mean(1))
    assert float(found.after["linear"].max()) < 1e-8
    torch.testing.assert_close(found.before["linear"], law(linear).violation(x, {"b": b}))


def test_damping_shortens_the_step_as_ridge_regression_does():
    x, b = grey(), sides()
    problem = Problem.of([linear], Parametrisation(), 0.1)
    step, _, _ = problem.step(x, {"b": b}, torch.full((3,), 0.3, dtype=torch.float64))
    gram = ROWS @ ROWS.T  # the scale of the residual cancels
    ridge = 0.3 * gram.diagonal().mean() * torch.eye(5).double()
    exact = torch.linalg.solve(gram + ridge, (x.flatten(1) @ ROWS.T - b).T).T @ ROWS
    torch.testing.assert_close(step.flatten(1), exact, rtol=0, atol=1e-12)


def test_every_law_has_its_own_tolerance():
    x = grey()
    c = {"b": linear(x, {"b": 0.2}), "energy": 0.97 * x.square().mean((1, 2, 3))}
    for tolerance in ({"linear": 1e-2, "energy": 1e-6}, {"linear": 1e-5, "energy": 1e-2}):
        found = project([linear, energy], x, c, tolerance=tolerance)
        assert bool(found.reached.all())
        assert list(found.before) == list(found.after) == ["linear", "energy"]
        for entry in (linear, energy):
            after = law(entry).violation(found.fields, c)
            torch.testing.assert_close(found.after[entry.__name__], after, rtol=0, atol=0)
            assert bool((after <= tolerance[entry.__name__]).all())
    loose = project([linear, energy], x, c, tolerance=10.0)
    assert loose.iterations.tolist() == [0, 0, 0]
    either = project([linear, energy], x, c, tolerance={"linear": 10.0, "energy": 1e-3})
    assert bool((either.iterations > 0).any())


def test_the_merit_is_the_largest_violation_over_its_tolerance():
    problem = Problem.of([linear, energy], Parametrisation(), {"linear": 0.5, "energy": 0.1})
    x, c = grey(), {"b": sides(), "energy": torch.ones(3).double()}
    first, second = (law(entry).violation(x, c) for entry in (linear, energy))
    torch.testing.assert_close(problem.merit(x, c), torch.maximum(first / 0.5, second / 0.1))
    # The residual's squares are the violations' over the tolerances', law by law.
    total = (first / 0.5).square() + (second / 0.1).square()
    torch.testing.assert_close(problem.residual(x, c).square().sum(1), total)
    rows = torch.func.jacrev(lambda v: problem.residual(v, c))(x)
    rows = torch.stack([rows[i, :, i] for i in range(3)])
    torch.testing.assert_close(problem.jacobian(x, c), rows, rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", [(), (1,), (2, 3)])
def test_a_residual_of_any_shape_is_differentiated(shape):
    def own(x, c):
        count = max(1, int(np.prod(shape)))
        return x.flatten(1)[:, :count].square().reshape(len(x), *shape) - 1.0

    x = 1 + 0.2 * grey()
    found = project([own], x, {}, tolerance=1e-9)
    assert bool(found.reached.all())
    count = max(1, int(np.prod(shape)))
    assert float((found.fields.flatten(1)[:, :count].square() - 1).abs().max()) < 1e-8
    assert torch.equal(found.fields.flatten(1)[:, count:], x.flatten(1)[:, count:])
    rows = law(own).jacobian(x, {})
    exact = torch.diag_embed(2 * x.flatten(1))[:, :count].view_as(rows)
    torch.testing.assert_close(rows, exact)


@pytest.mark.parametrize("periodic", [True, False])
def test_grey_fields_are_taken_to_a_correlation(periodic):
    generator = torch.Generator().manual_seed(2)
    x = torch.rand(2, 1, 16, 18, generator=generator).double()
    other = torch.rand(2, 16, 18, generator=generator).double()
    c = {"two_point": two_point(other, 6, periodic=periodic)}
    found = project([TwoPoint(6, periodic=periodic)], x, c, tolerance=1e-9)
    assert bool(found.reached.all())
    curve = two_point(found.fields[:, 0], 6, periodic=periodic)
    assert float((curve - c["two_point"]).abs().max()) < 1e-8


def test_samples_within_the_tolerance_are_not_touched():
    entry, w, c = little(4)
    x = level_cut(w, c["volume_fraction"])
    loose = 1.01 * float(entry.violation(x, c).max())
    found = project([entry], w, c, tolerance=loose, through=LevelCut(6.0), exchanges=10)
    assert torch.equal(found.moved, w)
    assert torch.equal(found.fields, x)
    for value in (found.iterations, found.exchanges, found.displacement):
        assert value.tolist() == [0, 0, 0, 0]
    assert bool(found.reached.all())
    # Of a mixed batch, only the others are.
    middle = float(entry.violation(x, c).median())
    found = project([entry], w, c, tolerance=middle, through=LevelCut(6.0), exchanges=10)
    within = entry.violation(x, c) <= middle
    assert 0 < int(within.sum()) < 4
    assert torch.equal(found.moved[within], w[within])
    assert torch.equal(found.fields[within], x[within])
    assert bool((found.iterations[~within] > 0).all())


def test_what_becomes_of_a_sample_does_not_depend_on_its_batch():
    entry, w, c = little()
    options = {"tolerance": 4e-4, "through": LevelCut(6.0), "iterations": 12, "exchanges": 20}
    together = project([entry], w, c, **options)
    assert len(together.fields) == len(together.reached) == 12
    for i in range(12):
        alone = project([entry], w[i : i + 1], some(c, slice(i, i + 1)), **options)
        assert torch.equal(alone.fields[0], together.fields[i])
        torch.testing.assert_close(alone.moved[0], together.moved[i], rtol=0, atol=1e-5)
        assert int(alone.iterations) == int(together.iterations[i])
        assert int(alone.exchanges) == int(together.exchanges[i])


def test_a_step_is_the_longest_that_helps_whatever_the_others_need():
    """Of y^2 = 1 the full step from y = 1/2 helps, half of it would help more; from 1e-2 none does
    but short ones, so that steps of both lengths are tried."""

    def squares(x, c):
        return x.flatten(1).square() - 1

    y = torch.tensor([0.5, 1e-2]).double().view(2, 1, 1, 1)
    both = project([squares], y, {}, tolerance=1e-9, iterations=1, damping=1e-13)
    alone = project([squares], y[:1], {}, tolerance=1e-9, iterations=1, damping=1e-13)
    assert float(alone.fields) == pytest.approx(1.25, abs=1e-9)  # 1/2 + (1 - 1/4) / (2 x 1/2)
    assert float(both.fields[0]) == pytest.approx(1.25, abs=1e-9)


def test_the_merit_never_grows():
    entry, w, c = little(8)
    last = entry.violation(level_cut(w, c["volume_fraction"]), c)
    first = last
    for iterations in (1, 2, 3, 5, 9):
        found = project([entry], w, c, tolerance=1e-6, through=LevelCut(6.0), iterations=iterations)
        after = found.after["two-point correlation"]
        assert bool((after <= last).all())
        assert bool((found.iterations <= iterations).all())
        last = after
    assert float((last / first).mean()) < 0.6
    exchanged = project([entry], w, c, tolerance=1e-6, through=LevelCut(6.0), iterations=9,
                       exchanges=30).after["two-point correlation"]  # fmt: skip
    assert bool((exchanged <= last).all())
    assert float(exchanged.mean()) < float(last.mean())


@lru_cache
def projected(tolerance=1e-3):
    c = single(coarsened())
    tolerances = {"volume fraction": 1 / 64**2, "two-point correlation": tolerance}
    return c, project([VolumeFraction(), TwoPoint()], latent(c), c, tolerance=tolerances,
                     through=LevelCut(6.0), iterations=40, damping=1e-2, exchanges=80)  # fmt: skip


def test_blurred_noise_reaches_the_statistics_of_spinodal_decomposition():
    _, found = projected()
    assert float(found.before["two-point correlation"].median()) > 2e-3
    assert float(found.reached.float().mean()) >= 0.9


def test_a_fraction_between_two_counts_does_not_disturb_the_correlation():
    """The level cut cannot follow it: its rows of the Jacobian vanish, its residual does not."""
    c, usual = projected()
    c = {**c, "volume_fraction": c["volume_fraction"] + 0.4 / 64**2}
    tolerances = {"volume fraction": 1 / 64**2, "two-point correlation": 1e-3}
    found = project([VolumeFraction(), TwoPoint()], latent(c), c, tolerance=tolerances,
                   through=LevelCut(6.0), iterations=40, damping=1e-2, exchanges=80)  # fmt: skip
    off = found.after["volume fraction"]
    torch.testing.assert_close(off, torch.full_like(off, 0.4 / 64**2), rtol=0, atol=1e-6)
    assert float(found.reached.float().mean()) >= 0.9
    assert float(found.displacement.mean()) < 1.5 * float(usual.displacement.mean())


@pytest.mark.parametrize("tolerance", [1e-3, 1e-4])
def test_reached_is_what_independent_code_finds(tolerance):
    c, found = projected(tolerance)
    curve = two_point(found.fields[:, 0] > 0.5).numpy()
    off = np.sqrt(np.square(curve - c["two_point"].numpy()).mean(1))
    share = found.fields.double().mean((1, 2, 3)).numpy()
    assert np.abs(share - c["volume_fraction"].numpy()).max() <= 0.5 / 64**2 + 1e-7
    np.testing.assert_allclose(found.after["two-point correlation"], off, atol=1e-6)
    clear = np.abs(off - tolerance) > 1e-6
    assert clear.sum() >= 8
    np.testing.assert_array_equal(found.reached.numpy()[clear], (off <= tolerance)[clear])
    if tolerance < 1e-3:
        assert not bool(found.reached.all())


def test_counts_are_exact_before_and_after():
    c, found = projected()
    count = (c["volume_fraction"].double() * 64**2).round().long()
    first = level_cut(latent(c), c["volume_fraction"])
    for x in (first, found.fields):
        assert bool(((x == 0) | (x == 1)).all())
        assert torch.equal(x.sum((1, 2, 3)).long(), count)
    changed = (first != found.fields).double().mean((1, 2, 3))
    torch.testing.assert_close(found.displacement.double(), changed, rtol=0, atol=1e-6)


def test_a_target_that_no_medium_has_is_not_reached():
    c = {"volume_fraction": torch.tensor([0.5, 0.4]),
         "two_point": torch.full((2, RADII), 0.25)}  # fmt: skip
    c["two_point"][:, :6] = torch.tensor([[0.5], [0.4]])
    found = project([TwoPoint()], latent(c), c, tolerance=1e-3, through=LevelCut(6.0),
                   iterations=15, exchanges=20)  # fmt: skip
    assert found.reached.tolist() == [False, False]
    assert bool(((found.fields == 0) | (found.fields == 1)).all())
    assert found.fields.sum((1, 2, 3)).tolist() == [2048, 1638]
    assert bool(torch.isfinite(found.moved).all())
    after, before = (v["two-point correlation"] for v in (found.after, found.before))
    assert bool(torch.isfinite(after).all())
    assert bool((after > 1e-3).all() and (after <= before).all())


@given(seed=seeds, phi=st.floats(0.1, 0.9), steepness=st.floats(1.0, 12.0))
@settings(max_examples=15, deadline=None)
def test_the_pull_is_the_derivative_of_a_soft_cut_that_keeps_its_mean(seed, phi, steepness):
    """The level of the soft cut is found by bisection, its derivative by central differences."""
    generator = torch.Generator().manual_seed(seed)
    w = torch.randn(1, 1, 6, 7, generator=generator).double()
    c = {"volume_fraction": torch.tensor([phi]).double()}

    def soft(w, height):
        return torch.sigmoid(steepness * (w - height))

    mean = soft(w, level(w, c["volume_fraction"])).mean()

    def kept(w):
        low, high = w.min() - 50.0, w.max() + 50.0
        for _ in range(90):
            middle = (low + high) / 2
            low, high = (middle, high) if soft(w, middle).mean() > mean else (low, middle)
        return soft(w, (low + high) / 2)

    rows = torch.randn(1, 4, 1, 6, 7, generator=generator).double()
    along = torch.randn(w.shape, generator=generator).double()
    step = 1e-4
    slope = (kept(w + step * along) - kept(w - step * along)) / (2 * step)
    assert float(slope.sum().abs()) < 1e-8
    pulled = LevelCut(steepness).pull(rows, w, level_cut(w, c["volume_fraction"]))
    assert pulled.shape == rows.shape
    torch.testing.assert_close((pulled * along).sum((2, 3, 4)), (rows * slope).sum((2, 3, 4)),
                               rtol=1e-5, atol=1e-5)  # fmt: skip


def test_an_exchange_touches_interfaces_alone_and_as_many_pixels_of_either_phase():
    entry, w, c = little(8)
    x = level_cut(w, c["volume_fraction"])
    problem = Problem.of([entry], LevelCut(6.0), 1e-4)
    y, swapped = exchange_pixels(problem, x, c, 1)
    changed = x != y
    assert not bool((changed & ~interface(x)).any())
    for phase in (0, 1):
        assert torch.equal((changed & (x == phase)).sum((1, 2, 3)), swapped)
    assert int(swapped.max()) <= 16
    better = problem.merit(y, c) < problem.merit(x, c)
    assert torch.equal(better, swapped > 0)
    assert bool(better.any())
    y, swapped = exchange_pixels(problem, x, c, 60)
    assert bool((swapped > 0).all())
    assert torch.equal(y.sum((1, 2, 3)), x.sum((1, 2, 3)))
    assert bool(((y == 0) | (y == 1)).all())
    assert bool((problem.merit(y, c) < problem.merit(x, c)).all())
    same, none = exchange_pixels(replace(problem, tolerances=(1.0,)), x, c, 60)
    assert torch.equal(same, x)
    assert none.tolist() == [0] * 8


def test_interfaces_are_pixels_beside_the_other_phase():
    x = torch.zeros(1, 1, 6, 6)
    x[0, 0, 0, 2:5] = 1
    picture = ["".join(".#"[int(v)] for v in row) for row in interface(x)[0, 0]]
    assert picture == [".#####", "..###.", "......", "......", "......", "..###."]


def test_images_of_fewer_pixels_than_are_exchanged_at_once():
    x = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 0]]).view(1, 1, 3, 3)
    c = {"two_point": torch.tensor([[2 / 9, 1 / 9]])}
    problem = Problem.of([TwoPoint(2)], LevelCut(), 1e-3)
    y, _ = exchange_pixels(problem, x, c, 5)
    assert float(y.sum()) == 2


@pytest.mark.parametrize("value", [0.0, -1e-3, float("nan"), float("inf")])
def test_tolerances_that_cannot_be_are_refused(value):
    for tolerance in (value, {"linear": value}):
        with pytest.raises(InputError, match="tolerance: expected positive numbers") as error:
            project([linear], grey(), {"b": sides()}, tolerance=tolerance)
        assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="none is given for law 'energy'"):
        project([linear, energy], grey(), {}, tolerance={"linear": 1e-3})


def laplacian(u):
    """Second differences on a square with zero values around it; h = 1 / (n + 1)."""
    u = torch.nn.functional.pad(u, (1, 1, 1, 1))
    around = u[..., 1:-1, :-2] + u[..., 1:-1, 2:] + u[..., :-2, 1:-1] + u[..., 2:, 1:-1]
    return (around - 4 * u[..., 1:-1, 1:-1]) * (u.shape[-1] - 1) ** 2


def off(found, exact):
    """Largest relative error."""
    change = (found.fields.double() - exact).flatten(1).norm(dim=1)
    return float((change / exact.flatten(1).norm(dim=1)).max())


def near(exact, dtype):
    generator = torch.Generator().manual_seed(8)
    return (0.7 * exact + 0.05 * torch.randn(exact.shape, generator=generator)).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_badly_conditioned_linear_law_is_solved_in_a_few_steps(dtype):
    """-u'' = f on 64 cells: the condition of J is 1,700, of its square 3e6."""

    def poisson(x, c):
        u = torch.nn.functional.pad(x[:, 0, 0], (1, 1))
        return (u[:, :-2] - 2 * u[:, 1:-1] + u[:, 2:]) * 65**2 + c["f"]

    places, waves = torch.arange(1, 65).double() / 65, torch.tensor([1.0, 2, 5]).double()
    f = torch.sin(torch.pi * waves[:, None] * places)
    exact = (f / ((2 - 2 * torch.cos(torch.pi * waves / 65)) * 65**2)[:, None])[:, None, None]
    tolerance = 2e-3 if dtype == torch.float32 else 1e-9
    found = project([poisson], near(exact, dtype), {"f": f.to(dtype)}, tolerance=tolerance)
    assert bool(found.reached.all())
    assert int(found.iterations.max()) <= 5
    assert off(found, exact) < (2e-3 if dtype == torch.float32 else 1e-8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_thousands_of_residuals_are_solved_without_a_matrix(dtype):
    """A nonlinear equation on 64 x 64 cells with a solution made to measure."""

    def cubic(x, c):
        return x**3 + x - 3e-4 * laplacian(x) - c["f"]

    places = torch.arange(1, 65).double() / 65
    exact = torch.sin(torch.pi * places)[:, None] * torch.sin(2 * torch.pi * places)
    exact = torch.stack([exact, 2 * exact])[:, None]
    c = {"f": cubic(exact, {"f": 0.0}).to(dtype)}
    tolerance = 1e-5 if dtype == torch.float32 else 1e-10
    found = project([cubic], near(exact, dtype), c, tolerance=tolerance)
    assert bool(found.reached.all())
    assert int(found.iterations.max()) <= 10
    assert off(found, exact) < 2 * tolerance


def test_a_step_without_a_matrix_is_the_step_with_one(monkeypatch):
    entry, w, c = little(3)
    damp = torch.tensor([1e-1, 1e-2, 1e-3]).double()
    for through in (LevelCut(6.0), Parametrisation()):
        problem = Problem.of([entry], through, 1e-6)
        monkeypatch.setattr("lawful.least_squares.LARGEST_ROWS", 512)
        with_matrix, _, _ = problem.step(w, c, damp)
        rows = through.coordinates(through.pull(problem.jacobian(through.field(w, c), c), w,
                                                through.field(w, c)))  # fmt: skip
        exact = rows.square().sum((1, 2)) / rows.shape[1]
        forward, transpose = problem.linearised(w, c)
        found = mean_diagonals(transpose, through.spread, torch.ones(3, 12).double(), [12])
        assert bool((found[:, 0] / exact > 0.2).all() and (found[:, 0] / exact < 5).all())
        monkeypatch.setattr("lawful.least_squares.LARGEST_ROWS", 0)
        monkeypatch.setattr("lawful.least_squares.mean_diagonals",
                            lambda *_, exact=exact: exact[:, None].expand(-1, 12))  # fmt: skip
        without, _, _ = problem.step(w, c, damp)
        change = (without - with_matrix).flatten(1).norm(dim=1)
        assert bool((change < 0.02 * with_matrix.flatten(1).norm(dim=1)).all())
        v = torch.randn(w.shape, generator=torch.Generator().manual_seed(1)).double()
        u = torch.randn(3, 12, generator=torch.Generator().manual_seed(2)).double()
        torch.testing.assert_close((forward(v) * u).sum(1), (v * transpose(u)).sum((1, 2, 3)))


@pytest.mark.parametrize("largest", [512, 0])
def test_what_is_kept_is_not_touched_and_the_step_is_the_shortest_that_is_left(
    largest, monkeypatch
):
    monkeypatch.setattr("lawful.least_squares.LARGEST_ROWS", largest)
    x = grey()
    mask = torch.zeros(4, 6, dtype=torch.bool)
    mask[0], mask[2, 3] = True, True
    motif = MotifLaw(mask, torch.rand(4, 6).double())
    x = motif.enforce(x, {})
    found = project([linear], x, {"b": sides()}, tolerance=1e-8, kept=[motif])
    assert bool(found.reached.all())
    assert torch.equal(motif(found.fields, {}), motif(x, {}))
    free = ROWS * ~mask.flatten()
    shortest = (sides() - x.flatten(1) @ ROWS.T) @ torch.linalg.pinv(free).T
    moved = (found.fields - x).flatten(1)
    torch.testing.assert_close(moved, shortest, rtol=0, atol=1e-7)
    with pytest.raises(InputError, match="moved themselves"):
        project([linear], x, {"b": sides()}, tolerance=1.0, kept=[motif], through=LevelCut())


@pytest.mark.parametrize("largest", [512, 0])
def test_a_law_without_a_derivative_is_refused(largest, monkeypatch):
    monkeypatch.setattr("lawful.least_squares.LARGEST_ROWS", largest)

    def share(x, c):
        return (x > 0).double().mean((1, 2, 3)) - 0.9

    with pytest.raises(InputError, match="law 'share': expected a residual that depends") as error:
        project([share], grey(), {}, tolerance=1e-3)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("everywhere", [True, False])
def test_a_broken_sample_is_marked_and_leaves_the_others_alone(everywhere):
    entry, w, c = little(3)
    options = {"tolerance": 1e-4, "through": LevelCut(6.0), "iterations": 4}
    whole = project([entry], w, c, **options)
    broken = w.clone()
    broken[1, 0, slice(None) if everywhere else 3, 4] = torch.nan
    if everywhere:
        broken[1] = torch.nan
    found = project([entry], broken, c, **options)
    assert not bool(found.reached[1])
    assert bool(((found.fields == 0) | (found.fields == 1)).all())
    assert torch.equal(found.fields[[0, 2]], whole.fields[[0, 2]])
    x = grey()
    x[1, 0, 0, 0] = torch.nan
    found = project([linear], x, {"b": sides()}, tolerance=1e-8, damping=1e-13)
    assert found.reached.tolist() == [True, False, True]
    assert not bool(found.after["linear"][1] <= 1e-8)


def test_unrolled_steps_are_full_steps_and_none_changes_nothing():
    entry, w, c = little(11)
    problem = Problem.of([TwoPoint(12, modes=4)], LevelCut(6.0), 1.0)
    assert torch.equal(unrolled(problem, w, c, 0), w)
    damp = torch.full((11,), 1e-2).double()
    exact = w
    for steps in (1, 2, 3):
        exact = exact - problem.step(exact, c, damp)[0]
        torch.testing.assert_close(unrolled(problem, w, c, steps, 1e-2), exact, rtol=0, atol=1e-9)
    better = entry.violation(level_cut(exact, c["volume_fraction"]), c)
    assert float(better.median()) < float(
        entry.violation(level_cut(w, c["volume_fraction"]), c).median()
    )


def test_a_second_way_takes_up_what_the_first_did_not_bring_there():
    entry, w, c = little()
    options = {"tolerance": 1e-3, "iterations": 3}
    coarse, fine = LevelCut(6.0, blur=4.0), LevelCut(6.0, blur=0.5)
    alone = project([entry], w, c, through=coarse, **options)
    both = project([entry], w, c, through=(coarse, fine), **options)
    there = alone.reached
    assert 0 < int(there.sum()) < len(there) or not bool(there.any())
    assert torch.equal(both.fields[there], alone.fields[there])
    assert torch.equal(both.iterations[there], alone.iterations[there])
    assert (both.iterations[~there] > alone.iterations[~there]).all()
    assert (both.after[entry.name] <= alone.after[entry.name] + 1e-15).all()
    assert float(both.after[entry.name].mean()) < float(alone.after[entry.name].mean())


def test_smoothed_steps_have_no_power_at_the_scale_of_pixels():
    entry, w, c = little()
    for blur, rough in ((0.001, True), (2.0, False)):
        problem = Problem.of([entry], LevelCut(6.0, blur), 1e-3)
        step, _, _ = problem.step(w, c, torch.full((len(w),), 1e-2).to(w))
        power = torch.fft.rfft2(step).abs().square()
        share = power[..., 8:-8, :].sum() / power.sum()
        assert (float(share) > 1e-3) == rough
