"""What two processes do together, for `test_processes`; each writes what it ended with."""

import sys
from functools import partial
from pathlib import Path

import torch
from lightning_fabric import Fabric
from safetensors.torch import save_file
from toy import Player, draw, duel, duellists, game, state, weights

from lawful.errors import NonFiniteError
from lawful.training import SGD, Batch, Game, Move, State, fit

CONFIG = {"by": "config", "rule": "optimistic"}
KINDS = {
    "toy": (game, state),
    "duel": (duel, duellists),
    "config": (partial(duel, **CONFIG), partial(duellists, **CONFIG)),
}


def play(kind, fabric, folder):
    """Six turns, saved after three; then the last three again from there."""
    make, begin = KINDS[kind]
    for name in ("whole", "resumed"):
        current, first = begin(fabric), {}
        if name == "resumed":
            torch.manual_seed(999)
            current.restore(folder / f"{kind}.safetensors", fabric)
        for s in fit(make(), current, fabric, 6):
            first = first or dict(s.values)
            if s.step == 3 and name == "whole":
                s.save(folder / f"{kind}.safetensors", fabric, {})
        numbers = {"first": torch.tensor(list(first.values())), **weights(current)}
        numbers = {k: v.clone().contiguous() for k, v in numbers.items()}
        save_file(numbers, folder / f"{kind}-{name}-{fabric.global_rank}.st")


def stop(fabric, folder):
    """The loss of one process is not finite: both stop, and say so."""

    def broken(players, batch):
        x = players["generator"](batch.condition["x"]).sum()
        return {"odd": x * (torch.nan if fabric.global_rank else 1.0)}

    bad = Game((Move("generator", broken),), draw)
    try:
        next(fit(bad, State.create({"generator": Player()}, bad, fabric), fabric, 1))
    except NonFiniteError as error:
        (folder / f"said-{fabric.global_rank}").write_text(str(error))


def end(fabric, folder):
    """The threshold is passed on one process before the other."""
    torch.manual_seed(0)

    def loss(players, batch):
        return {"l": (players["p"](batch.condition["x"]) - fabric.global_rank).square().mean()}

    moves = (Move("p", loss, SGD(0.05)),)
    near = Game(moves, lambda generator: Batch({"x": torch.ones(4, 1)}), {"p/l": 0.3})
    current = State.create({"p": torch.nn.Linear(1, 1)}, near, fabric)
    for _ in fit(near, current, fabric, 500):
        pass
    (folder / f"ended-{fabric.global_rank}").write_text(str(current.step))


def run(fabric, folder):
    torch.set_num_threads(1)
    for kind in KINDS:
        play(kind, fabric, folder)
    stop(fabric, folder)
    end(fabric, folder)
    fabric.barrier()  # replicas are free by now, as their process group wants it
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    Fabric(accelerator="cpu", devices=2, strategy="ddp_spawn").launch(run, Path(sys.argv[1]))
