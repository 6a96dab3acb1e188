"""The same bits whoever makes them and however often they are interrupted; split by pair."""

import json
from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch

from lawful import InputError
from lawful.materials import dataset as cahn_hilliard
from lawful.materials.dataset import (
    COLUMNS,
    CoarseningSet,
    batch,
    default_path,
    load,
    make,
    read_recipe,
    small,
)
from lawful.materials.statistics import two_point

RECIPE = CoarseningSet(images=70, side=16, times=(4.0, 20.0), runs=8, composition=0.2)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A set made without interruption."""
    path = tmp_path_factory.mktemp("data") / "set.h5"
    counts = list(make(RECIPE, path))
    assert counts == sorted(counts)
    assert counts[-1] == RECIPE.images
    return path


def columns(path):
    with h5py.File(path) as file:
        return {name: file[name][:] for name in ("images", "held_out", *COLUMNS)}


def test_a_batch_is_the_same_whoever_makes_it():
    first, again, other = batch(RECIPE, 3), batch(RECIPE, 3), batch(RECIPE, 4)
    for name, values in first.items():
        np.testing.assert_array_equal(values, again[name])
    assert first["seed"][0] != other["seed"][0]
    assert not np.array_equal(first["composition"][:4], other["composition"][:4])
    different = batch(replace(RECIPE, seed=1), 3)
    assert first["seed"][0] != different["seed"][0]


def test_the_number_of_threads_does_not_matter():
    recipe, before = replace(RECIPE, side=64), torch.get_num_threads()
    made = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            made.append(batch(recipe, 0)["bits"])
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(*made)


def test_replicates_share_composition_and_times_and_not_the_noise():
    made = batch(replace(RECIPE, fractions=(0.0, 1.0)), 0)
    bits, time = (made[name].reshape(4, 2, 4, -1) for name in ("bits", "time"))
    composition, run = (made[name].reshape(4, 2, 4) for name in ("composition", "run"))
    assert (run == np.arange(8).reshape(4, 2, 1)).all()
    assert (made["pair"] == made["run"] // 2).all()
    assert (time[:, 0] == time[:, 1]).all()
    assert (composition[:, 0] == composition[:, 1]).all()
    assert len(np.unique(composition)) == 4
    assert not (bits[:, 0] == bits[:, 1]).all((1, 2)).any()


def test_times_are_one_in_each_stratum():
    for number in range(5):
        times = np.unique(batch(replace(RECIPE, fractions=(0.0, 1.0)), number)["time"])
        stratum = np.log(times / 4) / np.log(5) * 4
        np.testing.assert_array_equal(np.floor(stratum + 1e-6), np.arange(4))


def test_what_is_stored_is_what_is_said(whole):
    found = columns(whole)
    assert found["images"].shape == (70, 16, 16)
    assert set(np.unique(found["images"])) == {0, 1}
    np.testing.assert_allclose(found["volume_fraction"], found["images"].mean((1, 2)))
    assert found["volume_fraction"].min() >= 0.25
    assert found["volume_fraction"].max() <= 0.75
    assert (np.diff(found["run"]) >= 0).all()
    assert (found["held_out"] == (found["pair"] % 16 == 0)).all()
    with h5py.File(whole) as file:
        assert json.loads(file.attrs["recipe"])["seed"] == 0
        assert json.loads(file.attrs["equation"])["gamma"] == 1.0
        assert file.attrs["lawful"]
    assert read_recipe(whole) == RECIPE


def test_no_pair_is_on_both_sides_of_the_split(whole):
    train, held_out = load(whole)
    assert len(train.pair) + len(held_out.pair) == 70
    assert not set(train.pair.tolist()) & set(held_out.pair.tolist())
    assert (held_out.pair % 16 == 0).all()
    assert f"seed 0, {cahn_hilliard.FORMAT}" in train.source
    for part in (train, held_out):
        p2 = two_point(part.images.double(), 4)[:, 0]
        torch.testing.assert_close(p2, part.volume_fraction.double(), rtol=0, atol=1e-6)


def test_an_interrupted_set_is_gone_on_with_bit_for_bit(whole, tmp_path, monkeypatch):
    path, made = tmp_path / "sub" / "set.h5", []

    def counted(recipe, number):
        made.append(number)
        return batch(recipe, number)

    monkeypatch.setattr(cahn_hilliard, "batch", counted)
    steps = make(RECIPE, path)
    next(steps), next(steps)
    steps.close()
    assert not path.exists()
    (parts,) = (path.parent / ".set.h5.parts").iterdir()
    content = (parts / "1.npz").read_bytes()
    (parts / "1.npz").write_bytes(content[: len(content) // 2])
    (parts / ".0.abc.npz").write_bytes(b"left by a kill")
    list(make(RECIPE, path))
    assert made[:4] == [0, 1, 1, 2]
    assert path.read_bytes() == whole.read_bytes()
    assert [p.name for p in path.parent.iterdir()] == ["set.h5"]


def test_batches_of_another_recipe_are_not_taken(whole, tmp_path):
    path = tmp_path / "set.h5"
    steps = make(replace(RECIPE, seed=5), path)
    next(steps)
    steps.close()
    list(make(RECIPE, path))
    assert path.read_bytes() == whole.read_bytes()


def test_neither_parts_nor_sets_of_another_solver_are_taken(whole, tmp_path, monkeypatch):
    path, usual = tmp_path / "set.h5", cahn_hilliard.FORMAT
    monkeypatch.setattr(cahn_hilliard, "FORMAT", "lawful-microstructures-1")
    steps = make(RECIPE, path)
    next(steps)
    steps.close()
    (part,) = (tmp_path / ".set.h5.parts").rglob("0.npz")
    with np.load(part) as archive:
        np.savez(part, **{**archive, "bits": ~archive["bits"]})
    list(make(RECIPE, tmp_path / "older.h5"))
    monkeypatch.setattr(cahn_hilliard, "FORMAT", usual)
    list(make(RECIPE, path))
    assert path.read_bytes() == whole.read_bytes()
    with pytest.raises(InputError, match=r"microstructures-1; of another solver: remove it"):
        load(tmp_path / "older.h5")


def test_a_larger_set_begins_with_the_smaller(whole, tmp_path):
    path = tmp_path / "set.h5"
    list(make(replace(RECIPE, images=90), path))
    np.testing.assert_array_equal(columns(path)["images"][:70], columns(whole)["images"])


def spoil(path, how):
    """Damage a file in one way."""
    if how == "truncated":
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2])
    elif how == "text":
        path.write_text("no images")
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "flipped":
        with h5py.File(path) as file:
            chunk = file["images"].id.get_chunk_info(0)
        data = bytearray(path.read_bytes())
        data[chunk.byte_offset + chunk.size // 2] ^= 1
        path.write_bytes(data)
    else:
        with h5py.File(path, "r+") as file:
            edit(file, how)


def edit(file, how):
    if how == "foreign":
        file.attrs["format"] = np.bytes_("another")
    elif how == "column gone":
        del file["pair"]
    elif how == "no recipe":
        file.attrs["recipe"] = np.bytes_("{")
    elif how == "recipe of another":
        file.attrs["recipe"] = np.bytes_(json.dumps({"wings": 2}))
    elif how == "other images":
        file["images"][0] = 1 - file["images"][0]
    elif how == "grey":
        file["images"][0, 0, 0] = 7
    elif how == "shorter":
        del file["time"]
        file["time"] = np.zeros(3, np.float32)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("truncated", "truncated"), ("text", "truncated"), ("empty", "truncated"),
        ("flipped", "damaged"), ("foreign", "format"), ("column gone", "damaged"),
        ("no recipe", "damaged"), ("recipe of another", "damaged"),
        ("other images", "volume fractions"), ("grey", "volume fractions"), ("shorter", "expected"),
    ],
)  # fmt: skip
def test_a_damaged_file_is_refused_in_one_line(whole, tmp_path, how, message):
    path = tmp_path / "set.h5"
    path.write_bytes(whole.read_bytes())
    spoil(path, how)
    with pytest.raises(InputError, match=message) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_names_the_command(tmp_path):
    with pytest.raises(InputError, match="lawful data cahn-hilliard"):
        load(tmp_path / "gone.h5")


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="cannot be written"):
        list(make(RECIPE, tmp_path / "file" / "set.h5"))


@pytest.mark.parametrize(
    "values",
    [
        {"images": 0}, {"side": 8}, {"side": 4096}, {"seed": -1}, {"times": (20.0, 4.0)},
        {"times": (0.0, 4.0)}, {"composition": 1.0}, {"noise": 0.0}, {"fractions": (0.5, 0.5)},
        {"runs": 3}, {"snapshots": 0}, {"dt": float("nan")},
    ],
)  # fmt: skip
def test_senseless_recipes_are_refused(values):
    with pytest.raises(InputError, match=r"expected"):
        CoarseningSet(**values)


def test_a_recipe_that_gives_nothing_ends():
    with pytest.raises(InputError, match="none of a batch"):
        batch(replace(RECIPE, composition=0.0, fractions=(0.9, 1.0)), 0)


def test_a_small_set_needs_no_file():
    train, held_out = small(40, 16, seed=2)
    assert len(train.images) + len(held_out.images) == 40
    assert len(held_out.images) > 0
    assert (held_out.pair % 16 == 0).all()
    assert train.images.dtype == torch.uint8
    again = small(40, 16, seed=2)
    assert torch.equal(train.images, again[0].images)
    assert torch.equal(held_out.time, again[1].time)


@pytest.mark.parametrize("seed", range(8))
def test_no_part_of_a_small_set_is_empty(seed):
    assert all(len(part.pair) > 0 for part in small(16, 16, seed=seed))
    with pytest.raises(InputError, match="16"):
        small(15, 16)


def test_the_default_place_tells_sets_apart(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_path() == tmp_path / "lawful" / "cahn-hilliard-34000.h5"
    other = CoarseningSet(images=100, side=32, seed=3)
    assert default_path(other).name == "cahn-hilliard-100-side32-seed3.h5"


def test_a_set_beyond_the_memory_is_refused_before_a_batch_is_made(tmp_path):
    with pytest.raises(InputError, match=r"images: 10000000: needs .* GB of memory"):
        next(make(CoarseningSet(images=10_000_000, side=1_024), tmp_path / "set.h5"))
    assert not list(tmp_path.iterdir())


ROWS = 64  # of a small file of the published form


def published(path, values):
    with h5py.File(path, "w") as file:
        file["morphology"] = values
    return path


def smooth(rows=ROWS):
    """Smooth values in about [-1, 1], of both signs equally far."""
    noise = torch.randn(rows, 101, 101, generator=torch.Generator().manual_seed(0))
    k = torch.fft.fftfreq(101)[:, None] ** 2 + torch.fft.rfftfreq(101) ** 2
    field = torch.fft.irfft2(torch.fft.rfft2(noise) * torch.exp(-200 * k), s=(101, 101))
    return (field / torch.stack(field.aminmax()).abs().max()).flatten(1).numpy()


@pytest.mark.parametrize("kind", [np.float64, np.uint8, bool])
def test_published_images_are_resampled_with_their_volume_fraction(tmp_path, kind):
    values = smooth() if kind is np.float64 else smooth() > 0
    train, held_out = load(published(tmp_path / "set.h5", values.astype(kind)))
    middle = (values.min() / 2 + values.max() / 2) if kind is np.float64 else 0.5
    exact = (values > middle).mean(1)
    assert not train.periodic
    assert "resampled to 64" in train.source
    assert held_out.pair.tolist() == [0] * 4  # blocks of four rows
    for part, rows in ((train, slice(4, None)), (held_out, slice(4))):
        assert part.images.shape[1:] == (64, 64)
        assert part.time.isnan().all()
        np.testing.assert_allclose(part.volume_fraction, exact[rows], atol=0.5 / 64**2 + 1e-6)


def test_whole_blocks_of_published_rows_are_held_out(tmp_path):
    values = np.repeat(np.arange(320, dtype=np.float32)[:, None], 101**2, 1)
    found, held_out = load(published(tmp_path / "set.h5", values))
    assert held_out.pair.tolist() == [0] * 20
    train = found.pair
    assert sorted(set(train.tolist())) == list(range(1, 16))
    assert int((train == 1).sum()) == 20 - 20 // 8  # the neighbours belong to neither part
    assert int((train == 2).sum()) == 20


GOOD = np.tile(np.float32([0, 1]), (ROWS, 101**2))[:, : 101**2]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (GOOD[:, :10_000], "shape"),
        (GOOD.reshape(ROWS, 101, 101), "shape"),
        (GOOD[:5], "shape"),
        (np.array([[b"a"] * 101**2] * 40), "type"),
        (np.where((np.arange(ROWS) == 40)[:, None], np.nan, GOOD), "row 40"),
        (np.where(GOOD > 0, np.inf, GOOD), "row 0"),
        (np.ones_like(GOOD), "one value"),
    ],
)
def test_published_values_that_cannot_be_used_are_refused(values, message, tmp_path):
    path = published(tmp_path / "set.h5", values)
    with pytest.raises(InputError, match=message) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
