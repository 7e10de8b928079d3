"""Survival of parts: Kaplan-Meier, Weibull, Cox."""
