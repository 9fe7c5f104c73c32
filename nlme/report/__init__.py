"""Tables and pages of a fit. See :func:`nlme.table` and :func:`nlme.report`."""
