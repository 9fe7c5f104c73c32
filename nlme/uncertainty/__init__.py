"""Uncertainty of a fit beyond its covariance matrix (bootstrap, profile likelihood, importance resampling), and comparison."""
