"""Virtual imaging trials and dose research on the patient's own images.

Public names load lazily, so that ``import twinlab`` stays quick.
"""

import lazy_loader as _lazy

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    submodules=[
        "keys",
        "schema",
        "sample",
        "physics",
        "kernels",
        "phantom",
        "scanner",
        "ct",
        "dose",
        "quality",
        "cardiac",
        "study",
        "report",
    ],
)
