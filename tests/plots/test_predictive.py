"""Pictures of checks by simulation: what is drawn is what the check says, strata and limits have panels, refusals."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from checked_models import Answers, design, drawn, trial_of_events, with_values
from fit_stand_in import theophylline_fit
from matplotlib.backends.backend_agg import FigureCanvasAgg

import nlme
from nlme import plots
from nlme.plots import normal


@pytest.fixture(scope="module")
def limited():
    population = design(20, doses=(10.0, 30.0))
    values = drawn(population, 41)
    below = values[0] < 2.0
    return with_values(population, np.where(below, 2.0, values[0]), below), values[1:]


@pytest.fixture(scope="module")
def fit():
    return theophylline_fit()


def _line(axes, like):
    return any(
        line.get_xdata().shape == like.shape and np.array_equal(line.get_ydata(), like, equal_nan=True) for line in axes.lines
    )


def _no_overlap(figure):
    """Every visible label inside the figure."""
    FigureCanvasAgg(figure).draw()
    box = figure.bbox
    for axes in figure.axes:
        if axes.get_visible():
            for text in (axes.title, axes.xaxis.label, axes.yaxis.label):
                extent = text.get_window_extent()
                if text.get_text():
                    assert box.x0 - 1 <= extent.x0 and extent.x1 <= box.x1 + 1
                    assert box.y0 - 1 <= extent.y0 and extent.y1 <= box.y1 + 1


def test_a_panel_for_each_stratum_and_below_it_the_fraction_under_the_limit(limited):
    check = nlme.vpc(limited[0], simulations=limited[1], stratify="dose")
    figure = check.plot(units={"conc": "mg/L", "time": "h"})
    upper = [axes for axes in figure.axes if axes.get_title(loc="left")]
    assert [axes.get_title(loc="left") for axes in upper] == ["dose 10", "dose 30"] and len(figure.axes) == 4
    for stratum, axes, lower in zip(check.strata, upper, figure.axes[2:], strict=True):
        table = check.table[check.table["STRATUM"] == stratum]
        for name in ("5 %", "50 %", "95 %"):
            seen = table.loc[table["QUANTITY"] == name, "OBSERVED"].to_numpy()
            assert _line(axes, np.where(np.isfinite(seen), seen, np.nan))
        assert _line(lower, table.loc[table["QUANTITY"] == "below limit", "OBSERVED"].to_numpy())
        assert lower.get_xlabel() == "Time (h)" and not axes.get_xlabel()
    assert upper[0].get_ylabel() == "conc (mg/L)" and upper[0].get_ylim() == upper[1].get_ylim()
    _no_overlap(figure)


def test_logarithmic_axes_by_option(limited):
    check = nlme.vpc(limited[0], simulations=limited[1])
    axes = plots.vpc(check, log=True, log_time=True).axes[0]
    assert (axes.get_yscale(), axes.get_xscale()) == ("log", "log")
    negative = with_values(limited[0], -np.ones(120))
    with pytest.raises(nlme.DataError, match="log=True: some values of conc"):
        nlme.vpc(negative, simulations=limited[1]).plot(log=True)


def test_one_bin_is_drawn_as_wide_as_it_is(limited):
    check = nlme.vpc(limited[0], simulations=limited[1], bins=1)
    assert any(len(line.get_xdata()) == 2 and list(line.get_xdata()) == [0.5, 12.0] for line in check.plot().axes[0].lines)


def test_categories_counts_and_survival():
    grades = with_values(design(20, endpoint="grade"), np.random.default_rng(0).integers(0, 3, 120))
    check = nlme.vpc(Answers(), grades, simulations=np.random.default_rng(1).integers(0, 3, (20, 120)), stratify="arm")
    figure = check.plot()
    titles = [axes.get_title(loc="left") for axes in figure.axes if axes.get_visible()]
    assert titles == [f"arm {a}, P({k})" for a in (0, 1) for k in range(3)]
    _no_overlap(figure)
    counts = dataclasses.replace(grades, endpoints=("count",))
    mean = nlme.vpc(Answers(), counts, simulations=np.random.default_rng(1).poisson(1.0, (20, 120)))
    assert mean.plot().axes[0].get_ylabel() == "Mean count"


def test_survival_begins_at_one():
    from checked_models import Event

    check = nlme.vpc(Event(), trial_of_events(40, 3), key=1, replicates=100)
    axes = check.plot(units={"time": "weeks"}).axes[0]
    observed = axes.lines[1]
    assert observed.get_ydata()[0] == 1.0 and observed.get_drawstyle() == "steps-post"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("Time (weeks)", "Fraction without event")


def test_prediction_errors_and_their_outliers_by_name(limited):
    values = limited[1].copy()
    far = with_values(design(20, doses=(10.0, 30.0)), np.where(np.arange(120) == 30, 1e3, drawn(limited[0], 1)[0]))
    errors = nlme.npde(far, simulations=np.concatenate([values, drawn(limited[0], 800, seed=3)]))
    figure = errors.plot(units={"conc": "mg/L"})
    assert len(figure.axes) == 4 and "6" in [text.get_text() for text in figure.axes[0].texts]  # record 30 is of subject 6
    assert figure.axes[3].get_xlabel() == "Mean prediction of conc (mg/L)"
    _no_overlap(figure)
    assert plots.npde(errors, which="NPD").axes[0].get_ylabel() == "Quantiles of NPD"
    with pytest.raises(nlme.DataError, match="which='PD'"):
        plots.npde(errors, which="PD")


def test_the_band_of_quantiles_holds_normal_numbers():
    random, outside = np.random.default_rng(0), 0
    from matplotlib.figure import Figure

    for _ in range(20):
        axes = Figure().subplots()
        x = random.standard_normal(50)
        normal.quantiles(axes, x, list(range(50)), "x")
        vertices = axes.collections[0].get_paths()[0].vertices
        theory, ordered = axes.lines[-1].get_xdata(), axes.lines[-1].get_ydata()
        for t, y in zip(theory, ordered, strict=True):
            ends = vertices[np.isclose(vertices[:, 0], t), 1]
            outside += not ends.min() <= y <= ends.max()
    assert outside / 1000 == pytest.approx(0.05, abs=0.04)


def test_numerical_check(limited):
    check = nlme.npc(limited[0], simulations=limited[1])
    panels = check.plot().axes
    assert [axes.get_title() for axes in panels] == ["Below the interval", "Above the interval"]


def test_residuals_pairs_and_covariates_of_a_fit(fit):
    figure = plots.residuals(fit, units={"conc": "mg/L"})
    labels = [(axes.get_xlabel(), axes.get_ylabel()) for axes in figure.axes]
    assert labels[1] == ("Individual prediction (mg/L)", "|IWRES| of conc") and labels[3] == ("IWRES, one before", "IWRES")
    assert "pairs" in figure.axes[3].get_title(loc="right")
    _no_overlap(figure)
    _no_overlap(plots.residual_covariates(fit))
    pairs = [axes for axes in plots.eta_pairs(fit).axes if axes.get_visible()]
    count = fit.eta.shape[1]
    assert len(pairs) == count * (count - 1) // 2
    with pytest.raises(nlme.DataError, match="residual='NPDE'"):
        plots.residuals(fit, residual="NPDE")


def test_the_data_before_any_model(limited):
    figure = plots.data(limited[0], stratify="dose", units={"conc": "mg/L", "time": "h"})
    first = figure.axes[0]
    assert first.get_title(loc="left") == "dose 10" and first.get_ylabel() == "conc (mg/L)"
    below = next(line for line in first.lines if line.get_marker() == "v")
    assert len(below.get_xdata()) == sum(int(s.cens.sum()) for s in limited[0] if s.covariates["dose"][0] == 10)
    _no_overlap(figure)
    with pytest.raises(nlme.DataError, match="No endpoint named 'cnc'"):
        plots.data(limited[0], endpoints="cnc")


@pytest.mark.parametrize("draw", [plots.vpc, plots.npde, plots.npc])
def test_what_is_no_check_is_refused(draw):
    with pytest.raises(nlme.DataError, match="returns; got str"):
        draw("fit")
