"""The whole state of a run: players, optimizers, averages, random generators, step.

What is saved is all that the next step depends on, so a restored run takes bit for bit the step
that the saved one would have taken (on the same machine, with the same number of threads).
"""

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes
from torch import Tensor, distributed, nn
from torch.nn.parameter import is_lazy
from torch.optim.swa_utils import AveragedModel

from lawful import files as checkpoint
from lawful.errors import InputError
from lawful.reading import DAMAGED, reason
from lawful.training.game import Draw, Game, same

Tensors = tuple[Tensor, ...] | list[Tensor]


@dataclass
class State:
    """Everything a game changes.

    Arguments:
        players: Networks by name.
        optimizers: By (move, player).
        averages: Exponential averages of players, by player; what one samples from.
        generator: Random numbers of every batch; each process has its own.
        source: What draws batches; its `state_dict`, if it has one, is saved too.
        step: Turns of the game already taken.
        values: Loss terms of the last turn, by move and term.
        memory: What each move's rule keeps between steps, by move.
        over: Whether every threshold of the game was passed in the last turn.
        rules: Each move's rule in words; a checkpoint of other rules is refused.
    """

    players: dict[str, nn.Module]
    optimizers: dict[tuple[str, str], torch.optim.Optimizer]
    averages: dict[str, AveragedModel]
    generator: torch.Generator
    source: Draw
    step: int = 0
    values: dict[str, float] = field(default_factory=dict)
    memory: dict[str, dict[str, Any]] = field(default_factory=dict)
    over: bool = False
    rules: dict[str, str] = field(default_factory=dict)

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
        parts = [(move, objective) for move in game.moves for objective in move.objectives]
        for name in [o.player for _, o in parts] + list(average or {}):
            if name not in players:
                raise InputError(f"game: no player {name!r}; there are {sorted(players)}")
        for name, player in players.items():
            make_dense(player, f"player {name!r}")
        for move, o in parts:
            if not any(p.requires_grad for p in players[o.player].parameters()):
                raise InputError(
                    f"move {move.name!r}: player {o.player!r} has no parameters to be trained"
                )
        averages = {
            name: _average(name, players[name], decay).to(fabric.device)
            for name, decay in (average or {}).items()
        }
        modules: dict[str, nn.Module] = {}
        optimizers: dict[tuple[str, str], torch.optim.Optimizer] = {}
        for name, player in players.items():
            mine = [(m.name, o.optimizer.build(player)) for m, o in parts if o.player == name]
            if not mine:
                modules[name] = player.to(fabric.device)
                continue
            module, *ready = fabric.setup(player, *(optimizer for _, optimizer in mine))
            modules[name] = module
            optimizers |= {(move, name): r for (move, _), r in zip(mine, ready, strict=True)}
        generator = torch.Generator().manual_seed(seed * 1009 + fabric.global_rank)
        torch.manual_seed(500_009 + seed * 1013 + fabric.global_rank)
        rules = {move.name: repr(move.rule) for move in game.moves}
        return cls(modules, optimizers, averages, generator, game.draw, rules=rules)

    def save(self, path: Path, fabric: Fabric, config: Mapping[str, Any]) -> None:
        """Write the state and the configuration it belongs to, atomically; rank 0 writes.

        Call it on every process: the random generators of all of them are gathered.
        """
        random = {name: _gather(value, fabric) for name, value in self._random().items()}
        tree = {"config": dict(config), **self._parts(), "random": random}
        tree["source"] = _gather_objects(self._source(), fabric)
        if fabric.is_global_zero:
            checkpoint.save(path, tree)
        fabric.barrier()

    def rehearse(self) -> None:
        """Write and read in memory what `save` and `restore` will; nothing changes.

        Raises:
            InputError: Something cannot be saved, or cannot be taken back.
        """
        text, tensors = checkpoint.encode({**self._parts(), "source": self._source()})
        try:
            tree = checkpoint.decode(text, from_bytes(to_bytes(tensors)))
            self._take(tree)
            self._take_source(tree["source"])
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"game: its state could not be restored ({reason(error)})") from None

    def repeats(self) -> bool:
        """Whether restoring all that is saved restores the next batch too.

        A source with state of its own, such as an iterator that it keeps, must have `state_dict`
        and `load_state_dict`, as a stateful data loader has. One without them has moved on here.
        """
        random, (text, tensors) = self._random(), checkpoint.encode({"source": self._source()})
        batches = []
        for _ in range(2):
            batches.append(self.source(self.generator))
            self._set_random(random)
            self._take_source(_to(checkpoint.decode(text, tensors)["source"], torch.device("cpu")))
        return same(*batches)

    def restore(self, path: Path, fabric: Fabric) -> dict[str, Any]:
        """Take over what `save` wrote for the same game, and return its configuration.

        Raises:
            InputError: The file is not a checkpoint, or of another game or number of processes.
        """
        tree = checkpoint.load(path)
        try:
            processes = len(tree["random"]["draw"])
        except DAMAGED:
            raise InputError(f"checkpoint {path}: of another version or program") from None
        if processes != fabric.world_size:
            raise InputError(
                f"checkpoint {path}: of {processes} processes, resumed on {fabric.world_size}"
            )
        self._check(tree, path)
        try:
            self._take(tree)
            # A file does not align its tensors; a generator casts its state to a struct.
            rank = fabric.global_rank
            states = {name: rows[rank].clone() for name, rows in tree["random"].items()}
            self._take_source(tree["source"][rank])
            self.step, self.values = tree["step"], tree["values"]
            self.memory, self.over = _to(tree["memory"], fabric.device), bool(tree["over"])
            self._set_random(states)
            return dict(tree["config"])
        except DAMAGED as error:
            why = reason(error)
            raise InputError(f"checkpoint {path}: does not fit this game ({why})") from None

    def _parts(self) -> dict[str, Any]:
        """All that is saved but for the random generators."""
        return {
            "step": self.step,
            "values": self.values,
            "memory": self.memory,
            "over": self.over,
            "rules": self.rules,
            "players": {name: dict(p.state_dict()) for name, p in self.players.items()},
            "averages": {name: dict(a.state_dict()) for name, a in self.averages.items()},
            "optimizers": [[list(k), o.state_dict()] for k, o in self.optimizers.items()],
        }

    def _take(self, tree: dict[str, Any]) -> None:
        """Take over networks and optimizers."""
        for name, player in self.players.items():
            player.load_state_dict(tree["players"][name])
        for name, average in self.averages.items():
            average.load_state_dict(tree["averages"][name])
        for key, value in tree["optimizers"]:
            self.optimizers[(key[0], key[1])].load_state_dict(value)

    def _check(self, tree: dict[str, Any], path: Path) -> None:
        """Refuse another game's checkpoint before anything is taken over."""
        mine = {
            "players": sorted(self.players), "averages": sorted(self.averages),
            "optimizers": sorted(map(list, self.optimizers)), "rules": self.rules,
        }  # fmt: skip
        try:
            found = {
                "players": sorted(tree["players"]), "averages": sorted(tree["averages"]),
                "optimizers": sorted(key for key, _ in tree["optimizers"]), "rules": tree["rules"],
            }  # fmt: skip
        except DAMAGED:
            raise InputError(f"checkpoint {path}: of another version or program") from None
        for name, value in mine.items():
            if found[name] != value:
                raise InputError(
                    f"checkpoint {path}: of another game; its {name} are {found[name]}, "
                    f"this game's {value}"
                )

    def _random(self) -> dict[str, torch.Tensor]:
        states = {
            "draw": self.generator.get_state(),
            "torch": torch.get_rng_state(),
            "python": _python_random(),
            "numpy": _numpy_random(),
        }
        if torch.cuda.is_available():
            states["cuda"] = torch.cuda.get_rng_state()
        return states

    def _set_random(self, states: Mapping[str, torch.Tensor]) -> None:
        self.generator.set_state(states["draw"])
        torch.set_rng_state(states["torch"])
        _set_python_random(states["python"].tolist())
        _set_numpy_random(states["numpy"].tolist())
        if torch.cuda.is_available() and "cuda" in states:
            torch.cuda.set_rng_state(states["cuda"])

    def _source(self) -> Any:
        """What the source of batches keeps, if it says so."""
        return self.source.state_dict() if hasattr(self.source, "state_dict") else None

    def _take_source(self, kept: Any) -> None:
        if hasattr(self.source, "load_state_dict"):
            self.source.load_state_dict(kept)


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


def make_dense(network: nn.Module, place: str) -> None:
    """Give expanded buffers memory of their own: nothing can be copied into them otherwise.

    Raises:
        InputError: A parameter has no shape yet.
    """
    for name, parameter in network.named_parameters():
        if is_lazy(parameter):
            raise InputError(
                f"{place}: {name} has no shape yet; call the network once where it is made"
            )
    for module in network.modules():
        for name, buffer in module.named_buffers(recurse=False, remove_duplicate=False):
            strided = buffer.layout is torch.strided
            if strided and any(
                n > 1 and s == 0 for n, s in zip(buffer.shape, buffer.stride(), strict=True)
            ):
                setattr(module, name, buffer.contiguous())


def _to(value: Any, device: torch.device) -> Any:
    """Own copies of all tensors of a tree."""
    if isinstance(value, torch.Tensor):
        return value.to(device, copy=True)
    if isinstance(value, dict):
        return {key: _to(entry, device) for key, entry in value.items()}
    return [_to(entry, device) for entry in value] if isinstance(value, list) else value


def _python_random() -> torch.Tensor:
    """State of the `random` module; its integers are below 2**32, so float64 is exact."""
    _, words, gauss = random.getstate()
    return torch.tensor([*words, math.nan if gauss is None else gauss], dtype=torch.float64)


def _set_python_random(state: list[float]) -> None:
    *words, gauss = state
    random.setstate((3, tuple(map(int, words)), None if math.isnan(gauss) else gauss))


def _numpy_random() -> torch.Tensor:
    """State of NumPy's global generator (MT19937), exact in float64."""
    _, words, *rest = np.random.get_state()
    return torch.tensor([*map(float, words), *map(float, rest)], dtype=torch.float64)


def _set_numpy_random(state: list[float]) -> None:
    *words, place, has_gauss, gauss = state
    keys = np.array(words, dtype=np.uint32)
    np.random.set_state(("MT19937", keys, int(place), int(has_gauss), gauss))


def _gather_objects(value: Any, fabric: Fabric) -> list[Any]:
    """Plain values and tensors of all processes."""
    found = [value] * fabric.world_size
    if fabric.world_size > 1:
        distributed.all_gather_object(found, value)
    return found


def _gather(value: torch.Tensor, fabric: Fabric) -> torch.Tensor:
    """The values of all processes, stacked."""
    if fabric.world_size == 1:
        return value.unsqueeze(0)
    rows = fabric.all_gather(value.to(fabric.device))
    return torch.as_tensor(rows).cpu()
