"""What the trainer costs over the same adversarial steps written as a bare loop.

    python benchmarks/trainer_overhead.py [--steps 150] [--rounds 5]

Both play the game of the shipped motif models at their size, in turn, in one process: the trainer
(`studies.run.train`, with its checks, logs, averages, monitoring and checkpoints) and a loop that
has nothing but draws, losses, backward passes and Adam. Prints the ratio of their times a step.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch
from lightning_fabric import Fabric

from lawful.divergences import R1, NonSaturating
from lawful.games.state import averaging
from lawful.studies.motif import MotifStudy
from lawful.studies.run import train


def trainer(study: MotifStudy, folder: Path) -> float:
    """Seconds a step of the trainer, from the second step on."""
    times = []
    for _ in train(study, folder, Fabric(accelerator="cpu", devices=1)):
        times.append(time.perf_counter())
    return (times[-1] - times[0]) / (len(times) - 1)


def bare(study: MotifStudy) -> float:
    """Seconds a step of the same steps by hand, from the second step on."""
    torch.manual_seed(study.training.seed)
    law, entry, critic_penalty = study.planted(), NonSaturating(), R1(study.penalty)
    players = study.players()
    generator, critic = players["generator"], players["critic"]
    average = [p.detach().clone() for p in generator.parameters()]
    update = averaging(study.training.average)
    rate = study.training.learning_rate
    optimizers = [
        torch.optim.Adam(player.parameters(), lr=rate, betas=(0.0, 0.99))
        for player in (generator, critic)
    ]
    draw, random = study.game().draw, torch.Generator().manual_seed(0)
    judge = lambda x: critic(law.hide(x, {}), {})  # noqa: E731
    times = []
    for step in range(study.training.steps):
        batch = draw(random)
        fake = generator(batch.condition)
        with torch.no_grad():
            real = judge(batch.data)
        loss = entry.generator_loss(real, judge(fake)) + study.weight * law.loss(fake, {})
        gradients = torch.autograd.grad(loss, list(generator.parameters()))
        for p, gradient in zip(generator.parameters(), gradients, strict=True):
            p.grad = gradient
        optimizers[0].step()
        batch = draw(random)
        with torch.no_grad():
            fake = generator(batch.condition)
        loss = entry.critic_loss(judge(batch.data), judge(fake))
        loss = loss + critic_penalty(judge, batch.data, fake)
        optimizers[1].zero_grad()
        loss.backward()
        optimizers[1].step()
        update(average, list(generator.parameters()), step)
        times.append(time.perf_counter())
    return (times[-1] - times[0]) / (len(times) - 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    full = MotifStudy.presets()["full"]
    study = replace(full, training=replace(full.training, steps=options.steps))
    ratios = []
    with TemporaryDirectory() as folder:
        for number in range(options.rounds):
            ours, loop = trainer(study, Path(folder) / str(number)), bare(study)
            ratios.append(ours / loop)
            print(f"trainer {1e3 * ours:.1f} ms, bare loop {1e3 * loop:.1f} ms: {ratios[-1]:.3f}")
    print(f"median of {options.rounds} rounds: {median(ratios):.3f} (least {min(ratios):.3f}, "
          f"most {max(ratios):.3f})")  # fmt: skip


if __name__ == "__main__":
    main()
