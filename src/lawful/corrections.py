"""Corrections of generated fields, each kept only where it is judged to be an improvement."""

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor, nn

from lawful.laws import Condition, Estimate, Fields, Law, PerSample
from lawful.study import Study, obeyed

# A correction contracts; a smaller fall is within what the judge itself does not know.
FALL = 0.9


def correct(
    study: Study, network: nn.Module, fields: Fields, condition: Condition, times: int
) -> tuple[Fields, Int[Tensor, " batch"], Estimate | None]:
    """Correct `fields` by the study's corrector, `times` tries per sample.

    A try is taken where the corrected field is finite and the study's estimate falls below 0.9 of
    what it was; where the study gives none, the corrector's violation. What the network obeys by
    construction must hold as well as it did, to rounding. Elsewhere the sample stays, and its next
    try is half as long. A correction must contract: where M overshoots in some directions, a
    shorter one does.

    Returns:
        Fields, how many tries each sample has taken, and the estimate of what is left to the
        solution, where the study can give it.
    """
    with torch.no_grad():
        estimate = study.estimate(network, fields, condition)
        limits = _limits(obeyed(network), study.observe(fields), condition)
    corrector = study.corrector()
    accepted = torch.zeros(len(fields), dtype=torch.long, device=fields.device)
    if corrector is None or not times:
        return fields, accepted, estimate

    def score(judged: Estimate | None, x: Tensor) -> Tensor:
        found = corrector.violation(x, condition) if judged is None else judged.absolute
        return found.nan_to_num(nan=torch.inf)

    rows = (-1, *[1] * (fields.ndim - 1))
    length, best = torch.ones(len(fields)).to(fields), score(estimate, fields).detach()
    for _ in range(times):
        moved = fields + length.view(rows) * corrector.correction(fields, condition)
        with torch.no_grad():
            judged = study.estimate(network, moved, condition)
            found = score(judged, moved)
            better = (found < FALL * best) & moved.isfinite().flatten(1).all(1)
            seen = study.observe(moved)
            for law, limit in limits:
                better &= law.violation(seen, condition) <= limit
        fields, best = torch.where(better.view(rows), moved, fields), best.where(~better, found)
        if estimate is not None and judged is not None:
            estimate = judged.where(better, estimate)
        accepted, length = accepted + better, torch.where(better, length, length / 2)
    return fields, accepted, estimate


def _limits(laws: Sequence[Law], x: Tensor, condition: Condition) -> list[tuple[Law, PerSample]]:
    """Each law's violation of `x`, or of `x` with a few roundings, whichever is larger."""
    rows = (-1, *[1] * (x.ndim - 1))
    ulp = torch.finfo(x.dtype).eps * x.flatten(1).abs().amax(1).view(rows)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).to(x)
    rounded = x + 8 * ulp * noise
    return [
        (law, law.violation(x, condition).maximum(law.violation(rounded, condition)))
        for law in laws
    ]
