"""Structural models: the states of an individual at the times of the records, and their derivatives."""
