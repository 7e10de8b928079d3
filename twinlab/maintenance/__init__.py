"""The scanner's own twin: how it wears, what fails next and when, and what to do about it."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    submodules=["telemetry", "wear", "remaining", "survival", "drift", "online", "policy"],
)
