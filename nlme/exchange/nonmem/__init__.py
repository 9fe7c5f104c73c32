"""NONMEM: control streams read into models, results into tables."""
