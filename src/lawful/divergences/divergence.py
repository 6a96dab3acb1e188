r"""Divergences with a critic: what critic and generator descend, as functions of scores.

Scores are the critic's outputs on real and on generated samples, of shape `(batch,)`. A divergence
Q‖P has the data as Q and the generator as P.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lawful.divergences.penalties import R1, R2, Penalty
from lawful.errors import InputError

Scores = Float[Tensor, " _"]
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

    @abstractmethod
    def critic_loss(self, real: Scores, fake: Scores) -> Scalar:
        """What the critic descends, without the penalties."""

    @abstractmethod
    def generator_loss(self, real: Scores, fake: Scores) -> Scalar:
        """What the generator descends."""


@dataclass(frozen=True)
class Wasserstein(Divergence):
    """W1 for critics of Lipschitz constant 1: E_Q D - E_P D (Arjovsky et al. 2017)."""

    def critic_loss(self, real: Scores, fake: Scores) -> Scalar:
        return fake.mean() - real.mean()

    def generator_loss(self, real: Scores, fake: Scores) -> Scalar:
        return real.mean() - fake.mean()


@dataclass(frozen=True)
class LeastSquares(Divergence):
    """½ E_Q (D - 1)² + ½ E_P D²; the generator ½ E_P (D - 1)² (Mao et al. 2017, a, b, c = 0, 1, 1).

    The critic's loss is least at D = q / (q + p).
    """

    def critic_loss(self, real: Scores, fake: Scores) -> Scalar:
        return ((real - 1).square().mean() + fake.square().mean()) / 2

    def generator_loss(self, real: Scores, fake: Scores) -> Scalar:
        return (fake - 1).square().mean() / 2


@dataclass(frozen=True)
class Hinge(Divergence):
    """E_Q max(0, 1 - D) + E_P max(0, 1 + D); the generator -E_P D (Lim & Ye 2017).

    At the best critic the loss is 2 - 2 TV(Q, P).
    """

    def critic_loss(self, real: Scores, fake: Scores) -> Scalar:
        return (1 - real).relu().mean() + (1 + fake).relu().mean()

    def generator_loss(self, real: Scores, fake: Scores) -> Scalar:
        return -fake.mean()


@dataclass(frozen=True)
class Original(Divergence):
    """-E_Q log s(D) - E_P log(1 - s(D)), s the logistic function, min-max (Goodfellow et al. 2014).

    At the best critic the loss is 2 log 2 - 2 JS(Q, P).
    """

    def critic_loss(self, real: Scores, fake: Scores) -> Scalar:
        return F.softplus(-real).mean() + F.softplus(fake).mean()

    def generator_loss(self, real: Scores, fake: Scores) -> Scalar:
        return -F.softplus(fake).mean()


@dataclass(frozen=True)
class NonSaturating(Original):
    """The same critic; the generator descends -E_P log s(D) (Goodfellow et al. 2014, section 3)."""

    def generator_loss(self, real: Scores, fake: Scores) -> Scalar:
        return F.softplus(-fake).mean()


@dataclass(frozen=True)
class RelativisticAverage(Divergence):
    """Each sample against the mean of the other kind (Jolicoeur-Martineau 2019).

    L_D = -E_Q log s(D - E_P D) - E_P log(1 - s(D - E_Q D)); L_G has Q and P exchanged.
    """

    def critic_loss(self, real: Scores, fake: Scores) -> Scalar:
        above = F.softplus(-(real - fake.mean())).mean()
        return above + F.softplus(fake - real.mean()).mean()

    def generator_loss(self, real: Scores, fake: Scores) -> Scalar:
        return self.critic_loss(fake, real)


@dataclass(frozen=True)
class RelativisticPairing(Divergence):
    """E log(1 + exp(D(fake) - D(real))) over pairs; the generator the same with the sign turned.

    Jolicoeur-Martineau 2019; with R1 and R2 the loss of R3GAN (Huang et al. 2024).
    """

    def critic_loss(self, real: Scores, fake: Scores) -> Scalar:
        return F.softplus(fake - real).mean()

    def generator_loss(self, real: Scores, fake: Scores) -> Scalar:
        return F.softplus(real - fake).mean()


def r3gan(weight: float = 1.0) -> RelativisticPairing:
    """R3GAN's setting: relativistic pairing with R1 and R2 of equal weight (Huang et al. 2024)."""
    if not weight > 0:
        raise InputError(f"r3gan: expected a weight above 0, got {weight:g}")
    return RelativisticPairing((R1(weight), R2(weight)))
