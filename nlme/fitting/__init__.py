"""Estimation: fitting a model, and what a fit is."""
