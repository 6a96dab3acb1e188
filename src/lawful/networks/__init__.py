"""Generators and their parts."""

from lawful.networks.evolution import EvolutionGenerator
from lawful.networks.unet import UNet

__all__ = ["EvolutionGenerator", "UNet"]
