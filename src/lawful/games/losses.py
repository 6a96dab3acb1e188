"""Losses of players: a law's, a law's correction, a divergence's two sides, multipliers."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from lawful.condition import Condition
from lawful.divergences import MMD, Divergence, Sinkhorn
from lawful.errors import InputError
from lawful.games.game import Batch, Loss, Players
from lawful.laws.law import AffineLaw, CorrectableLaw, Law

See = Callable[[Tensor, Condition], Tensor]


def everything(x: Tensor, c: Condition) -> Tensor:
    """A critic's view that hides nothing."""
    return x


def law_loss(law: Law, player: str = "generator", weight: float = 1.0) -> Loss:
    """The law's mean square residual on the player's output (InvNet, eq. 2)."""

    def loss(players: Players, batch: Batch) -> dict[str, Tensor]:
        x = players[player](batch.condition)
        return {law.name: weight * law.loss(x, batch.condition)}

    return loss


def correction_loss(law: CorrectableLaw, player: str = "generator", weight: float = 1.0) -> Loss:
    """Distance of the player's output from its correction by the law."""

    def loss(players: Players, batch: Batch) -> dict[str, Tensor]:
        x = players[player](batch.condition)
        return {f"{law.name} correction": weight * law.correction_loss(x, batch.condition)}

    return loss


def critic_loss(
    divergence: Divergence,
    *,
    see: See = everything,
    generator: str = "generator",
    critic: str = "critic",
) -> Loss:
    """What the critic descends: the divergence's critic loss and its penalties, a term each.

    Arguments:
        see: What the critic is shown of real and of generated samples; a law's `hide` makes the
            projected critic (InvNet, section 3.1 and eq. 10).
    """

    def loss(players: Players, batch: Batch) -> dict[str, Tensor]:
        c = batch.condition
        with torch.no_grad():
            fake = see(players[generator](c), c)
        real = see(_data(batch), c)
        judge = lambda x: players[critic](x, c)  # noqa: E731
        terms = {critic: divergence.critic_loss(judge(real), judge(fake))}
        for penalty in divergence.penalties:
            terms[type(penalty).__name__] = penalty(judge, real, fake)
        return terms

    return loss


def generator_loss(
    divergence: Divergence,
    *,
    laws: Mapping[Law, float] | None = None,
    see: See = everything,
    generator: str = "generator",
    critic: str = "critic",
) -> Loss:
    """What the generator descends: the divergence, and laws with their weights (InvNet, eq. 2).

    Arguments:
        laws: Weight of each law; a law of weight zero is left out.
    """

    def loss(players: Players, batch: Batch) -> dict[str, Tensor]:
        c = batch.condition
        x = players[generator](c)
        with torch.no_grad():
            real = players[critic](see(_data(batch), c), c)
        terms = {generator: divergence.generator_loss(real, players[critic](see(x, c), c))}
        for law, weight in (laws or {}).items():
            if weight:
                terms[law.name] = weight * law.loss(x, c)
        return terms

    return loss


def joined(losses: Sequence[Loss]) -> Loss:
    """All terms of several losses."""

    def loss(players: Players, batch: Batch) -> dict[str, Tensor]:
        return {name: term for part in losses for name, term in part(players, batch).items()}

    return loss


def sample_loss(
    divergence: MMD | Sinkhorn, *, see: See = everything, generator: str = "generator"
) -> Loss:
    """A divergence between samples, which needs no critic."""

    def loss(players: Players, batch: Batch) -> dict[str, Tensor]:
        c = batch.condition
        return {generator: divergence(see(_data(batch), c), see(players[generator](c), c))}

    return loss


def _data(batch: Batch) -> Tensor:
    if batch.data is None:
        raise InputError("game: an adversarial move needs data, and the batch has none")
    return batch.data


class Multipliers(nn.Module):
    """Lagrange multipliers of the batch-mean residual of laws, a tensor a law, zero at first.

    Arguments:
        shapes: Shape of each law's residual without the batch axis, by the law's name.
    """

    def __init__(self, shapes: Mapping[str, Sequence[int]]) -> None:
        super().__init__()
        self.names = tuple(shapes)
        self.values = nn.ParameterList(nn.Parameter(torch.zeros(*s)) for s in shapes.values())

    def forward(self, residuals: Mapping[str, Tensor]) -> Tensor:
        """Sum over laws of ⟨multiplier, batch mean of the residual⟩."""
        pairs = zip(self.names, self.values, strict=True)
        return torch.stack([(v * residuals[name].mean(0)).sum() for name, v in pairs]).sum()


def lagrangian_loss(
    laws: Sequence[Law], weight: float, player: str = "generator", multipliers: str = "multipliers"
) -> Loss:
    r"""The player's side of the augmented Lagrangian (Hestenes 1969; Powell 1969).

    .. math:: \langle \lambda, \bar r \rangle + \tfrac\rho2 \operatorname{mean}_b \|r_b\|^2

    The multipliers act on the mean residual: they cancel the steady pull of whatever else the
    player descends, which a penalty alone leaves as a bias of order 1 / rho.
    """

    def loss(players: Players, batch: Batch) -> dict[str, Tensor]:
        x = players[player](batch.condition)
        residuals = {law.name: law(x, batch.condition) for law in laws}
        terms = {name: weight / 2 * _square(r) for name, r in residuals.items()}
        return terms | {multipliers: players[multipliers](residuals)}

    return loss


def multiplier_loss(
    laws: Sequence[Law], player: str = "generator", multipliers: str = "multipliers"
) -> Loss:
    """The multipliers' side: a gradient step of rate rho is their classical update."""

    def loss(players: Players, batch: Batch) -> dict[str, Tensor]:
        with torch.no_grad():
            x = players[player](batch.condition)
            residuals = {law.name: law(x, batch.condition) for law in laws}
        return {multipliers: -players[multipliers](residuals)}

    return loss


def _square(r: Tensor) -> Tensor:
    return r.flatten(1).square().sum(1).mean()


class Enforced(nn.Module):
    """A generator followed by the exact enforcement of affine laws, in order."""

    def __init__(self, generator: nn.Module, laws: Sequence[AffineLaw]) -> None:
        super().__init__()
        self.generator = generator
        self.laws = tuple(laws)

    def forward(self, condition: Condition) -> Tensor:
        x: Tensor = self.generator(condition)
        for law in self.laws:
            x = law.enforce(x, condition)
        return x
