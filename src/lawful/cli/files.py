"""What sample files hold, and reading them in chunks.

HDF5, NetCDF and NPZ hold
`fields`, `condition/NAME`, `violation/LAW`, `estimated_error` (relative),
`estimated_error_absolute`, `corrections_accepted`, `outside/NAME` and `refinement/NAME`, with a
leading sample axis, and the model's manifest as JSON.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import torch
from torch import Tensor

from lawful.cli.writers import Arrays
from lawful.errors import InputError
from lawful.laws import Condition, Estimate
from lawful.model import CHUNK, Samples, read_manifest
from lawful.reading import (
    check_file,
    dataset,
    dataset_names,
    opened_hdf5,
    read_npz,
    read_rows,
    text_attribute,
)
from lawful.study import Study

REFINEMENT = ("raw", "iterations", "exchanges", "displacement", "reached")


def arrays_of(samples: Samples, *, binary: bool = False) -> Arrays:
    """The arrays of a chunk, by the names they have in a file; binary fields as bytes."""
    report = samples.report
    arrays = {"fields": samples.fields.byte() if binary else samples.fields}
    arrays |= {f"condition/{quote(name)}": value for name, value in samples.condition.items()}
    for line in report.lines:
        place = f"violation/{_safe(line.name)}"
        if place in arrays:
            raise InputError(f"laws: two have the name {line.name!r} in a file")
        arrays[place] = line.violation
    arrays |= {f"outside/{quote(name)}": mask for name, mask in report.outside}
    if report.estimate is not None:
        arrays["estimated_error"] = report.estimate.relative
        arrays["estimated_error_absolute"] = report.estimate.absolute
    if report.accepted is not None:
        arrays["corrections_accepted"] = report.accepted
    if report.refinement is not None:
        arrays |= {f"refinement/{n}": getattr(report.refinement, n) for n in REFINEMENT}
        if report.refinement.worsened is not None:
            arrays["refinement/worsened"] = report.refinement.worsened
    return {name: value.numpy() for name, value in arrays.items()}


def attributes(study: Study, samples: Samples) -> dict[str, dict[str, str]]:
    """Unit and meaning of every array, by the names they have in a file."""
    about = {"fields": (study.unit, study.about)}
    about |= {f"condition/{quote(q.name)}": (q.unit, q.about or q.name) for q in study.quantities}
    about |= {
        f"violation/{_safe(line.name)}": (line.unit, f"root mean square residual of {line.name}")
        for line in samples.report.lines
    }
    about |= {
        f"outside/{quote(name)}": ("1", f"{name} is outside the trained range")
        for name, _ in samples.report.outside
    }
    about["estimated_error"] = ("1", "estimated relative error")
    about["estimated_error_absolute"] = (study.unit, "estimated root mean square error")
    return {name: {"units": unit, "long_name": text} for name, (unit, text) in about.items()}


def quote(name: str) -> str:
    """A quantity's name in a file: percent codes for whatever a path could not hold."""
    return re.sub(r"[^\w-]", lambda c: "".join(f"%{b:02X}" for b in c[0].encode()), name)


@dataclass(frozen=True)
class Chunk:
    """Some samples of a file, with what was found of them when they were made.

    Arguments:
        estimate: Estimated errors, where the file has both kinds.
        accepted: How many corrections each sample took, where any were tried.
        outside: By quantity, which samples lie outside the training.
        refinement: By name, the entries of their `Refinement`.
    """

    fields: Tensor
    condition: Condition
    estimate: Estimate | None
    accepted: Tensor | None
    outside: Mapping[str, Tensor]
    refinement: Mapping[str, Tensor]


@dataclass(frozen=True)
class SampleFile:
    """An open file of samples."""

    manifest: dict[str, Any]
    count: int
    chunks: Iterator[Chunk]


@contextmanager
def reading(path: Path) -> Iterator[SampleFile]:
    """A file that `write_samples` wrote.

    Raises:
        InputError: The file is missing, truncated, foreign, or of a format without conditions.
    """
    check_file(path)
    if path.suffix not in (".h5", ".hdf5", ".nc", ".npz"):
        raise InputError(f"{path}: a report needs the conditions of .h5, .nc or .npz")
    with ExitStack() as stack:
        manifest, arrays = _open(path, stack)
        fields = arrays.get("fields")
        lengths = {value.shape[:1] for value in arrays.values()}
        if fields is None or not 3 <= fields.ndim <= 5 or len(lengths) != 1:
            raise InputError(f"{path}: expected fields (N, C, *space) and as many conditions")
        judge = str(manifest.get("sampled", {}).get("judge", "unknown"))
        yield SampleFile(manifest, len(fields), _chunks(arrays, path, judge))


def _open(path: Path, stack: ExitStack) -> tuple[dict[str, Any], dict[str, Any]]:
    """The manifest, and the arrays by their names in HDF5 files."""
    if path.suffix == ".npz":
        arrays = read_npz(path, texts=("lawful",))
        return read_manifest(arrays.pop("lawful", ""), path), arrays
    file = stack.enter_context(opened_hdf5(path))  # NetCDF-4 files are HDF5 files
    found = {name: dataset(file, name, path) for name in dataset_names(file, path)}
    group = re.compile(r"^(condition|violation|outside|refinement)_")  # as NetCDF has it
    arrays = {group.sub(r"\1/", name): entry for name, entry in found.items()}
    return read_manifest(text_attribute(file, "lawful", path), path), arrays


def _chunks(arrays: Mapping[str, Any], path: Path, judge: str) -> Iterator[Chunk]:
    def tensor(name: str, rows: slice) -> Tensor:
        return torch.from_numpy(read_rows(arrays[name], rows, f"{path}: {name}"))

    def rows_of(group: str, rows: slice) -> dict[str, Tensor]:
        found = {
            unquote(n.removeprefix(group)): tensor(n, rows) for n in arrays if n.startswith(group)
        }
        # NetCDF has no truth values
        return {n: t.bool() if t.dtype == torch.int8 else t for n, t in found.items()}

    for first in range(0, len(arrays["fields"]), CHUNK):
        rows = slice(first, first + CHUNK)
        found = rows_of("estimated_error", rows)
        whole = found.keys() == {"", "_absolute"}
        yield Chunk(
            tensor("fields", rows).float(),
            rows_of("condition/", rows),
            Estimate(found["_absolute"], found[""], judge) if whole else None,
            rows_of("corrections_accepted", rows).get(""),
            rows_of("outside/", rows),
            rows_of("refinement/", rows),
        )


def _safe(name: str) -> str:
    return re.sub(r"\W+", "_", name).strip("_")
