"""Flow: lattice Boltzmann in voxel vessels, one-dimensional haemodynamics, analytic profiles."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    submod_attrs={},
)
