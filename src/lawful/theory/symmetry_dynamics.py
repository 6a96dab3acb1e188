r"""The incomplete and the full generator against one exactly invariant critic.

With :math:`\gamma \circ T_\sigma = \gamma` no score tells T_σ g(z) from g(z), so the generator's
loss and gradient are the same, and the critic's wherever its penalty does not see samples: at data
it does not, at points between data and samples it does.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lawful.divergences import R1, Divergence, Penalty, RelativisticAverage, TwoSided
from lawful.theory.symmetry_poses import Critic, Generator, draw
from lawful.training import SGD, Batch, adversarial_moves


@dataclass(frozen=True)
class Dynamics:
    """A plain generator and the same with a random element, against one invariant critic.

    All are the largest absolute differences between the two, beside the largest magnitude.

    Arguments:
        loss: Of the generator.
        generator: Of its gradient.
        critic: Of the critic's gradient.
        players: Of all weights after `turns` turns of gradient steps.
        scale: Largest magnitude of the two gradients.
    """

    penalty: str
    loss: float
    generator: float
    critic: float
    players: float
    turns: int
    scale: float


def dynamics(penalty: Penalty, seed: int = 0, turns: int = 50) -> Dynamics:
    """Compare both designs in double precision, with the same weights, batches and chance."""
    divergence = RelativisticAverage((penalty,))
    played = [list(_play(divergence, random, seed, turns)) for random in (False, True)]
    (plain, full) = played
    return Dynamics(
        type(penalty).__name__,
        loss=_apart(plain[0][0], full[0][0]),
        generator=_apart(plain[0][1], full[0][1]),
        critic=_apart(plain[1][1], full[1][1]),
        players=_apart(plain[-1][1], full[-1][1]),
        turns=turns,
        scale=float(torch.cat([plain[0][1], plain[1][1]]).abs().max()),
    )


def both_penalties() -> list[Dynamics]:
    """R1 looks at data alone; the two-sided penalty at points between data and samples."""
    return [dynamics(R1(0.1)), dynamics(TwoSided(10.0))]


def _apart(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max())


def _players(random_element: bool, seed: int) -> dict[str, nn.Module]:
    torch.manual_seed(seed)
    players = {"generator": Generator(random_element=random_element), "critic": Critic()}
    return {name: player.double() for name, player in players.items()}


def _play(
    divergence: Divergence, random_element: bool, seed: int, turns: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Loss and gradient of every move in turn, descended in plain steps; then all weights.

    The trainer's moves and losses, but not its wrappers of players, which round to single.
    """
    rate = SGD(0.05)
    moves = adversarial_moves(divergence, generator=rate, critic=rate)
    players = _players(random_element, seed)
    random = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)  # of the penalty's points
    for _ in range(turns):
        for part in (part for move in moves for part in move.parts):
            weights = list(players[part.player].parameters())
            terms = part.loss(players, _double(draw(random)))
            loss = torch.stack(list(terms.values())).sum()
            gradients = torch.autograd.grad(loss, weights)
            yield loss.detach(), _flat(gradients)
            with torch.no_grad():
                for weight, gradient in zip(weights, gradients, strict=True):
                    weight.sub_(rate.learning_rate * gradient)
    yield loss, _flat([p.detach() for m in players.values() for p in m.parameters()])


def _flat(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat([part.flatten() for part in parts])


def _double(batch: Batch) -> Batch:
    condition = {**batch.condition, "noise": batch.condition["noise"].double()}
    return Batch(condition, None if batch.data is None else batch.data.double())
