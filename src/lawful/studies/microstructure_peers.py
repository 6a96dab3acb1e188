r"""What a generator of microstructures is measured against: its targets met without a network.

`optimise_from_noise` is direct optimisation (as Seibert, Ambati, Raßloff & Kästner, Computational
Materials Science 2021, who optimise grey pixels; here a smooth field, which is stronger):

.. math::
    \min_u \sum_r \bigl(p_2[\chi](r) - p_2^*(r)\bigr)^2,\qquad
    \chi = \sigma(\beta\, k * u)

with k a Gaussian kernel and :math:`\sigma` a sigmoid. The level is 0 and stays there: since
:math:`p_2^*(0) = \phi`, the volume fraction is among what is fitted. The optimised field is then
cut at the level of exactly round(phi N) pixels.

`blurred_field` is what the network starts from. With `project_latent` it is the study's own
refinement without a network, `unlearned` the sampler's law steps. What they leave to be gained is
what training is for.
"""

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import minimize
from torch import Tensor

from lawful.laws import Condition
from lawful.materials.fields import blur_transfer
from lawful.materials.levelcut import level_cut
from lawful.materials.network import BLUR, DAMPING, TARGET, MicrostructureSampler, spectral_field
from lawful.materials.statistics import minority, two_point
from lawful.project import unrolled

SIGMOID = 10.0  # beta, in inverse standard deviations of the first field
SCALE = 1e6  # of the objective, for single precision


def optimise_from_noise(
    condition: Condition, iterations: int = 100
) -> Float[Tensor, "batch 1 rows columns"]:
    """Binary images by L-BFGS (Liu & Nocedal 1989), a sample at a time, from white noise.

    Arguments:
        iterations: Of L-BFGS at most, each of one or more evaluations.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a sample at a time: a second thread only waits
    try:
        with torch.enable_grad():
            pairs = zip(condition["two_point"], condition["noise"], strict=True)
            fields = [_optimised(curve, start, iterations) for curve, start in pairs]
    finally:
        torch.set_num_threads(threads)
    return level_cut(torch.stack(fields).unsqueeze(1), condition["volume_fraction"])


def _optimised(
    target: Float[Tensor, " radius"], start: Float[Tensor, "rows columns"], iterations: int
) -> Float[Tensor, "rows columns"]:
    """The field of one sample."""
    size = start.shape
    kernel = blur_transfer(*size, BLUR).to(start)

    def field(u: Tensor) -> Tensor:
        return torch.fft.irfft2(torch.fft.rfft2(u) * kernel, s=size)

    def objective(values: np.ndarray) -> tuple[float, np.ndarray]:
        u = torch.from_numpy(values).to(start).view(size).requires_grad_()
        soft = torch.sigmoid(SIGMOID * field(u))
        loss = SCALE * (two_point(soft, len(target)) - target).square().mean()
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
    network: MicrostructureSampler, condition: Condition
) -> Float[Tensor, "batch 1 rows columns"]:
    """Binary images of the blurred field after the law steps of the sampler."""
    target = {name: condition[name] for name in TARGET}
    w = unrolled(network.problem, blurred_field(condition), target, network.steps, DAMPING)
    return level_cut(w, condition["volume_fraction"])
