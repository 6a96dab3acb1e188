"""The whole state of a run: players, optimizers, averages, random generators, step.

What is saved is all that the next step depends on, so a restored run takes bit for bit the step
that the saved one would have taken (on the same machine, with the same number of threads).
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_utilities.core.apply_func import apply_to_collection
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes
from torch import Tensor, distributed, nn
from torch.optim.swa_utils import AveragedModel

from lawful import files as checkpoint
from lawful.errors import InputError
from lawful.reading import DAMAGED, reason
from lawful.training.game import Batch, Draw, Game
from lawful.weights import make_dense

Tensors = tuple[Tensor, ...] | list[Tensor]
PLAIN = ("step", "values", "memory", "over")  # fields of a state that are saved as they are


@dataclass
class State:
    """Everything a game changes.

    Arguments:
        players: Networks by name.
        optimizers: By (move, player).
        averages: Exponential averages of players, by player; what one samples from.
        generator: Random numbers of every batch; each process has its own.
        source: What draws batches; its `state_dict`, if it has one, is saved too.
        rules: Each move's rule in words; a checkpoint of other rules is refused.
        step: Turns of the game already taken.
        values: Loss terms of the last turn, by move and term.
        memory: What each move's rule keeps between steps, by move.
        over: Whether every threshold of the game was passed in the last turn.
    """

    players: dict[str, nn.Module]
    optimizers: dict[tuple[str, str], torch.optim.Optimizer]
    averages: dict[str, AveragedModel]
    generator: torch.Generator
    source: Draw
    rules: dict[str, str] = field(default_factory=dict)
    step: int = 0
    values: dict[str, float] = field(default_factory=dict)
    memory: dict[str, dict[str, Any]] = field(default_factory=dict)
    over: bool = False

    @classmethod
    def create(
        cls,
        players: Mapping[str, nn.Module],
        game: Game,
        fabric: Fabric,
        *,
        seed: int = 0,
        average: Mapping[str, float] | None = None,
    ) -> "State":
        """Set up players and optimizers on the devices of `fabric`.

        Arguments:
            players: Freshly initialised networks.
            average: Decay of the exponential average of each player that has one.

        Raises:
            InputError: A move or an average names an unknown player, or a move one that has no
                parameters.
        """
        parts = [(move.name, part) for move in game.moves for part in move.parts]
        for name in [part.player for _, part in parts] + list(average or {}):
            if name not in players:
                raise InputError(f"game: no player {name!r}; there are {sorted(players)}")
        for name, player in players.items():
            make_dense(player, f"player {name!r}")
        for move, part in parts:
            if not any(p.requires_grad for p in players[part.player].parameters()):
                raise InputError(
                    f"move {move!r}: player {part.player!r} has no parameters to be trained"
                )
        averages = {
            name: _average(name, players[name], decay).to(fabric.device)
            for name, decay in (average or {}).items()
        }
        modules: dict[str, nn.Module] = {}
        optimizers: dict[tuple[str, str], torch.optim.Optimizer] = {}
        for name, player in players.items():
            mine = {move: p.optimizer.build(player) for move, p in parts if p.player == name}
            if mine:
                modules[name], *ready = fabric.setup(player, *mine.values())
                optimizers |= {(move, name): r for move, r in zip(mine, ready, strict=True)}
            else:
                modules[name] = player.to(fabric.device)
        generator = torch.Generator().manual_seed(seed * 1009 + fabric.global_rank)
        torch.manual_seed(500_009 + seed * 1013 + fabric.global_rank)
        rules = {move.name: repr(move.rule) for move in game.moves}
        return cls(modules, optimizers, averages, generator, game.draw, rules)

    def save(self, path: Path, fabric: Fabric, config: Mapping[str, Any]) -> None:
        """Write the state and the configuration it belongs to, atomically; rank 0 writes.

        Call it on every process: the random generators of all of them are gathered.
        """
        own = [self._own()] * fabric.world_size
        if fabric.world_size > 1:
            distributed.all_gather_object(own, self._own())
        if fabric.is_global_zero:
            checkpoint.save(path, {"config": dict(config), **self._shared(), "processes": own})
        fabric.barrier()

    def restore(self, path: Path, fabric: Fabric) -> dict[str, Any]:
        """Take over what `save` wrote for the same game, and return its configuration.

        Raises:
            InputError: The file is not a checkpoint, or of another game or number of processes.
        """
        tree = checkpoint.load(path)
        kinds = {"game": dict, "processes": list, "config": dict}
        if not all(isinstance(tree.get(name), kind) for name, kind in kinds.items()):
            raise InputError(f"checkpoint {path}: of another version or program")
        if (count := len(tree["processes"])) != fabric.world_size:
            said = f"of {count} processes, resumed on {fabric.world_size}"
            raise InputError(f"checkpoint {path}: {said}")
        for name, mine in self._game().items():  # before anything is taken over
            if (found := tree["game"].get(name)) != mine:
                said = f"of another game; its {name} are {found}, this game's {mine}"
                raise InputError(f"checkpoint {path}: {said}")
        try:
            self._take(tree, tree["processes"][fabric.global_rank], fabric.device)
            return dict(tree["config"])
        except DAMAGED as error:
            why = reason(error)
            raise InputError(f"checkpoint {path}: does not fit this game ({why})") from None

    def rehearse(self) -> None:
        """Write and read in memory what `save` and `restore` will; nothing changes.

        Raises:
            InputError: Something cannot be saved, or cannot be taken back.
        """
        text, tensors = checkpoint.encode({**self._shared(), "own": self._own()})
        device = next(p.device for player in self.players.values() for p in player.parameters())
        try:
            tree = checkpoint.decode(text, from_bytes(to_bytes(tensors)))
            self._take(tree, tree["own"], device)
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"game: its state could not be restored ({reason(error)})") from None

    def repeats(self) -> bool:
        """Whether restoring all that is saved restores the next batch too.

        A source with state of its own, such as an iterator that it keeps, must have `state_dict`
        and `load_state_dict`, as a stateful data loader has. One without them has moved on here.
        """
        text, tensors = checkpoint.encode(self._own())
        batches = []
        for _ in range(2):
            batches.append(self.source(self.generator))
            self._take_own(_copied(checkpoint.decode(text, tensors)))
        return _equal(*batches)

    def _game(self) -> dict[str, Any]:
        """What tells one game from another."""
        return {
            "players": sorted(self.players),
            "averages": sorted(self.averages),
            "optimizers": sorted(map(list, self.optimizers)),
            "rules": self.rules,
        }

    def _shared(self) -> dict[str, Any]:
        """What all processes have in common."""
        return {
            "game": self._game(),
            **{name: getattr(self, name) for name in PLAIN},
            "players": {name: dict(p.state_dict()) for name, p in self.players.items()},
            "averages": {name: dict(a.state_dict()) for name, a in self.averages.items()},
            "optimizers": [[list(k), o.state_dict()] for k, o in self.optimizers.items()],
        }

    def _own(self) -> dict[str, Any]:
        """What each process has of its own: random generators, and what its source keeps."""
        name, words, *rest = np.random.get_state()
        source = self.source.state_dict() if hasattr(self.source, "state_dict") else None
        return {
            "draw": self.generator.get_state(),
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
            "python": random.getstate(),
            "numpy": (name, np.asarray(words).tolist(), *rest),
            "source": source,
        }

    def _take(self, tree: dict[str, Any], own: dict[str, Any], device: torch.device) -> None:
        for part in ("players", "averages"):
            for name, network in getattr(self, part).items():
                network.load_state_dict(tree[part][name])
        for key, value in tree["optimizers"]:
            self.optimizers[(key[0], key[1])].load_state_dict(value)
        for name in PLAIN:
            setattr(self, name, _copied(tree[name], device))
        self._take_own(_copied(own))

    def _take_own(self, own: dict[str, Any]) -> None:
        self.generator.set_state(own["draw"])
        torch.set_rng_state(own["torch"])
        if own["cuda"] is not None and torch.cuda.is_available():
            torch.cuda.set_rng_state(own["cuda"])
        random.setstate(own["python"])
        np.random.set_state(own["numpy"])
        if hasattr(self.source, "load_state_dict"):
            self.source.load_state_dict(own["source"])


def _equal(one: Batch, other: Batch) -> bool:
    """Whether two batches are equal to the bit; NaN equals NaN."""
    try:
        torch.testing.assert_close(
            {**one.condition, "": one.data}, {**other.condition, "": other.data},
            rtol=0, atol=0, equal_nan=True,
        )  # fmt: skip
    except AssertionError:
        return False
    return True


def averaging(decay: float) -> Callable[[Tensors, Tensors, Tensor | int], None]:
    """An exponential average that forgets its start: after n updates the decay is at most
    (1 + n) / (10 + n)."""

    @torch.no_grad()
    def update(average: Tensors, now: Tensors, count: Tensor | int) -> None:
        n = int(count)
        share = 1 - min(decay, (1 + n) / (10 + n))
        for a, b in zip(average, now, strict=True):
            if a.is_floating_point() or a.is_complex():
                a.lerp_(b, share)
            else:
                a.copy_(b)

    return update


def _average(name: str, player: nn.Module, decay: float) -> AveragedModel:
    try:
        return AveragedModel(player, multi_avg_fn=averaging(decay))
    except RuntimeError as error:
        why = reason(error)
        raise InputError(f"player {name!r}: cannot be copied for its average ({why})") from None


def _copied(tree: Any, device: torch.device | None = None) -> Any:
    """The tree with own copies of its tensors.

    A file does not align its tensors, and a random generator casts its state to a struct.
    """
    return apply_to_collection(tree, Tensor, lambda t: t.to(device or t.device, copy=True))
