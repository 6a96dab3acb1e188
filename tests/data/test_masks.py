"""Motifs: shapes, and the projector behind `hide` and `enforce`."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lawful import InputError
from lawful.data.masks import MotifLaw, cross, plus


def picture(mask):
    return ["".join(".#"[int(entry)] for entry in row) for row in mask]


def test_a_plus_and_a_cross():
    assert picture(plus(5, 3, 2, 1)) == [".....", ".#...", "###..", ".#...", "....."]
    assert picture(cross(5, 3, 2, 3)) == [".....", "..#.#", "...#.", "..#.#", "....."]


@given(st.integers(0, 6), st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_shapes_are_symmetric_about_their_centre(reach, seed):
    random = torch.Generator().manual_seed(seed)
    row, column = (int(torch.randint(reach, 20 - reach, (), generator=random)) for _ in "rc")
    for shape in (plus, cross):
        mask = shape(20, 2 * reach + 1, row, column)
        assert int(mask.sum()) == 4 * reach + 1
        block = mask[row - reach : row + reach + 1, column - reach : column + reach + 1]
        assert int(block.sum()) == 4 * reach + 1
        for turned in (block.flip(0), block.T, block.rot90()):
            assert torch.equal(turned, block)


def test_hide_and_enforce_split_the_field():
    law = MotifLaw(plus(8, 5, 3, 3), torch.rand(8, 8))
    x = torch.randn(4, 1, 8, 8)
    inside = law.enforce(torch.zeros_like(x), {})
    torch.testing.assert_close(law.hide(x, {}) + inside, law.enforce(x, {}))
    torch.testing.assert_close(law.hide(law.hide(x, {}), {}), law.hide(x, {}))
    assert float(law.violation(law.enforce(x, {}), {}).max()) == 0.0
    x.requires_grad_()
    law.hide(x, {}).square().sum().backward()
    assert float(x.grad[..., law.mask].abs().max()) == 0.0


def test_misuse_is_named():
    with pytest.raises(InputError, match=r"7 pixels around \(2, 6\) do not fit into 28 x 28"):
        plus(28, 7, 2, 6)
    with pytest.raises(InputError, match="expected an odd size, got 6"):
        cross(28, 6, 6, 6)
    with pytest.raises(InputError, match="at least one pixel"):
        MotifLaw(torch.zeros(4, 4, dtype=torch.bool), torch.zeros(4, 4))
    with pytest.raises(InputError, match=r"expected fields of \(8, 8\), got \(1, 1, 4, 4\)"):
        MotifLaw(plus(8, 3, 3, 3), torch.ones(8, 8))(torch.zeros(1, 1, 4, 4), {})
