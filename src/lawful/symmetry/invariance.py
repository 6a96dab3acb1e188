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

BLOCK = 250


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
    if len(samples) < 2 or draws < 1:
        raise InputError(f"invariance test: of {len(samples)} samples in {draws} draws")
    orbit = group.orbit(samples)
    embed = features or (lambda x: x)
    rows = torch.cat(
        [embed(part).flatten(1).double() for one in orbit for part in one.split(BLOCK)]
    )
    if not bool(torch.isfinite(rows).all()):
        raise InputError("invariance test: expected finite samples and features")
    rows = rows.cpu()
    # Not by the matrix product, whose rounding would tell equal choices apart.
    gram = -torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist")
    random = torch.Generator().manual_seed(seed)
    elements = torch.randint(group.order, (draws, len(samples)), generator=random)
    observed = torch.zeros(1, len(samples), dtype=torch.long)
    distances = _distances(gram, torch.cat([observed, elements]))
    seen, others = distances[0], distances[1:]
    # Rounding must not decide between equal choices.
    above = int((others >= seen - 1e-12 * gram.abs().max()).sum())
    return InvarianceTest(
        float(seen), (1 + above) / (1 + draws), float(others.median()), len(samples), draws
    )


def _distances(gram: Tensor, elements: Tensor) -> Tensor:
    """Squared distance of the chosen samples' mean embedding to that of all, a choice a row."""
    draws, count = elements.shape
    chosen = torch.zeros(draws, len(gram), dtype=gram.dtype)
    chosen.scatter_(1, elements * count + torch.arange(count), 1 / count)
    weights = chosen - 1 / len(gram)
    return ((weights @ gram) * weights).sum(1)
