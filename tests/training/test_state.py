"""Saving and resuming: bit for bit, atomically, and never from a foreign file."""

import json
import os
import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import Player, draw, fabric, game, state, weights

from lawful import InputError
from lawful import files as checkpoint
from lawful.training import RULES, Game, Joint, Move, State, fit


def play(current, device, steps):
    for _ in fit(game(), current, device, steps):
        pass


def test_a_restored_run_continues_bit_for_bit(tmp_path):
    device = fabric()
    whole = state(device)
    play(whole, device, 12)

    first = state(device)
    for s in fit(game(), first, device, 12):
        if s.step == 5:
            s.save(tmp_path / "a.safetensors", device, {"note": "five"})
            break
    torch.manual_seed(999)  # what another program may have done in between
    second = state(device, seed=4)
    second.restore(tmp_path / "a.safetensors", device)
    assert second.step == 5
    play(second, device, 12)
    assert second.values == whole.values
    for name, value in weights(whole).items():
        assert torch.equal(value, weights(second)[name]), name
    assert torch.equal(second.generator.get_state(), whole.generator.get_state())


def test_averages_follow_the_player():
    device = fabric()
    current = state(device)
    average = None
    for s in fit(game(), current, device, 4):
        now = s.players["generator"].state_dict()["linear.weight"]
        share = 1 - min(0.9, s.step / (9 + s.step))  # forgets the start sooner
        average = now.clone() if average is None else (1 - share) * average + share * now
    found = current.averages["generator"].module.state_dict()["linear.weight"]
    torch.testing.assert_close(found, average)


def test_averages_leave_integer_buffers_alone():
    class Table(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))
            self.register_buffer("index", torch.arange(1000), persistent=False)

        def forward(self, x):
            return self.weight * x

    device = fabric()
    loss = lambda players, batch: {"l": players["g"](batch.condition["x"]).mean()}  # noqa: E731
    one = Game((Move("g", loss),), draw)
    current = State.create({"g": Table()}, one, device, average={"g": 0.9})
    for _ in fit(one, current, device, 20):
        pass
    assert torch.equal(current.averages["g"].module.index, torch.arange(1000))


def test_every_random_generator_is_restored(tmp_path):
    device, path = fabric(), tmp_path / "a.safetensors"
    current = state(device)
    random.gauss(0, 1)
    np.random.standard_normal()
    current.save(path, device, {})
    sources = (random.random, lambda: random.gauss(0, 1), np.random.rand,
               np.random.standard_normal, lambda: float(torch.rand(1)))  # fmt: skip
    first = [draw_one() for draw_one in sources]
    random.seed(1), np.random.seed(2), torch.manual_seed(3)
    current.restore(path, device)
    assert [draw_one() for draw_one in sources] == first


def test_a_checkpoint_of_more_processes_is_refused(tmp_path):
    device, path = fabric(), tmp_path / "a.safetensors"
    state(device).save(path, device, {})
    tree = checkpoint.load(path)
    tree["processes"] *= 2
    checkpoint.save(path, tree)
    with pytest.raises(InputError, match="of 2 processes, resumed on 1"):
        state(device).restore(path, device)


trees = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text(max_size=5)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(max_size=4) | st.integers(0, 9), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(trees, st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_any_tree_survives(tmp_path_factory, tree, seed):
    path = tmp_path_factory.mktemp("tree") / "t.safetensors"
    tensor = torch.randn(2, 3, generator=torch.Generator().manual_seed(seed))
    checkpoint.save(path, {"tree": tree, "tensor": [tensor, tensor.T]})
    found = checkpoint.load(path)
    assert found["tree"] == tree
    assert torch.equal(found["tensor"][0], tensor)
    assert torch.equal(found["tensor"][1], tensor.T)


def test_a_fault_while_writing_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "state.safetensors"
    checkpoint.save(path, {"step": 1})

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        checkpoint.save(path, {"step": 2})
    monkeypatch.undo()
    assert checkpoint.load(path) == {"step": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["state.safetensors"]


def test_truncated_foreign_and_missing_files_are_refused(tmp_path):
    good = tmp_path / "good.safetensors"
    device = fabric()
    current = state(device)
    current.save(good, device, {})
    data = good.read_bytes()
    short, foreign = tmp_path / "short.safetensors", tmp_path / "foreign.safetensors"
    short.write_bytes(data[: len(data) // 2])
    foreign.write_text(json.dumps({"weights": [1, 2]}))
    for path in (short, foreign, tmp_path / "missing.safetensors"):
        with pytest.raises(InputError, match=path.name) as caught:
            state(device).restore(path, device)
        assert "\n" not in str(caught.value)


def test_the_checkpoint_of_another_game_is_refused(tmp_path):
    device = fabric()
    path = tmp_path / "a.safetensors"
    state(device).save(path, device, {})
    torch.manual_seed(0)
    players = {"generator": torch.nn.Linear(5, 5), "critic": torch.nn.Linear(5, 5)}
    other = State.create(players, Game(game().moves, draw), device)
    with pytest.raises(InputError, match="of another game"):
        other.restore(path, device)


def test_a_checkpoint_of_another_game_is_refused_before_anything_changes(tmp_path):
    device = fabric()
    current = state(device)
    play(current, device, 2)
    current.save(tmp_path / "a.safetensors", device, {})
    moves = game().moves
    other_rule = Game((*moves[:2], Joint(moves[2:], RULES["optimistic"], "law")), draw)
    fewer = Game(moves[:2], draw)
    for other in (other_rule, fewer):
        torch.manual_seed(5)
        players = {"generator": Player(), "critic": Player()}
        fresh = State.create(players, other, device, average={"generator": 0.9})
        before = {name: value.clone() for name, value in weights(fresh).items()}
        with pytest.raises(InputError, match="of another game"):
            fresh.restore(tmp_path / "a.safetensors", device)
        for name, value in weights(fresh).items():
            assert torch.equal(value, before[name])


def test_batches_and_torchs_own_numbers_are_not_the_same_stream():
    current = state(fabric())
    assert not torch.equal(torch.rand(4), torch.rand(4, generator=current.generator))
