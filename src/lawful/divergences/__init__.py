"""Divergences between data and generator: critics' objectives, penalties, kernels, transport."""

from lawful.divergences.critics import *  # noqa: F403  every module says what it exports
from lawful.divergences.penalties import *  # noqa: F403
from lawful.divergences.samples import *  # noqa: F403
