"""Conservation laws in one dimension, and steady diffusion in two: solvers, laws and networks."""

from lawful.pde.equations import AdvectionDiffusion, Burgers, ConservationLaw
from lawful.pde.grid import Dirichlet, Grid, Inflow, Outflow, Periodic
from lawful.pde.laws import BoundaryLaw, InitialLaw, MassLaw, ThetaLaw
from lawful.pde.network import EvolutionGenerator
from lawful.pde.schemes import FirstOrder, Muscl, Weno5
from lawful.pde.solve import solve
from lawful.pde.study import ConservationStudy

__all__ = [
    "AdvectionDiffusion",
    "BoundaryLaw",
    "Burgers",
    "ConservationLaw",
    "ConservationStudy",
    "Dirichlet",
    "EvolutionGenerator",
    "FirstOrder",
    "Grid",
    "Inflow",
    "InitialLaw",
    "MassLaw",
    "Muscl",
    "Outflow",
    "Periodic",
    "ThetaLaw",
    "Weno5",
    "solve",
]
