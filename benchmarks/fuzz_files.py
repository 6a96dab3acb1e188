"""Damaged files for `fuzz.py`: sound ones made once, and what may become of each.

`seeds` makes a folder of sound files of every kind that is read. `damage` changes one of them in
place: its bytes, its place (a folder, a pipe, a device, a link), or, by its kind, what it says.
"""

import csv
import json
import os
import random
import struct
import zipfile
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from hashlib import sha256
from io import StringIO
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import tifffile
import yaml
from PIL import Image

from lawful.cli.main import main
from lawful.files import DIGEST, FORMAT

Random = random.Random
INTEGERS = (-1, 0, -(2**31), 2**31, 4294967297, 2**63 - 1, 2**63, -(2**63), 10**30, 10**400)
FLOATS = (0.0, -1.0, 3.5e38, 1e308, -1e308, 1e-320, float("nan"), float("inf"), float("-inf"))
TEXTS = (
    "",
    " ",
    "x",
    "ä",
    "\u202e",
    "a" * 3000,
    "9" * 5000,
    "nan",
    "inf",
    "1e400",
    "null",
    "-",
    "--",
    "=",
    "%s",
    "{}",
    "1_0",
    "０",
    "0x10",
    "../..",
    "\udce9",
    "\ud800",
    "a\nb",
    "\x1b[31m",
    "\x00",
    "a\x00b",
    "true",
    "None",
    "[]",
    "1,2",
)
STUDY = '''
"""A study of a few numbers, for fuzzing."""
from dataclasses import dataclass
from typing import Literal
import torch
from torch import nn
from lawful import Quantity
from lawful import Study
from lawful import Training

class Net(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.inner, self.outer = nn.Linear(1, width), nn.Linear(width, 64)
    def forward(self, c):
        return self.outer(self.inner(c["level"][:, None]).tanh()).view(-1, 1, 8, 8)

@dataclass(frozen=True)
class Tiny(Study):
    training: Training = Training(2, batch=2, checkpoint=1)
    width: int = 2
    share: float = 0.5
    kind: Literal["one", "two"] = "one"
    growth: tuple[int, ...] = (1, 2)
    rate: float | None = None
    name = "tiny"
    about = "a field of given mean"
    quantities = (
        Quantity("level", 0.1, 1.0), Quantity("row", 0.0, 1.0, shape=(4,), required=False)
    )
    def network(self):
        return Net(self.width)
    def laws(self):
        return (mean,)

def mean(x, c):
    return x.mean((-2, -1)) - c["level"][:, None]
'''


def quietly(*arguments: object) -> int:
    """One command, without its words."""
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        return main([str(argument) for argument in arguments])


def seeds(folder: Path) -> None:
    """Sound files of every kind."""
    rng = np.random.default_rng(0)
    (folder / "tiny.py").write_text(STUDY)
    os.chdir(folder)
    os.environ["XDG_CACHE_HOME"] = f"{folder}/cache"
    for command in (
        ("train", "tiny.py", "--out", "run"),
        (
            "train",
            "mixture",
            "--preset",
            "smoke",
            "--training.steps",
            "2",
            "--points",
            "20",
            "--out",
            "mix",
        ),
        *(
            ("sample", "run", "-n", "3", "--out", f"s.{kind}")
            for kind in ("h5", "nc", "npz", "tif", "vtk", "png")
        ),
        ("sample", "motif-plus", "-n", "2", "--out", "motif.h5"),
        ("data", "cahn-hilliard", "--images", "40", "--side", "16", "--out", "set.h5"),
    ):
        if quietly(*command):
            raise SystemExit(f"fuzz: {' '.join(command)} failed")
    (folder / "run" / "half").mkdir()
    for name in ("config.yaml", "metrics.jsonl"):
        (folder / "run" / "half" / name).write_bytes((folder / "run" / name).read_bytes())
    (folder / "run" / "half").rename(folder / "half")
    (folder / "half" / "checkpoints").mkdir()
    first = sorted((folder / "run" / "checkpoints").iterdir())[0]
    (folder / "half" / "checkpoints" / first.name).write_bytes(first.read_bytes())
    picture = (np.kron(rng.random((4, 4)) > 0.5, np.ones((4, 4))) * 255).astype(np.uint8)
    Image.fromarray(picture).save("p.png")
    Image.fromarray(np.stack([picture] * 3, -1)).save("colour.png")
    tifffile.imwrite("p.tif", picture)
    np.save("p.npy", picture)
    np.save("row.npy", np.linspace(0, 1, 4))
    np.save("wave.npy", np.linspace(0, 1, 64))
    (folder / "t.csv").write_text("r,p2\n0,0.5\n1,0.4\n")
    _idx(folder / "idx", rng)
    with h5py.File("published.h5", "w") as file:
        file["morphology"] = rng.random((32, 101**2), dtype=np.float32)
    with h5py.File("lysto.h5", "w") as file:
        file["x"] = rng.integers(0, 255, (12, 64, 64, 3), dtype=np.uint8)
        file["y"], file["organ"] = np.zeros(12, int), ["breast_1", "colon_2"] * 6


def _idx(folder: Path, rng: np.random.Generator) -> None:
    folder.mkdir()
    for part in ("train", "t10k"):
        pixels = rng.integers(0, 255, (20, 28, 28), dtype=np.uint8)
        images = struct.pack(">HBBIII", 0, 8, 3, 20, 28, 28) + pixels.tobytes()
        (folder / f"{part}-images-idx3-ubyte").write_bytes(images)
        labels = struct.pack(">HBBI", 0, 8, 1, 20) + bytes(range(10)) * 2
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(labels)


def wild(rng: Random) -> Any:
    """A value of any type."""
    kinds: tuple[Callable[[], Any], ...] = (
        lambda: rng.choice(INTEGERS),
        lambda: rng.choice(FLOATS),
        lambda: rng.choice(TEXTS),
        lambda: None,
        lambda: rng.random() < 0.5,
        list,
        dict,
        lambda: [1, "a", None],
        lambda: {"a": {"b": 1}},
        lambda: rng.randint(0, 9),
        rng.random,
    )
    return rng.choice(kinds)()


def damage(path: Path, rng: Random) -> str:
    """Change a file in place; returns in a word or two how."""
    special = KINDS.get(path.suffix)
    if special is not None and rng.random() < 0.65:
        return f"{path.name}: {special(path, rng)}"
    return f"{path.name}: {_bytes(path, rng) if rng.random() < 0.8 else _place(path, rng)}"


def _bytes(path: Path, rng: Random) -> str:
    content = bytearray(path.read_bytes())
    at = rng.randrange(len(content) + 1)
    how = rng.choice(("cut", "flip", "zeros", "insert", "empty", "noise", "head", "long", "text"))
    if how == "cut":
        del content[at:]
    elif how == "flip":
        for _ in range(rng.choice((1, 1, 3, 30))):
            if content:
                content[rng.randrange(len(content))] = rng.randrange(256)
    elif how == "zeros":
        content[at : at + 64] = bytes(64)
    elif how == "insert":
        content[at:at] = rng.randbytes(rng.choice((1, 8, 100)))
    elif how == "head":
        content[: rng.choice((1, 8, 16))] = rng.randbytes(8)
    elif how == "long":
        content += content + content
    elif how == "text":
        content = bytearray(rng.choice(TEXTS).encode("utf-8", "surrogatepass"))
    else:
        content = bytearray(rng.randbytes(300)) if how == "noise" else bytearray()
    path.write_bytes(content)
    return how


def _place(path: Path, rng: Random) -> str:
    how = rng.choice(("folder", "pipe", "zero", "null", "dangling", "loop", "gone", "huge"))
    path.unlink()
    if how == "folder":
        path.mkdir()
    elif how == "pipe":
        os.mkfifo(path)
    elif how in ("zero", "null"):
        path.symlink_to(f"/dev/{how}")
    elif how == "dangling":
        path.symlink_to("nowhere")
    elif how == "loop":
        path.symlink_to(path.name)
    elif how == "huge":
        with path.open("wb") as file:
            file.truncate(10**11)
    return how


def _tree(value: Any, rng: Random) -> Any:
    """Plain values with one of them changed, left out or added."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        if rng.random() < 0.1:
            return {k: v for k, v in value.items() if k != key}
        if rng.random() < 0.05:
            return {**value, str(rng.choice(TEXTS)): wild(rng)}
        return {**value, key: _tree(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.8:
        place = rng.randrange(len(value))
        return [_tree(v, rng) if i == place else v for i, v in enumerate(value)]
    return wild(rng)


def _deep(rng: Random) -> str:
    depth = rng.choice((200, 1_000, 100_000))
    return rng.choice(("[" * depth + "]" * depth, '{"a":' * depth + "1" + "}" * depth))


def _json_text(text: str, rng: Random) -> tuple[str, str]:
    if rng.random() < 0.15:
        return _deep(rng), "deep"
    changed = _tree(json.loads(text), rng)
    return json.dumps(changed), "tree"


def _json(path: Path, rng: Random) -> str:
    text, how = _json_text(path.read_text(), rng)
    path.write_text(text)
    return how


def _jsonl(path: Path, rng: Random) -> str:
    rows = path.read_text().splitlines()
    place = rng.randrange(len(rows))
    rows[place], how = _json_text(rows[place], rng)
    path.write_text("\n".join(rows) + rng.choice(("\n", "", "{", '{"step": 1', "\x00")))
    return how


BOMB = "a: &a [1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"{y}: &{y} [{','.join([f'*{x}'] * 9)}]\n" for x, y in zip("abcdefgh", "bcdefghi", strict=True)
)


def _yaml(path: Path, rng: Random) -> str:
    how = rng.choice(
        ("tree", "tree", "tree", "tree", "deep", "bomb", "bomb within", "code", "self")
    )
    content = yaml.safe_load(path.read_text())
    if how == "tree":
        text = json.dumps(_tree(content, rng))
    elif how == "deep":
        text = _deep(rng)[: rng.choice((500, 100_000))]
    elif how == "code":
        text = "!!python/object/apply:os.system ['touch pwned']"
    elif how == "self":
        text = "study: &a [*a]\n"
    else:
        text = path.read_text() * (how != "bomb") + BOMB + "study: *i\n"
    path.write_text(text)
    return how


def _safetensors(path: Path, rng: Random) -> str:
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    head, body = raw[8 : 8 + length].decode(), raw[8 + length :]
    how = rng.choice(("length", "tree", "tree", "meta", "meta", "meta", "values"))
    if how == "length":
        path.write_bytes(struct.pack("<Q", rng.choice((0, 2**63, 2**40, 99_000_000))) + raw[8:])
        return how
    data = json.loads(head)
    if how == "values":
        body = rng.choice((bytes(len(body)), b"\xff" * len(body), rng.randbytes(len(body))))
    elif how == "meta" and FORMAT in data.get("__metadata__", {}):
        entry = data["__metadata__"][FORMAT]
        text, how = _json_text(entry[DIGEST:], rng)
        digest = rng.choice((entry[:DIGEST], sha256(text.encode("utf-8", "replace")).hexdigest()))
        data["__metadata__"][FORMAT] = digest + text
    else:
        data = _tree(data, rng)
    head = json.dumps(data)
    path.write_bytes(struct.pack("<Q", len(head.encode())) + head.encode() + body)
    return how


def _array(rng: Random) -> np.ndarray:
    """An array of an unlikely type, shape or value."""
    shape = rng.choice(((), (0,), (3,), (3, 1), (3, 1, 8, 8), (3, 1, 8), (2, 1, 8, 8), (3, 4)))
    kind = rng.choice(
        (
            ">f4",
            ">i8",
            "f8",
            "f2",
            "c8",
            "i1",
            "u8",
            "?",
            "S5",
            "U3",
            "M8[s]",
            "O",
            [("a", "f4"), ("b", "i4")],
            "g",
        )
    )
    array = np.zeros(shape, kind)
    if array.dtype.kind == "f":
        array[...] = rng.choice((0, 1, np.nan, np.inf, 1e30))
    return array


def _hdf5(path: Path, rng: Random) -> str:
    how = rng.choice(HDF5)
    with h5py.File(path, "r+") as file:
        names = [
            n
            for n in (
                "fields",
                "condition/level",
                "violation/mean",
                "images",
                "bits",
                "time",
                "pair",
                "volume_fraction",
                "run",
            )
            if n in file
        ]
        names += [n for n in ("morphology", "x", "y", "organ") if n in file]
        name = rng.choice(names)
        attribute = next((n for n in ("recipe", "lawful") if n in file.attrs), "lawful")
        if how == "attribute":
            file.attrs[attribute] = rng.choice((1, b"\xff\xfe", "", [1, 2], np.array([b"a"]), "{}"))
        elif how == "tree" and attribute in file.attrs:
            text, how = _json_text(file.attrs[attribute].decode(), rng)
            most = 60_000  # HDF5 keeps an attribute in the header of its object
            file.attrs[attribute] = np.bytes_(text.encode("utf-8", "replace")[:most])
        else:
            del file[name]
            _replace(file, name, how, rng)
    return f"{how} {name}"


HDF5 = (
    "attribute",
    "tree",
    "tree",
    "tree",
    "array",
    "array",
    "array",
    "large",
    "chunked",
    "soft",
    "external",
    "raw",
    "virtual",
    "group",
    "gone",
    "strings",
)


def _replace(file: Any, name: str, how: str, rng: Random) -> None:
    large = rng.choice(((3, 1, 40_000, 60_000), (10**12,), (3, 10**10), (10**6, 1, 64, 64)))
    if how == "array":
        array = _array(rng)
        if array.dtype.kind in "OUM":
            array = np.zeros(3, "V8")
        file[name] = array
    elif how in ("large", "chunked"):
        options: dict[str, Any] = (
            {"chunks": True, "compression": "gzip"} if how == "chunked" else {}
        )
        file.create_dataset(name, large, "f4", **options)
    elif how == "soft":
        file[name] = h5py.SoftLink(rng.choice((f"/{name}", "/nowhere", "/")))
    elif how == "external":
        file[name] = h5py.ExternalLink(rng.choice(("s.h5", "none.h5", "/etc/passwd")), "fields")
    elif how == "raw":
        file.create_dataset(name, (3,), "f4", external=[("/etc/hostname", 0, 12)])
    elif how == "virtual":
        layout = h5py.VirtualLayout((3, 1, 8, 8), "f4")
        layout[...] = h5py.VirtualSource("s.h5", "fields", (3, 1, 8, 8))
        file.create_virtual_dataset(name, layout)
    elif how == "group":
        file.create_group(name)
    elif how == "strings":
        file[name] = ["a", "b", "c"]


def _header(shape: object, kind: str = "'<f4'") -> bytes:
    """The head of a .npy file, as text: whatever it says."""
    text = f"{{'descr': {kind}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text) + 1) + text + b"\n"


def _npy_content(rng: Random) -> bytes:
    how = rng.randrange(4)
    if how == 0:
        return _header(rng.choice(((3, 1, 40_000, 60_000), (2**63,), (-1,), (2**32, 2**32), "()")))
    if how == 1:
        return _header(
            (3,),
            rng.choice(
                (
                    "'O'",
                    "'V9'",
                    "[('a', '<f4')]",
                    "'<f9'",
                    "__import__('os')",
                    "(" * 90 + ")" * 90,
                    "'<U99999999'",
                )
            ),
        )
    if how == 2:
        return rng.choice(
            (
                b"\x80\x04cos\nsystem\n",
                b"PK\x03\x04",
                b"x = 1\n",
                b"[[1, 2], [3, 4]]",
                b"\x93NUMPY",
                b"\x93NUMPY\x09\x00",
                b"(",
            )
        )
    array = _array(rng)
    path = Path(f"made-{rng.randrange(10**9)}.npy")
    np.save(path, array, allow_pickle=True)
    content = path.read_bytes()
    path.unlink()
    return content


def _npy(path: Path, rng: Random) -> str:
    path.write_bytes(_npy_content(rng))
    return "npy"


def _npz(path: Path, rng: Random) -> str:
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = rng.choice(list(members))
    how = rng.choice(("npy", "npy", "npy", "gone", "twice", "bomb", "text", "manifest", "manifest"))
    if how == "gone":
        del members[name]
    elif how == "text":
        members[name] = b"text"
    elif how == "npy":
        members[name] = _npy_content(rng)
    elif how == "manifest":
        with np.load(path) as arrays:
            text, _ = _json_text(str(arrays["lawful"]), rng)
        np.save("m.npy", np.array(text))
        members["lawful.npy"] = Path("m.npy").read_bytes()
        Path("m.npy").unlink()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for key, content in members.items():
            archive.writestr(key, content)
        if how == "twice":
            archive.writestr(f"{name}.npy", content)
        if how == "bomb":
            head = _header((3, 1, 2_000, 2_000))
            archive.writestr("condition/bomb.npy", head + bytes(4 * 3 * 4_000_000))
    return f"{how} {name}"


def _png(path: Path, rng: Random) -> str:
    """Another size in the head, its checksum mended: 20,000 pixels a side and more."""
    import zlib

    content = bytearray(path.read_bytes())
    side = rng.choice((0, 1, 20_000, 100_000, 2**31 - 1))
    content[16:24] = struct.pack(">II", side, rng.choice((side, 16)))
    content[29:33] = struct.pack(">I", zlib.crc32(bytes(content[12:29])))
    path.write_bytes(content)
    return f"size {side}"


def _python(path: Path, rng: Random) -> str:
    text = path.read_text()
    old = rng.choice(
        (
            "Quantity",
            "return Net",
            "level",
            "mean",
            "Training(2",
            "0.1, 1.0",
            "Study)",
            "name = ",
            "about = ",
            "width: int",
            "@dataclass",
            "8, 8",
            "self",
            "import",
            "(mean,)",
            "1, width",
            "= 0.5",
            "x.mean((-2, -1))",
            "(4,)",
        )
    )
    new = rng.choice(
        (
            "",
            "None",
            "x",
            "1 / 0",
            "raise",
            "float('nan')",
            "[]",
            "(",
            "\x00",
            "9" * 99,
            "\n",
            "lambda: 0",
            "print",
            "'a'",
            "torch.rand(3)",
            "exit()",
        )
    )
    path.write_text(text.replace(old, new, rng.choice((1, -1))))
    return f"{old} to {new!r}"


def _csv(path: Path, rng: Random) -> str:
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        csv.writer(file).writerows([[rng.choice(TEXTS[:10]) for _ in range(3)] for _ in range(3)])
    return "csv"


KINDS: dict[str, Callable[[Path, Random], str]] = {
    ".json": _json,
    ".jsonl": _jsonl,
    ".yaml": _yaml,
    ".safetensors": _safetensors,
    ".h5": _hdf5,
    ".npz": _npz,
    ".npy": _npy,
    ".png": _png,
    ".py": _python,
    ".csv": _csv,
}
