"""Published population models, one per file, each with its reference, population, units and the origin of every number.

>>> from nlme.models.theophylline import Theophylline
>>> import nlme
>>> nlme.describe(Theophylline())  # doctest: +SKIP
"""
