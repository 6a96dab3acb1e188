"""A trained generator with its study: samples that come with their law report."""

import hashlib
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from dataclasses import fields as fields_of
from pathlib import Path
from typing import Any, Required, TypedDict

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lawful import files, registry
from lawful.catalogue import MANIFEST, WEIGHTS, shipped
from lawful.corrections import correct
from lawful.errors import InputError, LawfulWarning
from lawful.laws import Condition, merge
from lawful.metrics.report import LawReport, law_report, reached
from lawful.reading import as_path, check_memory, parse_json, read_bytes, read_text
from lawful.study import Matching, Quantity, Study, all_laws, enforceable, space
from lawful.typed import Options, Seed, Tries, check_fields, shown, typed
from lawful.weights import device_of, load_weights

CHUNK = 64

WORSENED = "the estimate says that {} of {} samples are further from the solution than before"


@dataclass(frozen=True)
class Samples:
    """Generated fields with what was asked and how well each obeys.

    Arguments:
        fields: `(batch, channel, *space)` with one to three axes of space, float32.
        condition: The condition of each sample, completed.
        report: Per-sample violation of every law.
    """

    fields: Float[Tensor, "batch channel *space"]
    condition: Condition
    report: LawReport

    def __repr__(self) -> str:
        laws = ", ".join(line.name for line in self.report.lines)
        asked = ", ".join(self.condition)
        return f"Samples({tuple(self.fields.shape)}, of {asked}; laws: {laws})"


def check_options(options: Options, study: Study, grad: bool) -> None:
    """Refuse what is out of range, and what the study cannot do.

    Raises:
        InputError: Names the option.
    """
    check_fields(options)
    if options.refine and study.corrector() is None:
        raise InputError(f"refine: {options.refine} steps; study {study.name!r} allows none")
    if options.enforce and not enforceable(study):
        raise InputError(f"enforce: study {study.name!r} has no affine law")
    if options.tolerance is not None and (options.refine or options.enforce or grad):
        raise InputError("tolerance: goes with none of refine, enforce and grad")


@dataclass(frozen=True)
class Model:
    """A generator ready to sample from.

    Arguments:
        study: What it was trained for.
        network: Its generator, in evaluation mode.
        manifest: Configuration, versions, training time and measured quality.
        folder: Where it was loaded from, if it was.
    """

    study: Study
    network: nn.Module
    manifest: Mapping[str, Any]
    folder: Path | None = None

    def __repr__(self) -> str:
        count = sum(p.numel() for p in self.network.parameters())
        asked = ", ".join(quantity.name for quantity in self.study.quantities)
        of = "" if self.folder is None else f", from {self.folder}"
        return f"Model({self.study.name}: {count:,} parameters, sampled by {asked}{of})"

    def sample(
        self,
        n: int | None = None,
        *,
        seed: int = 0,
        refine: int = 0,
        enforce: bool = False,
        tolerance: float | None = None,
        grad: bool = False,
        condition: Mapping[str, Any] | None = None,
        **quantities: Any,
    ) -> Samples:
        """Generate fields for the given conditions.

        Arguments:
            n: Number of samples; where not given, as many as the longest condition has values.
                Shorter conditions are repeated in turn; those not given are drawn.
            seed: Of whatever is drawn; the same seed gives the same samples.
            refine: Tries of a correction by the study's law on the raw samples. A sample takes
                those that lower its estimated error; the report says how many.
            enforce: Enforce the study's affine laws on the observed fields, in order. The bounds of
                `Study.observe` have the last word; the report has the violation that is left.
            tolerance: Bring every sample's violation of every law below this, by Gauss-Newton
                steps and exchanges of pixels; the report says which samples it did not reach.
                What the network obeys by construction stays as it is.
            grad: Keep the graph, so that a function of the fields can be differentiated by the
                conditions that are tensors and require gradients. The inverse M of a correction is
                held constant, which is exact where a sample obeys the law; the report carries none.
            condition: Tensors, arrays, lists or numbers, by the names of the study's quantities.
            quantities: The same as keyword arguments, for names that are not among the above.

        Raises:
            InputError: A name is unknown, a value cannot be used, samples that should be binary are
                not, or the fields do not depend on a condition that requires gradients.
        """
        given = self._tensors(condition, quantities)
        options = Options(n=n, seed=seed, refine=refine, enforce=enforce, tolerance=tolerance)
        chunks: list[Samples] = []
        for chunk in self._stream(options, given, grad=grad):
            if not chunks:
                n = _count(options, given)
                check_memory(n / len(chunk.fields) * chunk.fields.nbytes, f"n: {n}")
            chunks.append(chunk)
        samples: Samples = merge(chunks)
        done = samples.report.projection
        if done is not None and done.worsened is not None and bool(done.worsened.any()):
            said = WORSENED.format(int(done.worsened.sum()), n)
            warnings.warn(f"tolerance {tolerance:g}: {said}", LawfulWarning, stacklevel=2)
        if grad:
            _check_gradients(samples.fields, given)
        return samples

    def stream(
        self, n: int | None = None, *, condition: Mapping[str, Any] | None = None, **named: Any
    ) -> Iterator[Samples]:
        """The same samples as `sample`, in chunks of 64, so that memory does not grow with n.

        Arguments:
            n, condition: As of `sample`.
            named: `seed`, `refine`, `enforce` and `tolerance` of `sample`, and quantities.
        """
        options = {f.name: named.pop(f.name) for f in fields_of(Options) if f.name in named}
        given = self._tensors(condition, named)
        yield from self._stream(Options(n=n, **options), given)

    def watched(self, n: int, seed: int) -> Samples:
        """Up to 64 samples without an estimate of their errors: training need not pay for it."""
        return next(self._stream(Options(n=n, seed=seed), {}, estimated=False))

    def like(
        self,
        picture: Any,
        condition: Mapping[str, Any] | None = None,
        **quantities: Any,
    ) -> dict[str, Tensor]:
        """The condition of samples like a picture's, to be given to `sample`.

        Arguments:
            picture: A file, or what the study takes in its place. Microstructures take a picture,
                the `statistics.csv` that `lawful stats` writes, what `read_micrograph` read, or a
                two-point correlation at 0, 1, 2, … pixels.
            condition, quantities: What is to be otherwise than in the picture.
        """
        given = self._tensors(condition, quantities)
        if not isinstance(self.study, Matching):
            raise InputError(f"like: study {self.study.name!r} takes no picture")
        return dict(self.study.like(picture, given))

    def resized(self, size: int) -> "Model":
        """The same weights on fields of another size, for studies whose networks allow it."""
        if not isinstance(self.study, Matching):
            raise InputError(f"size: {size}; study {self.study.name!r} has fields of one size")
        return replace(self, study=self.study.resized(size))

    def _stream(
        self, options: Options, given: Condition, *, grad: bool = False, estimated: bool = True
    ) -> Iterator[Samples]:
        check_options(options, self.study, grad)
        n = _count(options, given)
        strict = too_strict(options.tolerance, manifest_floors(self.manifest))
        if strict is not None:
            warnings.warn(strict, LawfulWarning, stacklevel=3)
        for first in range(0, n, CHUNK):
            rows = torch.arange(first, min(first + CHUNK, n))
            values = {name: value[rows % len(value)] for name, value in given.items()}
            generator = torch.Generator().manual_seed((options.seed * 1_000_003 + first) % 2**63)
            with registry.own_faults(type(self.study)):
                whole = self.study.complete(self.network, values, len(rows), generator)
                with torch.set_grad_enabled(grad):
                    chunk = self._sampled(whole, options, estimated)
            yield chunk

    def _sampled(self, values: Condition, options: Options, estimated: bool) -> Samples:
        study, device = self.study, device_of(self.network)
        plain = {name: value.detach() for name, value in values.items()}
        outside = tuple(study.outside(self.network, plain).items())
        condition = study.condition(values)
        placed = {name: value.to(device) for name, value in condition.items()}
        before = accepted = estimate = done = None
        if options.tolerance is None:
            fields = self.network(placed)
            if options.refine:
                tries = options.refine
                fields, accepted, estimate = correct(study, self.network, fields, placed, tries)
            seen = study.observe(fields)
        else:
            raw = study.observe(self.network(placed))
            before = study.estimate(self.network, raw, placed) if estimated else None
            projected = study.project(self.network, placed, options.tolerance)
            done, fields = projected.record(options.tolerance), study.observe(projected.fields)
            seen = fields
        space(study, seen.shape)  # refuses a shape that no file could hold
        for affine in enforceable(study) if options.enforce else ():
            fields = seen = study.observe(affine.enforce(seen, placed))
        if study.binary and not bool(((seen == 0) | (seen == 1)).all()):
            raise InputError(
                f"study {study.name!r} is binary: expected samples of 0 and 1 alone, got values "
                f"from {float(seen.min()):.3g} to {float(seen.max()):.3g}"
            )
        if estimated and (estimate is None or options.enforce):
            with torch.no_grad():
                estimate = study.estimate(self.network, fields.detach(), placed)
        seen = seen.cpu().float()
        found = law_report(all_laws(study, self.network), seen, condition)
        report = replace(
            found,
            estimate=None if estimate is None else estimate.cpu(),
            outside=outside,
            tried=options.refine,
            accepted=None if accepted is None else accepted.cpu(),
            enforced=options.enforce,
            projection=None if done is None else reached(done, found.lines, before, estimate),
        )
        dropped = {q.name for q in study.quantities if not q.kept}
        kept = {name: value for name, value in condition.items() if name not in dropped}
        return Samples(seen, kept, report)

    def _tensors(
        self, condition: Mapping[str, Any] | None, named: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        """Checked float32 tensors with a leading batch axis."""
        if condition is not None and not isinstance(condition, Mapping):
            raise InputError(
                f"condition: expected values by name, got {condition!r:.40}; a quantity of this "
                "name is given as condition={'condition': …}"
            )
        if twice := sorted((condition or {}).keys() & named.keys()):
            raise InputError(f"{twice[0]}: given twice, in condition and by its name")
        known = {q.name: q for q in self.study.quantities}
        given = {}
        for name, value in {**(condition or {}), **named}.items():
            if name not in known:
                raise InputError(f"{name}: unknown condition; there are {', '.join(known)}")
            given[name] = _tensor(known[name], value)
        for name in given:
            if (other := known[name].instead_of) in given:
                raise InputError(f"{name} and {other}: expected one of the two, got both")
        return given


def _count(options: Options, given: Condition) -> int:
    longest = max((len(value) for value in given.values()), default=1)
    return longest if options.n is None else options.n


def _tensor(quantity: Quantity, value: Any) -> Tensor:
    """A value, or several, of a quantity, checked."""
    name = quantity.name
    parts = value if isinstance(value, list | tuple) else ()
    if any(torch.is_tensor(part) and part.requires_grad for part in parts):
        raise InputError(f"{name}: a list of tensors carries no gradient; stack them")
    try:
        tensor = torch.as_tensor(value, dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise InputError(f"{name}: expected numbers, got {shown(value)}") from None
    if tensor.is_meta or tensor.layout != torch.strided:
        raise InputError(f"{name}: expected a dense tensor with values")
    if tensor.ndim == len(quantity.shape):
        tensor = tensor.unsqueeze(0)
    if tensor.ndim == 0 and quantity.shape:
        expected = " x ".join(map(str, quantity.shape))
        raise InputError(f"{name}: expected {expected} numbers per sample, got one")
    if tensor.ndim == 0 or not len(tensor):
        raise InputError(f"{name}: expected at least one value, got none")
    quantity.check(tensor)
    return tensor


def _check_gradients(fields: Tensor, given: Condition) -> None:
    """Refuse conditions that ask for gradients and would get none."""
    asked = {name: value for name, value in given.items() if value.requires_grad}
    slopes: Any = [None] * len(asked)
    if asked and fields.requires_grad:
        slopes = torch.autograd.grad(
            fields.sum(), list(asked.values()), retain_graph=True, allow_unused=True
        )
    for name, slope in zip(asked, slopes, strict=True):
        if slope is None:
            raise InputError(f"grad: the fields have no derivative by {name}")


def save_model(folder: Path, network: nn.Module, manifest: Mapping[str, Any]) -> None:
    """Write weights and manifest into `folder`, each atomically."""
    files.save(folder / WEIGHTS, dict(network.state_dict()))
    whole = {**manifest, "weights_sha256": digest(folder / WEIGHTS)}
    files.write_all({folder / MANIFEST: files.json_bytes(whole)})


def digest(path: Path) -> str:
    """SHA-256 of a file.

    Raises:
        InputError: It cannot be read, or does not fit into memory.
    """
    return hashlib.sha256(read_bytes(path)).hexdigest()


class Sampled(TypedDict, total=False):
    """What was asked of the samples in a file."""

    refine: Tries
    enforce: bool
    tolerance: float | None


class LawQuality(TypedDict):
    """A law as it was measured when the model was made."""

    law: str
    floor: float | None


class Quality(TypedDict, total=False):
    """Figures of the model; those beyond the laws are the study's own."""

    laws: list[LawQuality]


class Manifest(TypedDict, total=False):
    """What a manifest says; entries beyond these are left as they are."""

    study: Required[str]
    config: Required[dict[str, Any]]
    source: dict[str, str]
    preset: str | None
    seed: Seed
    steps: int
    training_seconds: float
    data: dict[str, str]
    versions: dict[str, str]
    quality: Quality
    weights_sha256: str
    sampled: Sampled
    images: bool


def read_manifest(text: str, place: object) -> dict[str, Any]:
    """The manifest that a text in JSON is.

    Raises:
        InputError: It is none: an entry is missing or of another type.
    """
    return dict(typed(parse_json(text, f"manifest {place}"), Manifest, f"manifest {place}"))


def manifest_floors(manifest: Mapping[str, Any]) -> dict[str, float | None]:
    """Each law's violation by the trusted solver, as measured when the model was made."""
    laws = manifest.get("quality", {}).get("laws", [])
    return {entry["law"]: entry["floor"] for entry in laws}


def too_strict(tolerance: float | None, floors: Mapping[str, float | None]) -> str | None:
    """What to say of a tolerance that a solver's own fields miss, and that leads away from them."""
    floor, name = max(((floor or 0.0, name) for name, floor in floors.items()), default=(0.0, ""))
    if tolerance is None or tolerance >= floor:
        return None
    return (
        f"tolerance {tolerance:g} is below the floor of law {name!r}, {floor:.2g}: a solver's own "
        "fields violate it so much, and samples may get further from the solution"
    )


def load(name: str | Path, *, study: type[Study] | Study | str | Path | None = None) -> Model:
    """A shipped model by name, or the model of a finished run by its folder.

    Arguments:
        study: The study of a run of a user's own, or the file that defines it. Needed where its
            text is not known yet: a run from elsewhere holds a copy of it, which is code, and
            runs only when it is named here, or was named or trained before on this account.

    Raises:
        InputError: There is no such model, its files are truncated or foreign, or its study is
            not known and not named.
    """
    folder = shipped().get(str(name), as_path(name, "model"))
    if not folder.is_dir():
        names = ", ".join(shipped()) or "none"
        raise InputError(
            f"model {shown(str(name))}: expected a run folder or a shipped model ({names})"
        )
    weights = folder / WEIGHTS
    if not weights.is_file() or not (folder / MANIFEST).is_file():
        raise InputError(f"model {folder}: no {WEIGHTS} and {MANIFEST}; is the run finished?")
    manifest = read_manifest(read_text(folder / MANIFEST), folder / MANIFEST)
    made = registry.recall(manifest, folder, study).from_config(manifest["config"])
    if manifest.get("weights_sha256") != digest(weights):
        raise InputError(f"weights {weights}: not those of their manifest, or truncated")
    with registry.own_faults(type(made)):
        network = made.network()
    return Model(made, load_weights(network, weights), manifest, folder)
