"""Binarised before anything is measured, counts kept, and blocks of rows on one side only."""

import h5py
import numpy as np
import pytest
import torch

from lawful import InputError
from lawful.data.pictures import area_weights
from lawful.materials.morphologies import load_morphologies
from lawful.materials.statistics import two_point

ROWS = 64


def fields(rows=ROWS):
    """Smooth values in about [-1, 1]."""
    noise = torch.randn(rows, 101, 101, generator=torch.Generator().manual_seed(0))
    k = torch.fft.fftfreq(101)[:, None] ** 2 + torch.fft.rfftfreq(101) ** 2
    smooth = torch.fft.irfft2(torch.fft.rfft2(noise) * torch.exp(-200 * k), s=(101, 101))
    return (smooth / smooth.abs().amax()).numpy()


def write(path, values, name="morphology"):
    with h5py.File(path, "w") as file:
        file[name] = values
    return path


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A file of the published form with fewer rows."""
    path = tmp_path_factory.mktemp("data") / "2D_binary_morphologies.h5"
    return write(path, fields().reshape(ROWS, -1).astype(np.float64))


def test_resampling_keeps_each_volume_fraction(published):
    found = load_morphologies(published, threshold=0.0)
    assert found.train.images.shape[1:] == (64, 64)
    whole = torch.from_numpy(fields()[found.train.pair.numpy() * 4] > 0)  # blocks of four rows
    first = torch.cat([torch.tensor([True]), found.train.pair.diff() > 0])
    exact = whole[first].float().mean((1, 2))
    near = found.train.volume_fraction[first]
    torch.testing.assert_close(near, exact, rtol=0, atol=0.5 / 64**2 + 1e-6)
    assert "resampled to 64" in found.source


@pytest.mark.parametrize("fit", ["resample", "crop"])
@pytest.mark.parametrize("side", [64, 100, 101])
def test_images_are_binary_before_statistics_are_taken(published, fit, side):
    found = load_morphologies(published, side=side, fit=fit)
    for part in (found.train, found.held_out):
        assert part.images.shape[1:] == (side, side)
        assert part.images.dtype == torch.uint8
        p2 = two_point(part.images.double(), 8, periodic=False)
        torch.testing.assert_close(
            p2[:, 0], part.volume_fraction.double(), rtol=0, atol=1e-6
        )  # p2(0) = p1
        assert part.time.isnan().all()


def test_a_crop_is_the_middle_of_the_thresholded_values(published):
    found = load_morphologies(published, side=51, fit="crop", threshold=0.1)
    expected = fields()[:4, 25:76, 25:76] > 0.1
    np.testing.assert_array_equal(found.held_out.images[:4].numpy(), expected)


def test_binary_values_are_parted_in_the_middle(tmp_path):
    values = (fields() > 0).reshape(ROWS, -1)
    for kind in (np.uint8, np.float32, bool):
        path = write(tmp_path / "set.h5", values.astype(kind))
        found = load_morphologies(path, side=101)
        np.testing.assert_array_equal(
            found.held_out.images.flatten(1).numpy(), values[: len(found.held_out.images)]
        )


def test_whole_blocks_of_rows_are_held_out(tmp_path):
    rows = 320
    values = np.repeat(np.arange(rows, dtype=np.float32)[:, None], 101**2, 1)
    values[:, 0] = -1e4  # so that every row has both phases
    values[:, 1:] += 1
    found = load_morphologies(write(tmp_path / "set.h5", values))
    assert found.held_out.pair.tolist() == [0] * 20
    train = found.train.pair
    assert (train.diff() >= 0).all()
    assert sorted(set(train.tolist())) == list(range(1, 16))
    assert int((train == 1).sum()) == 20 - 20 // 8  # the neighbours belong to neither part
    assert int((train == 2).sum()) == 20


@pytest.mark.parametrize("new", [1, 50, 64, 100, 101])
def test_area_weights_are_means_over_the_same_interval(new):
    weights = area_weights(101, new).double()
    torch.testing.assert_close(weights.sum(1), torch.ones(new).double())
    torch.testing.assert_close(weights.sum(0) / new, torch.full((101,), 1 / 101).double())
    centres = (torch.arange(101).double() + 0.5) / 101
    expected = (torch.arange(new).double() + 0.5) / new
    torch.testing.assert_close(weights @ centres, expected, rtol=0, atol=3e-3)


def files():
    """Values and the message that refuses them."""
    good = np.zeros((ROWS, 101**2), np.float32)
    good[:, ::2] = 1
    hole = good.copy()
    hole[40, 7] = np.nan
    return {
        "other size": (good[:, :10_000], "shape"),
        "images": (good.reshape(ROWS, 101, 101), "shape"),
        "few rows": (good[:5], "shape"),
        "words": (np.array([[b"a"] * 101**2] * 40), "type"),
        "hole": (hole, "row 40"),
        "infinite": (np.where(good > 0, np.inf, good), "row 0"),
        "constant": (np.ones_like(good), "parted"),
    }


@pytest.mark.parametrize("case", files())
def test_values_that_cannot_be_used_are_refused(case, tmp_path):
    values, message = files()[case]
    path = write(tmp_path / "set.h5", values)
    with pytest.raises(InputError, match=message) as caught:
        load_morphologies(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read_are_refused(published, tmp_path):
    path = tmp_path / "set.h5"
    with pytest.raises(InputError, match="no such file"):
        load_morphologies(path)
    data = published.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match="truncated"):
        load_morphologies(path)
    path.write_text("text")
    with pytest.raises(InputError, match="truncated"):
        load_morphologies(path)
    write(path, np.zeros(3), name="other")
    with pytest.raises(InputError, match="there are other"):
        load_morphologies(path)
    with pytest.raises(InputError, match="side"):
        load_morphologies(published, side=128)
    for threshold in (5.0, float("nan")):
        with pytest.raises(InputError, match="parted"):
            load_morphologies(published, threshold=threshold)
