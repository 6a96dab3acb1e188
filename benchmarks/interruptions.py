"""Interrupt and kill commands at random times: nothing is lost, nothing is half.

    python benchmarks/interruptions.py [--interruptions 100] [--kills 100] [--seed 0] [--only NAME]

Runs `sample` in every format, `report`, `stats`, `train`, `data` and `study` with tiny settings,
sends SIGINT, SIGTERM or SIGHUP, some of them twice, or SIGKILL at a time drawn over the command's
undisturbed duration, and then checks:

- the exit status is 128 plus the signal's number, or the signal came before or after all work;
- an interruption is told in one line, without a traceback;
- what stands under a name is the old file or the new one, and readable;
- the same command, resumed where it resumes, ends with the same bytes as one left alone, and no
  temporary file is left.

Commands run in forks of this process, so that a try takes less than a second, every tenth as a
process of its own. Prints a table, and exits with 1 where a try failed.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import h5py
import numpy as np
import torch
import yaml
from safetensors import safe_open

import lawful.cli.datasets
import lawful.cli.report
import lawful.cli.sample
import lawful.cli.statistics
import lawful.cli.study
import lawful.cli.train  # noqa: F401
from lawful.cli.main import main as command

HEAT = str(Path(__file__).resolve().parents[1] / "examples" / "heat.py")
TINY = ["--training.steps", "20", "--training.checkpoint", "4"]
INTERRUPTIONS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LIMIT = 300.0  # seconds, after which a command is taken to hang
STARTS = 1.0  # seconds in which Python itself starts, before the command hears signals


@dataclass
class Case:
    """A command to disturb.

    Arguments:
        arguments: The command.
        again: What it takes besides to go on or to replace.
        outputs: What it makes, in the working folder.
        old: Folder with what stands there before.
        new: Digests of the outputs of a command left alone.
        seconds: Its duration.
    """

    name: str
    arguments: list[str]
    outputs: tuple[str, ...]
    again: tuple[str, ...] = ()
    old: Path | None = None
    new: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0


def cases(run: str, picture: str, samples: int) -> list[Case]:
    sample = ["sample", run, "-n", str(samples), "--seed", "1", "--out"]
    formats = [Case(f"sample .{e}", [*sample, f"a.{e}"], (f"a.{e}",))
               for e in ("h5", "nc", "npz", "tif", "vtk", "png")]  # fmt: skip
    return [
        *formats,
        Case("report", ["report", run, "--seed", "2", "--out", "r", "--force"],
             ("r/report.json", "r/report.html")),
        Case("stats", ["stats", picture, "--out", "s", "--force"],
             tuple(f"s/statistics.{e}" for e in ("json", "csv", "png"))),
        Case("train", ["train", HEAT, *TINY, "--out", "run"],
             ("run/model.safetensors",), again=("--resume",)),
        Case("data", ["data", "cahn-hilliard", "--images", "300", "--side", "16", "--out", "d.h5"],
             ("d.h5",)),
        Case("study", ["study", HEAT, *TINY, "--out", "t"],
             ("t/full/model.safetensors",)),
    ]  # fmt: skip


def start(arguments: Sequence[str], folder: Path, *, fresh: bool) -> int:
    """Start a command in `folder`; its complaints go to the file `said` beside the folder."""
    said = (folder.parent / "said").open("wb")
    if fresh:
        process = [sys.executable, "-m", "lawful", *arguments]
        return subprocess.Popen(process, cwd=folder, stdout=subprocess.DEVNULL, stderr=said).pid
    if child := os.fork():
        said.close()
        return child
    for number in INTERRUPTIONS:
        signal.signal(number, signal.SIG_DFL)
    os.chdir(folder)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(said.fileno(), 2)
    sys.stdout, sys.stderr = open(1, "w"), open(2, "w")  # noqa: SIM115
    sys.argv = ["lawful", *arguments]
    status = 1
    try:
        status = command()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)


def finish(child: int) -> int | None:
    """The exit status, negative for a signal; None where it had to be killed."""
    end = time.monotonic() + LIMIT
    while time.monotonic() < end:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def digest(path: Path) -> str:
    """Of the bytes; of an archive, which holds times, and of weights, whose header has no fixed
    order, of what they hold."""
    if not path.is_file():
        return "absent"
    if path.suffix == ".safetensors":
        with safe_open(path, framework="np") as file:
            held = {name: file.get_tensor(name).tobytes() for name in file.keys()}  # noqa: SIM118
            return hashlib.sha256(repr(sorted(held.items())).encode()).hexdigest()
    if path.suffix != ".npz":
        return hashlib.sha256(path.read_bytes()).hexdigest()
    with zipfile.ZipFile(path) as archive:
        if archive.testzip() is not None:
            return "damaged"
        return str([(member.filename, member.CRC) for member in archive.infolist()])


def readable(path: Path) -> bool:
    """Whether a file under its final name is whole; a log may end within a line."""
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                return all(file.get_tensor(name) is not None for name in file.keys())  # noqa: SIM118
        if path.suffix == ".h5":
            with h5py.File(path) as file:
                return len(file) > 0
        if path.suffix == ".npz":
            with np.load(path) as archive:
                return all(archive[name] is not None for name in archive.files)
        if path.suffix == ".jsonl":
            return all(json.loads(row) for row in path.read_text().split("\n")[:-1])
        if path.suffix in (".json", ".yaml"):
            return yaml.safe_load(path.read_text()) is not None
        return path.stat().st_size > 0
    except Exception as error:  # noqa: BLE001
        print(f"{path}: {error}", file=sys.stderr)
        return False


def temporary(folder: Path) -> list[Path]:
    """Temporary files; the folder `.NAME.parts`, from which data sets go on, may stay."""
    return [path for path in folder.rglob(".*") if ".part" in path.name and path.is_file()]


def attempt(case: Case, folder: Path, signals: Sequence[int], delays: Sequence[float],
            *, fresh: bool) -> list[str]:  # fmt: skip
    """Disturb a command once, then let it end; returns what is wrong."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(case.old, folder) if case.old else folder.mkdir()
    before = {name: digest(folder / name) for name in case.outputs}
    child = start(case.arguments, folder, fresh=fresh)
    for number, delay in zip(signals, delays, strict=True):
        time.sleep(delay)
        os.kill(child, number)  # a child that has ended keeps its number until it is waited for
    status, said = finish(child), (folder.parent / "said").read_text()
    wrong = []
    # Of two that are pending at once, the process hears the one of the lower number first.
    told = [128 + number for number in signals if number != signal.SIGKILL]
    if status not in (0, *told, *(-number for number in signals)):
        wrong.append(f"status {status}")
    if "Traceback" in said or (status in told and said.count("interrupted") != 1):
        wrong.append(f"said {said[-500:]!r}")
    for name in case.outputs:
        if digest(folder / name) not in (case.new[name], before[name]):
            wrong.append(f"{name} is neither old nor new")
    kept = [path for path in folder.rglob("*") if path.is_file() and ".part" not in str(path)]
    wrong += [f"{path.name} cannot be read" for path in kept if not readable(path)]
    if signals[0] != signal.SIGKILL and len(signals) == 1 and status in told and temporary(folder):
        wrong.append("a temporary file is left")
    if finish(start([*case.arguments, *case.again], folder, fresh=False)) != 0:
        wrong.append(f"cannot go on: {(folder.parent / 'said').read_text()[-500:]!r}")
    wrong += [f"{name} differs" for name in case.outputs if digest(folder / name) != case.new[name]]
    wrong += [f"{path.name} is left" for path in folder.rglob(".*") if ".part" in path.name]
    return wrong


def prepare(case: Case, root: Path, seed_before: bool) -> None:
    """Run the command alone, for its outputs and duration; where it replaces, put old ones."""
    folder = root / "alone"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    if seed_before:
        other = [{"1": "8", "2": "9"}.get(a, a) for a in case.arguments]
        if finish(start(other, folder, fresh=False)) != 0:
            raise SystemExit(f"{case.name}: {(root / 'said').read_text()}")
        case.old = root / f"old {case.name}"
        shutil.copytree(folder, case.old)
    started = time.monotonic()
    if finish(start(case.arguments, folder, fresh=False)) != 0:
        raise SystemExit(f"{case.name}: {(root / 'said').read_text()}")
    case.seconds = time.monotonic() - started
    print(f"{case.name}: {case.seconds:.2f} s alone", file=sys.stderr, flush=True)
    case.new = {name: digest(folder / name) for name in case.outputs}


def prepared(root: Path, only: str = "", samples: int = 400) -> list[Case]:
    """All cases, with a run to sample from and a picture to describe."""
    torch.set_num_threads(1)  # a fork has the forking thread alone
    (root / "made").mkdir()
    run, picture = root / "made" / "run", root / "made" / "picture.npy"
    chosen = [case for case in cases(str(run), str(picture), samples) if only in case.name]
    training = ["train", HEAT, *TINY, "--out", str(run)]
    if any(str(run) in case.arguments for case in chosen) and finish(
        start(training, root / "made", fresh=False)
    ):
        raise SystemExit((root / "said").read_text())
    np.save(picture, (np.indices((64, 64)).sum(0) % 7 > 3).astype(np.uint8))
    for case in chosen:
        prepare(case, root, seed_before=case.name.startswith(("sample", "report")))
    return chosen


def disturb(case: Case, root: Path, draw: random.Random, *, kill: bool, fresh: bool,
            start_up: float = 0.0) -> list[str]:  # fmt: skip
    """One try: signals and times are drawn."""
    signals = [signal.SIGKILL] if kill else [draw.choice(INTERRUPTIONS)]
    first = (
        draw.uniform(STARTS, start_up + case.seconds) if fresh else draw.uniform(0, case.seconds)
    )
    delays = [first]
    if not kill and draw.random() < 1 / 3:
        signals.append(draw.choice(INTERRUPTIONS))
        delays.append(draw.uniform(0, 0.05))
    wrong = attempt(case, root / "work", signals, delays, fresh=fresh)
    names = "+".join(signal.Signals(number).name for number in signals)
    return [f"{case.name}, {names} after {first:.3f} s: {what}" for what in wrong]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--interruptions", type=int, default=100)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="cases whose name has this in it")
    options = parser.parse_args()
    draw, failures = random.Random(options.seed), []
    with TemporaryDirectory() as folder:
        root = Path(folder)
        chosen = prepared(root, options.only)
        started = time.monotonic()
        finish(start(["list"], root, fresh=True))
        start_up = time.monotonic() - started
        counts = {case.name: [0, 0, 0] for case in chosen}
        for number in range(options.interruptions + options.kills):
            kill, case = number >= options.interruptions, chosen[number % len(chosen)]
            wrong = disturb(case, root, draw, kill=kill, fresh=number % 10 == 9, start_up=start_up)
            counts[case.name][kill] += 1
            counts[case.name][2] += bool(wrong)
            failures += wrong
            for line in wrong:
                print(line, file=sys.stderr, flush=True)
    print("| command | interruptions | kills | failed |\n| --- | ---: | ---: | ---: |")
    for name, row in counts.items():
        print(f"| {name} | " + " | ".join(map(str, row)) + " |")
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
