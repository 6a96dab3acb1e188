"""Files from outside: sizes, types and places are known before anything is taken."""

import json
import os
import struct
import zipfile

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from lawful import InputError, reading


def refused(call, *arguments):
    with pytest.raises(InputError) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "name", ["/dev/zero", "/dev/null", "/", "nowhere", "a\0b", "x" * 300, "pipe"]
)
def test_only_files_are_read(tmp_path, name):
    os.mkfifo(tmp_path / "pipe")
    path = tmp_path / name
    for read in (reading.read_bytes, reading.read_text, reading.read_npy, reading.read_npz):
        refused(read, path)
    with pytest.raises(InputError), reading.opened_hdf5(path):
        pass
    refused(reading.read_tensors, path)


def test_text_is_utf_8_and_not_too_long(tmp_path):
    path = tmp_path / "text"
    path.write_bytes(b"a\xff")
    assert "at byte 1" in refused(reading.read_text, path)
    with path.open("wb") as file:
        file.truncate(10**12)
    assert "expected at most" in refused(reading.read_text, path)
    assert "GB of memory" in refused(reading.read_bytes, path)


def test_json_and_yaml_are_no_deeper_than_the_interpreter():
    for text in ("[" * 100_000 + "]" * 100_000, '{"a":' * 100_000):
        assert "nested too deep" in refused(reading.parse_json, text, "x")
        assert "not YAML" in refused(reading.parse_yaml, text[:500], "x")
    assert reading.parse_json('{"a": [1]}', "x") == reading.parse_yaml("a: [1]", "x") == {"a": [1]}
    refused(reading.parse_json, "9" * 10_000, "x")
    refused(reading.parse_json, b"\xff", "x")


@pytest.mark.parametrize(
    "text",
    ["a: &a [1]\nb: *a\n", "a: &a [*a]", "!!python/object/apply:os.getcwd []", "a: [", "? {}: 1",
     "9999-99-99", "\x00", "x" * 2_000_000],
)  # fmt: skip
def test_yaml_is_of_plain_values_without_aliases(text):
    refused(reading.parse_yaml, text, "x")


def head(shape, kind="'<f4'"):
    text = f"{{'descr': {kind}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


@pytest.mark.parametrize(
    "content",
    [b"", b"x = 1", b"\x80\x04cos\nsystem\n", b"PK\x03\x04", head((2**40,)), head((2**63, 2**63)),
     head((-1,)), head("()"), head("'x'"), head((3,), "'O'"), head((3,), "[('a', '<f4')]"),
     head((3,), "'<U99999999'"), head((3,), "__import__('os')"), head((3,), "(" * 90 + ")" * 90),
     head((1,)) + b"123", b"\x93NUMPY\x09\x00"],
)  # fmt: skip
def test_what_is_no_npy_file_is_refused_before_memory_is_taken(tmp_path, content):
    path = tmp_path / "x.npy"
    path.write_bytes(content)
    refused(reading.read_npy, path)
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("x.npy", content)
    refused(reading.read_npz, tmp_path / "x.npz")


@pytest.mark.parametrize("kind", [">f4", "<f8", ">i8", "u2", "f2", "?", "i1", "u1"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_numbers_come_in_the_machine_s_order_and_in_types_of_torch(tmp_path, kind, order):
    value = np.array([[0, 1, 2], [1, 0, 1]], kind, order=order)
    np.save(tmp_path / "x.npy", value)
    np.savez_compressed(tmp_path / "x.npz", x=value, text=np.array("ä"))
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["x"] = value
    read = reading.read_npz(tmp_path / "x.npz", texts=("text",))
    assert read["text"] == "ä"
    with reading.opened_hdf5(tmp_path / "x.h5") as file:
        rows = reading.read_rows(reading.dataset(file, "x", tmp_path), slice(0, 5), "x")
    for found in (reading.read_npy(tmp_path / "x.npy"), read["x"], rows):
        assert np.array_equal(found, value)
        assert torch.equal(torch.from_numpy(found).double(), torch.tensor(value.tolist()).double())


def test_an_archive_of_more_than_the_memory_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", head((10**6,)) + bytes(4 * 10**6))
    content = (tmp_path / "x.npz").read_bytes()
    size = struct.pack("<I", len(head((10**6,))) + 4 * 10**6)
    (tmp_path / "x.npz").write_bytes(content.replace(size, struct.pack("<I", 2**32 - 2)))
    refused(reading.read_npz, tmp_path / "x.npz")
    refused(reading.check_memory, 2.0**60, "x")


HOW = ("sparse", "chunked", "external", "virtual", "link", "soft", "compound", "strings", "group",
       "empty")  # fmt: skip


@pytest.mark.parametrize("how", HOW)
def test_a_dataset_lies_in_its_file_whole(tmp_path, how):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = np.zeros(3)
    layout = h5py.VirtualLayout((3,), "f8")
    layout[...] = h5py.VirtualSource(str(tmp_path / "other.h5"), "x", (3,))
    with h5py.File(tmp_path / "x.h5", "w") as file:
        {
            "sparse": lambda: file.create_dataset("x", (10**12,), "f4"),
            "chunked": lambda: file.create_dataset("x", (10**12,), "f4", chunks=True),
            "external": lambda: file.create_dataset("x", (3,), "f4", external=[("y", 0, 12)]),
            "virtual": lambda: file.create_virtual_dataset("x", layout),
            "link": lambda: file.__setitem__("x", h5py.ExternalLink(tmp_path / "other.h5", "x")),
            "soft": lambda: file.__setitem__("x", h5py.SoftLink("/x")),
            "compound": lambda: file.create_dataset("x", (3,), [("a", "f4")]),
            "strings": lambda: file.create_dataset("x", data=["a", "b"]),
            "group": lambda: file.create_group("x"),
            "empty": lambda: file.create_dataset("x", data=h5py.Empty("f4")),
        }[how]()  # fmt: skip
    with reading.opened_hdf5(tmp_path / "x.h5") as file:
        refused(reading.dataset, file, "x", tmp_path / "x.h5")
        refused(reading.dataset, file, "y", tmp_path / "x.h5")
        refused(reading.text_attribute, file, "y", tmp_path / "x.h5")


def test_text_of_an_hdf5_file_has_a_fixed_length(tmp_path):
    # The library does not come back from a damaged heap, where text of other lengths lies.
    path, long = tmp_path / "x.h5", "ä" * 100_000
    with h5py.File(path, "w", libver=("v108", "v108")) as file:
        file.attrs["fixed"], file.attrs["any"] = reading.fixed_text(long), "text"
    with reading.opened_hdf5(path) as file:
        assert reading.text_attribute(file, "fixed", path) == long
        refused(reading.text_attribute, file, "any", path)


def test_a_damaged_chunk_is_named(tmp_path):
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=np.arange(10_000.0), chunks=(1_000,), fletcher32=True)
        place = file["x"].id.get_chunk_info(3).byte_offset
    content = bytearray(path.read_bytes())
    content[place : place + 8] = b"damaged!"
    path.write_bytes(content)
    with reading.opened_hdf5(path) as file:
        found = reading.dataset(file, "x", path)
        assert reading.read_rows(found, slice(0, 1_000), "x")[999] == 999
        assert refused(reading.read_rows, found, slice(3_000, 4_000), "x.h5: x").startswith(
            "x.h5: x:"
        )


@pytest.mark.parametrize("length", [0, 7, 2**40, 2**63])
def test_the_head_of_a_file_of_tensors_is_not_trusted(tmp_path, length):
    path = tmp_path / "x.safetensors"
    save_file({"x": torch.zeros(3)}, path, {"a": "b"})
    assert reading.read_tensors(path)[1] == {"a": "b"}
    raw = path.read_bytes()
    path.write_bytes(struct.pack("<Q", length) + raw[8:])
    refused(reading.read_tensors, path)
    head = json.dumps({"x": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}})
    path.write_bytes(struct.pack("<Q", len(head)) + head.encode() + raw[-12:])
    refused(reading.read_tensors, path)


def test_files_of_names_that_are_not_utf_8_are_read(tmp_path):
    folder = tmp_path / os.fsdecode(b"\xe9")
    folder.mkdir()
    path = folder / "x.safetensors"
    save_file({"x": torch.arange(3.0)}, path, {"a": "b"})
    tensors, metadata = reading.read_tensors(path)
    assert torch.equal(tensors["x"], torch.arange(3.0))
    assert metadata == {"a": "b"}
    path.write_bytes(path.read_bytes()[:-1])
    refused(reading.read_tensors, path)
    np.save(folder / "x.npy", np.arange(3))
    assert reading.read_npy(folder / "x.npy").tolist() == [0, 1, 2]
    with h5py.File(folder / "x.h5", "w") as file:
        file["x"] = np.arange(3)
    with reading.opened_hdf5(folder / "x.h5") as file:
        assert len(reading.dataset(file, "x", folder)) == 3


def test_a_chunk_that_is_not_in_the_file_is_refused_before_it_is_read(tmp_path):
    """HDF5 reads one without bytes beyond its memory, which ends the interpreter."""
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=np.zeros(40), chunks=(40,), compression="gzip")
        place = file["x"].id.get_chunk_info(0).byte_offset
    content = path.read_bytes()
    for other in (0, 2**40):
        path.write_bytes(content.replace(struct.pack("<Q", place), struct.pack("<Q", other)))
        with reading.opened_hdf5(path) as file:
            assert "not in the file" in refused(reading.dataset, file, "x", path)
