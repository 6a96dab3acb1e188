"""`lawful sample`: streams samples and their violations into a file."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lawful.cli.files import arrays_of, attributes
from lawful.cli.options import STUDY_HELP, given_values, parse, value_of, with_conditions
from lawful.cli.report_text import print_report, warning_lines
from lawful.cli.writers import FORMATS, Arrays, write_samples
from lawful.errors import InputError
from lawful.metrics.summary import Summary
from lawful.model import Model, load, manifest_floors
from lawful.reading import read_npy
from lawful.registry import told
from lawful.study import Quantity


@dataclass(frozen=True)
class SampleOptions:
    """Sample fields; conditions that are not given are drawn, several values are taken in turn."""

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(help="a shipped model or a run")]
    out: Annotated[Path, tyro.conf.arg(help=f"file to write: {', '.join(FORMATS)}")]
    n: Annotated[
        int | None, tyro.conf.arg(aliases=["-n"], help="samples [as many as values are given]")
    ] = None
    seed: Annotated[int, tyro.conf.arg(help="of the conditions that are drawn")] = 0
    refine: Annotated[int, tyro.conf.arg(help="corrections by the law on each raw sample")] = 0
    enforce: Annotated[bool, tyro.conf.arg(help="enforce the affine laws exactly")] = False
    tolerance: Annotated[
        float | None, tyro.conf.arg(help="refine until every violation is below this")
    ] = None
    study: Annotated[str | None, tyro.conf.arg(help=STUDY_HELP)] = None


def run(arguments: list[str]) -> None:
    """`lawful sample MODEL`."""
    if not arguments or arguments[0].startswith("-"):
        parse(SampleOptions, arguments, "lawful sample")
        raise InputError(
            "lawful sample: the model comes first: lawful sample MODEL -n N --out FILE"
        )
    model = load(arguments[0], study=value_of("--study", arguments))
    quantities = [q for q in model.study.quantities if q.kept]
    kind = with_conditions(SampleOptions, quantities, model.study.sample_options)
    options: Any = parse(kind, arguments, "lawful sample")
    given: Mapping[str, Any] = given_conditions(options, quantities)
    origin: Mapping[str, Any] = {}
    if model.study.sample_options is not None:
        model, given, origin = options.own.apply(model, given)
    sample_to_file(model, options, given, origin)


def given_conditions(options: Any, quantities: Sequence[Quantity]) -> dict[str, Any]:
    """The conditions that were given on the command line."""
    by_name = {quantity.name: quantity for quantity in quantities}
    return {
        name: _vectors(by_name[name], values) if by_name[name].shape else list(values)
        for name, values in given_values(options, quantities).items()
    }


def _vectors(quantity: Quantity, paths: Sequence[str]) -> np.ndarray:
    """Values stacked from one or more .npy files, each of one value or a stack of values."""
    rows = []
    one = quantity.shape
    for path in paths:
        place = f"--{quantity.name.replace('_', '-')} {path}"
        array = read_npy(Path(path), place)
        if not array.size:
            raise InputError(f"{place}: expected an array of numbers in a .npy file")
        if one not in (array.shape, array.shape[1:]):
            raise InputError(
                f"{place}: expected an array of shape {one}, or a stack of them, got {array.shape}"
            )
        rows.append(array.reshape(-1, *one))
    return np.concatenate(rows)


def sample_to_file(
    model: Model, options: Any, given: Mapping[str, Any], origin: Mapping[str, Any]
) -> None:
    """Stream samples into `options.out` with a progress bar, then say how they do."""
    longest = max((len(value) for value in given.values()), default=1)
    count = longest if options.n is None else options.n
    stream = model.stream(
        count, seed=options.seed, refine=options.refine, enforce=options.enforce,
        tolerance=options.tolerance, condition=given,
    )  # fmt: skip
    origin = {
        "model": options.model, "seed": options.seed, "refine": options.refine,
        "enforce": options.enforce, "tolerance": options.tolerance,
        **origin,
    }  # fmt: skip
    summary = Summary(manifest_floors(model.manifest))
    console = Console(file=sys.stderr)
    bar = Progress(
        BarColumn(24), MofNCompleteColumn(), TextColumn("samples"), TimeRemainingColumn(),
        console=console, disable=not console.is_terminal,
    )  # fmt: skip
    first = next(stream)  # the conditions are checked before a file is opened
    estimate = first.report.estimate
    origin["judge"] = None if estimate is None else estimate.judge
    study = model.study

    def chunks() -> Iterator[Arrays]:
        for samples in chain([first], stream):
            yield arrays_of(samples, binary=study.binary)
            summary.add(samples.report)
            bar.advance(task, len(samples.fields))

    manifest = {
        **model.manifest, "config": study.config(), "sampled": origin, "images": study.images,
    }  # fmt: skip
    with bar:
        task = bar.add_task("", total=count)
        write_samples(
            options.out, chunks(), count, manifest=manifest, images=study.images,
            space=study.space(first.fields.shape), about=attributes(study, first),
        )  # fmt: skip
    print(f"{options.out}: {count} samples of {told(type(study))}")
    print_report(summary, warning_lines(summary, study, first.condition))
    if count < longest:
        print(
            f"lawful: warning: only the first {count} of {longest} values were used",
            file=sys.stderr,
        )
