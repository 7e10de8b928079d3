"""Registered variables of maintenance: name, dims, units and meaning (see :mod:`twinlab.variables`)."""

MAINTENANCE: list[tuple[str, str, str, str]] = [
    # telemetry, one entry a scan
    # wear
    # daily checks and drift
    # remaining life
    # survival
    # online
    # policy
]
