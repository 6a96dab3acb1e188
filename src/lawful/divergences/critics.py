r"""Divergences with a critic: what critic and generator descend, as functions of scores.

Scores are the critic's outputs on real and on generated samples: one per sample, or several, such
as a map over patches, of which each counts by itself. A divergence D(Q‖P) has the data as Q and the
generator as P. The (f, Gamma) family (Birrell et al. 2022) is

.. math:: D_f^\Gamma(Q \| P) = \sup_{\gamma \in \Gamma}
    \{ E_Q[\gamma] - \inf_\nu (\nu + E_P[f^*(\gamma - \nu)]) \}

Without the shift, nu = 0; the two agree where Gamma is closed under shifts. The infimum over nu is
convex and one-dimensional, and is solved on every batch. Its minimiser is then held constant,
which leaves the gradient exact (Danskin). `reverse` exchanges the two sides: D_f^Gamma(P‖Q), with
the data under f*.

An output activation maps a critic's raw score onto the domain of f* (Nowozin et al. 2016, table 2),
so that any network may be a critic.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import exp, inf, log
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lawful.divergences.penalties import (
    R1,
    R2,
    Critic,
    OneSidedSquared,
    Penalty,
    TwoSided,
    check_pair,
)
from lawful.divergences.samples import double
from lawful.errors import InputError

__all__ = [
    "DIVERGENCES",
    "KL",
    "Alpha",
    "Divergence",
    "DivergenceName",
    "FGamma",
    "Hellinger",
    "Hinge",
    "JensenShannon",
    "LeastSquares",
    "MinMax",
    "NonSaturating",
    "RelativisticAverage",
    "RelativisticPairing",
    "ReverseKL",
    "Wasserstein",
    "r3gan",
]

BISECTIONS = 60
Scores = Float[Tensor, "..."]
Flat = Float[Tensor, " _"]
Scalar = Float[Tensor, ""]


@dataclass(frozen=True)
class Divergence(ABC):
    """An objective of two players; a subclass states their losses as functions of scores.

    Arguments:
        penalties: On the critic's gradient, added to its loss; at most one of a name.
    """

    penalties: tuple[Penalty, ...] = ()

    def __post_init__(self) -> None:
        given = self.penalties
        if not isinstance(given, tuple) or not all(isinstance(p, Penalty) for p in given):
            raise InputError(f"penalties: expected a tuple of penalties, got {given!r}")
        if len({p.name for p in given}) < len(given):
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
        terms = {"critic": self.on_critic(*_flat(critic(real), critic(fake)))}
        for penalty in self.penalties:
            terms[penalty.name] = penalty(inner or critic, real, fake)
        return terms

    def critic_loss(self, real: Scores, fake: Scores) -> Scalar:
        """What the critic descends, of a divergence without penalties.

        Raises:
            InputError: The scores cannot be compared, or there are penalties: they need the critic
                and its samples (`critic_terms`).
        """
        if self.penalties:
            names = ", ".join(penalty.name for penalty in self.penalties)
            raise InputError(f"critic_loss: scores alone do not give {names}; call critic_terms")
        return self.on_critic(*_flat(real, fake))

    def generator_loss(self, real: Scores, fake: Scores) -> Scalar:
        """What the generator descends.

        Raises:
            InputError: The scores cannot be compared.
        """
        return self.on_generator(*_flat(real, fake))

    @abstractmethod
    def on_critic(self, real: Flat, fake: Flat) -> Scalar:
        """The critic's loss without penalties; scores are checked and made flat before."""

    def on_generator(self, real: Flat, fake: Flat) -> Scalar:
        """The generator's loss; where not overridden it descends what the critic ascends."""
        return -self.on_critic(real, fake)


def _flat(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """Scores as two vectors, however many there are per sample."""
    check_pair("scores", real, fake)
    return real.flatten(), fake.flatten()


class Wasserstein(Divergence):
    """W1 for critics of Lipschitz constant 1: E_Q D - E_P D (Arjovsky et al. 2017)."""

    def on_critic(self, real: Flat, fake: Flat) -> Scalar:
        return fake.mean() - real.mean()


class LeastSquares(Divergence):
    """½ E_Q (D - 1)² + ½ E_P D²; the generator ½ E_P (D - 1)² (Mao et al. 2017, a, b, c = 0, 1, 1).

    The critic's loss is least at D = q / (q + p).
    """

    def on_critic(self, real: Flat, fake: Flat) -> Scalar:
        return ((real - 1).square().mean() + fake.square().mean()) / 2

    def on_generator(self, real: Flat, fake: Flat) -> Scalar:
        return (fake - 1).square().mean() / 2


class Hinge(Divergence):
    """E_Q max(0, 1 - D) + E_P max(0, 1 + D); the generator -E_P D (Lim & Ye 2017).

    At the best critic the loss is 2 - 2 TV(Q, P).
    """

    def on_critic(self, real: Flat, fake: Flat) -> Scalar:
        return (1 - real).relu().mean() + (1 + fake).relu().mean()

    def on_generator(self, real: Flat, fake: Flat) -> Scalar:
        return -fake.mean()


class MinMax(Divergence):
    """-E_Q log s(D) - E_P log(1 - s(D)), s the logistic function, min-max (Goodfellow et al. 2014).

    At the best critic the loss is 2 log 2 - 2 JS(Q, P).
    """

    def on_critic(self, real: Flat, fake: Flat) -> Scalar:
        return F.softplus(-real).mean() + F.softplus(fake).mean()

    def on_generator(self, real: Flat, fake: Flat) -> Scalar:
        return -F.softplus(fake).mean()


class NonSaturating(MinMax):
    """The same critic; the generator descends -E_P log s(D) (Goodfellow et al. 2014, section 3)."""

    def on_generator(self, real: Flat, fake: Flat) -> Scalar:
        return F.softplus(-fake).mean()


class RelativisticAverage(Divergence):
    """Each sample against the mean of the other kind (Jolicoeur-Martineau 2019).

    L_D = -E_Q log s(D - E_P D) - E_P log(1 - s(D - E_Q D)); L_G has Q and P exchanged.
    """

    def on_critic(self, real: Flat, fake: Flat) -> Scalar:
        above = F.softplus(-(real - fake.mean())).mean()
        return above + F.softplus(fake - real.mean()).mean()

    def on_generator(self, real: Flat, fake: Flat) -> Scalar:
        return self.on_critic(fake, real)


class RelativisticPairing(Divergence):
    """E log(1 + exp(D(fake) - D(real))) over pairs; the generator has the two exchanged.

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


@dataclass(frozen=True, kw_only=True)
class FGamma(Divergence):
    """A member of the (f, Gamma) family; what the generator descends is its lower bound.

    Class attributes are the upper end of the domain of f*, and f'(1), where f* has slope 1.

    Arguments:
        reverse: D(P‖Q) instead of D(Q‖P).
        shift: Optimise nu; else nu = 0. Second derivatives leave out the shift's own.
    """

    reverse: bool = False
    shift: bool = False

    bound: ClassVar[float] = inf
    neutral: ClassVar[float] = 0.0

    @abstractmethod
    def conjugate(self, y: Tensor) -> Tensor:
        """f*(y), the convex conjugate."""

    @abstractmethod
    def slope(self, y: Tensor) -> Tensor:
        """The derivative of f*; non-decreasing, 1 at f'(1)."""

    def activation(self, v: Tensor) -> Tensor:
        """A raw score as a value in the domain of f*, increasing."""
        return v

    def conjugate_of_score(self, v: Tensor) -> Tensor:
        """f*(activation(v)), in a form that does not overflow where there is one."""
        return self.conjugate(self.activation(v))

    def on_critic(self, real: Flat, fake: Flat) -> Scalar:
        """The lower bound of the divergence that these scores give, negated."""
        upper, lower = (fake, real) if self.reverse else (real, fake)
        if not self.shift:
            return self.conjugate_of_score(lower).mean() - self.activation(upper).mean()
        gamma = self.activation(double(lower))  # single precision ends near the domain's bound
        nu = self._best_shift(gamma.detach())
        inner = nu + self.conjugate(gamma - nu).mean()
        return inner.to(lower) - self.activation(upper).mean()

    def _best_shift(self, gamma: Tensor) -> Tensor:
        """The root of 1 = E f*'(gamma - nu), which falls in nu, by bisection."""
        top = gamma.max()
        # At `low` every entry's slope is at least 1; at `high` none exceeds 1.
        low, high = gamma.min() - self.neutral, top - self.neutral
        for _ in range(BISECTIONS):
            middle = (torch.maximum(low, top - self.bound) + high) / 2
            steep = self.slope(gamma - middle).mean() > 1
            low, high = torch.where(steep, middle, low), torch.where(steep, high, middle)
        return high


class KL(FGamma):
    """f(x) = x log x: KL(Q‖P); with the shift, Donsker and Varadhan's bound."""

    neutral: ClassVar[float] = 1.0

    def conjugate(self, y: Tensor) -> Tensor:
        return (y - 1).exp()

    def slope(self, y: Tensor) -> Tensor:
        return self.conjugate(y)

    def _best_shift(self, gamma: Tensor) -> Tensor:
        return torch.logsumexp(gamma, 0) - log(len(gamma)) - 1


class ReverseKL(FGamma):
    """f(x) = -log x: KL(P‖Q)."""

    bound: ClassVar[float] = 0.0
    neutral: ClassVar[float] = -1.0

    def conjugate(self, y: Tensor) -> Tensor:
        return -1 - (-y).log()

    def slope(self, y: Tensor) -> Tensor:
        return -1 / y

    def activation(self, v: Tensor) -> Tensor:
        return -(-v).exp()

    def conjugate_of_score(self, v: Tensor) -> Tensor:
        return v - 1


class JensenShannon(FGamma):
    """f(x) = x log x - (x + 1) log((x + 1) / 2): twice the Jensen-Shannon divergence."""

    bound: ClassVar[float] = log(2)

    def conjugate(self, y: Tensor) -> Tensor:
        return -(2 - y.exp()).log()

    def slope(self, y: Tensor) -> Tensor:
        return y.exp() / (2 - y.exp())

    def activation(self, v: Tensor) -> Tensor:
        return log(2) - F.softplus(-v)

    def conjugate_of_score(self, v: Tensor) -> Tensor:
        return F.softplus(v) - log(2)


class Hellinger(FGamma):
    """f(x) = (sqrt(x) - 1)²: the squared Hellinger distance, 2 - 2 E sqrt(qp)."""

    bound: ClassVar[float] = 1.0

    def conjugate(self, y: Tensor) -> Tensor:
        return y / (1 - y)

    def slope(self, y: Tensor) -> Tensor:
        return (1 - y).pow(-2)

    def activation(self, v: Tensor) -> Tensor:
        return 1 - (-v).exp()

    def conjugate_of_score(self, v: Tensor) -> Tensor:
        return v.expm1()


@dataclass(frozen=True, kw_only=True)
class Alpha(FGamma):
    r"""f(x) = (x^alpha - 1) / (alpha (alpha - 1)), alpha > 1.

    .. math:: f^*(y) = \alpha^{-1} (\alpha - 1)^{\alpha/(\alpha-1)}
        \max(y, 0)^{\alpha/(\alpha-1)} + \frac{1}{\alpha (\alpha - 1)}

    With :class:`~lawful.divergences.OneSidedSquared` it is the Lipschitz-alpha GAN of
    structure-preserving GANs; alpha = 2 is half of Pearson's chi squared.
    """

    alpha: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 < self.alpha < inf:
            raise InputError(f"alpha: expected above 1, got {self.alpha:g}")

    @property
    def neutral(self) -> float:  # type: ignore[override]
        return 1 / (self.alpha - 1)

    def conjugate(self, y: Tensor) -> Tensor:
        a = self.alpha
        rise = exp(a / (a - 1) * log(a - 1)) / a * y.relu().pow(a / (a - 1))
        return rise + 1 / (a * (a - 1))

    def slope(self, y: Tensor) -> Tensor:
        return ((self.alpha - 1) * y.relu()).pow(1 / (self.alpha - 1))


# By the name that configurations and options use, with the usual penalty of a given weight.
DIVERGENCES: Mapping[str, Callable[[float], Divergence]] = {
    "non-saturating": lambda weight: NonSaturating((R1(weight),)),
    "min-max": lambda weight: MinMax((R1(weight),)),
    "wasserstein": lambda weight: Wasserstein((TwoSided(weight),)),
    "relativistic-average": lambda weight: RelativisticAverage((R1(weight),)),
    "r3gan": r3gan,
    "hinge": lambda weight: Hinge((R1(weight),)),
    "least-squares": lambda weight: LeastSquares((R1(weight),)),
    "kl": lambda weight: KL((OneSidedSquared(weight),), shift=True),
    "reverse-kl": lambda weight: ReverseKL((R1(weight),)),
    "jensen-shannon": lambda weight: JensenShannon((R1(weight),)),
    "alpha": lambda weight: Alpha((OneSidedSquared(weight),)),
    "hellinger": lambda weight: Hellinger((R1(weight),)),
}
if TYPE_CHECKING:
    DivergenceName = str
else:
    DivergenceName = Literal[tuple(DIVERGENCES)]  # the choices of an option
