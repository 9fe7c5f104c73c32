"""Minimisers and where they start, for one fit or many at once; they know no Fit."""
