"""Remaining useful life learnt from telemetry: features, models, conformal intervals, anomalies, health."""
