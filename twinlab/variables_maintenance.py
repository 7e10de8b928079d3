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
    ("filament_mass_loss", "day", "1", "share of the filament's wire that has evaporated"),
    ("filament_diameter_ratio", "day", "1", "diameter of the filament's wire over that of a new one"),
    ("track_roughness_um", "day", "um", "mean roughness of the focal track"),
    ("bearing_wear", "day", "1", "wear of the tube's bearing, 0 new to 1 seized"),
    ("focal_spot_factor", "day", "1", "width of the focal spot over the nominal one"),
    ("arc_rate_per_1000_scans", "day", "1", "arcs to be expected in 1000 scans like those of the workload"),
    (
        "detector_gain_drift_percent",
        "day",
        "%",
        "drift of the cells' gain since the latest calibration, root mean square",
    ),
    ("dead_channel_count", "day", "1", "cells without signal"),
    ("slip_ring_wear", "day", "1", "wear of the slip ring's brushes, 0 new to 1 worn out"),
    ("gantry_bearing_wear", "day", "1", "wear of the gantry's bearing, 0 new to 1 worn out"),
    ("coolant_fouling", "day", "1", "fouling of the cooler, 0 clean to 1 blocked"),
    ("exposure_seconds", "day", "s", "exposure seconds on this tube"),
    ("failed", "day", "1", "what failed on this day: a name, or nothing"),
    ("channel_gain", "row channel", "1", "gain of a cell over that at the latest calibration"),
    ("dead_cell", "cell cell_axis", "1", "row and channel of the cells without signal"),
    # daily checks and drift
    # remaining life
    # survival
    # online
    # policy
]
