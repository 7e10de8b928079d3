"""Drift of daily checks: control charts and change points."""
