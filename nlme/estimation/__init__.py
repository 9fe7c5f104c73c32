"""Estimation: fits, their results, and Bayesian sampling."""
