r"""Blocks of convolutional networks, plain or symmetric: normalisation, modulation, residual block.

Features are `(batch, channel, rows, columns)` or, over a group, `(batch, field, order, rows,
columns)`; every block takes either. Normalisation is over channels at each pixel: statistics taken
over the whole field would couple distant places and carry the training conditions' global features
into every pixel.
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

SLOPE = 0.2
Conv = Callable[[int, int, int], nn.Module]  # from inputs, outputs and size of the kernel
Layer = Callable[[int], nn.Module]  # from the number of channels
plain_conv: Conv = partial(nn.Conv2d, padding="same")
leaky_relu = partial(F.leaky_relu, negative_slope=SLOPE)
RENAMED = {"grain.": "noise.", "modulation.linear.": "modulation."}  # in weights of November 2026


class RMSNorm(nn.Module):
    """Root mean square over channels, and the group, at every pixel made 1 (Zhang & Sennrich 2019).

    Arguments:
        channels: Number of channels with a learned gain; 0 for no gain.
    """

    def __init__(self, channels: int = 0) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(channels, 1, 1)) if channels else None

    def forward(self, x: Float[Tensor, "batch *channel h w"]) -> Float[Tensor, "..."]:
        axes = tuple(range(1, x.ndim - 2))
        x = x * torch.rsqrt(x.square().mean(axes, keepdim=True) + 1e-5)
        return x if self.gain is None else x * self.gain


def pixel_norm(_channels: int) -> RMSNorm:
    """The normalisation without a gain, whatever the number of channels."""
    return RMSNorm()


class Modulation(nn.Linear):
    """(1 + γ) x + β, γ and β linear in an embedding (FiLM, Perez et al. 2018), one for a field."""

    def __init__(self, channels: int, embedding: int) -> None:
        super().__init__(embedding, 2 * channels)

    def forward(  # type: ignore[override]
        self, x: Float[Tensor, "batch *channel h w"], embedding: Float[Tensor, "batch embedding"]
    ) -> Float[Tensor, "batch *channel h w"]:
        # Once per element: with channels last, numbers shared over the group cost four times more.
        flat, order = x.flatten(1, -3), x.shape[2:-2].numel()
        shared = super().forward(embedding).repeat_interleave(order, 1)
        scale, shift = shared[:, :, None, None].chunk(2, 1)
        return torch.addcmul(shift, flat, 1 + scale).unflatten(1, x.shape[1:-2])


class Modulated(nn.Module):
    """Base of a block that normalises features, adds noise to them and modulates them."""

    def modulate_with(
        self, channels: int, embedding: int, norm: Layer | None, noise: Layer | None
    ) -> None:
        """Arguments as of `ResidualBlock`."""
        self.norm = nn.Identity() if norm is None else norm(channels)
        self.noise = None if noise is None else noise(channels)
        self.modulation = Modulation(channels, embedding) if embedding else None
        self.register_load_state_dict_pre_hook(_renamed)

    def modulated(self, x: Tensor, embedding: Tensor | None, noise: Tensor | None) -> Tensor:
        """`x` normalised, with noise, and modulated, as far as this block does so."""
        x = self.norm(x)
        x = x if self.noise is None else self.noise(x, noise)
        return x if self.modulation is None else self.modulation(x, embedding)


def _renamed(_block: nn.Module, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    for old, new in RENAMED.items():
        for name in [name for name in state if name.startswith(prefix + old)]:
            state[prefix + new + name.removeprefix(prefix + old)] = state.pop(name)


class ResidualBlock(Modulated):
    r"""Two 3 x 3 convolutions beside the identity, or beside a pointwise one of other width.

    .. math:: x + W_2\, a(M(W_1\, a(x))) \quad\text{or}\quad x + W_2\, a(W_1\, a(M(x)))

    with M the normalisation, noise and modulation, and a the activation.

    Arguments:
        inputs, outputs: Numbers of channels or fields.
        embedding: Size of the vector that modulates; 0 for no modulation.
        conv: Makes a convolution; that of a group makes the block equivariant.
        norm: Makes the normalisation, if any.
        noise: Makes what adds an image of noise, if anything does.
        first: Whether M comes first, as in the second formula.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        embedding: int = 0,
        *,
        conv: Conv = plain_conv,
        norm: Layer | None = None,
        noise: Layer | None = None,
        first: bool = False,
        activation: Callable[[Tensor], Tensor] = leaky_relu,
    ) -> None:
        super().__init__()
        self.modulates_first, self.activation = first, activation
        self.first, self.second = conv(inputs, outputs, 3), conv(outputs, outputs, 3)
        self.skip = conv(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        self.modulate_with(inputs if first else outputs, embedding, norm, noise)

    def forward(
        self,
        x: Float[Tensor, "batch *channel h w"],
        embedding: Float[Tensor, "batch embedding"] | None = None,
        noise: Float[Tensor, "batch 1 h w"] | None = None,
    ) -> Float[Tensor, "batch *channel2 h w"]:
        if self.modulates_first:
            h = self.first(self.activation(self.modulated(x, embedding, noise)))
        else:
            h = self.modulated(self.first(self.activation(x)), embedding, noise)
        out: Tensor = self.skip(x) + self.second(self.activation(h))
        return out
