"""The heart: geometry from images, electrophysiology, mechanics, circulation, flow, and the twin of them all."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    submodules=["geometry", "electro", "mechanics", "circulation", "flow", "twin"],
)
