"""Motifs from pictures, and random changes of images."""

import matplotlib.image
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lawful import InputError
from lawful.data.labelled import drop_patches, jitter
from lawful.data.masks import decode_motif, encode_motif, read_motif


@given(st.integers(0, 10**6), st.integers(1, 30))
@settings(max_examples=20, deadline=None)
def test_a_motif_survives_as_a_word(seed, side):
    random = torch.Generator().manual_seed(seed)
    mask = torch.rand(side, side, generator=random) < 0.3
    values = torch.randint(0, 255, (side, side), generator=random) / 254
    motif = torch.where(mask, values, torch.nan)
    torch.testing.assert_close(decode_motif(encode_motif(motif)), motif, equal_nan=True)


def test_pictures_with_and_without_transparency(tmp_path):
    grey = np.zeros((28, 28), np.float32)
    grey[3, 4:9] = 0.5
    matplotlib.image.imsave(tmp_path / "grey.png", np.stack([grey] * 3, 2))
    motif = read_motif(tmp_path / "grey.png")
    assert int((~motif.isnan()).sum()) == 5
    torch.testing.assert_close(motif[3, 4], torch.tensor(0.5), atol=3e-3, rtol=0)
    clear = np.zeros((28, 28, 4), np.float32)
    clear[10:12, 10:12, 3] = 1.0  # opaque and black
    matplotlib.image.imsave(tmp_path / "clear.png", clear)
    motif = read_motif(tmp_path / "clear.png")
    assert int((~motif.isnan()).sum()) == 4
    assert float(motif.nan_to_num().max()) == 0.0


def test_pictures_that_cannot_be_used_are_named(tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(InputError, match="cannot be read as PNG"):
        read_motif(tmp_path / "text.png")
    with pytest.raises(InputError, match="there is no such file"):
        read_motif(tmp_path / "absent.png")
    matplotlib.image.imsave(tmp_path / "wide.png", np.ones((3, 4, 3)))
    with pytest.raises(InputError, match="square image, got 3 x 4 pixels"):
        read_motif(tmp_path / "wide.png")
    matplotlib.image.imsave(tmp_path / "dark.png", np.zeros((4, 4, 3)))
    with pytest.raises(InputError, match="no pixel is given"):
        read_motif(tmp_path / "dark.png")
    with pytest.raises(InputError, match="damaged"):
        decode_motif("pixels:xyz")


def test_jitter_without_extent_is_the_identity_and_moves_the_centre_otherwise():
    images = torch.rand(3, 1, 28, 28)
    same = jitter(images, torch.Generator().manual_seed(0), degrees=0.0, scale=0.0, shift=0.0)
    torch.testing.assert_close(same, images, atol=1e-5, rtol=0)
    blob = torch.zeros(64, 1, 28, 28)
    blob[:, :, 12:16, 12:16] = 1.0
    moved = jitter(blob, torch.Generator().manual_seed(0), degrees=0.0, scale=0.0, shift=0.25)
    place = (moved * torch.arange(28.0)).sum((1, 2, 3)) / moved.sum((1, 2, 3)) - 13.5
    assert float(place.abs().max()) <= 0.25 * 14 + 0.01
    assert float(place.abs().max()) > 2


def test_dropped_patches_are_rectangles_of_zeros():
    images = torch.ones(50, 1, 12, 12)
    dropped = drop_patches(images, torch.Generator().manual_seed(0), largest=4)
    for image in dropped[:, 0]:
        rows, columns = (image == 0).nonzero(as_tuple=True)
        height, width = (int(a.max() - a.min()) + 1 for a in (rows, columns))
        assert len(rows) == height * width
        assert 1 <= height <= 4
        assert 1 <= width <= 4
