"""Registered variables of maintenance: name, dims, units and meaning (see :mod:`twinlab.variables`)."""

MAINTENANCE: list[tuple[str, str, str, str]] = [
    # telemetry, one entry a scan
    ("kv", "scan", "kV", "tube voltage"),
    ("tube_current_ma", "scan", "mA", "tube current, mean over the exposure"),
    ("exposure_s", "scan", "s", "length of the exposure"),
    ("rotation_time_s", "scan", "s", "time of a rotation of the gantry, 0 for a localiser"),
    ("filament_current_a", "scan", "A", "heating current of the filament, mean over the exposure"),
    (
        "anode_heat_kj",
        "scan",
        "kJ",
        "heat stored in the anode at the end of the exposure, by the generator's reckoning",
    ),
    ("oil_temperature_c", "scan", "degC", "temperature of the tube's oil at the end of the exposure"),
    ("output_ratio", "scan", "1", "reference detector's reading per mAs over that at commissioning, same kV"),
    ("arcs", "scan", "1", "arcs in the tube during the exposure"),
    ("vibration_mm_s", "scan", "mm/s", "vibration of the tube's bearing, root mean square"),
    ("gantry_vibration_mm_s", "scan", "mm/s", "vibration of the gantry's bearing, root mean square"),
    ("slip_ring_errors", "scan", "1", "errors of data transfer over the slip ring during the scan"),
    ("coolant_flow_l_min", "scan", "l/min", "flow of the coolant"),
    ("dead_channels", "scan", "1", "cells without signal at the latest calibration"),
    (
        "gain_drift_percent",
        "scan",
        "%",
        "drift of the cells' gain since the latest calibration, root mean square",
    ),
    # wear
    # daily checks and drift
    # remaining life
    # survival
    # online
    # policy
]
