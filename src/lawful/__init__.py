"""Generative models that obey what is already known."""

from lawful.errors import InputError, LawfulWarning, NonFiniteError, StabilityError
from lawful.laws.law import AffineLaw, CorrectableLaw, Law, law
from lawful.studies.model import Model, Samples, load
from lawful.studies.study import Quantity, Study, Training

__all__ = [
    "AffineLaw",
    "CorrectableLaw",
    "InputError",
    "Law",
    "LawfulWarning",
    "Model",
    "NonFiniteError",
    "Quantity",
    "Samples",
    "StabilityError",
    "Study",
    "Training",
    "law",
    "load",
]
