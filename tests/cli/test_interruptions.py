"""Signals and half files: nothing takes a file's place but a whole file."""

import importlib.util
import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from lawful.cli import sample
from lawful.cli.export import Array, Layout, write_samples
from lawful.cli.main import main
from lawful.cli.options import FORMATS
from lawful.errors import InputError
from lawful.study import Axis

TINY = str(Path(__file__).parents[1] / "core" / "tiny.py")
SMALL = ["--training.steps", "20", "--training.checkpoint", "5"]


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    assert main(["train", TINY, "--out", str(folder), *SMALL]) == 0
    return str(folder)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def hearing():
    """The handler of any program, also where the tests' own process is told to ignore SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def deaf(hearing):
    """Signals that come too late for a command do not stop the tests."""
    before = {n: signal.signal(n, lambda *_: None) for n in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def interrupted(monkeypatch, number):
    """Signal this process while the second chunk is made."""
    plain = sample.arrays_of

    def arrays_of(samples, study):
        if len(samples.fields) < 64:
            os.kill(os.getpid(), number)
        return plain(samples, study)

    monkeypatch.setattr(sample, "arrays_of", arrays_of)


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_with_one_line_and_the_old_file(
    run_folder, here, monkeypatch, capsys, ending, number
):
    out = here / f"a{ending}"
    out.write_text("old")
    interrupted(monkeypatch, number)
    before = signal.getsignal(number)
    assert main(["sample", run_folder, "-n", "100", "--out", str(out)]) == 128 + number
    assert signal.getsignal(number) is before
    said = capsys.readouterr().err
    assert said.startswith("lawful: interrupted")
    assert said.count("\n") == 1
    assert out.read_text() == "old"
    assert list(here.iterdir()) == [out]


def test_a_signal_that_foreign_code_loses_is_still_told(run_folder, here, monkeypatch):
    class Foreign:
        def __del__(self):  # what is raised here is lost
            os.kill(os.getpid(), signal.SIGINT)

    plain, once = sample.arrays_of, [Foreign()]
    monkeypatch.setattr(sample, "arrays_of", lambda *a: [once.clear(), plain(*a)][1])
    monkeypatch.setattr("sys.unraisablehook", lambda _: None)
    assert main(["sample", run_folder, "-n", "5", "--out", "a.h5"]) == 130


def test_a_signal_after_the_last_line_is_told(monkeypatch, capsys):
    class Late(threading.Event):
        def set(self):
            os.kill(os.getpid(), signal.SIGTERM)
            super().set()

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("lawful.cli.main.threading.Event", Late)
    assert main(["list"]) == 128 + signal.SIGTERM
    assert capsys.readouterr().err.startswith("lawful: interrupted")
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("ending", FORMATS)
def test_a_file_that_is_not_complete_takes_no_place(here, ending):
    shapes = {"fields": (4, 1, 2, 3), "condition/a": (4,)}
    chunk = {name: Array(np.zeros(shape, np.float32)) for name, shape in shapes.items()}
    space = (Axis("y", 0, 1), Axis("x", 0, 1))
    with pytest.raises(InputError, match="not complete"):
        write_samples(here / f"a{ending}", iter([chunk, chunk]), Layout(9, chunk, {}, False, space))
    assert list(here.iterdir()) == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_interruptions_at_any_time(run_folder, here, deaf):
    wholes, times, out = [], random.Random(0), Path("a.h5")
    again = ["sample", run_folder, "-n", "1500", "--out", "a.h5", "--seed"]
    for seed in "10":
        main([*again, seed])
        wholes.append(out.read_bytes())
    for _ in range(8):
        timer = threading.Timer(times.uniform(0, 0.4), os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        status = main([*again, "1"])
        timer.cancel()
        timer.join()
        assert status in (0, 130)
        assert out.read_bytes() in (wholes if status else wholes[:1])
        out.write_bytes(wholes[1])
        assert [path.name for path in here.iterdir()] == ["a.h5"]


def test_a_command_hears_signals_before_it_imports_what_is_slow():
    """And help and the list, which need it not, do not import it at all."""
    code = (
        "import sys; from lawful.cli.main import main\n"
        "print([m for m in ('torch', 'numpy', 'tyro') if m in sys.modules], file=sys.stderr)\n"
        "main(['list']), *(main([c, '--help']) for c in ('train', 'sample', 'report', 'study'))\n"
        "print([m for m in ('torch', 'numpy') if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stderr == "[]\n[]\n"


def test_what_foreign_code_makes_of_a_signal_is_no_traceback(run_folder, here, monkeypatch, capsys):
    def foreign(*_, **__):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except KeyboardInterrupt:
            raise SystemError("returned a result with an exception set") from None

    monkeypatch.setattr(sample, "arrays_of", foreign)
    assert main(["sample", run_folder, "-n", "5", "--out", "a.h5"]) == 143
    assert capsys.readouterr().err.count("\n") == 1
    assert list(here.iterdir()) == []


@pytest.fixture(scope="module")
def interruptions():
    """The benchmark of random signals, of which this is a small part."""
    path = Path(__file__).parents[2] / "benchmarks" / "interruptions.py"
    spec = importlib.util.spec_from_file_location("interruptions", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["interruptions"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("name", "kill"), [("sample .npz", False), ("data", True)])
def test_killed_or_interrupted_commands_go_on_to_the_same_end(interruptions, tmp_path, name, kill):
    threads = torch.get_num_threads()
    (case,) = interruptions.prepared(tmp_path, name, samples=70)
    draw = random.Random(1)
    assert interruptions.disturb(case, tmp_path, draw, kill=kill, fresh=False) == []
    torch.set_num_threads(threads)
