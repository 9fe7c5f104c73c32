"""Predictions of subjects by fits that have not seen them, against what was observed."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.figure import Figure

from nlme.errors import FitError
from nlme.plots.goodness import agreement
from nlme.plots.style import axis_label, known_units, new_figure, picture, wants_log


@picture
def held_out(validation, units: Mapping[str, str] | None = None) -> Figure:
    """Observed against predicted from covariates alone, each subject by the fit of the best penalty that has not seen it.

    Where the model has networks, a second column shows the same without them. Dashed: identity; solid: local trend (lowess).

    Parameters
    ----------
    validation : what :func:`nlme.cross_validate` returned
    units : units by endpoint name

    Raises
    ------
    FitError
        Not a cross-validation; a fold whose fit cannot predict the subjects left out.
    DataError
        A unit of something that is not there.
    """
    if not hasattr(validation, "predictions"):
        raise FitError(f"held_out takes what nlme.cross_validate returned; got {type(validation).__name__}.")
    tables = {"held out": validation.predictions()}
    if validation.plain is not None:
        tables["held out, without the networks"] = validation.predictions(without=True)
    first = next(iter(tables.values()))
    endpoints, units = list(dict.fromkeys(first.ENDPOINT)), known_units(units, first.ENDPOINT)
    figure = new_figure(3.2 * len(endpoints), width=3.6 * len(tables))
    grid = figure.subplots(len(endpoints), len(tables), squeeze=False)
    log = {name: wants_log(*(t[t.ENDPOINT == name][c] for t in tables.values() for c in ("DV", "PRED"))) for name in endpoints}
    for row, name in zip(grid, endpoints, strict=True):
        for axes, (title, table) in zip(row, tables.items(), strict=True):
            own = table[table.ENDPOINT == name]
            agreement(axes, own.PRED, own.DV, log[name])
            unit = units.get(name)
            axes.set(title=title, xlabel=axis_label("Prediction", unit), ylabel=axis_label(f"Observed {name}", unit))
    return figure
