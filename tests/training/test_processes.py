"""Two processes: replicas stay equal, see different batches, and resume as one."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where two processes wrote what they ended with."""
    place = tmp_path_factory.mktemp("two")
    script = Path(__file__).with_name("two_processes.py")
    subprocess.run([sys.executable, script, place], check=True, timeout=400)
    return place


def test_one_process_that_is_not_finite_stops_both(folder):
    assert "another process" in (folder / "said-0").read_text()
    assert "the loss term 'odd' is nan" in (folder / "said-1").read_text()


def test_a_threshold_ends_the_game_on_every_process_at_once(folder):
    ends = [int((folder / f"ended-{rank}").read_text()) for rank in (0, 1)]
    assert ends[0] == ends[1] < 500


@pytest.mark.parametrize("kind", ["toy", "duel", "config"])
def test_replicas_stay_equal_and_resume_bit_for_bit(kind, folder):
    one, two = (load_file(folder / f"{kind}-whole-{rank}.st") for rank in (0, 1))
    assert not torch.equal(one.pop("first"), two.pop("first"))  # different batches
    for rank in (0, 1):
        again = load_file(folder / f"{kind}-resumed-{rank}.st")
        for name, value in one.items():
            assert torch.equal(value, two[name]), name
            assert torch.equal(value, again[name]), name
