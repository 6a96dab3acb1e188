"""`lawful sample`: streams samples and their violations into a file."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from lawful.cli.export import Arrays, Layout, arrays_of, write_samples
from lawful.cli.options import SampleOptions, asked, first_argument, for_study, parse, value_of
from lawful.cli.page import show
from lawful.cli.progress import progress
from lawful.cli.report import law_blocks, warning_lines
from lawful.errors import InputError
from lawful.metrics.report import Summary
from lawful.model import Model, load, manifest_floors
from lawful.reading import read_npy
from lawful.registry import told
from lawful.study import Quantity, Study, space


def run(arguments: list[str]) -> None:
    """`lawful sample MODEL`."""
    name = first_argument(SampleOptions, arguments, "sample", "model")
    model = load(name, study=value_of("--study", arguments))
    options: Any = parse(for_study(SampleOptions, model.study), arguments, "sample")
    condition: Mapping[str, Any] = given_conditions(options, model.study)
    origin: Mapping[str, Any] = {}
    if model.study.sample_options is not None:
        model, condition, origin = options.own.apply(model, condition)
    sample_to_file(model, options, condition, origin)


def given_conditions(options: Any, study: Study) -> dict[str, Any]:
    """The conditions that were given on the command line."""
    values = {q: getattr(options, f"quantity_{i}") for i, q in enumerate(asked(study))}
    return {
        quantity.name: _arrays(quantity, given) if quantity.shape else list(given)
        for quantity, given in values.items()
        if given
    }


def _arrays(quantity: Quantity, paths: Sequence[str]) -> np.ndarray:
    """Values stacked from one or more .npy files, each of one value or a stack of values."""
    rows, one = [], quantity.shape
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
    model: Model, options: Any, condition: Mapping[str, Any], origin: Mapping[str, Any]
) -> None:
    """Stream samples into `options.out` with a progress bar, then say how they do."""
    longest = max((len(value) for value in condition.values()), default=1)
    count = longest if options.n is None else options.n
    names = ("seed", "refine", "enforce", "tolerance")
    how = {name: getattr(options, name) for name in names}
    stream = model.stream(count, condition=condition, **how)
    first = next(stream)  # the conditions are checked before a file is opened
    estimate, study = first.report.estimate, model.study
    judge = None if estimate is None else estimate.judge
    manifest = {
        **model.manifest, "config": study.config(), "images": study.images,
        "sampled": {
            "model": options.model, **how, **origin, "judge": judge,
            "bound_norm": first.report.bound_norm,
        },
    }  # fmt: skip
    axes = space(study, first.fields.shape)
    layout = Layout(count, arrays_of(first, study), manifest, study.images, axes)
    summary = Summary(manifest_floors(model.manifest))

    def chunks(count_up: Callable[..., None]) -> Iterator[Arrays]:
        done = 0
        for samples in chain([first], stream):
            yield arrays_of(samples, study)
            summary.add(samples.report)
            count_up(done := done + len(samples.fields))

    with progress(count, plain=False) as count_up:
        write_samples(options.out, chunks(count_up), layout)
    print(f"{options.out}: {count} samples of {told(type(study))}")
    data = summary.as_dict()
    warnings = warning_lines(data, study, first.condition)
    if count < longest:
        warnings.append(f"only the first {count} of {longest} values were used")
    show([("Laws", law_blocks(data))], warnings)
