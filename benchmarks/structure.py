"""How large the library is, and how much of it a reader meets.

    python benchmarks/structure.py [--source SRC ...]

For each source folder (this one where none is given): lines, files, classes, public names; the
files that loading a model imports; functions and files that one sample and one training step go
through, and the library's frames between `lawful.train` and the first call of a network; CPU
seconds of `import lawful`, `lawful --help` and `lawful list`, each the best of three fresh
processes, beside `import torch`. Everything is read off the code as it runs.
"""

import argparse
import ast
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parents[1] / "src"
TIMED = {
    "import torch": ["-c", "import torch"],
    "import lawful": ["-c", "import lawful; lawful.load"],
    "lawful --help": ["-m", "lawful", "--help"],
    "lawful list": ["-m", "lawful", "list"],
}


def static(source: Path) -> dict[str, Any]:
    """Counts that are read off the files alone."""
    files = sorted((source / "lawful").rglob("*.py"))
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in files}
    nodes = [node for tree in trees.values() for node in ast.walk(tree)]
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    lengths = [n.end_lineno - n.lineno + 1 for n in nodes if isinstance(n, kinds)]
    public = [
        node.name
        for tree in trees.values()
        for node in tree.body
        if isinstance(node, kinds | ast.ClassDef) and not node.name.startswith("_")
    ]
    return {
        "files": len(files),
        "lines": sum(map(_lines, files)),
        "longest file": max(map(_lines, files)),
        "classes": sum(isinstance(node, ast.ClassDef) for node in nodes),
        "public functions and classes": len(public),
        "functions": len(lengths),
        "function, median lines": statistics.median(lengths),
        "function, longest": max(lengths),
    }


def _lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def traced(source: Path) -> dict[str, Any]:
    """What one sample and one training step go through; run in a process of its own."""
    import lawful

    root = str(source / "lawful")
    calls: list[tuple[str, str, int]] = []

    def profile(frame: Any, event: str, _: Any) -> None:
        if event == "call" and (frame.f_code.co_filename.startswith(root)):
            calls.append((frame.f_code.co_filename, frame.f_code.co_qualname, frame.f_lineno))

    model = lawful.load("burgers")
    loaded = {m.__file__ for m in list(sys.modules.values()) if _inside(m, root)}
    model.sample(1)
    sys.setprofile(profile)
    model.sample(1)
    sys.setprofile(None)
    sampled = set(calls)
    step, depth = _training_step(lawful, calls, profile, root)
    return {
        "load, files": len(loaded),
        "load, lines": sum(_lines(Path(path)) for path in loaded),
        **_met("sample", sampled),
        **_met("training step", step),
        "frames from train to a network": depth,
    }


def _inside(module: Any, root: str) -> bool:
    return str(getattr(module, "__file__", None) or "").startswith(root)


def _met(name: str, calls: set[tuple[str, str, int]]) -> dict[str, int]:
    return {f"{name}, functions": len(calls), f"{name}, files": len({path for path, *_ in calls})}


def _training_step(
    lawful: Any, calls: list[tuple[str, str, int]], profile: Callable[..., None], root: str
) -> tuple[set[tuple[str, str, int]], int]:
    """Calls between two batches of a study with one law and no data, and the frames on the way."""
    import torch  # here, so that the time of importing is measured in processes of its own

    marks: list[int] = []
    depths: list[int] = []

    class Network(torch.nn.Linear):
        def forward(self, c: Any) -> Any:
            frame, depth = sys._getframe(), 0
            while (frame := frame.f_back) is not None:  # type: ignore[assignment]
                depth += frame.f_code.co_filename.startswith(root)
            depths.append(depth)
            return super().forward(c["a"][:, None])[:, None]

    @dataclass(frozen=True)
    class Measured(lawful.Study):
        name, about = "measured", "a law and no data"
        quantities = (lawful.Quantity("a", 0.0, 1.0),)
        training: Any = field(default_factory=lambda: lawful.Training(4, batch=2))

        def network(self) -> Any:
            return Network(1, 8)

        def laws(self) -> Any:
            return (lambda x, c: x.flatten(1) - c["a"][:, None],)

        def draw(self, count: int, generator: Any) -> Any:
            marks.append(len(calls))
            return super().draw(count, generator)

    with tempfile.TemporaryDirectory() as folder:
        calls.clear()
        sys.setprofile(profile)
        lawful.train(Measured(), Path(folder) / "run", quiet=True)
        sys.setprofile(None)
    steps = [b - a for a, b in pairwise(marks)]
    usual = next(i for i, n in enumerate(steps) if n == statistics.median_low(steps))
    return set(calls[marks[usual] : marks[usual + 1]]), statistics.median_low(depths)


def seconds(source: Path, arguments: list[str]) -> float:
    """CPU seconds of a fresh process, the best of three."""
    environment = {**os.environ, "PYTHONPATH": str(source)}
    found = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, *arguments], env=environment, check=True, stdout=subprocess.DEVNULL
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        found.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return round(min(found), 2)


def measured(source: Path) -> dict[str, Any]:
    """Everything, by name."""
    environment = {**os.environ, "PYTHONPATH": str(source)}
    command = [sys.executable, __file__, "--trace", str(source)]
    found = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    times = {f"{name}, CPU s": seconds(source, words) for name, words in TIMED.items()}
    return static(source) | json.loads(found.stdout.splitlines()[-1]) | times


def main() -> None:
    """Print a table, a column per source folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", type=Path, nargs="+", default=[HERE])
    parser.add_argument("--trace", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.trace:
        print(json.dumps(traced(options.trace.resolve())))
        return
    columns = [measured(source.resolve()) for source in options.source]
    print("| | " + " | ".join(str(s.resolve().parent.name) for s in options.source) + " |")
    print("| --- |" + " ---: |" * len(columns))
    for name in columns[0]:
        print(f"| {name} | " + " | ".join(f"{column[name]:,}" for column in columns) + " |")


if __name__ == "__main__":
    main()
