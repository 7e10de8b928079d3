"""How a scanner wears under its workload: tube, detector, gantry, cooling; its telemetry and its effect on images."""
