"""State of a scanner followed as its telemetry arrives."""
