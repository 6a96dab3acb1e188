r"""What a generator of microstructures is measured against: its targets met without a network.

`optimise_from_noise` is direct optimisation (as Seibert, Ambati, Raßloff & Kästner, Computational
Materials Science 2021, who optimise grey pixels; here a smooth field, which is stronger):

.. math::
    \min_u \sum_r \bigl(p_2[\chi](r) - p_2^*(r)\bigr)^2,\qquad
    \chi = \sigma(\beta\, k * u)

with k a Gaussian kernel and :math:`\sigma` a sigmoid. The level is 0 and stays there: since
:math:`p_2^*(0) = \phi`, the volume fraction is among what is fitted. The optimised field is then
cut at the level of exactly round(phi N) pixels.

`unlearned` is the study's sampler with nothing in the network's place: the field that the network
starts from, and the sampler's law steps. `from_blurred_field` is the study's own refinement from
that field, without law steps. What they leave to be gained is what training is for.
"""

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import minimize
from torch import Tensor

from lawful.laws import Condition
from lawful.materials.fields import blur_transfer
from lawful.materials.levelcut import level_cut
from lawful.materials.network import BLUR, minority, spectral_field
from lawful.materials.statistics import two_point as two_point_of
from lawful.project import Projected, unrolled
from lawful.studies.microstructure import (
    DAMPING,
    TARGET,
    LawfulMicrostructures,
    refine_latent,
)

SIGMOID = 10.0  # beta, in inverse standard deviations of the first field
SCALE = 1e6  # of the objective, for single precision


def optimise_from_noise(
    phi: Float[Tensor, " batch"],
    two_point: Float[Tensor, "batch radius"],
    noise: Float[Tensor, "batch rows columns"],
    iterations: int = 100,
) -> Float[Tensor, "batch 1 rows columns"]:
    """Binary images by L-BFGS (Liu & Nocedal 1989), a sample at a time, from white noise.

    Arguments:
        iterations: Of L-BFGS at most, each of one or more evaluations.
    """
    kernel = blur_transfer(*noise.shape[-2:], BLUR).to(noise)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a sample at a time: a second thread only waits
    try:
        with torch.enable_grad():
            fields = [
                _optimised(curve, start, kernel, iterations)
                for curve, start in zip(two_point, noise, strict=True)
            ]
    finally:
        torch.set_num_threads(threads)
    return level_cut(torch.stack(fields).unsqueeze(1), phi)


def _optimised(
    target: Float[Tensor, " radius"],
    start: Float[Tensor, "rows columns"],
    kernel: Float[Tensor, "rows half"],
    iterations: int,
) -> Float[Tensor, "rows columns"]:
    """The field of one sample."""
    size = start.shape

    def field(u: Tensor) -> Tensor:
        return torch.fft.irfft2(torch.fft.rfft2(u) * kernel, s=size)

    def objective(values: np.ndarray) -> tuple[float, np.ndarray]:
        u = torch.from_numpy(values).to(start).view(size).requires_grad_()
        soft = torch.sigmoid(SIGMOID * field(u))
        loss = SCALE * (two_point_of(soft, len(target)) - target).square().mean()
        (slope,) = torch.autograd.grad(loss, u)
        return float(loss.detach()), slope.double().numpy().ravel()

    first = start / field(start).square().mean().sqrt()
    limits = {"maxiter": iterations, "ftol": 0.0, "gtol": 0.0}
    found = minimize(
        objective, first.double().numpy().ravel(), jac=True, method="L-BFGS-B", options=limits
    )
    return field(torch.from_numpy(found.x).to(start).view(size))


def blurred_field(condition: Condition) -> Float[Tensor, "batch 1 rows columns"]:
    """Noise coloured to the target's Gaussian correlation, and blurred: the network's start."""
    phi, curve, sign = minority(condition["volume_fraction"], condition["two_point"])
    field = spectral_field(condition["noise"], phi, curve)
    return (field * sign[:, None, None]).unsqueeze(1)


def unlearned(
    network: LawfulMicrostructures, condition: Condition
) -> Float[Tensor, "batch 1 rows columns"]:
    """Binary images of the blurred field after the law steps of the sampler."""
    target = {name: condition[name] for name in TARGET}
    w = unrolled(network.problem, blurred_field(condition), target, network.steps, DAMPING)
    return level_cut(w, condition["volume_fraction"])


def from_blurred_field(condition: Condition, tolerance: float) -> Projected:
    """As `MicrostructureStudy.refine`, from the blurred field in place of the network's."""
    return refine_latent(blurred_field(condition), condition, tolerance)
