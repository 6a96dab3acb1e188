"""Distances over features, against scipy and by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm

from lawful import InputError
from lawful.divergences import MMD, Polynomial
from lawful.evaluation.distances import frechet_distance, kernel_distance, manifolds


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


def test_manifolds_of_equal_far_and_half_covered_sets():
    x, _ = sets(2, 200)
    same = manifolds(x, x)
    assert (same.precision, same.recall, same.coverage) == (1, 1, 1)
    far = manifolds(x, x + 100)
    assert (far.precision, far.recall, far.density, far.coverage) == (0, 0, 0, 0)
    both = torch.cat([x, x + 100])
    half = manifolds(both, x)  # a generator that misses one of two modes
    assert half.precision == 1
    assert half.recall == pytest.approx(0.5)
    assert half.coverage == pytest.approx(0.5)
    noisy = manifolds(x, both)
    assert noisy.precision == pytest.approx(0.5)
    assert noisy.recall == 1


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
