"""What the trainer costs over the same adversarial steps written as a bare loop.

    python benchmarks/trainer_overhead.py [--steps 300] [--rounds 5]

Both play the game of the shipped motif models at their size, in turn, in one process: the trainer
(`lawful.run.train`, with its checks, logs, averages, monitoring, snapshots and checkpoints) and a
loop that has nothing but draws, losses, backward passes, Adam and the average. Both must end with
the same weights. Prints the ratio of their times a step. A snapshot is taken every tenth of a run,
so a short run has more of them a step than the real one.
"""

import argparse
import time
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch
from lightning_fabric import Fabric
from safetensors.torch import load_file
from torch import Tensor

from lawful.divergences import R1, NonSaturating
from lawful.run import train
from lawful.studies.motif import MotifStudy
from lawful.training import Adam
from lawful.training.state import averaging


@dataclass(frozen=True)
class Trained:
    """Seconds a step, from the second step on, and the averaged generator's weights."""

    seconds: float
    weights: list[Tensor]


def trainer(study: MotifStudy, folder: Path) -> Trained:
    times = []
    for _ in train(study, folder, Fabric(accelerator="cpu", devices=1)):
        times.append(time.perf_counter())
    weights = load_file(folder / "model.safetensors")
    names = [name for name, _ in study.network().named_parameters()]
    return Trained((times[-1] - times[0]) / (len(times) - 1), [weights[n] for n in names])


def bare(study: MotifStudy) -> Trained:
    torch.manual_seed(study.training.seed)
    law, entry, gradient_penalty = study.planted(), NonSaturating(), R1(study.penalty)
    players = study.players()
    generator, critic = players["generator"], players["critic"]
    parameters = list(generator.parameters())
    average: list[Tensor] = []
    update, steps = averaging(study.training.average), study.training.steps
    adam = Adam(study.training.learning_rate, betas=(0.0, 0.99))
    optimizers = [adam.build(player) for player in (generator, critic)]
    draw, random = study.game().draw, torch.Generator().manual_seed(0)
    judge = lambda x: critic(law.hide(x, {}), {})  # noqa: E731
    times = []
    for step in range(steps):
        for optimizer in optimizers:
            optimizer.param_groups[0]["lr"] = adam.rate(step, steps)
        batch = draw(random)
        fake = generator(batch.condition)
        with torch.no_grad():
            real = judge(batch.data)
        loss = entry.generator_loss(real, judge(fake)) + study.weight * law.loss(fake, {})
        optimizers[0].zero_grad()
        loss.backward(inputs=parameters)
        optimizers[0].step()
        batch = draw(random)
        with torch.no_grad():
            fake = generator(batch.condition)
        loss = entry.critic_loss(judge(batch.data), judge(fake))
        loss = loss + gradient_penalty(judge, batch.data, fake)
        optimizers[1].zero_grad()
        loss.backward()
        optimizers[1].step()
        if step:
            update(average, parameters, step)
        else:
            average = [p.detach().clone() for p in parameters]
        times.append(time.perf_counter())
    return Trained((times[-1] - times[0]) / (len(times) - 1), average)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    full = MotifStudy.presets()["full"]
    study = replace(full, training=replace(full.training, steps=options.steps))
    ratios = []
    with TemporaryDirectory() as folder:
        for number in range(options.rounds):
            place = Path(folder) / str(number)
            if number % 2:
                loop, ours = bare(study), trainer(study, place)
            else:
                ours, loop = trainer(study, place), bare(study)
            for mine, theirs in zip(ours.weights, loop.weights, strict=True):
                torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)
            ratios.append(ours.seconds / loop.seconds)
            print(
                f"trainer {1e3 * ours.seconds:.1f} ms, bare loop {1e3 * loop.seconds:.1f} ms: "
                f"{ratios[-1]:.3f}"
            )
    least, most = min(ratios), max(ratios)
    print(f"median of {options.rounds}: {median(ratios):.3f} ({least:.3f} to {most:.3f})")


if __name__ == "__main__":
    main()
