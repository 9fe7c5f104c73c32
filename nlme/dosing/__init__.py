"""A dose for this patient: forecasts from a few samples, and the regimen that best meets a target."""
