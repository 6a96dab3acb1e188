r"""Divergences with a critic: what critic and generator descend, as functions of scores.

Scores are the critic's outputs on real and on generated samples: one a sample, or several, such as
a map over patches, of which each counts by itself. A divergence Q‖P has the data as Q and the
generator as P.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lawful.divergences.penalties import R1, R2, Critic, Penalty, check_pair
from lawful.errors import InputError

Scores = Float[Tensor, "..."]
Flat = Float[Tensor, " _"]
Scalar = Float[Tensor, ""]


@dataclass(frozen=True)
class Divergence(ABC):
    """An objective of two players.

    Arguments:
        penalties: On the critic's gradient, added to its loss.
    """

    penalties: tuple[Penalty, ...] = ()

    def __post_init__(self) -> None:
        given = self.penalties
        if not isinstance(given, tuple) or not all(isinstance(p, Penalty) for p in given):
            raise InputError(f"penalties: expected a tuple of penalties, got {given!r}")
        if len({type(p) for p in given}) < len(given):
            raise InputError(f"penalties: expected one of a kind, got {given!r}")

    def critic_terms(
        self,
        critic: Critic,
        real: Float[Tensor, "n *sample"],
        fake: Float[Tensor, "m *sample"],
        *,
        inner: Critic | None = None,
    ) -> dict[str, Scalar]:
        """What the critic descends, by name: `critic` of its scores, and every penalty.

        Arguments:
            critic: Samples to scores.
            inner: The critic that penalties are taken of, where it is not the same object.

        Raises:
            InputError: Samples or scores cannot be compared.
        """
        terms = {"critic": self.on_critic(*flat(critic(real), critic(fake)))}
        for penalty in self.penalties:
            terms[type(penalty).__name__] = penalty(inner or critic, real, fake)
        return terms

    def critic_loss(self, real: Scores, fake: Scores) -> Scalar:
        """What the critic descends, of a divergence without penalties.

        Raises:
            InputError: The scores cannot be compared, or there are penalties: they need the critic
                and its samples (`critic_terms`).
        """
        if self.penalties:
            names = ", ".join(type(penalty).__name__ for penalty in self.penalties)
            raise InputError(f"critic_loss: scores alone do not give {names}; call critic_terms")
        return self.on_critic(*flat(real, fake))

    def generator_loss(self, real: Scores, fake: Scores) -> Scalar:
        """What the generator descends.

        Raises:
            InputError: The scores cannot be compared.
        """
        return self.on_generator(*flat(real, fake))

    @abstractmethod
    def on_critic(self, real: Flat, fake: Flat) -> Scalar:
        """The critic's loss, without penalties, of scores that were checked and made flat."""

    @abstractmethod
    def on_generator(self, real: Flat, fake: Flat) -> Scalar:
        """The generator's."""


def flat(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """Scores as two vectors, whatever their number a sample.

    Raises:
        InputError: They are no batches of equal shape but for their size, or are integers.
    """
    check_pair("scores", real, fake)
    return real.flatten(), fake.flatten()


@dataclass(frozen=True)
class Wasserstein(Divergence):
    """W1 for critics of Lipschitz constant 1: E_Q D - E_P D (Arjovsky et al. 2017)."""

    def on_critic(self, real: Flat, fake: Flat) -> Scalar:
        return fake.mean() - real.mean()

    def on_generator(self, real: Flat, fake: Flat) -> Scalar:
        return real.mean() - fake.mean()


@dataclass(frozen=True)
class LeastSquares(Divergence):
    """½ E_Q (D - 1)² + ½ E_P D²; the generator ½ E_P (D - 1)² (Mao et al. 2017, a, b, c = 0, 1, 1).

    The critic's loss is least at D = q / (q + p).
    """

    def on_critic(self, real: Flat, fake: Flat) -> Scalar:
        return ((real - 1).square().mean() + fake.square().mean()) / 2

    def on_generator(self, real: Flat, fake: Flat) -> Scalar:
        return (fake - 1).square().mean() / 2


@dataclass(frozen=True)
class Hinge(Divergence):
    """E_Q max(0, 1 - D) + E_P max(0, 1 + D); the generator -E_P D (Lim & Ye 2017).

    At the best critic the loss is 2 - 2 TV(Q, P).
    """

    def on_critic(self, real: Flat, fake: Flat) -> Scalar:
        return (1 - real).relu().mean() + (1 + fake).relu().mean()

    def on_generator(self, real: Flat, fake: Flat) -> Scalar:
        return -fake.mean()


@dataclass(frozen=True)
class Original(Divergence):
    """-E_Q log s(D) - E_P log(1 - s(D)), s the logistic function, min-max (Goodfellow et al. 2014).

    At the best critic the loss is 2 log 2 - 2 JS(Q, P).
    """

    def on_critic(self, real: Flat, fake: Flat) -> Scalar:
        return F.softplus(-real).mean() + F.softplus(fake).mean()

    def on_generator(self, real: Flat, fake: Flat) -> Scalar:
        return -F.softplus(fake).mean()


@dataclass(frozen=True)
class NonSaturating(Original):
    """The same critic; the generator descends -E_P log s(D) (Goodfellow et al. 2014, section 3)."""

    def on_generator(self, real: Flat, fake: Flat) -> Scalar:
        return F.softplus(-fake).mean()


@dataclass(frozen=True)
class RelativisticAverage(Divergence):
    """Each sample against the mean of the other kind (Jolicoeur-Martineau 2019).

    L_D = -E_Q log s(D - E_P D) - E_P log(1 - s(D - E_Q D)); L_G has Q and P exchanged.
    """

    def on_critic(self, real: Flat, fake: Flat) -> Scalar:
        above = F.softplus(-(real - fake.mean())).mean()
        return above + F.softplus(fake - real.mean()).mean()

    def on_generator(self, real: Flat, fake: Flat) -> Scalar:
        return self.on_critic(fake, real)


@dataclass(frozen=True)
class RelativisticPairing(Divergence):
    """E log(1 + exp(D(fake) - D(real))) over pairs; the generator the same with the sign turned.

    Jolicoeur-Martineau 2019; with R1 and R2 the loss of R3GAN (Huang et al. 2024).
    """

    def on_critic(self, real: Flat, fake: Flat) -> Scalar:
        if len(real) != len(fake):
            raise InputError(
                f"relativistic pairing: expected as many real as generated scores, got {len(real)} "
                f"and {len(fake)}"
            )
        return F.softplus(fake - real).mean()

    def on_generator(self, real: Flat, fake: Flat) -> Scalar:
        return self.on_critic(fake, real)


def r3gan(weight: float = 1.0) -> RelativisticPairing:
    """R3GAN's setting: relativistic pairing with R1 and R2 of equal weight (Huang et al. 2024)."""
    if not weight > 0:
        raise InputError(f"r3gan: expected a weight above 0, got {weight:g}")
    return RelativisticPairing((R1(weight), R2(weight)))
