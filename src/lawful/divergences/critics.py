r"""Divergences with a critic: what critic and generator descend, as functions of scores.

Scores are the critic's outputs on real and on generated samples: one per sample, or several, such
as a map over patches, of which each counts by itself. A divergence D(Q‖P) has the data as Q and the
generator as P; s is the logistic function. Where nothing else is said the generator descends what
the critic ascends.

- `Wasserstein`: W1 for critics of Lipschitz constant 1, E_Q D - E_P D (Arjovsky et al. 2017).
- `LeastSquares`: ½ E_Q (D - 1)² + ½ E_P D²; the generator ½ E_P (D - 1)² (Mao et al. 2017 with
  a, b, c = 0, 1, 1). The critic's loss is least at D = q / (q + p).
- `Hinge`: E_Q max(0, 1 - D) + E_P max(0, 1 + D); the generator -E_P D (Lim & Ye 2017). At the best
  critic the loss is 2 - 2 TV(Q, P).
- `MinMax`: -E_Q log s(D) - E_P log(1 - s(D)) (Goodfellow et al. 2014); at the best critic it is
  2 log 2 - 2 JS(Q, P). `NonSaturating`: the generator descends -E_P log s(D) (its section 3).
- `RelativisticAverage`: -E_Q log s(D - E_P D) - E_P log(1 - s(D - E_Q D)), each sample against the
  mean of the other kind; the generator has Q and P exchanged (Jolicoeur-Martineau 2019).
- `RelativisticPairing`: E log(1 + exp(D(fake) - D(real))) over pairs; the generator has the two
  exchanged (the same; with R1 and R2 the loss of R3GAN, Huang et al. 2024).

The (f, Gamma) family (Birrell et al. 2022) is

.. math:: D_f^\Gamma(Q \| P) = \sup_{\gamma \in \Gamma}
    \{ E_Q[\gamma] - \inf_\nu (\nu + E_P[f^*(\gamma - \nu)]) \}

Without the shift, nu = 0; the two agree where Gamma is closed under shifts. The infimum over nu is
convex and one-dimensional, and is solved on every batch. Its minimiser is then held constant,
which leaves the gradient exact (Danskin). `reverse` exchanges the two sides: D_f^Gamma(P‖Q), with
the data under f*. An output activation maps a critic's raw score onto the domain of f* (Nowozin et
al. 2016, table 2), so that any network may be a critic.

- `KL`, f(x) = x log x: KL(Q‖P); with the shift, Donsker and Varadhan's bound.
- `ReverseKL`, f(x) = -log x: KL(P‖Q).
- `JensenShannon`, f(x) = x log x - (x + 1) log((x + 1) / 2): twice the Jensen-Shannon divergence.
- `Hellinger`, f(x) = (sqrt(x) - 1)²: the squared Hellinger distance, 2 - 2 E sqrt(qp).
- `Alpha`, f(x) = (x^alpha - 1) / (alpha (alpha - 1)): with `OneSidedSquared` the Lipschitz-alpha
  GAN of structure-preserving GANs; alpha = 2 is half of Pearson's chi squared.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from math import exp, inf, log
from typing import TYPE_CHECKING, Annotated, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lawful.divergences import penalties as p
from lawful.divergences.penalties import Critic, Penalty, Samples, Scalar, check_pair
from lawful.divergences.samples import double
from lawful.errors import InputError
from lawful.typed import Positive, Within, typed

__all__ = [
    "DIVERGENCES", "KL", "Alpha", "Divergence", "DivergenceName", "FGamma", "Hellinger", "Hinge",
    "JensenShannon", "LeastSquares", "MinMax", "NonSaturating", "RelativisticAverage",
    "RelativisticPairing", "ReverseKL", "Wasserstein", "r3gan",
]  # fmt: skip

BISECTIONS = 60
Scores = Float[Tensor, "..."]
Flat = Float[Tensor, " _"]
Loss = Callable[[Tensor, Tensor], Tensor]  # of scores on real and on generated samples
Function = Callable[[Tensor], Tensor]
Order = Annotated[float, Within(1, 1e6, above=True)]


@dataclass(frozen=True)
class Divergence:
    """An objective of two players; see the head of this module for its settings.

    Arguments:
        penalties: Penalties on the critic's gradient, added to its loss; one of a name.
        critic: The critic's loss without penalties, as a function of flat scores.
        generator: The generator's; where not given it descends what the critic ascends.
    """

    penalties: tuple[Penalty, ...] = ()
    critic: Loss = field(kw_only=True, repr=False)
    generator: Loss | None = field(default=None, kw_only=True, repr=False)

    def __post_init__(self) -> None:
        given = self.penalties
        if not isinstance(given, tuple) or not all(isinstance(entry, Penalty) for entry in given):
            raise InputError(f"penalties: expected a tuple of penalties, got {given!r}")
        if len({entry.name for entry in given}) < len(given):
            raise InputError(f"penalties: expected one of a kind, got {given!r}")

    def critic_terms(
        self, critic: Critic, real: Samples, fake: Samples, *, inner: Critic | None = None
    ) -> dict[str, Scalar]:
        """What the critic descends, by name: `critic` of its scores, and every penalty.

        Arguments:
            critic: Samples to scores.
            inner: The critic that penalties are taken of, where it is not the same object.

        Raises:
            InputError: Samples or scores cannot be compared.
        """
        terms = {"critic": self.on_critic(critic(real), critic(fake))}
        return terms | {entry.name: entry(inner or critic, real, fake) for entry in self.penalties}

    def critic_loss(self, real: Scores, fake: Scores) -> Scalar:
        """What the critic descends, of a divergence without penalties.

        Raises:
            InputError: The scores cannot be compared, or there are penalties: they need the critic
                and its samples (`critic_terms`).
        """
        if self.penalties:
            names = ", ".join(entry.name for entry in self.penalties)
            raise InputError(f"critic_loss: scores alone do not give {names}; call critic_terms")
        return self.on_critic(real, fake)

    def on_critic(self, real: Scores, fake: Scores) -> Scalar:
        """The critic's loss without penalties, whatever there are.

        Raises:
            InputError: The scores cannot be compared.
        """
        check_pair("scores", real, fake)
        return self.critic(real.flatten(), fake.flatten())

    def generator_loss(self, real: Scores, fake: Scores) -> Scalar:
        """What the generator descends.

        Raises:
            InputError: The scores cannot be compared.
        """
        if self.generator is None:
            return -self.on_critic(real, fake)
        check_pair("scores", real, fake)
        return self.generator(real.flatten(), fake.flatten())


def _least_squares(real: Flat, fake: Flat) -> Scalar:
    return ((real - 1).square().mean() + fake.square().mean()) / 2


def _hinge(real: Flat, fake: Flat) -> Scalar:
    return (1 - real).relu().mean() + (1 + fake).relu().mean()


def _logistic(real: Flat, fake: Flat) -> Scalar:
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def _average(real: Flat, fake: Flat) -> Scalar:
    return _logistic(real - fake.mean(), fake - real.mean())


def _pairing(real: Flat, fake: Flat) -> Scalar:
    if len(real) != len(fake):
        raise InputError(
            f"relativistic pairing: expected as many real as generated scores, got {len(real)} and "
            f"{len(fake)}"
        )
    return F.softplus(fake - real).mean()


Wasserstein = partial(Divergence, critic=lambda real, fake: fake.mean() - real.mean())
LeastSquares = partial(
    Divergence, critic=_least_squares, generator=lambda _, fake: (fake - 1).square().mean() / 2
)
Hinge = partial(Divergence, critic=_hinge, generator=lambda _, fake: -fake.mean())
MinMax = partial(Divergence, critic=_logistic, generator=lambda _, fake: -F.softplus(fake).mean())
NonSaturating = partial(MinMax, generator=lambda _, fake: F.softplus(-fake).mean())
RelativisticAverage = partial(
    Divergence, critic=_average, generator=lambda real, fake: _average(fake, real)
)
RelativisticPairing = partial(
    Divergence, critic=_pairing, generator=lambda real, fake: _pairing(fake, real)
)


def r3gan(weight: float = 1.0) -> Divergence:
    """R3GAN's setting: relativistic pairing with R1 and R2 of equal weight (Huang et al. 2024)."""
    weight = typed(weight, Positive, "r3gan: weight")
    return RelativisticPairing((p.R1(weight), p.R2(weight)))


@dataclass(frozen=True, kw_only=True)
class FGamma(Divergence):
    """A member of the (f, Gamma) family; what the generator descends is its lower bound.

    Arguments:
        conjugate: f*, the convex conjugate.
        slope: The derivative of f*; non-decreasing, 1 at f'(1).
        activation: A raw score as a value in the domain of f*, increasing.
        of_score: f*(activation(v)), where a form of it does not overflow.
        bound: Upper end of the domain of f*.
        neutral: f'(1), where f* has slope 1.
        reverse: D(P‖Q) instead of D(Q‖P).
        shift: Optimise nu; else nu = 0. Second derivatives leave out the shift's own.
    """

    critic: Loss = field(init=False, repr=False, compare=False)
    conjugate: Function = field(repr=False)
    slope: Function = field(repr=False)
    activation: Function = field(default=lambda v: v, repr=False)
    of_score: Function | None = field(default=None, repr=False)
    bound: float = inf
    neutral: float = 0.0
    reverse: bool = False
    shift: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "critic", self._lower_bound)

    def _lower_bound(self, real: Flat, fake: Flat) -> Scalar:
        """What these scores give of the divergence, negated."""
        upper, lower = (fake, real) if self.reverse else (real, fake)
        if not self.shift:
            of_score = self.of_score or (lambda v: self.conjugate(self.activation(v)))
            return of_score(lower).mean() - self.activation(upper).mean()
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


def _shifted_exp(y: Tensor) -> Tensor:
    return (y - 1).exp()


KL = partial(FGamma, conjugate=_shifted_exp, slope=_shifted_exp, neutral=1.0)
ReverseKL = partial(
    FGamma,
    conjugate=lambda y: -1 - (-y).log(),
    slope=lambda y: -1 / y,
    activation=lambda v: -(-v).exp(),
    of_score=lambda v: v - 1,
    bound=0.0,
    neutral=-1.0,
)
JensenShannon = partial(
    FGamma,
    conjugate=lambda y: -(2 - y.exp()).log(),
    slope=lambda y: y.exp() / (2 - y.exp()),
    activation=lambda v: log(2) - F.softplus(-v),
    of_score=lambda v: F.softplus(v) - log(2),
    bound=log(2),
)
Hellinger = partial(
    FGamma,
    conjugate=lambda y: y / (1 - y),
    slope=lambda y: (1 - y).pow(-2),
    activation=lambda v: 1 - (-v).exp(),
    of_score=torch.expm1,
    bound=1.0,
)


def Alpha(  # noqa: N802
    penalties: tuple[Penalty, ...] = (),
    *,
    alpha: float = 2.0,
    reverse: bool = False,
    shift: bool = False,
) -> FGamma:
    r"""The alpha divergence, alpha > 1.

    .. math:: f^*(y) = \alpha^{-1} (\alpha - 1)^{\alpha/(\alpha-1)}
        \max(y, 0)^{\alpha/(\alpha-1)} + \frac{1}{\alpha (\alpha - 1)}

    Raises:
        InputError: Alpha is out of its range.
    """
    alpha = typed(alpha, Order, "alpha")
    power = alpha / (alpha - 1)
    scale, constant = exp(power * log(alpha - 1)) / alpha, 1 / (alpha * (alpha - 1))
    return FGamma(
        penalties=penalties,
        conjugate=lambda y: scale * y.relu().pow(power) + constant,
        slope=lambda y: ((alpha - 1) * y.relu()).pow(1 / (alpha - 1)),
        neutral=1 / (alpha - 1),
        reverse=reverse,
        shift=shift,
    )


# By the name that configurations and options use, with the usual penalty of a given weight.
DIVERGENCES: Mapping[str, Callable[[float], Divergence]] = {
    "non-saturating": lambda weight: NonSaturating((p.R1(weight),)),
    "min-max": lambda weight: MinMax((p.R1(weight),)),
    "wasserstein": lambda weight: Wasserstein((p.TwoSided(weight),)),
    "relativistic-average": lambda weight: RelativisticAverage((p.R1(weight),)),
    "r3gan": r3gan,
    "hinge": lambda weight: Hinge((p.R1(weight),)),
    "least-squares": lambda weight: LeastSquares((p.R1(weight),)),
    "kl": lambda weight: KL((p.OneSidedSquared(weight),), shift=True),
    "reverse-kl": lambda weight: ReverseKL((p.R1(weight),)),
    "jensen-shannon": lambda weight: JensenShannon((p.R1(weight),)),
    "alpha": lambda weight: Alpha((p.OneSidedSquared(weight),)),
    "hellinger": lambda weight: Hellinger((p.R1(weight),)),
}
if TYPE_CHECKING:
    DivergenceName = str
else:
    DivergenceName = Literal[tuple(DIVERGENCES)]  # the choices of an option
