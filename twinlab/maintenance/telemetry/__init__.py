"""Telemetry of scanners: its schema, readers, and the quarantine of what cannot be used."""
