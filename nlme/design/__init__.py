"""Designs of studies: what a population model's parameters would be known to, and when to sample so that they are known best."""
