r"""Is a distribution invariant? An exact test on samples.

If X has an invariant law, then replacing every sample by a random element's image of it changes
nothing in law. The observed distance between the samples and their symmetrized set is therefore
one among exchangeable values, and its rank gives a p-value valid for any number of samples
(randomization test: Hoeffding 1952; for groups of symmetries: Chiu & Bloem-Reddy 2023).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lawful.errors import InputError
from lawful.symmetry.group import Group

BATCH = 250  # images of which features are taken at a time
BLOCK = 2**22  # numbers of an array that grows with the number of samples


@dataclass(frozen=True)
class InvarianceTest:
    """A randomization test of invariance.

    Arguments:
        statistic: Energy distance between the samples and their orbits.
        p_value: Probability of so large a distance if the law is invariant, from below bounded by
            1 / (draws + 1).
        typical: Median of the distance under invariance.
        count, draws: Samples, and random choices of elements.
    """

    statistic: float
    p_value: float
    typical: float
    count: int
    draws: int


@torch.no_grad()
def invariance_test(
    samples: Float[Tensor, "batch *shape"],
    group: Group,
    *,
    features: Callable[[Tensor], Tensor] | None = None,
    draws: int = 999,
    seed: int = 0,
) -> InvarianceTest:
    r"""Test whether independent samples have a law that is invariant under a group.

    With :math:`\varphi` the features, :math:`\mu` the mean embedding of the kernel
    :math:`-\|u - v\|`, the statistic is :math:`\|\mu(\varphi(x)) - \mu(\varphi(\Sigma x))\|^2`.

    Memory holds the features of all orbits, the choices (`draws` times samples), and a few blocks
    of four million numbers; time grows like `draws` times the square of order times samples.

    Arguments:
        features: `(batch, …)` to `(batch, feature)`, not invariant themselves; all entries of a
            sample where not given.
        draws: Random choices of an element for every sample.

    Raises:
        InputError: Fewer than two samples, values that are not finite, or a group that only
            nearly acts: moving twice would blur twice, and be told from not moving.
    """
    if not group.exact:
        raise InputError(f"invariance test: {group.name} interpolates; test an exact part of it")
    if not samples.ndim or len(samples) < 2 or draws < 1:
        raise InputError(
            f"invariance test: expected 2 samples and a draw or more, got samples "
            f"{tuple(samples.shape)} and {draws} draws"
        )
    embed = features or (lambda x: x)
    count = len(samples)
    rows = torch.cat(
        [
            embed(part).reshape(len(part), -1).double().cpu()
            for element in range(group.order)
            for part in group.act(samples, element).split(BATCH)
        ]
    )
    if not bool(torch.isfinite(rows).all()):
        raise InputError("invariance test: expected finite samples and features")
    random = torch.Generator().manual_seed(seed)
    elements = torch.randint(group.order, (draws, count), generator=random)
    observed = torch.zeros(1, count, dtype=torch.long)
    statistics, longest = _statistics(rows, torch.cat([observed, elements]))
    seen, others = statistics[0], statistics[1:]
    # Rounding must not decide between equal choices.
    above = int((others >= seen - 1e-12 * longest).sum())
    return InvarianceTest(
        float(seen), (1 + above) / (1 + draws), float(others.median()), count, draws
    )


def distances(x: Float[Tensor, "n entry"], y: Float[Tensor, "m entry"]) -> Float[Tensor, "n m"]:
    """‖x_i - y_j‖ by differences: a matrix product loses the digits of short distances."""
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")


def _statistics(rows: Tensor, elements: Tensor) -> tuple[Tensor, float]:
    """Squared distance of the chosen samples' mean embedding to that of all, a choice a row.

    And the longest distance. Both run over blocks of the rows' square and of the choices.
    """
    draws, count = elements.shape
    places = elements * count + torch.arange(count)
    step = max(1, BLOCK // len(rows))
    statistics, longest = rows.new_zeros(draws), 0.0
    for first in range(0, len(rows), step):
        gram = -distances(rows[first : first + step], rows)
        longest = max(longest, float(-gram.min()))
        for some in torch.arange(draws).split(step):
            weights = rows.new_full((len(some), len(rows)), -1 / len(rows))
            weights.scatter_(1, places[some], 1 / count - 1 / len(rows))
            part = weights[:, first : first + step]
            statistics[some] += ((weights @ gram.T) * part).sum(1)
    return statistics, longest
