"""Games, the losses and rules they are made of, and the loop that plays them."""

from lawful.training.game import (
    LBFGS,
    SGD,
    Adam,
    Batch,
    Draw,
    Game,
    Joint,
    Loss,
    Move,
    Optimizer,
    Players,
    RMSProp,
    Terms,
)
from lawful.training.loop import fit
from lawful.training.losses import (
    Constraints,
    Enforced,
    Multipliers,
    adversarial_moves,
    correction_loss,
    law_loss,
    law_moves,
    sample_moves,
)
from lawful.training.rules import RULES
from lawful.training.state import State

__all__ = [
    "LBFGS", "RULES", "SGD", "Adam", "Batch", "Constraints", "Draw", "Enforced", "Game", "Joint",
    "Loss", "Move", "Multipliers", "Optimizer", "Players", "RMSProp", "State", "Terms",
    "adversarial_moves", "correction_loss", "fit", "law_loss", "law_moves", "sample_moves",
]  # fmt: skip
