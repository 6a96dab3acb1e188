r"""The (f, Gamma) family (Birrell et al. 2022).

.. math:: D_f^\Gamma(Q \| P) = \sup_{\gamma \in \Gamma}
    \{ E_Q[\gamma] - \inf_\nu (\nu + E_P[f^*(\gamma - \nu)]) \}

Without the shift, nu = 0; the two agree where Gamma is closed under shifts. The infimum over nu is
convex and one-dimensional, and is solved on every batch; its minimiser is then held constant,
which leaves the gradient exact (Danskin). `reverse` exchanges the two sides: D_f^Gamma(P‖Q), with
the data under f*.

A critic's raw output v is mapped onto the domain of f* by :meth:`FGamma.onto` (Nowozin et al. 2016,
table 2), so that any network may be a critic.
"""

from abc import abstractmethod
from dataclasses import dataclass
from math import exp, inf, log

import torch
import torch.nn.functional as F
from torch import Tensor

from lawful.divergences.divergence import Divergence, Flat, Scalar, Scores, flat
from lawful.divergences.samples import double
from lawful.errors import InputError

BISECTIONS = 60


@dataclass(frozen=True, kw_only=True)
class FGamma(Divergence):
    """A member of the family, min-max: the generator descends what the critic ascends.

    Arguments:
        reverse: D(P‖Q) instead of D(Q‖P).
        shift: Optimise nu; else nu = 0. Second derivatives leave out the shift's own.
    """

    reverse: bool = False
    shift: bool = False

    @abstractmethod
    def conjugate(self, y: Tensor) -> Tensor:
        """f*(y), the convex conjugate."""

    @abstractmethod
    def slope(self, y: Tensor) -> Tensor:
        """The derivative of f*; non-decreasing, 1 at f'(1)."""

    @property
    def bound(self) -> float:
        """Upper end of the domain of f*."""
        return float("inf")

    def onto(self, v: Tensor) -> Tensor:
        """A raw score as a value in the domain of f*, increasing."""
        return v

    def under(self, v: Tensor) -> Tensor:
        """f*(onto(v)); in a form that does not overflow where there is one."""
        return self.conjugate(self.onto(v))

    def value(self, real: Scores, fake: Scores) -> Scalar:
        """The lower bound of the divergence that these scores give.

        Raises:
            InputError: The scores cannot be compared.
        """
        real, fake = flat(real, fake)
        upper, lower = (fake, real) if self.reverse else (real, fake)
        if not self.shift:
            return self.onto(upper).mean() - self.under(lower).mean()
        gamma = self.onto(double(lower))  # near the bound of the domain single precision ends
        nu = self._best_shift(gamma.detach())
        inner = nu + self.conjugate(gamma - nu).mean()
        return self.onto(upper).mean() - inner.to(lower)

    def on_critic(self, real: Flat, fake: Flat) -> Scalar:
        return -self.value(real, fake)

    def on_generator(self, real: Flat, fake: Flat) -> Scalar:
        return self.value(real, fake)

    def _best_shift(self, gamma: Tensor) -> Tensor:
        """The root of 1 = E f*'(gamma - nu), which falls in nu, by bisection."""
        top = gamma.max()
        centre = self._neutral()
        # At `low` every entry's slope is at least 1; at `high` none exceeds 1.
        low, high = gamma.min() - centre, top - centre
        floor = top - self.bound
        for _ in range(BISECTIONS):
            middle = (torch.maximum(low, floor) + high) / 2
            steep = self.slope(gamma - middle).mean() > 1
            low, high = torch.where(steep, middle, low), torch.where(steep, high, middle)
        return high

    def _neutral(self) -> float:
        """f'(1), where the slope of f* is 1."""
        return 0.0


@dataclass(frozen=True, kw_only=True)
class KL(FGamma):
    """f(x) = x log x: KL(Q‖P); with the shift, Donsker and Varadhan's bound."""

    def conjugate(self, y: Tensor) -> Tensor:
        return (y - 1).exp()

    def slope(self, y: Tensor) -> Tensor:
        return (y - 1).exp()

    def _best_shift(self, gamma: Tensor) -> Tensor:
        return torch.logsumexp(gamma, 0) - log(len(gamma)) - 1

    def _neutral(self) -> float:
        return 1.0


@dataclass(frozen=True, kw_only=True)
class ReverseKL(FGamma):
    """f(x) = -log x: KL(P‖Q)."""

    def conjugate(self, y: Tensor) -> Tensor:
        return -1 - (-y).log()

    def slope(self, y: Tensor) -> Tensor:
        return -1 / y

    @property
    def bound(self) -> float:
        return 0.0

    def onto(self, v: Tensor) -> Tensor:
        return -(-v).exp()

    def under(self, v: Tensor) -> Tensor:
        return v - 1

    def _neutral(self) -> float:
        return -1.0


@dataclass(frozen=True, kw_only=True)
class JensenShannon(FGamma):
    """f(x) = x log x - (x + 1) log((x + 1) / 2): twice the Jensen-Shannon divergence."""

    def conjugate(self, y: Tensor) -> Tensor:
        return -(2 - y.exp()).log()

    def slope(self, y: Tensor) -> Tensor:
        return y.exp() / (2 - y.exp())

    @property
    def bound(self) -> float:
        return log(2)

    def onto(self, v: Tensor) -> Tensor:
        return log(2) - F.softplus(-v)

    def under(self, v: Tensor) -> Tensor:
        return F.softplus(v) - log(2)


@dataclass(frozen=True, kw_only=True)
class Hellinger(FGamma):
    """f(x) = (sqrt(x) - 1)²: the squared Hellinger distance, 2 - 2 E sqrt(qp)."""

    def conjugate(self, y: Tensor) -> Tensor:
        return y / (1 - y)

    def slope(self, y: Tensor) -> Tensor:
        return (1 - y).pow(-2)

    @property
    def bound(self) -> float:
        return 1.0

    def onto(self, v: Tensor) -> Tensor:
        return 1 - (-v).exp()

    def under(self, v: Tensor) -> Tensor:
        return v.expm1()


@dataclass(frozen=True, kw_only=True)
class Alpha(FGamma):
    r"""f(x) = (x^alpha - 1) / (alpha (alpha - 1)), alpha > 1.

    .. math:: f^*(y) = \alpha^{-1} (\alpha - 1)^{\alpha/(\alpha-1)}
        \max(y, 0)^{\alpha/(\alpha-1)} + \frac{1}{\alpha (\alpha - 1)}

    With :class:`~lawful.divergences.OneSidedSquared` the Lipschitz-alpha GAN of
    structure-preserving GANs; alpha = 2 is half of Pearson's chi squared.
    """

    alpha: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 < self.alpha < inf:
            raise InputError(f"alpha: expected above 1, got {self.alpha:g}")

    def conjugate(self, y: Tensor) -> Tensor:
        a = self.alpha
        rise = exp(a / (a - 1) * log(a - 1)) / a * y.relu().pow(a / (a - 1))
        return rise + 1 / (a * (a - 1))

    def slope(self, y: Tensor) -> Tensor:
        return ((self.alpha - 1) * y.relu()).pow(1 / (self.alpha - 1))

    def _neutral(self) -> float:
        return 1 / (self.alpha - 1)
