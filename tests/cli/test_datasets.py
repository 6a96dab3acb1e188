"""`lawful data`: a set from the command line, made once, and what is said of mistakes."""

import subprocess
import sys

import pytest
import torch

from lawful.cli import main as command
from lawful.materials.dataset import load, small

SMALL = ["data", "cahn-hilliard", "--images", "40", "--side", "16"]
LIMITED = (
    "import resource, signal, sys; from lawful.cli import main;"
    "signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
    "resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000));"
    "sys.exit(main.main(sys.argv[1:]))"
)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working folder and an empty cache."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def test_help(here, capsys):
    assert command.main(["data", "--help"]) == 0
    assert "cahn-hilliard" in capsys.readouterr().out


def test_a_set_is_made_once_and_described(here, capsys):
    assert command.main([*SMALL, "--out", "set.h5"]) == 0
    said = capsys.readouterr()
    for part in ("set.h5: made in", "40 of 16 x 16", "volume fraction", "held out", "pairs"):
        assert part in said.out
    assert max(map(len, said.out.splitlines())) <= 80
    assert "40/40" in said.err  # a line where no bar can be drawn
    assert len(load(here / "set.h5")[0].pair) < 40
    before = (here / "set.h5").read_bytes()
    assert command.main([*SMALL, "--out", "set.h5"]) == 0
    assert "was there already" in capsys.readouterr().out
    assert (here / "set.h5").read_bytes() == before
    assert [path.name for path in here.iterdir()] == ["set.h5"]


def test_the_cache_is_the_default_place(here, capsys):
    assert command.main(SMALL) == 0
    assert (here / "cache" / "lawful" / "cahn-hilliard-40-side16.h5").is_file()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["data"], "required"),
        (["data", "clouds"], "clouds"),
        ([*SMALL, "--images", "0"], "images"),
        ([*SMALL, "--images", "many"], "many"),
        ([*SMALL, "--side", "7"], "side"),
        ([*SMALL, "--seed", "-1"], "seed"),
        ([*SMALL, "--seed", "9" * 20], "seed"),
        ([*SMALL, "--out", "set.npz"], ".h5"),
        ([*SMALL, "--out", "folder.h5"], "is a folder"),
        ([*SMALL, "--out", "text.h5"], "truncated"),
        ([*SMALL, "--out", "text.h5/set.h5"], "cannot be written"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(here, capsys, arguments, named):
    (here / "text.h5").write_text("x")
    (here / "folder.h5").mkdir()
    assert command.main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("lawful: ")
    assert said.count("\n") == 1
    assert named in said
    assert {path.name for path in here.iterdir()} == {"text.h5", "folder.h5"}


def test_another_set_is_not_overwritten(here, capsys):
    command.main([*SMALL, "--out", "set.h5"])
    before = (here / "set.h5").read_bytes()
    assert command.main([*SMALL, "--seed", "1", "--out", "set.h5"]) == 2
    assert "another set" in capsys.readouterr().err
    assert (here / "set.h5").read_bytes() == before


def test_a_disk_that_fills_up_is_one_line_and_no_file(here):
    process = [sys.executable, "-c", LIMITED, *SMALL, "--out", "set.h5"]
    done = subprocess.run(process, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("lawful: set.h5: cannot be written")
    assert "Traceback" not in done.stderr
    assert not (here / "set.h5").exists()


def fractions(found):
    """Of all images, in order of size."""
    return torch.cat([part.volume_fraction for part in found]).sort().values


def test_what_is_made_is_what_the_library_makes(here):
    assert command.main([*SMALL, "--images", "256", "--seed", "4", "--out", "set.h5"]) == 0
    made, found = small(256, 16, seed=4), load(here / "set.h5")
    assert fractions(made).equal(fractions(found))
