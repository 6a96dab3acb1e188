"""Imports point downwards, files and functions stay small, nothing unpickles."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "lawful"
EVERYWHERE = {"errors", "typed", "reading", "files", "weights", "catalogue"}
LAWS = {"laws", "least_squares", "project"}
CORE = LAWS | {"symmetry", "divergences", "nn", "training", "metrics"}
PROBLEM = CORE | {"study", "registry", "corrections", "model", "run", "table"}
SUBJECTS = {"pde", "materials", "data"}
MAY_IMPORT = {
    **{part: set() for part in EVERYWHERE | {"symmetry", "divergences", "laws"}},
    "least_squares": {"laws"},
    "project": LAWS,
    "nn": {"symmetry", "laws"},
    "training": {"laws", "divergences"},
    "metrics": {"symmetry", "nn", "divergences", *LAWS},
    "study": CORE,
    "registry": {"study", "laws"},
    "corrections": {"study", "laws"},
    "model": CORE | {"study", "registry", "corrections"},
    "run": CORE | {"study", "registry", "model"},
    "table": {"model", "study"},
    "pde": LAWS | {"nn", "study", "training"},
    "data": {"symmetry", "laws"},
    "materials": LAWS | {"nn", "data", "symmetry"},
    "theory": PROBLEM | {"data"},
    "studies": PROBLEM | SUBJECTS | {"theory"},
    "cli": PROBLEM | SUBJECTS | {"studies", "theory"},
    "__main__": {"cli"},
}
MAY_IMPORT["__init__"] = set(MAY_IMPORT)
FILES = sorted(SOURCE.rglob("*.py"))


def imported(tree: ast.AST) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("lawful"):
            parts = node.module.split(".")
            names |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {a.name.split(".")[1] for a in node.names if a.name.startswith("lawful.")}
    return names


def closure(name: str) -> set[Path]:
    """The files that a module imports when it is imported, itself among them."""
    seen: set[Path] = set()
    waiting = [name]
    while waiting:
        inner = waiting.pop().split(".")[1:]
        for path in (
            SOURCE.joinpath(*inner).with_suffix(".py"),
            SOURCE.joinpath(*inner, "__init__.py"),
        ):
            if path.is_file() and path not in seen:
                seen.add(path)
                for node in ast.parse(path.read_text()).body:
                    if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(
                        "lawful"
                    ):
                        waiting += [node.module, *(f"{node.module}.{a.name}" for a in node.names)]
    return seen


def identity(path: Path) -> str:
    return str(path.relative_to(SOURCE))


@pytest.mark.parametrize("path", FILES, ids=identity)
def test_imports_point_down(path):
    part = path.relative_to(SOURCE).with_suffix("").parts[0]
    allowed = MAY_IMPORT[part] | EVERYWHERE | {part}
    assert imported(ast.parse(path.read_text())) <= allowed


def test_modules_have_no_cycles():
    graph = {}
    for path in FILES:
        name = ".".join(("lawful", *path.relative_to(SOURCE).with_suffix("").parts))
        tree = ast.parse(path.read_text())
        graph[name] = {
            target
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.module
            for target in (node.module, *(f"{node.module}.{a.name}" for a in node.names))
        }
    done: set[str] = set()
    while ready := {n for n in graph if n not in done and not (graph[n] & graph.keys()) - done}:
        done |= ready
    assert done == graph.keys()


@pytest.mark.parametrize("path", FILES, ids=identity)
def test_budgets(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 500
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < 60, node.name
        assert not isinstance(node, ast.Assert)


@pytest.mark.parametrize("path", FILES, ids=identity)
def test_nothing_unpickles_or_listens(path):
    text = path.read_text()
    for word in ("pickle.load", "allow_pickle=True", "yaml.load(", "0.0.0.0"):
        assert word not in text
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
            assert "weights_only=True" in map(ast.unparse, node.keywords)


def test_loading_a_model_imports_few_lines():
    files = closure("lawful.model")
    assert sum(len(path.read_text().splitlines()) for path in files) <= 3_000
    parts = {path.relative_to(SOURCE).with_suffix("").parts[0] for path in files}
    assert not parts & {"training", "divergences", "symmetry", "nn", "pde", "materials", "cli"}
