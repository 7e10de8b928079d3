"""When to replace: age, condition and prediction compared on a fleet, in hours and money."""
