"""A few hundred of the random calls of `benchmarks/fuzz.py`: no traceback, no half-written file."""

import shutil
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
CALLS = 150


@pytest.fixture(scope="module")
def fuzz():
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import fuzz

        yield fuzz
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def sound(fuzz, tmp_path_factory):
    """Sound files of every kind, and a cache that knows the study among them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder := tmp_path_factory.mktemp("sound"))
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        fuzz.seeds(folder)
    return folder


def test_random_calls_end_with_one_line_and_leave_nothing_half(fuzz, sound, tmp_path, monkeypatch):
    for name, value in fuzz.ISOLATED.items():
        monkeypatch.setenv(name, value)
    failed = {}
    for number in range(CALLS):
        folder = tmp_path / str(number)
        folder.mkdir()
        monkeypatch.chdir(folder)
        monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        case = fuzz.prepared(1, number, sound)
        if found := fuzz.verdict(case):
            failed[number] = f"{found} {fuzz.shown(case)}"
        monkeypatch.chdir(tmp_path)
        shutil.rmtree(folder)
    assert not failed


@pytest.mark.parametrize(
    "options",
    [["accelerator", "xla"], ["accelerator", "tpu"], ["strategy", "deepspeed"], ["strategy", "xla"],
     ["devices", "500"], ["devices", str(2**63)], ["strategy", "ddp_spawn"]],
)  # fmt: skip
def test_devices_that_are_not_there_are_one_line(sound, fuzz, tmp_path, monkeypatch, options):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    name, value = options
    case = fuzz.Case("train", [str(sound / "tiny.py"), "--out", "o", f"--device.{name}", value])
    assert fuzz.called(case)[0] == 2
    assert fuzz.verdict(case) == ""
    assert not Path("o").exists()


def test_what_fails_is_told_from_what_passes(fuzz, sound, tmp_path, monkeypatch):
    """The verdict itself: a traceback, a silent refusal, and a file of a refused call."""
    monkeypatch.chdir(tmp_path)
    case = fuzz.Case("list", [])
    outcomes = {
        "traceback": lambda _: 1 / 0,
        "lines": lambda _: 2,
        "status 7": lambda _: 7,
        "refused and wrote": lambda _: Path("x.json").write_text("{}") and refuse(),
        "left behind": lambda _: Path(".x.json.7.part.json").write_text("{}") and 0,
        "not complete": lambda _: Path("y.json").write_text("{") and 0,
    }

    def refuse():
        print("lawful: no", file=sys.stderr)
        return 2

    for said, outcome in outcomes.items():
        monkeypatch.setattr(fuzz, "main", outcome)
        assert said in fuzz.verdict(case)
    monkeypatch.setattr(fuzz, "main", lambda _: refuse())
    assert fuzz.verdict(case) == ""
