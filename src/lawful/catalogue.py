"""What is shipped, known without importing any of it: studies, results and models.

What stands here of a study is what `lawful list` says of it; the study itself is imported when it
is asked for.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

WEIGHTS, MANIFEST = "model.safetensors", "manifest.json"


@dataclass(frozen=True)
class Listed:
    """A study, or a result that needs no training.

    Arguments:
        place: Module and name of the study; of a result the module, whose `result` computes it.
        about: What it is, in a line.
        presets: Steps of training by the name of a configuration.
    """

    place: str
    about: str
    presets: Mapping[str, int] = field(default_factory=dict)


STUDIES: Mapping[str, Listed] = {
    "burgers": Listed(
        "lawful.studies.burgers:BurgersStudy",
        "solutions of Burgers' equation, without data (InvNet, table 2)",
        {"full": 26_000, "quick": 2_000, "smoke": 400, "paper": 26_000},
    ),
    "burgers-periodic": Listed(
        "lawful.studies.burgers_periodic:PeriodicBurgersStudy",
        "Burgers' equation on a circle from random rows, without data",
        {"full": 4_500, "quick": 1_000, "smoke": 20},
    ),
    "darcy": Listed(
        "lawful.studies.darcy:DarcyStudy",
        "Darcy flow through random media, without data",
        {"full": 6_500, "quick": 800, "smoke": 60},
    ),
    "motif": Listed(
        "lawful.studies.motif:MotifStudy",
        "digits with a planted motif (InvNet, figure 2)",
        {"full": 20_000, "full-cross": 20_000, "quick": 2_000, "smoke": 60, "paper": 25_000},
    ),
    "digits": Listed(
        "lawful.studies.digits:DigitsStudy",
        "features and classifier by which generated digits are judged",
        {"full": 4_000, "rotated": 6_000, "smoke": 150},
    ),
    "microstructure": Listed(
        "lawful.studies.microstructure:MicrostructureStudy",
        "two-phase images with given statistics (InvNet, figures 4-7)",
        {"full": 4_000, "quick": 1_000, "data-free": 600, "data-free-isotropic": 600,
         "smoke": 20, "paper": 20_000},
    ),
    "rotmnist": Listed(
        "lawful.studies.rotmnist:RotatedDigitsStudy",
        "rotated digits from few examples (structure-preserving GANs)",
        {"quick": 1_000, "full": 5_000, "smoke": 20, "paper": 20_460},
    ),
    "histology": Listed(
        "lawful.studies.histology:HistologyStudy",
        "tissue from few patches (structure-preserving GANs)",
        {"quick": 1_500, "full": 4_000, "smoke": 4, "paper": 40_000},
    ),
    "mixture": Listed(
        "lawful.studies.mixture:MixtureStudy",
        "clusters from few points (structure-preserving GANs)",
        {"quick": 500, "paper": 200_000, "smoke": 20},
    ),
}  # fmt: skip
COMPUTED: Mapping[str, Listed] = {
    "game": Listed(
        "lawful.theory.linear_table",
        "the linear game of InvNet's section 4, computed: what its theorems say and what holds",
    ),
    "symmetry": Listed(
        "lawful.theory.symmetry",
        "the theory of structure-preserving GANs, computed: what its theorems need, what collapses",
    ),
}


def shipped() -> dict[str, Path]:
    """Folders of the models that come with the package, by name."""
    root = Path(str(resources.files("lawful"))) / "models"
    return {path.parent.name: path.parent for path in sorted(root.glob(f"*/{WEIGHTS}"))}
