"""Tables and pages of a fit. See :func:`nlme.table` and :func:`nlme.report`.

The room is not called ``report``: Python would bind ``nlme.report`` to the package and hide the function.
"""
