"""Diagnostics: what speaks for and against a fit."""
