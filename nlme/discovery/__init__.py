"""Learned terms read back as equations."""
