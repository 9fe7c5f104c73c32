"""Simulation: noise-free predictions, and new observations of the same or of new subjects."""
