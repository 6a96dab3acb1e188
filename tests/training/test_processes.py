"""Two processes: replicas stay equal, see different batches, and resume as one."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

HERE = Path(__file__).parent
SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, {here!r})
import torch
from lightning_fabric import Fabric
from safetensors.torch import save_file
from toy import Player, duel, duellists, game, state, weights
from lawful.errors import NonFiniteError
from lawful.training import Game, Move, State, fit

def run(fabric, folder, stop, resume):
    torch.set_num_threads(1)
    play(fabric, folder, stop, resume)
    fabric.barrier()
    torch.distributed.destroy_process_group()

def play(fabric, folder, stop, resume):
    kind = sys.argv[3]
    options = {{"by": "config", "rule": "optimistic"}} if kind == "config" else {{}}
    toy = game() if kind == "toy" else duel(**options)
    current = state(fabric) if kind == "toy" else duellists(fabric, **options)
    if resume:
        current.restore(folder / "half.safetensors", fabric)
    first = None
    for s in fit(toy, current, fabric, 6):
        first = dict(s.values) if first is None else first
        if s.step == 3 and not resume:
            s.save(folder / "half.safetensors", fabric, {{}})
        if s.step == stop:
            break
    if stop == 1:  # the loss of one process is not finite: both stop, and say so
        game_with = game()
        def broken(players, batch):
            x = players["generator"](batch.condition["x"]).sum()
            return {{"odd": x * (torch.nan if fabric.global_rank else 1.0)}}
        bad = Game((Move("generator", broken),), game_with.draw)
        fresh = State.create({{"generator": Player()}}, bad, fabric)
        try:
            next(fit(bad, fresh, fabric, 1))
        except NonFiniteError as error:
            (folder / f"said-{{fabric.global_rank}}").write_text(str(error))
        return
    numbers = {{"first": torch.tensor(list(first.values())), **weights(current)}}
    numbers = {{k: v.clone().contiguous() for k, v in numbers.items()}}
    save_file(numbers, folder / f"{{'resumed' if resume else 'whole'}}-{{fabric.global_rank}}.st")

if __name__ == "__main__":
    fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp_spawn")
    fabric.launch(run, Path(sys.argv[1]), 1 if sys.argv[2] == "nan" else 6, sys.argv[2] == "resume")
"""


def start(folder, mode, kind):
    script = folder / "two.py"
    script.write_text(SCRIPT.format(here=str(HERE)))
    subprocess.run([sys.executable, script, folder, mode, kind], check=True, timeout=240)
    name = "resumed" if mode == "resume" else "whole"
    return [load_file(folder / f"{name}-{rank}.st") for rank in (0, 1)]


def test_one_process_that_is_not_finite_stops_both(tmp_path):
    script = tmp_path / "two.py"
    script.write_text(SCRIPT.format(here=str(HERE)))
    subprocess.run([sys.executable, script, tmp_path, "nan", "toy"], check=True, timeout=240)
    assert "another process" in (tmp_path / "said-0").read_text()
    assert "the loss term 'odd' is nan" in (tmp_path / "said-1").read_text()


UNTIL = """
import sys
from pathlib import Path
import torch
from lightning_fabric import Fabric
from lawful.training import SGD, Batch, Game, Move, State, fit

def run(fabric, folder):
    torch.set_num_threads(1)
    play(fabric, folder)  # replicas go before their process group: else gloo's threads can deadlock
    fabric.barrier()
    torch.distributed.destroy_process_group()

def play(fabric, folder):
    torch.manual_seed(0)
    def loss(players, batch):
        return {"l": (players["p"](batch.condition["x"]) - fabric.global_rank).square().mean()}
    move = Move("p", loss, SGD(0.05), name="m")
    game = Game((move,), lambda g: Batch({"x": torch.ones(4, 1)}), {"m/l": 0.3})
    state = State.create({"p": torch.nn.Linear(1, 1)}, game, fabric)
    for s in fit(game, state, fabric, 500):
        pass
    (folder / f"ended-{fabric.global_rank}").write_text(str(s.step))

if __name__ == "__main__":
    fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp_spawn")
    fabric.launch(run, Path(sys.argv[1]))
"""


def test_a_threshold_ends_the_game_on_every_process_at_once(tmp_path):
    script = tmp_path / "until.py"
    script.write_text(UNTIL)
    subprocess.run([sys.executable, script, tmp_path], check=True, timeout=240)
    ends = [int((tmp_path / f"ended-{rank}").read_text()) for rank in (0, 1)]
    assert ends[0] == ends[1] < 500


@pytest.mark.parametrize("kind", ["toy", "duel", "config"])
def test_replicas_stay_equal_and_resume_bit_for_bit(kind, tmp_path):
    one, two = start(tmp_path, "whole", kind)
    assert not torch.equal(one.pop("first"), two.pop("first"))  # different batches
    for name, value in one.items():
        assert torch.equal(value, two[name]), name
    again, other = start(tmp_path, "resume", kind)
    for name, value in one.items():
        assert torch.equal(value, again[name]), name
        assert torch.equal(value, other[name]), name
