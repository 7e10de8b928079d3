"""Electrophysiology: cells, monodomain, eikonal, conduction system, electrocardiogram."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    submod_attrs={
        "cells": ["action_potential_duration", "single_cell"],
        "tissue": ["Conductivity", "Tissue", "effective_conductivity", "excitable", "slab"],
        "stimuli": ["Stimulus", "box_stimulus", "mask_stimulus", "sphere_stimulus", "surface_stimulus"],
        "propagation": ["monodomain"],
        "fronts": ["Source", "Velocity", "eikonal"],
        "lead_field": ["electrode_weights"],
        "ecg": ["ecg_of_activation", "electrode_positions", "qrs_duration", "twelve_leads"],
        "conduction_system": ["Entry", "entry_sources", "locate"],
        "induction": ["induce", "scan_coupling"],
        "calibration": ["conductivity_for", "planar_velocity"],
        "niederer": ["converged", "n_version"],
    },
)
