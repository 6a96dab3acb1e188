"""Losses of players, put together from the sides that a player's output is seen from.

A side is a function of the player's output, all players and the batch, and returns named terms; a
player's output is computed once for all of its sides.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from lawful.divergences import MMD, Divergence, Sinkhorn
from lawful.errors import InputError
from lawful.laws import AffineLaw, Condition, CorrectableLaw, Law
from lawful.training.game import Batch, Loss, Players, Terms, unwrapped

See = Callable[[Tensor, Condition], Tensor]
Side = Callable[[Tensor, Players, Batch], Terms]


def everything(x: Tensor, c: Condition) -> Tensor:
    """A critic's view that hides nothing."""
    return x


def player_loss(*sides: Side, player: str = "generator") -> Loss:
    """The terms of all sides of one player's output.

    Raises:
        InputError: When it is called, if two sides have a term of the same name.
    """

    def loss(players: Players, batch: Batch) -> Terms:
        x = players[player](batch.condition)
        return _merged(side(x, players, batch) for side in sides)

    return loss


def _merged(parts: Iterable[Terms]) -> Terms:
    terms: Terms = {}
    for part in parts:
        if twice := terms.keys() & part.keys():
            raise InputError(f"loss: two terms are called {sorted(twice)[0]!r}; rename a law")
        terms |= part
    return terms


def obeying(laws: Sequence[tuple[Law, float]]) -> Side:
    """Each law's mean square residual times its weight (InvNet, eq. 2)."""

    def side(x: Tensor, players: Players, batch: Batch) -> Terms:
        c = batch.condition
        return _merged({law.name: weight * law.loss(x, c)} for law, weight in laws)

    return side


def judged(divergence: Divergence, *, see: See = everything, through: bool = False) -> Side:
    """The generator's side of a divergence.

    Arguments:
        see: What the critic is shown of a sample.
        through: Keep the dependence of real scores on the critic, for rules that differentiate
            one player's gradient by the other's parameters.
    """

    def side(x: Tensor, players: Players, batch: Batch) -> Terms:
        c = batch.condition
        with torch.set_grad_enabled(through):
            real = players["critic"](see(_data(batch), c), c)
        fake = players["critic"](see(x, c), c)
        return {"generator": divergence.generator_loss(real, fake)}

    return side


def compared(divergence: MMD | Sinkhorn, *, see: See = everything) -> Side:
    """A divergence between samples, which needs no critic."""

    def side(x: Tensor, players: Players, batch: Batch) -> Terms:
        c = batch.condition
        return {"generator": divergence(see(_data(batch), c), see(x, c))}

    return side


def multiplied(laws: Sequence[tuple[Law, float]]) -> Side:
    r"""The player's side of the augmented Lagrangian (Hestenes 1969; Powell 1969).

    .. math:: \langle \lambda, \bar r \rangle + \tfrac\rho2 \operatorname{mean}_b \|r_b\|^2

    The multipliers act on the mean residual: they cancel the steady pull of whatever else the
    player descends, which a penalty alone leaves as a bias of order 1 / rho.
    """

    def side(x: Tensor, players: Players, batch: Batch) -> Terms:
        residuals = {law.name: law(x, batch.condition) for law, _ in laws}
        squares = ({law.name: rho / 2 * _square(residuals[law.name])} for law, rho in laws)
        means = players["multipliers"](residuals)
        return _merged([*squares, {"multipliers": means}])

    return side


def _square(r: Tensor) -> Tensor:
    return r.flatten(1).square().sum(1).mean()


def law_loss(law: Law, player: str = "generator", weight: float = 1.0) -> Loss:
    """The law's mean square residual on the player's output (InvNet, eq. 2)."""
    return player_loss(obeying([(law, weight)]), player=player)


def correction_loss(law: CorrectableLaw, player: str = "generator", weight: float = 1.0) -> Loss:
    """Distance of the player's output from its correction by the law."""

    def side(x: Tensor, players: Players, batch: Batch) -> Terms:
        return {f"{law.name} correction": weight * law.correction_loss(x, batch.condition)}

    return player_loss(side, player=player)


def critic_loss(divergence: Divergence, *, see: See = everything, through: bool = False) -> Loss:
    """What the critic descends: the divergence's critic loss and its penalties, a term each.

    Penalties are taken of the critic with its view, so that what it is not shown has no gradient.

    Arguments:
        see: What the critic is shown of real and of generated samples; a law's `hide` makes the
            projected critic (InvNet, section 3.1 and eq. 10).
        through: Keep the dependence of the scores on the generator, for rules that differentiate
            one player's gradient by the other's parameters; penalties hold samples constant.
    """

    def loss(players: Players, batch: Batch) -> Terms:
        c, real = batch.condition, _data(batch)
        with torch.set_grad_enabled(through):
            fake = players["generator"](c)
        critic = players["critic"]
        # Outside the device wrapper: its hooks allow one backward pass only, and its replicas
        # share these parameters, so that the gradients still meet.
        inner = unwrapped(critic)
        return divergence.critic_terms(
            lambda x: critic(see(x, c), c), real, fake, inner=lambda x: inner(see(x, c), c)
        )

    return loss


def _data(batch: Batch) -> Tensor:
    data = batch.data
    if data is None:
        raise InputError("game: an adversarial move needs data, and the batch has none")
    if not data.is_floating_point():
        raise InputError(
            f"game: expected data of floating-point numbers on the generator's scale, got "
            f"{data.dtype}"
        )
    for name, value in batch.condition.items():
        if len(value) != len(data):
            raise InputError(
                f"game: expected a value of {name!r} for each of {len(data)} samples of data, got "
                f"{len(value)}"
            )
    return data


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
        """Sum over laws of ⟨multiplier, batch mean of the residual⟩.

        Raises:
            InputError: The laws or the shapes of their residuals are not those declared.
        """
        found = {name: tuple(r.shape[1:]) for name, r in residuals.items()}
        declared = {n: tuple(v.shape) for n, v in zip(self.names, self.values, strict=True)}
        if found != declared:
            raise InputError(f"multipliers: declared for {declared}, got residuals {found}")
        pairs = zip(self.names, self.values, strict=True)
        return torch.stack([(v * residuals[name].mean(0)).sum() for name, v in pairs]).sum()


def multiplier_loss(laws: Iterable[Law]) -> Loss:
    """The multipliers' side: a gradient step of rate rho is their classical update."""
    laws = tuple(laws)

    def loss(players: Players, batch: Batch) -> Terms:
        with torch.no_grad():
            x = players["generator"](batch.condition)
            residuals = {law.name: law(x, batch.condition) for law in laws}
        return {"multipliers": -players["multipliers"](residuals)}

    return loss


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

    def obeys(self) -> tuple[Law, ...]:
        """The last law: to enforce it may break those before it, and what the generator obeys."""
        return self.laws[-1:] or tuple(getattr(self.generator, "obeys", tuple)())
