"""Iterative reconstruction: algebraic, least-squares and penalised statistical methods."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    submod_attrs={
        "images": ["reconstruct"],
        "operator": ["System", "system"],
    },
)
