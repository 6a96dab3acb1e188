"""Random calls of every command and of the Python interface, on damaged files too.

    python benchmarks/fuzz.py --calls 20000 --seed 0

A call is made in a folder of its own, in a process that holds the imported package, under a limit
of time and of memory. It passes where the command line ends with status 0, 1, 2 or 130, says what
it refuses in exactly one `lawful: …` line, and leaves no file under a final name that is not
complete; where the Python interface returns or raises `InputError` or `NonFiniteError`. Call i of
a seed is the same on every machine: `--only i` repeats it and prints what it said. Conditions that
would only cost time (many steps, many samples) are not drawn.
"""

import argparse
import dataclasses
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import typing
import warnings
import zipfile
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path
from typing import Any, get_args, get_origin

sys.path.insert(0, str(Path(__file__).parent))

import h5py
import numpy as np
import tifffile
import torch
from fuzz_files import FLOATS, INTEGERS, TEXTS, damage, seeds, wild
from PIL import Image

import lawful
from lawful.cli.main import main
from lawful.reading import read_tensors
from lawful.registry import STUDIES

SECONDS, WAITING = 20, 90  # of the processor in a call, and of the clock
MEMORY = 24 * 2**30  # address space of a process
STATUS = (0, 1, 2, 130)
Random = random.Random
QUICK = ["--training.steps", "2", "--training.batch", "2", "--training.checkpoint", "1"]
MODELS = (
    "run",
    "run",
    "run",
    "mix",
    "motif-plus",
    "microstructure",
    "burgers",
    "rotmnist",
    "half",
    "nowhere",
    "tiny.py",
    "/dev/null",
    "",
    "digits",
)
OUTS = (
    "o",
    "o",
    "o",
    "o/p",
    "/dev/null/o",
    "s.h5",
    "/proc/o",
    "\udce9",
    "a" * 300,
    "tiny.py/x",
    "",
    ".",
    "a\x00b",
)
ENDINGS = (".h5", ".nc", ".npz", ".tif", ".vtk", ".png", ".hdf5", "", ".txt", ".H5", ".pt")


PROXIES = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
ISOLATED = {
    **dict.fromkeys(PROXIES, "http://127.0.0.1:9"),
    "no_proxy": "",
    "PIP_NO_INDEX": "1",
    "PATH": "/nowhere",
    "BROWSER": "true",
}


class Hang(BaseException):
    """A call that ran out of time."""


@dataclasses.dataclass
class Case:
    """One call.

    Arguments:
        command: Of the command line, or `python`.
        arguments: What follows it; of Python, a function's name and its arguments.
        damaged: The file that was damaged, and how.
    """

    command: str
    arguments: list[Any]
    damaged: str = ""


def number(rng: Random, mild: tuple[int, ...] = (1, 2, 3)) -> str:
    """A number as one may write it on the command line."""
    kind = rng.random()
    if kind < 0.35:
        return str(rng.choice(mild))
    if kind < 0.65:
        return _digits(rng.choice(INTEGERS))
    return rng.choice(TEXTS) if kind > 0.9 else repr(rng.choice(FLOATS))


def _digits(value: int) -> str:
    return "1" + "0" * 400 if value == 10**400 else str(value)


def options(rng: Random, known: dict[str, Any], share: float) -> list[str]:
    """Some options with values of the right or of another kind."""
    found: list[str] = []
    for name, make in known.items():
        if rng.random() < share:
            value = rng.choice(TEXTS) if rng.random() < 0.07 else make(rng)
            found += [f"--{name}"] + ([] if value is None else [value])
    if rng.random() < 0.04:
        found.append(
            rng.choice(("--help", "--nothing", "-n", "--out", "--c.level", "--level", "x"))
        )
    return found


def choices(*values: str) -> Any:
    """One of some words."""
    return lambda rng: rng.choice(values)


def fields_of(config: Any, prefix: str = "") -> dict[str, Any]:
    """An option for every field of a configuration."""
    found: dict[str, Any] = {}
    for name, hint in typing.get_type_hints(type(config)).items():
        if get_origin(hint) is typing.ClassVar:
            continue
        if dataclasses.is_dataclass(hint):
            found |= fields_of(getattr(config, name), f"{prefix}{name}.")
            continue
        words = [str(word) for word in get_args(hint)] if get_origin(hint) is typing.Literal else []
        found[f"{prefix}{name}"] = choices(*words) if words else number
    for name in ("digits", "source", "data", "tissue", "motif"):
        if name in found:
            found[name] = choices("uci", "idx", "p.png", "set.h5", "nowhere", "s.h5", "run", "/")
    return found


DEVICES = {
    "device.accelerator": choices("cpu", "xla", "tpu", "cuda", "gpu", "mps", "hpu", "x", "auto"),
    "device.devices": lambda rng: rng.choice(("1", "0", "-1", str(2**63), str(2**31), "x", "500")),
    "device.strategy": choices(
        "auto",
        "ddp",
        "deepspeed",
        "fsdp",
        "xla",
        "xla_fsdp",
        "dp",
        "x",
        "ddp_spawn",
        "ddp_notebook",
        "single_device",
        "",
    ),
    "device.precision": choices("32-true", "bf16-mixed", "16-true", "64", "x"),
}
SAMPLE = {
    "n": number,
    "seed": number,
    "refine": number,
    "enforce": lambda rng: None,
    "tolerance": number,
    "size": lambda rng: number(rng, (32, 64, 7)),
    "like": choices("p.png", "p.tif", "p.npy", "colour.png", "run", "nowhere"),
    "threshold": number,
    "phase": choices("bright", "dark", "x"),
    "scale": number,
    "crop": number,
    "median": number,
}
CONDITIONS = {
    "level": number,
    "row": choices("row.npy", "p.npy", "nowhere", "s.npz", "run"),
    "frequency": number,
    "viscosity": number,
    "initial": choices("wave.npy", "row.npy", "p.npy"),
    "digit": number,
    "volume-fraction": number,
    "two-point": choices("wave.npy", "row.npy"),
}
STATS = {
    "threshold": number,
    "phase": choices("bright", "dark", "x"),
    "crop": number,
    "pixel-size": number,
    "median": lambda rng: number(rng, (1, 3, 5)),
    "periodic": lambda rng: None,
    "radii": lambda rng: number(rng, (2, 5, 8)),
}


def train(rng: Random) -> list[str]:
    """Built-in studies are not trained: a configuration, or a folder that cannot be written."""
    if rng.random() < 0.6:
        known = {"width": number, "share": number}
        known |= {"kind": choices("one", "two", "x"), "growth": number, "rate": number}
        known |= {f"training.{n}": number for n in ("learning_rate", "average", "seed")}
        rest = options(rng, known, 0.15) + options(rng, DEVICES, 0.08)
        rest += ["--resume"] * (rng.random() < 0.4) + ["--track"] * (rng.random() < 0.05)
        rest += ["--dry-run"] * (rng.random() < 0.1)
        rest += QUICK if rng.random() < 0.8 else options(rng, STEPS, 0.6)
        return [
            rng.choice(("tiny.py",) * 8 + ("none.py", "p.png", "")),
            "--out",
            rng.choice((*OUTS, "half", "half", "half", "half", "run", "mix")),
            *rest,
        ]
    name = rng.choice(list(STUDIES))
    presets = STUDIES[name].presets()
    preset = rng.choice([*presets, "x"]) if rng.random() < 0.3 else next(iter(presets))
    config = presets.get(preset, next(iter(presets.values())))
    end = ["--dry-run"] if rng.random() < 0.8 else ["--out", "/dev/null/o"]
    return [name, "--preset", preset, *options(rng, fields_of(config), 0.12), *end]


STEPS = {f"training.{name}": number for name in ("steps", "batch", "checkpoint")}


def sample(rng: Random) -> list[str]:
    out = rng.choice(OUTS) + rng.choice(ENDINGS)
    rest = options(rng, SAMPLE, 0.1) + options(rng, CONDITIONS, 0.1)
    count = ["-n", number(rng)] * (rng.random() < 0.5)
    return [rng.choice(MODELS), *count, "--out", out, *rest]


def report(rng: Random) -> list[str]:
    subject = rng.choice(
        (
            "s.h5",
            "s.nc",
            "s.npz",
            "motif.h5",
            "run",
            "run",
            "s.tif",
            "s.h5",
            "s.npz",
            "set.h5",
            "row.npy",
            "half",
            "nowhere",
            "/dev/zero",
            "\udce9",
        )
    )
    known = {name: SAMPLE[name] for name in ("n", "seed", "refine", "enforce", "tolerance")}
    return [subject, "--out", rng.choice(OUTS), *options(rng, known, 0.15)]


def stats(rng: Random) -> list[str]:
    image = rng.choice(
        (
            "p.png",
            "p.tif",
            "p.npy",
            "colour.png",
            "row.npy",
            "s.tif",
            "s.png",
            "run",
            "nowhere.png",
            "/dev/zero",
            "\udce9.png",
            "s.h5",
        )
    )
    return [image, "--out", rng.choice(OUTS), *options(rng, STATS, 0.25)]


def study(rng: Random) -> list[str]:
    """Tables are not computed: a model of another study, or an option that is refused."""
    name = rng.choice((*STUDIES, "game", "symmetry", "x", "tiny.py", ""))
    if rng.random() < 0.5 or name in ("game", "symmetry"):
        models = [model for model in MODELS if not model or model[:3] != name[:3]]
        return [name, "--model", rng.choice(models), "--out", "/dev/null/o"]
    config = STUDIES[name].presets() if name in STUDIES else {}
    known = fields_of(next(iter(config.values()))) if config else {}
    return [name, *options(rng, known, 0.1), "--out", "/dev/null/o"]


def data(rng: Random) -> list[str]:
    out = ["--out", rng.choice(("set.h5", "set.h5", "o.h5", "o.txt", "run", "/proc/o.h5", "s.h5"))]
    count = number(rng, (1, 20)) if rng.random() < 0.5 else "40"
    known = {"side": lambda rng: number(rng, (16, 17)), "seed": number}
    return ["cahn-hilliard", "--images", count, "--side", "16", *options(rng, known, 0.2), *out]


def demo(rng: Random) -> list[str]:
    """Never the demonstration itself, which trains."""
    return [
        "--out",
        rng.choice(("/dev/null/o", "tiny.py", "/proc/o", "a\x00b", "a" * 300)),
        *options(rng, {"open": lambda rng: rng.choice(("x", None))}, 0.1),
    ]


def listing(rng: Random) -> list[str]:
    return options(rng, {"x": number, "help": lambda rng: None}, 0.3)


def python(rng: Random) -> list[Any]:
    """A function of the Python interface and its arguments."""
    name = rng.choice(("load", "sample", "sample", "sample", "study", "study", "training", "like"))
    if name == "load":
        return [name, rng.choice((*MODELS, wild(rng), wild(rng)))]
    if name == "sample":
        known = (
            "n",
            "seed",
            "refine",
            "enforce",
            "tolerance",
            "level",
            "row",
            "x",
            "initial",
            "frequency",
            "viscosity",
        )
        chosen = {key: _value(rng) for key in known if rng.random() < 0.2}
        return [name, rng.choice(("run", "run", "mix", "burgers", "motif-plus")), chosen]
    if name == "like":
        return [name, "microstructure", rng.choice(("p.png", "p.npy", "row.npy", wild(rng)))]
    hints: Any = lawful.Training
    if name == "study":
        chosen_study = rng.choice(list(STUDIES))
        hints = type(next(iter(STUDIES[chosen_study].presets().values())))
    names = [field.name for field in dataclasses.fields(hints)]
    values = {key: wild(rng) for key in rng.sample(names, min(len(names), rng.choice((1, 1, 2))))}
    return [name, *([chosen_study] if name == "study" else []), values]


def _value(rng: Random) -> Any:
    """A value that `sample` is given; counts that would only cost time are left out."""
    array = lambda kind: np.full((rng.choice((1, 3)), 4), 0.5).astype(kind)  # noqa: E731
    return rng.choice(
        (
            wild(rng),
            wild(rng),
            1,
            2,
            0.5,
            [0.5, 1.0],
            [1, "a"],
            torch.rand(3),
            torch.rand(3, 4),
            torch.empty(0),
            torch.zeros(2, dtype=torch.complex64),
            torch.rand(2).to_sparse(),
            torch.rand(2, device="meta"),
            torch.rand(2, requires_grad=True),
            array(">f4"),
            array("f8"),
            array("U3"),
            array(object),
            object(),
            lambda: 0,
            {1: 2},
            {3},
            iter([1]),
            range(3),
            b"a",
        )
    )


CALLS = {
    "train": (train, 18),
    "sample": (sample, 22),
    "report": (report, 16),
    "stats": (stats, 10),
    "study": (study, 6),
    "data": (data, 7),
    "demo": (demo, 2),
    "list": (listing, 1),
    "python": (python, 18),
}
READ = {
    "train": ("half", "half", "tiny.py", "idx", "set.h5", "p.png", "published.h5", "lysto.h5"),
    "sample": ("run", "row.npy", "p.png"),
    "report": ("s.h5", "s.nc", "s.npz", "run", "motif.h5"),
    "study": ("run", "mix"),
    "stats": ("p.png", "p.tif", "p.npy", "colour.png"),
    "data": ("set.h5",),
    "python": ("run",),
}


def prepared(seed: int, number: int, source: Path) -> Case:
    """Call `number` of a seed; its files are laid out in the working folder."""
    rng = Random(f"{seed}/{number}")
    names, weights = list(CALLS), [weight for _, weight in CALLS.values()]
    command = rng.choices(names, weights)[0]
    case = Case(command, CALLS[command][0](rng))
    if command in READ and rng.random() < 0.6:
        target = rng.choice(READ[command])
        case.arguments = _aimed(case, target, rng)
        _lay_out(case, source)
        path = Path(target)
        if path.is_dir():
            files = sorted(p for p in path.rglob("*") if p.is_file())
            read = [p for p in files if p.name in ("manifest.json", "model.safetensors")]
            path = rng.choice(files if command == "train" else read)
        case.damaged = damage(path, rng)
        if path.name == "model.safetensors" and path.is_file() and rng.random() < 0.7:
            _sign(path)
        return case
    _lay_out(case, source)
    return case


def _lay_out(case: Case, source: Path) -> None:
    """Everything that a call may read."""
    shutil.copytree(source, ".", dirs_exist_ok=True)


def _sign(path: Path) -> None:
    """Let the manifest agree with the damaged weights, that they are read at all."""
    import hashlib

    manifest = path.with_name("manifest.json")
    content = json.loads(manifest.read_text())
    if path.stat().st_size < 10**8:
        content["weights_sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    manifest.write_text(json.dumps(content))


def _aimed(case: Case, target: str, rng: Random) -> list[Any]:
    """The arguments with the damaged file among them."""
    given = list(case.arguments)
    if case.command == "train":
        if target in ("half", "tiny.py"):
            return ["tiny.py", "--out", "half" if target == "half" else "o", "--resume", *QUICK]
        option = {
            "idx": ("digits", "--source"),
            "set.h5": ("microstructure", "--data"),
            "published.h5": ("microstructure", "--data"),
            "lysto.h5": ("histology", "--tissue"),
            "p.png": ("motif", "--motif"),
        }[target]
        return [option[0], option[1], target, "--out", "/dev/null/o"]
    if case.command == "sample" and target != "run":
        model, option = {"row.npy": ("run", "--row"), "p.png": ("microstructure", "--like")}[target]
        return [model, "-n", "1", option, target, "--out", "o.npz"]
    if case.command == "python":
        return rng.choice((["load", target], ["sample", target, {"n": 1}]))
    if case.command == "study":
        return ["mixture", "--model", target, "--out", "/dev/null/o"]
    if case.command == "data":
        return ["cahn-hilliard", "--images", "40", "--side", "16", "--out", target]
    return [target, *given[1:]] if rng.random() < 0.3 else [target, "--out", "o.h5"]


def called(case: Case) -> tuple[object, str]:
    """Make the call: its status, and what was said on standard error."""
    out, err = TextIOWrapper(BytesIO(), encoding="utf-8"), StringIO()
    with redirect_stdout(out), redirect_stderr(err), warnings.catch_warnings():
        if case.command != "python":
            status: object = main([case.command, *case.arguments])
            return status, err.getvalue()
        try:
            _door(*case.arguments)
        except (lawful.InputError, lawful.NonFiniteError) as error:
            if "\n" in str(error):
                raise
            return 2, f"lawful: {error}\n"
    return 0, err.getvalue()


def _door(name: str, *arguments: Any) -> None:
    if name == "load":
        lawful.load(arguments[0])
    elif name == "sample":
        lawful.load(arguments[0]).sample(**arguments[1])
    elif name == "like":
        lawful.load(arguments[0]).like(arguments[1])
    elif name == "training":
        lawful.Training(**{"steps": 2, **arguments[0]})
    else:
        preset = next(iter(STUDIES[arguments[0]].presets().values()))
        study = dataclasses.replace(preset, **arguments[1])
        study.config()


def verdict(case: Case) -> str:
    """Empty where the call passes, else what is wrong with it."""
    before = _seen()
    for number in (signal.SIGALRM, signal.SIGPROF):
        signal.signal(number, _stop)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    signal.alarm(WAITING)
    try:
        status, err = called(case)
    except Hang as error:
        return f"hang: {_where(error)}"
    except BaseException as error:  # noqa: BLE001  whatever comes out is what is looked for
        return f"traceback: {type(error).__name__}: {str(error)[:150]} {_where(error)}"
    finally:
        signal.alarm(0)
        signal.setitimer(signal.ITIMER_PROF, 0)
    if status not in STATUS:
        return f"status {status}"
    said = [line for line in err.splitlines() if line.startswith("lawful: ")]
    refused = [line for line in said if not line.startswith("lawful: warning")]
    if "Traceback" in err or len(refused) != (status != 0):
        return f"status {status} with {len(refused)} lines: {err[-300:]!r}"
    if status and any(len(line) > 2000 for line in refused):
        return f"a line of {max(map(len, refused))} characters"
    return _leftovers(before, case, status)


def _stop(*_: object) -> None:
    raise Hang


def _where(error: BaseException) -> str:
    """The innermost line of the package's own code."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if "lawful" in f.filename and "site-packages" not in f.filename]
    return " < ".join(f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in reversed(own[-3:]))


def _seen() -> dict[str, tuple[int, int]]:
    found = {}
    for folder, _, files in os.walk("."):
        for name in files:
            path = os.path.join(folder, name)
            about = os.lstat(path)
            found[path] = (about.st_size, about.st_mtime_ns)
    return found


def _leftovers(before: dict[str, Any], case: Case, status: object) -> str:
    """Temporary files, files of a refused call, and files that are not complete."""
    for name, about in _seen().items():
        path = Path(name)
        if before.get(name) == about or "__pycache__" in name:
            continue
        if path.name.startswith(".") and ".part" in path.name.removesuffix(".parts"):
            return f"left behind: {name}"
        if status and case.command != "train":
            return f"refused and wrote {name}"
        if not _complete(path):
            return f"not complete: {name}"
    return ""


def _complete(path: Path) -> bool:
    """Whether a file can be read to its end."""
    checks: dict[str, Any] = {
        ".json": lambda: json.loads(path.read_text()),
        ".jsonl": lambda: [json.loads(row) for row in path.read_text().splitlines()],
        ".npz": lambda: zipfile.ZipFile(path).testzip(),
        ".h5": lambda: h5py.File(path).close(),
        ".nc": lambda: h5py.File(path).close(),
        ".tif": lambda: tifffile.imread(path),
        ".png": lambda: Image.open(path).load(),
        ".html": lambda: path.read_text().index("</html>"),
        ".safetensors": lambda: read_tensors(path),
    }
    try:
        checks.get(path.suffix, lambda: None)()
    except Exception:  # noqa: BLE001
        return False
    return True


def work(options: argparse.Namespace, numbers: range, source: Path) -> None:
    """Make some calls, and print a line of JSON for each."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answer = os.fdopen(os.dup(1), "w")
    for i in numbers:
        with tempfile.TemporaryDirectory(prefix="fuzz-") as scratch:
            os.chdir(scratch)
            os.environ["XDG_CACHE_HOME"] = f"{scratch}/cache"
            started = time.perf_counter()
            case = prepared(options.seed, i, source)
            print(json.dumps({"call": i, "start": shown(case)}), file=answer, flush=True)
            found = verdict(case)
            taken = time.perf_counter() - started
            line = {"call": i, "command": case.command, "found": found, "seconds": round(taken, 2)}
            print(json.dumps(line), file=answer, flush=True)
            os.chdir("/")


def shown(case: Case) -> str:
    shown = [repr(a) if len(repr(a)) < 200 else f"{repr(a)[:200]}…" for a in case.arguments]
    return f"{case.command} {' '.join(shown)}  [{case.damaged}]"


def watch(options: argparse.Namespace, numbers: range, source: Path, tally: Counter[str]) -> None:
    """Make the calls in processes that are replaced where they hang or die."""
    log = open(options.log, "a") if options.log else None  # noqa: SIM115
    while numbers:
        command = [
            sys.executable,
            __file__,
            "--seed",
            str(options.seed),
            "--worker",
            str(source),
            "--first",
            str(numbers.start),
            "--calls",
            str(len(numbers)),
        ]
        child = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
            text=True,
            errors="replace",
        )
        shown, current, ended = "", numbers.start, True
        timer = _Timer(child)
        for text in child.stdout or ():
            timer.reset()
            line = json.loads(text)
            current = line["call"]
            if "start" in line:
                shown, ended = line["start"], False
                continue
            ended = True
            tally[f"{line['command']} {'failed' if line['found'] else 'passed'}"] += 1
            if log:
                print(json.dumps({**line, "shown": shown}), file=log, flush=True)
            if line["found"]:
                print(f"call {current}: {line['found']}\n    {shown}", flush=True)
        timer.stop()
        status = child.wait()
        if not ended:
            tally["process failed"] += 1
            print(f"call {current}: the process died or hung ({status})\n    {shown}", flush=True)
        elif status and current + 1 < numbers.stop:
            print(f"after call {current}: the process ended ({status})", flush=True)
            if current == numbers.start:
                raise SystemExit("fuzz: the process does not start")
        numbers = range(current + 1, numbers.stop)


class _Timer:
    """Kills a process that has not said anything for a while."""

    def __init__(self, child: subprocess.Popen[str]) -> None:
        from threading import Timer

        self.make = lambda: Timer(2 * WAITING, child.kill)
        self.timer = self.make()
        self.timer.start()

    def reset(self) -> None:
        """Begin anew."""
        self.timer.cancel()
        self.timer = self.make()
        self.timer.start()

    def stop(self) -> None:
        """No more."""
        self.timer.cancel()


def isolate() -> None:
    """No network, no browser, no programs, one thread."""
    os.environ |= ISOLATED
    torch.set_num_threads(1)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=1_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first call")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="repeat one call, and show all that it says")
    parser.add_argument("--log", help="file of JSON lines, one a call")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def repeat(options: argparse.Namespace, source: Path) -> None:
    """One call, in a folder that stays."""
    scratch = tempfile.mkdtemp(prefix="fuzz-only-")
    os.chdir(scratch)
    os.environ["XDG_CACHE_HOME"] = f"{scratch}/cache"
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    case = prepared(options.seed, options.only, source)
    print(f"{scratch}\n{shown(case)}", flush=True)
    if case.command == "python":
        _door(*case.arguments)
    else:
        print("status", main([case.command, *case.arguments]))


def run() -> int:
    options = arguments()
    isolate()
    numbers = range(options.first, options.first + options.calls)
    if options.worker:
        work(options, numbers, options.worker)
        return 0
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="fuzz-seeds-") as folder:
        seeds(Path(folder))
        os.chdir("/")
        if options.only is not None:
            repeat(options, Path(folder))
            return 0
        tally: Counter[str] = Counter()
        watch(options, numbers, Path(folder), tally)
    for name, count in sorted(tally.items()):
        print(f"{name:<20}{count:>7}")
    failed = sum(count for name, count in tally.items() if name.endswith("failed"))
    taken = time.perf_counter() - started
    print(f"{sum(tally.values())} calls of seed {options.seed}, {failed} failed, {taken:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(run())
