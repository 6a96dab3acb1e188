"""Every group is one, acts as one, and refuses what it does not act on."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lawful import symmetry
from lawful.errors import InputError
from lawful.symmetry.group import (
    matrix_group,
    permutations,
    plane_rotations,
    reflections,
    signed_permutations,
    translations,
)
from lawful.symmetry.invariance import invariance_test
from lawful.symmetry.planar import Planar, planar, rotate
from lawful.symmetry.symmetrize import Symmetrized, canonicalize, invariance_error, randomize

IMAGES = {name: planar(name) for name in ("C1", "C2", "C4", "D1", "D2", "D4")}
GROUPS = {
    **{name: (group, (3, 6, 6)) for name, group in IMAGES.items()},
    "oblong C2": (planar("C2"), (2, 4, 6)),
    "translations": (translations((6, 4), (2, 1)), (2, 6, 4)),
    "translations of a line": (translations((5,), (1,)), (5,)),
    "reflections": (reflections(-1, -3), (2, 3, 4)),
    "all permutations of 3": (permutations([(1, 2, 0), (1, 0, 2)]), (3,)),
    "signed": (signed_permutations([((1, -1), (0, 1))]), (4, 2)),
    "C5 in R^7": (plane_rotations(5, 7), (7,)),
    "fields": (planar("D4").fields(), (2, 8, 4, 4)),
    "fixed": (planar("C4").fixed(), (5,)),
}


@pytest.fixture(params=GROUPS, ids=str)
def case(request):
    group, shape = GROUPS[request.param]
    x = torch.randn(2, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return group, x


def test_table_is_a_group(case):
    group, _ = case
    table = group.table
    assert table[0].tolist() == table[:, 0].tolist() == list(range(group.order))
    for row in (*table, *table.T):
        assert sorted(row.tolist()) == list(range(group.order))
    assert torch.equal(table[table], table[:, table])  # (ab)c = a(bc)
    inverse = group.inverse
    assert bool((table[torch.arange(group.order), inverse] == 0).all())


def test_action_is_a_homomorphism(case):
    group, x = case
    for i in range(group.order):
        for j in range(group.order):
            twice = group.act(group.act(x, j), i)
            torch.testing.assert_close(
                twice, group.act(x, int(group.table[i, j])), rtol=0, atol=1e-13
            )


def test_action_is_linear_and_batchwise(case):
    group, x = case
    g = group.order - 1
    assert torch.equal(group.act(2 * x, g), 2 * group.act(x, g))
    assert torch.equal(group.act(x[:1], g), group.act(x, g)[:1])


def test_orbit_and_each(case):
    group, x = case
    elements = torch.tensor([group.order - 1, 0])
    each = group.act_each(x, elements)
    assert torch.equal(each[0], group.act(x, group.order - 1)[0])
    assert torch.equal(each[1], x[1])
    assert group.orbit(x).shape == (group.order, *x.shape)


def test_each_moves_every_sample_by_its_own_element(case):
    group, x = case
    many = x.repeat(6, *[1] * (x.ndim - 1)) * torch.rand(12, *[1] * (x.ndim - 1)).double()
    elements = torch.randint(group.order, (12,), generator=torch.Generator().manual_seed(1))
    for some in (elements, torch.full_like(elements, group.order - 1)):
        each = group.act_each(many.requires_grad_(), some)
        for one, moved, element in zip(many, each, some.tolist(), strict=True):
            torch.testing.assert_close(moved, group.act(one[None], element)[0])
    weights = torch.randn_like(many)
    (slope,) = torch.autograd.grad((weights * group.act_each(many, elements)).sum(), many)
    expected = [group.act(one[None], g)[0] for one, g in zip(many, elements.tolist(), strict=True)]
    (exact,) = torch.autograd.grad((weights * torch.stack(expected)).sum(), many)
    torch.testing.assert_close(slope, exact)
    assert torch.equal(group.act_each(x[:0], elements[:0]), x[:0])


def test_drawing_one_element_makes_no_orbit(largest):
    group = planar("D4")
    x = torch.rand(16, 3, 8, 8)
    with largest:
        randomize(x, group, torch.Generator().manual_seed(0))
        canonicalize(x, group)
    assert largest.most <= 2 * x.numel()  # masses are sums in double precision


def test_the_package_has_its_names_and_no_modules_for_them():
    for name in symmetry.__all__:
        assert callable(getattr(symmetry, name))
    assert repr(symmetry.planar("D4")) == repr(Planar(4, reflections=True)) == "D4"


def test_order():
    assert GROUPS["all permutations of 3"][0].order == 6
    assert GROUPS["signed"][0].order == 4
    cycle, swap = [1, 2, 3, 4, 5, 0], [1, 0, 2, 3, 4, 5]
    assert permutations([cycle, swap]).order == 720
    assert [group.order for group in IMAGES.values()] == [1, 2, 4, 2, 4, 8]


def test_turns_are_counter_clockwise():
    x = torch.zeros(1, 1, 5, 5)
    x[0, 0, 2, 4] = 1.0  # right
    assert planar("C4").act(x, 1)[0, 0, 0, 2] == 1.0  # up
    torch.testing.assert_close(rotate(x.double(), math.pi / 2), torch.rot90(x.double(), 1, (2, 3)))


@pytest.mark.parametrize("name", ["C8", "D8", "C12"])
def test_finer_rotations_are_marked_and_nearly_exact_on_smooth_images(name):
    group = planar(name)
    assert not group.exact
    line = torch.linspace(-1, 1, 65, dtype=torch.float64)
    x = torch.exp(-8 * ((line[:, None] - 0.2).square() + (2 * line[None, :]).square()))[None, None]
    twice = group.act(group.act(x, 1), 1)
    error = (twice - group.act(x, 2)).abs().max()
    assert 0 < error < 0.02


@pytest.mark.parametrize("size", [1, 3, 5, 7])
@pytest.mark.parametrize("name", ["C1", "C2", "C4", "C8", "D1", "D4", "D8"])
def test_filters_are_permuted_by_an_exact_action(name, size):
    group = planar(name)
    matrices = group.filters(size)
    assert group.exact_filters
    assert set(matrices.unique().tolist()) <= {0.0, 1.0}
    assert bool((matrices.sum(1) == 1).all())
    assert bool((matrices.sum(2) == 1).all())
    for i in range(group.order):
        for j in range(group.order):
            assert torch.equal(matrices[i] @ matrices[j], matrices[int(group.table[i, j])])


@pytest.mark.parametrize("name", ["C4", "D4", "C8", "D8", "C12", "D16"])
def test_filters_turn_as_images_do(name):
    group, size = planar(name), 5
    x = torch.randn(1, 1, size, size, dtype=torch.float64)
    matrices = group.filters(size)
    quarter = group.turns // 4
    for reflection in range(2 if group.reflections else 1):
        for k in range(4):
            element = k * quarter + reflection * group.turns
            turned = (matrices[element] @ x.flatten()).reshape(x.shape)
            assert torch.equal(turned, group.act(x, element))


@given(turns=st.integers(1, 24), size=st.sampled_from([3, 5]))
@settings(max_examples=30, deadline=None)
def test_interpolated_filters_keep_sums_and_go_round(turns, size):
    matrices = Planar(turns).filters(size)
    torch.testing.assert_close(matrices.sum(2), torch.ones(turns, size**2, dtype=torch.float64))
    torch.testing.assert_close(matrices.sum(1), torch.ones(turns, size**2, dtype=torch.float64))
    assert torch.equal(matrices[0], torch.eye(size**2, dtype=torch.float64))


def whole(x):
    return x.flatten(1).long()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: planar("E4"), "group 'E4'"),
        (lambda: Planar(0), "at least one rotation"),
        (lambda: planar("C4").act(torch.zeros(1, 1, 4, 6), 1), "4 x 6"),
        (lambda: planar("C4").act(torch.zeros(4, 4), 1), r"\(4, 4\)"),
        (lambda: planar("C4").act(torch.zeros(1, 4, 4), 4), "from 0 to 3, got 4"),
        (lambda: planar("C4").filters(4), "odd size, got 4"),
        (lambda: randomize(torch.tensor(1.0), planar("C4")), "element per sample"),
        (lambda: planar("C8").act(torch.zeros(2, 1, 2, 2).byte(), 1), "torch.uint8"),
        (lambda: canonicalize(torch.zeros(4), planar("C4")), r"got \(4,\)"),
        (lambda: Symmetrized(whole, planar("C4"))(torch.ones(1, 1, 2, 2)), "int64"),
        (lambda: invariance_error(whole, torch.zeros(2, 1, 2, 2), planar("C4")), "torch.int64"),
        (lambda: invariance_error(abs, torch.zeros(0, 1, 2, 2), planar("C4")), r"\(0, 1, 2, 2\)"),
        (lambda: invariance_test(torch.tensor(1.0), planar("C4")), "2 samples and a draw"),
        (
            lambda: planar("C4").act_each(torch.zeros(3, 1, 2, 2), torch.tensor([1])),
            "element per sample",
        ),
        (
            lambda: planar("C4").act_each(torch.zeros(2, 1, 2, 2), torch.tensor([0, 4])),
            "0 to 3, got 4",
        ),
        (
            lambda: planar("C4").act_each(torch.zeros(2, 1, 2, 2), torch.tensor([-1, 0])),
            "0 to 3, got -1",
        ),
        (lambda: planar("C4").fields().act(torch.zeros(1, 2, 3, 4, 4), 1), "expected"),
        (lambda: translations((6,), (4,)), "do not divide"),
        (lambda: translations((6,), (2, 1)), "do not divide"),
        (lambda: translations((6,), (2,)).act(torch.zeros(1, 5), 1), r"\(1, 5\)"),
        (lambda: reflections(1), "below 0"),
        (lambda: reflections(-3).act(torch.zeros(1, 2, 2), 1), r"\(1, 2, 2\)"),
        (lambda: permutations([(0, 2, 2)]), "places 0 to 2"),
        (lambda: signed_permutations([((1, 2), (0, 1))]), "signs"),
        (lambda: matrix_group(torch.full((1, 2, 2), math.nan)), "finite"),
        (lambda: matrix_group(2 * torch.eye(2)[None], most=16), "is it finite"),
        (lambda: matrix_group(torch.zeros(1, 2, 2)), "no inverses"),
        (lambda: matrix_group(torch.diag(torch.tensor([1.0, 0.0]))[None]), "no inverses"),
        (lambda: matrix_group(torch.zeros(1, 2, 3)), "expected finite"),
        (lambda: plane_rotations(4, 3).act(torch.zeros(1, 4), 1), "vectors of 3"),
        (lambda: plane_rotations(4, 1), "1 coordinates"),
    ],
)
def test_refusals(make, words, unchecked):
    with pytest.raises(InputError, match=words):
        make()


def test_fields_are_permuted_with_the_pixels():
    group = planar("C4")
    x = torch.zeros(1, 1, 4, 3, 3)
    x[0, 0, 1, 1, 2] = 1.0
    assert group.fields().act(x, 1)[0, 0, 2, 0, 1] == 1.0
