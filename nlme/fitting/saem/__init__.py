"""Stochastic approximation EM: method, shifts, iteration, search, checkpoint."""
