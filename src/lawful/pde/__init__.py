"""Conservation laws in one dimension: grids, schemes, solvers, laws and a network."""

from lawful.pde.network import EvolutionGenerator

__all__ = ["EvolutionGenerator"]
