r"""A generator of space-time fields from an initial row and a few scalars.

.. math:: G(u_0, s)(t, x) = (S_0(t) u_0)(x) + t\, N(t, u_0, s)(x),\qquad S_0(0) = I

so the initial condition holds exactly, whatever the network N. The field carries `refinement`
times as many cells as the initial row: laws act on the fine cells, users read the coarse ones.
Beside :math:`S_0 u_0`, N sees the row carried along characteristics of constant speed:
transport then is a pointwise choice among its channels instead of long-range memory, which is what
carries over to initial conditions unlike the trained ones.

`Shifts` has fixed speeds: :math:`S_0 = I`, and :math:`u_0(x - v t)` beside it. `Propagators` are
those of a periodic equation: :math:`S_v` solves :math:`u_t + v u_x = D u_{xx}` exactly, at the
equation's speeds of each row's own values and with its own diffusivity.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from lawful.errors import InputError
from lawful.laws import Condition, CorrectableLaw, Law
from lawful.nn.unet import ScalarEmbedding, UNet
from lawful.pde.equations import ConservationLaw
from lawful.pde.grid import refine
from lawful.pde.laws import InitialLaw
from lawful.study import obeyed


class EvolutionGenerator(nn.Module):
    """`{"initial": (B, cells), scalar: (B,), …}` to fields `(B, 1, times, cells * refinement)`.

    Arguments:
        cells, times: Cells of the initial row; rows of the field, the first at time zero.
        scalars: Range of each scalar of the condition, by name; there may be none.
        duration: Time of the last row, in units of length over speed where `speeds` are given.
        refinement: Fine cells per coarse cell.
        speeds: Characteristic speeds, of either sign, whose carried rows the network sees.
        periodic: Whether what is carried over an end comes in at the other; else zero does.
        equation: A periodic equation, whose `Propagators` stand in the place of fixed speeds.
        own_speeds: Number of speeds of each row's own values.
        rows: Rows of a patch.
        nonnegative: Keep the refined initial row non-negative.
        exact_initial: Add the initial row, as above; otherwise the network has to learn it.
        width, depth, embedding: Those of the U-Net, which sees patches of `rows` rows by 2 coarse
            cells.
    """

    def __init__(
        self,
        cells: int,
        times: int,
        scalars: Mapping[str, tuple[float, float]],
        *,
        duration: float = 1.0,
        refinement: int = 1,
        speeds: tuple[float, ...] = (),
        periodic: bool = False,
        equation: ConservationLaw | None = None,
        own_speeds: int = 8,
        rows: int = 2,
        nonnegative: bool = False,
        exact_initial: bool = True,
        width: int = 32,
        depth: int = 1,
        embedding: int = 64,
    ) -> None:
        super().__init__()
        wide, high = 2 ** (depth + 1), rows * 2**depth
        if cells % wide or times % high:
            raise InputError(
                f"generator: expected cells divisible by {wide} and times by {high}, got {cells} "
                f"and {times}"
            )
        self.cells, self.times, self.refinement = cells, times, refinement
        self.scalars = tuple(scalars)
        self.nonnegative, self.exact_initial = nonnegative, exact_initial
        self.patch = (rows, 2 * refinement)
        area = self.patch[0] * self.patch[1]
        time = torch.linspace(0, 1, times)
        self.register_buffer("time", time[:, None], persistent=False)
        self.carry: Shifts | Propagators
        if equation is None:
            self.carry = Shifts(cells * refinement, speeds, time * duration, periodic)
        else:
            length = equation.grid.upper - equation.grid.lower
            self.carry = Propagators(equation, time * duration * length, own_speeds)
        self.embed = ScalarEmbedding([scalars[name] for name in scalars], embedding)
        inputs = (2 + self.carry.speeds) * area
        self.net = UNet(inputs, area, width, depth, embedding, periodic=equation is not None)

    time: Tensor

    def forward(self, condition: Condition) -> Float[Tensor, "batch 1 times fine"]:
        initial = refine(condition["initial"], self.refinement, nonnegative=self.nonnegative)
        base, carried = self.carry(initial, condition)
        features = torch.cat([base, self.time.expand_as(base), carried], 1)
        given = [condition[name].to(initial) for name in self.scalars]
        scalars = torch.stack(given, 1) if given else initial.new_empty(len(initial), 0)
        change = self.net(self._to_patches(features), self.embed(scalars))
        field = self._from_patches(change)
        return base + self.time * field if self.exact_initial else field

    def obeys(self) -> tuple[Law, ...]:
        """The laws that every field of this generator obeys by construction."""
        return (InitialLaw(),) if self.exact_initial else ()

    def _to_patches(self, x: Tensor) -> Tensor:
        high, wide = self.patch
        x = x.unflatten(-1, (-1, wide)).unflatten(-3, (-1, high))
        return x.permute(0, 1, 3, 5, 2, 4).flatten(1, 3)

    def _from_patches(self, x: Tensor) -> Tensor:
        high, wide = self.patch
        x = x.unflatten(1, (-1, high, wide)).permute(0, 1, 4, 2, 5, 3)
        return x.flatten(-2).flatten(-3, -2)


class Corrected(nn.Module):
    """A generator whose fields are corrected by a law, once they are sampled from.

    In training mode fields are the generator's own, for its loss is the size of that correction. A
    correction costs one march through all rows, for the whole batch at once.

    Arguments:
        generator: Makes the fields.
        law: Its `correction` is added to them.
    """

    def __init__(self, generator: nn.Module, law: CorrectableLaw) -> None:
        super().__init__()
        self.generator, self.law = generator, law

    def forward(self, condition: Condition) -> Float[Tensor, "batch 1 times fine"]:
        field: Tensor = self.generator(condition)
        return field if self.training else field + self.law.correction(field, condition)

    def obeys(self) -> tuple[Law, ...]:
        """The laws that the generator's fields obey; the law's corrections have to keep them."""
        return obeyed(self.generator)


class Shifts(nn.Module):
    """Rows `u0(x - v t)` for several speeds, by linear interpolation; zero beyond the ends or
    periodic."""

    lower: Tensor
    share: Tensor

    def __init__(self, cells: int, speeds: tuple[float, ...], time: Tensor, periodic: bool) -> None:
        super().__init__()
        self.speeds, self.times, self.periodic = len(speeds), len(time), periodic
        distance = torch.tensor(speeds).reshape(-1, 1, 1) * time[None, :, None] * cells
        place = torch.arange(cells) - distance
        lower: Int[Tensor, "speed time cell"] = place.floor().long()
        self.register_buffer("share", place - lower, persistent=False)
        # Two cells are added at each end: those over it, or what is repeated beyond it.
        beyond = lower % cells if periodic else lower.clamp(-2, cells)
        self.register_buffer("lower", beyond + 2, persistent=False)

    def forward(
        self, initial: Float[Tensor, "batch cells"], _condition: Condition
    ) -> tuple[Float[Tensor, "batch 1 time cells"], Float[Tensor, "batch speed time cells"]]:
        """The row at rest, and carried at each speed."""
        padded = F.pad(initial, (2, 2), mode="circular" if self.periodic else "constant")
        left, right = padded[:, self.lower], padded[:, self.lower + 1]
        rest = initial[:, None, None].expand(-1, -1, self.times, -1)
        return rest, left + self.share.to(initial) * (right - left)


class Propagators(nn.Module):
    """Exact solutions of u_t + v u_x = D u_xx from periodic rows, by Fourier transform.

    Arguments:
        equation: Gives each sample's speeds and diffusivity; its grid has the length of the period.
        time: Times of the rows.
        speeds: Number of values, evenly from the least to the greatest of a row, whose speeds v
            are taken.
    """

    time: Tensor

    def __init__(self, equation: ConservationLaw, time: Tensor, speeds: int) -> None:
        super().__init__()
        self.equation, self.speeds = equation, speeds
        self.register_buffer("time", time[:, None], persistent=False)

    def forward(
        self, initial: Float[Tensor, "batch cells"], condition: Condition
    ) -> tuple[Float[Tensor, "batch 1 time cells"], Float[Tensor, "batch speed time cells"]]:
        """The row carried at the speed of its mean, and at each speed."""
        cells = initial.shape[-1]
        low, high = initial.amin(1, keepdim=True), initial.amax(1, keepdim=True)
        share = torch.linspace(0, 1, self.speeds, dtype=initial.dtype, device=initial.device)
        values = torch.cat([initial.mean(1, keepdim=True), low + share * (high - low)], 1)
        c = self.equation.coefficients(condition, values)
        speed = self.equation.speed(values, c).expand_as(values)[..., None, None]
        length = self.equation.grid.upper - self.equation.grid.lower
        wave = torch.arange(cells // 2 + 1, device=initial.device) * (2 * torch.pi / length)
        diffusivity = torch.as_tensor(self.equation.diffusivity(c)).to(initial).reshape(-1, 1, 1, 1)
        decay = torch.exp(-diffusivity * wave.square() * self.time)
        spectrum = torch.fft.rfft(initial)[:, None, None] * decay
        turned = spectrum * torch.exp(-1j * wave * speed * self.time)
        carried = torch.fft.irfft(turned, n=cells)
        return carried[:, :1], carried[:, 1:]
