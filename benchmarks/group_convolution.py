"""What group convolutions cost over ordinary ones of equal width.

    python benchmarks/group_convolution.py [--repeats 100]

Forward and backward passes of `GroupConv` and of `torch.nn.Conv2d` between as many channels as the
moved filters have, 64, on batches of 16; then forward passes of the exported C4 generator of the
rotated digits and of a plain one whose convolutions have the same channels, on batches of 64. Both
sides take turns in one process and one thread, with channels last, and are charged the processor's
time, which other programs disturb less. Prints the ratio of the medians, and its least and most
over five parts of the repetitions.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor, nn

from lawful.nn.equivariant import GroupConv, export
from lawful.nn.images import SymmetricGenerator
from lawful.studies.rotmnist import RotatedDigitsStudy
from lawful.symmetry.planar import Planar, planar

CHANNELS, BATCH, SAMPLES, PARTS = 64, 16, 64, 5

Task = Callable[[], object]


@dataclass(frozen=True)
class Compared:
    """Seconds of the processor for every repetition of both sides."""

    ours: list[float]
    plain: list[float]

    def ratios(self) -> list[float]:
        """Of medians, for each part of the repetitions."""
        size = len(self.ours) // PARTS
        parts = [slice(k * size, (k + 1) * size) for k in range(PARTS)]
        return [median(self.ours[part]) / median(self.plain[part]) for part in parts]

    def line(self, name: str) -> str:
        """A line of the table."""
        ours, plain = median(self.ours), median(self.plain)
        parts = self.ratios()
        spread = f"{min(parts):.2f} to {max(parts):.2f}"
        return f"{name:<24}{1e3 * ours:>8.2f}{1e3 * plain:>8.2f}{ours / plain:>8.2f}   {spread}"


def compare(ours: Task, plain: Task, repeats: int) -> Compared:
    for task in (ours, plain) * 3:
        task()
    times: dict[Task, list[float]] = {ours: [], plain: []}
    for turn in range(repeats):
        for task in (ours, plain) if turn % 2 else (plain, ours):
            started = time.process_time()
            task()
            times[task].append(time.process_time() - started)
    return Compared(times[ours], times[plain])


def step(layer: nn.Module, x: Tensor) -> Task:
    """A forward and a backward pass, the gradient of the input included."""
    x.requires_grad_(True)
    with torch.no_grad():
        slope = torch.randn_like(layer(x))

    def task() -> None:
        x.grad = None
        layer.zero_grad()
        layer(x).backward(slope)

    return task


def convolutions(group: Planar, side: int, repeats: int) -> Compared:
    torch.manual_seed(0)
    x = torch.randn(BATCH, CHANNELS, side, side).contiguous(memory_format=torch.channels_last)
    fields = x.clone().unflatten(1, (CHANNELS // group.order, group.order))
    ours = GroupConv(group, fields.shape[1], fields.shape[1])
    plain = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1).to(memory_format=torch.channels_last)
    return compare(step(ours, fields), step(plain, x), repeats)


def generators(repeats: int) -> Compared:
    study = RotatedDigitsStudy.presets()["quick"]
    full, order = study.network(), study.symmetry.order
    widths = [order * width for width in study.widths("generator")[::-1]]
    networks = export(full), export(SymmetricGenerator(Planar(1), pose="none", widths=widths))
    condition = study.conditions(SAMPLES)

    def task(network: nn.Module) -> Task:
        return lambda: network(condition)

    with torch.no_grad():
        return compare(task(networks[0]), task(networks[1]), repeats)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=100)
    options = parser.parse_args()
    torch.set_num_threads(1)
    repeats = max(PARTS, options.repeats)
    print(f"{'':<24}{'ours':>8}{'plain':>8}{'ratio':>8}   least to most   (ms)")
    for name in ("C4", "D4"):
        for side in (28, 14, 7):
            found = convolutions(planar(name), side, repeats)
            print(found.line(f"{name} conv, {side} x {side}"), flush=True)
    print(generators(repeats).line("exported C4 generator"))


if __name__ == "__main__":
    main()
