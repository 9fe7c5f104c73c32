"""Uncertainty of a fit beyond its covariance matrix: bootstrap, profile likelihood, sampling importance resampling; comparison."""
