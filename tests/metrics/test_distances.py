"""Distances over features, against scipy and by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm

from lawful import InputError
from lawful.divergences import MMD, Polynomial
from lawful.metrics import distances
from lawful.metrics.distances import (
    Gaussian,
    compare,
    frechet_between,
    frechet_distance,
    gaussian,
    kernel_distance,
    kernel_error,
    manifolds,
)
from lawful.metrics.features import embed


def sets(seed, n=60, m=80, size=5):
    random = torch.Generator().manual_seed(seed)
    mix = torch.randn(size, size, generator=random)
    x = torch.randn(n, size, generator=random)
    return x, 0.5 + torch.randn(m, size, generator=random) @ mix


@given(st.integers(0, 10**6))
@settings(max_examples=15, deadline=None)
def test_frechet_is_scipys_matrix_root(seed):
    x, y = sets(seed)
    cov = [np.cov(z.double().numpy().T) for z in (x, y)]
    mean = (x.double().mean(0) - y.double().mean(0)).square().sum()
    exact = float(mean) + np.trace(cov[0] + cov[1] - 2 * sqrtm(cov[0] @ cov[1]).real)
    assert frechet_distance(x, y) == pytest.approx(exact, rel=1e-9)
    assert frechet_distance(y, x) == pytest.approx(exact, rel=1e-9)


def test_frechet_of_shifted_sets_and_of_fewer_samples_than_features():
    x, _ = sets(0)
    assert frechet_distance(x, x + 2.0) == pytest.approx(20.0, rel=1e-5)
    assert frechet_distance(x, x) == pytest.approx(0.0, abs=1e-9)
    few = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    assert frechet_distance(few, few + 1) == pytest.approx(8.0, rel=1e-5)


@given(st.integers(0, 10**6))
@settings(max_examples=15, deadline=None)
def test_frechet_of_commuting_covariances_is_that_of_their_roots(seed):
    random = torch.Generator().manual_seed(seed)
    axes = torch.linalg.qr(torch.randn(6, 6, generator=random).double()).Q
    means, variances = torch.randn(2, 2, 6, generator=random).double()
    first, second = (
        Gaussian(10**6, mean, axes * variance.square() @ axes.T)
        for mean, variance in zip(means, variances, strict=True)
    )
    exact = (means[0] - means[1]).square().sum() + (
        variances[0].abs() - variances[1].abs()
    ).square().sum()
    assert frechet_between(first, second) == pytest.approx(float(exact), rel=1e-9)


@pytest.mark.parametrize(("n", "m"), [(20, 30), (30, 20), (20, 20), (5, 90), (90, 5)])
def test_frechet_of_fewer_samples_than_features_is_exact(n, m):
    """Against singular values of the product of the data's own roots, which loses no digits."""
    random = torch.Generator().manual_seed(n)
    x = torch.randn(n, 60, generator=random).double()
    y = 3 + 2 * torch.randn(m, 60, generator=random).double()
    a, b = ((z - z.mean(0)) / (len(z) - 1) ** 0.5 for z in (x, y))
    cross = torch.linalg.svdvals(a @ b.T)[: min(n, m) - 1].sum()
    mean = (x.mean(0) - y.mean(0)).square().sum()
    exact = float(mean + a.square().sum() + b.square().sum() - 2 * cross)
    assert frechet_distance(x, y) == pytest.approx(exact, rel=1e-12)
    assert frechet_distance(x, x) == pytest.approx(0.0, abs=1e-10)


@given(st.integers(0, 10**6), st.lists(st.integers(0, 40), max_size=8), st.floats(-100, 100))
@settings(max_examples=40, deadline=None)
def test_moments_do_not_depend_on_the_chunks(seed, sizes, offset):
    random = torch.Generator().manual_seed(seed)
    x = offset + torch.randn(sum(sizes) + 2, 5, generator=random).double()
    found = gaussian(iter(x.split([*sizes, 2])))
    assert found.count == len(x)
    torch.testing.assert_close(found.mean, x.mean(0), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found.covariance, torch.cov(x.T), rtol=1e-12, atol=1e-12)


def test_moments_are_float64_and_of_comparable_rows():
    x, y = sets(0)
    assert gaussian([x, y]).covariance.dtype == torch.float64
    with pytest.raises(InputError, match="2 samples or more, got 1"):
        gaussian([x[:1], x[:0]])
    with pytest.raises(InputError, match="got 0"):
        gaussian([])
    with pytest.raises(InputError, match="features of 3 and of 5"):
        gaussian([x, x[:, :3]])
    with pytest.raises(InputError, match="finite"):
        gaussian([x, x / 0])
    with pytest.raises(InputError, match="features of 5 and of 3"):
        frechet_between(gaussian([x]), gaussian([y[:, :3]]))


def test_kernel_distance_by_hand():
    x, y = sets(1, 4, 3, 2)
    k = lambda a, b: float((a.double() @ b.double() / 2 + 1) ** 3)  # noqa: E731
    within_x = np.mean([k(a, b) for i, a in enumerate(x) for j, b in enumerate(x) if i != j])
    within_y = np.mean([k(a, b) for i, a in enumerate(y) for j, b in enumerate(y) if i != j])
    between = np.mean([k(a, b) for a in x for b in y])
    assert kernel_distance(x, y) == pytest.approx(within_x + within_y - 2 * between)


def test_kernel_distance_is_the_discrepancy_of_the_cubic_kernel():
    x, y = sets(3)
    exact = MMD(Polynomial(3))(x.double(), y.double())
    assert kernel_distance(x, y) == pytest.approx(float(exact), rel=1e-12)


def test_kernel_distance_is_unbiased():
    random = torch.Generator().manual_seed(0)
    values = [kernel_distance(*torch.randn(2, 20, 3, generator=random)) for _ in range(300)]
    assert abs(np.mean(values)) < 4 * np.std(values) / np.sqrt(300)


def test_kernel_distance_of_random_halves_is_zero_within_its_error():
    """Over halves of one set the mean is zero exactly, whatever the set's distribution."""
    random = torch.Generator().manual_seed(0)
    whole = torch.rand(120, 4, generator=random).pow(3)
    halves = [whole[torch.randperm(120, generator=random)].chunk(2) for _ in range(300)]
    values = np.array([kernel_distance(*pair) for pair in halves])
    assert abs(values.mean()) < 4 * values.std() / np.sqrt(300)
    ratio = np.mean([kernel_error(*pair) ** 2 for pair in halves]) / values.var()
    assert 0.8 < ratio < 3  # conservative: 2 in the limit of large sets


def test_kernel_error_is_the_spread_over_draws_where_distributions_differ():
    random = torch.Generator().manual_seed(0)
    draws = [(torch.randn(50, 3, generator=random), 1 + torch.randn(80, 3, generator=random))
             for _ in range(300)]  # fmt: skip
    spread = np.std([kernel_distance(x, y) for x, y in draws])
    error = np.sqrt(np.mean([kernel_error(x, y) ** 2 for x, y in draws]))
    assert error == pytest.approx(spread, rel=0.2)


def test_kernel_error_is_the_jackknife_of_both_sets():
    x, y = sets(4, 6, 5, 3)
    without = [kernel_distance(torch.cat([x[:i], x[i + 1 :]]), y) for i in range(6)]
    others = [kernel_distance(x, torch.cat([y[:i], y[i + 1 :]])) for i in range(5)]
    variance = 5 * np.var(without) + 4 * np.var(others)
    assert kernel_error(x, y) == pytest.approx(np.sqrt(variance), rel=1e-10)
    with pytest.raises(InputError, match="3 samples or more, got 2 and 5"):
        kernel_error(x[:2], y)


@pytest.mark.parametrize("block", [1, 7, 60, 1000])
def test_blocks_change_nothing(block, monkeypatch):
    x, y = sets(5)
    whole, cover = (kernel_distance(x, y), kernel_error(x, y)), manifolds(x, y)
    monkeypatch.setattr(distances, "BLOCK", block)
    assert (kernel_distance(x, y), kernel_error(x, y)) == pytest.approx(whole, rel=1e-12)
    assert manifolds(x, y) == cover


def test_manifolds_by_hand():
    x, y = sets(6, 30, 40, 2)
    k = 3
    distance = lambda a, b: (a.double() - b.double()).norm(dim=-1)  # noqa: E731
    radius = lambda z: [float(distance(z, point).sort().values[k]) for point in z]  # noqa: E731
    real, fake = radius(x), radius(y)
    inside = [[float(distance(a, b)) <= real[i] for b in y] for i, a in enumerate(x)]
    found = manifolds(x, y, k)
    assert found["precision"] == pytest.approx(np.mean(np.any(inside, 0)))
    assert found["density"] == pytest.approx(np.sum(inside) / (k * len(y)))
    assert found["coverage"] == pytest.approx(np.mean(np.any(inside, 1)))
    recalled = [any(float(distance(a, b)) <= fake[j] for j, b in enumerate(y)) for a in x]
    assert found["recall"] == pytest.approx(np.mean(recalled))
    with pytest.raises(InputError, match="1 neighbour or more, got 0"):
        manifolds(x, y, 0)


def test_manifolds_of_equal_far_and_half_covered_sets():
    x, _ = sets(2, 200)
    same = manifolds(x, x)
    assert (same["precision"], same["recall"], same["coverage"]) == (1, 1, 1)
    far = manifolds(x, x + 100)
    assert (far["precision"], far["recall"], far["density"], far["coverage"]) == (0, 0, 0, 0)
    both = torch.cat([x, x + 100])
    half = manifolds(both, x)  # a generator that misses one of two modes
    assert half["precision"] == 1
    assert half["recall"] == pytest.approx(0.5)
    assert half["coverage"] == pytest.approx(0.5)
    noisy = manifolds(x, both)
    assert noisy["precision"] == pytest.approx(0.5)
    assert noisy["recall"] == 1


@pytest.mark.parametrize("offset", [0.0, 1e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_set_with_repeats_covers_its_copy(dtype, offset):
    random = torch.Generator().manual_seed(0)
    points = offset + torch.randn(8, 40, generator=random, dtype=dtype)
    x = points.repeat(7, 1)  # more of each than neighbours, so that every ball is a point
    copied = x[torch.randperm(len(x), generator=random)]
    found = manifolds(x, copied)
    assert (found["precision"], found["recall"], found["coverage"]) == (1, 1, 1)
    assert found["density"] == pytest.approx(7 / 5)  # 7 balls of radius 0 hold each point
    half = manifolds(x, points[:4].repeat(14, 1))
    assert (half["precision"], half["recall"], half["coverage"]) == (1, 0.5, 0.5)


def test_copies_in_other_numbers_are_covered_whatever_the_rounding_of_blocks():
    random = torch.Generator().manual_seed(0)
    for _ in range(5):
        points = torch.randn(8, 40, generator=random)
        found = manifolds(points.repeat(65, 1)[:513], points.repeat(7, 1)[:50])
        assert (found["precision"], found["recall"], found["coverage"]) == (1, 1, 1)


def test_covering_does_not_depend_on_the_origin():
    random = torch.Generator().manual_seed(0)
    x, y = (torch.randint(-64, 64, (60, 4), generator=random).double() / 64 for _ in range(2))
    y = y + torch.arange(60)[:, None] / 64
    assert 0 < manifolds(x, y)["precision"] < 1
    assert manifolds(x + 2**26, y + 2**26) == manifolds(x, y)  # moved without rounding


def test_a_ball_holds_its_boundary():
    """On whole numbers, where distances tie exactly."""
    line = torch.arange(10.0)[:, None]
    beyond = torch.tensor([[-1.0], [10.0], [30.0]])
    found = manifolds(line, beyond, 1)
    assert found["precision"] == pytest.approx(2 / 3)
    assert found["coverage"] == pytest.approx(2 / 10)
    assert found["density"] == pytest.approx(2 / 3)


def test_too_few_samples_are_refused():
    x, y = sets(0)
    for function in (frechet_distance, kernel_distance, manifolds):
        with pytest.raises(InputError, match="samples"):
            function(x[:1], y)


def test_features_that_cannot_be_compared_are_refused():
    x, y = sets(0)
    for function in (frechet_distance, kernel_distance, manifolds):
        with pytest.raises(InputError, match="finite"):
            function(x * torch.nan, y)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    "wrong",
    [torch.rand(9), torch.tensor(1.0), torch.rand(9, 3, 2), torch.rand(9, 0), [[1.0]] * 9,
     torch.rand(9, 3, dtype=torch.complex64)],
    ids=["numbers", "number", "maps", "no feature", "list", "complex"],
)  # fmt: skip
def test_what_is_no_rows_of_features_is_refused(wrong):
    every = (frechet_distance, kernel_distance, kernel_error, manifolds, compare)
    for function in (*every, lambda x, y: gaussian([x, y])):
        for pair in ((wrong, torch.rand(9, 3)), (torch.rand(9, 3), wrong)):
            with pytest.raises(InputError, match="rows of real features"):
                function(*pair)


def test_a_comparison_holds_every_distance():
    x, y = sets(7)
    found, cover = compare(x, y, 4), manifolds(x, y, 4)
    assert found == cover | {
        "frechet": frechet_distance(x, y),
        "kernel": kernel_distance(x, y),
        "kernel_error": kernel_error(x, y),
    }
    for least, neighbours in ((3, 1), (6, 5)):
        with pytest.raises(InputError, match=f"{least} samples or more, got 2 and 80"):
            compare(x[:2], y, neighbours)


def test_features_do_not_depend_on_chunks_and_batches():
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 4))
    images = torch.rand(23, 3, 2, 2)
    rows = embed(network, images)
    assert rows.shape == (23, 4)
    assert rows.dtype == torch.float64
    assert not rows.requires_grad
    torch.testing.assert_close(embed(network, images, 5), rows, rtol=0, atol=1e-6)
    batches = (batch for batch in (images[:9], images[:0], images[9:]))
    torch.testing.assert_close(embed(network, batches, 5), rows, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (lambda x: x.flatten(1) * torch.inf, "finite"),
        (lambda x: x.flatten(1)[1:], "expected 4 rows"),
        (lambda x: x, "expected 4 rows for as many images, got (4, 3, 2, 2)"),
    ],
)
def test_features_that_are_no_rows_are_refused(features, message):
    with pytest.raises(InputError) as caught:
        embed(features, torch.ones(4, 3, 2, 2))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_features_of_nothing_are_refused():
    for images in (torch.ones(0, 3, 2, 2), []):
        with pytest.raises(InputError, match="at least 1 image"):
            embed(torch.nn.Flatten(), images)
    with pytest.raises(InputError, match="chunks of 1 image or more"):
        embed(torch.nn.Flatten(), torch.ones(1, 3, 2, 2), 0)
