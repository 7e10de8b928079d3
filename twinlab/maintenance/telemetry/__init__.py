"""Telemetry of scanners: its schema, readers, and the quarantine of what cannot be used."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    submod_attrs={
        "columns": ["telemetry_schema"],
        "reading": ["Reading", "read_telemetry"],
        "writing": ["write_telemetry"],
    },
)
