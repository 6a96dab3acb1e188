"""What `lawful sample` takes for microstructures alone: a picture to be like, and a size."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from textwrap import fill
from typing import Annotated, Any, Literal

import tyro

from lawful.errors import InputError
from lawful.materials.images import (
    Correlation,
    Micrograph,
    read_correlation,
    read_micrograph,
    rescaled,
)
from lawful.model import Model
from lawful.typed import check_fields


@dataclass(frozen=True)
class PictureOptions:
    """Samples like a picture, of any size."""

    size: Annotated[int | None, tyro.conf.arg(help="pixels a side of a sample")] = None
    like: Annotated[Path | None, tyro.conf.arg(help="a picture, or statistics.csv, to be like")] = (
        None
    )
    threshold: Annotated[float | None, tyro.conf.arg(help="of --like's grey levels [Otsu]")] = None
    phase: Annotated[
        Literal["bright", "dark"], tyro.conf.arg(help="side of --like's threshold described")
    ] = "bright"
    scale: Annotated[float, tyro.conf.arg(help="pixels of a sample per pixel of --like")] = 1.0
    crop: Annotated[
        int | None, tyro.conf.arg(help="rows to cut from the bottom of --like [its banner]")
    ] = None
    median: Annotated[int, tyro.conf.arg(help="median filter on --like, pixels")] = 1

    def __post_init__(self) -> None:
        check_fields(self, "--")

    def apply(
        self, model: Model, condition: Mapping[str, Any]
    ) -> tuple[Model, Mapping[str, Any], Mapping[str, Any]]:
        """The model of the size, the condition of the picture, and how that was read.

        Raises:
            InputError: An option goes with a picture and there is none, the picture cannot be read
                or has no such condition, or the model has no such size.
        """
        if self.size is not None:
            model = model.resized(self.size)
        if (shown := self._read()) is None:
            return model, condition, {}
        return model, model.like(shown, condition), {"like": self._described(shown)}

    def _read(self) -> Micrograph | Correlation | None:
        """The picture or the correlation to be like, if there is one."""
        names = ("threshold", "phase", "scale", "crop", "median")
        values = {name: getattr(self, name) for name in names}
        if self.like is not None and self.like.suffix.lower() != ".csv":
            scale = values.pop("scale")
            found = read_micrograph(self.like, **values)
            return found if scale == 1 else rescaled(found, scale)
        usual = {field.name: field.default for field in fields(self)}
        for name, value in values.items():
            if value != usual[name]:
                raise InputError(f"--{name} {value}: goes with --like and a picture; there is none")
        return None if self.like is None else read_correlation(self.like)

    def _described(self, shown: Micrograph | Correlation) -> dict[str, Any]:
        """Say how a picture was read; what files tell of it, by its name and not its place."""
        name = "" if self.like is None else self.like.name
        if not isinstance(shown, Micrograph):
            print(f"like {name}: its two-point correlation, p1 = {shown[0]:.4f}")
            return {"path": name}
        scaled = "" if self.scale == 1 else f"; scaled by {self.scale:g}"
        print(fill(f"like {shown.described()}{scaled}", 80))
        for note in shown.notes:
            print(f"lawful: warning: {shown.source}: {note}", file=sys.stderr)
        names = ("threshold", "phase", "banner", "pixel_size", "unit")
        read = {entry: getattr(shown, entry) for entry in names}
        return {"path": name, **read, "scale": self.scale, "median": self.median}
