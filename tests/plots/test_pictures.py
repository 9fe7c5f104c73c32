"""The pictures show the numbers they were given: what lies on the axes, what the labels say, what is refused."""

from __future__ import annotations

import importlib
from types import SimpleNamespace

import matplotlib
import numpy as np
import pandas as pd
import pytest
from fit_stand_in import concentration, theophylline_fit
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from nlme import plots
from nlme.errors import DataError
from nlme.plots.curves import dose_times
from nlme.plots.goodness import agreement
from nlme.plots.individuals import individual_fit_pages
from nlme.plots.style import INDIVIDUAL, OBSERVED, PALE, POPULATION, units_of, wants_log


@pytest.fixture(scope="module")
def fit():
    return theophylline_fit()


@pytest.fixture(scope="module")
def two_endpoints():
    return theophylline_fit(endpoints=("conc", "effect"))


def _points(axes):
    """(n, 2) the observations drawn on an axis."""
    return next(line.get_xydata() for line in axes.lines if line.get_marker() == OBSERVED["marker"])


def _labels(axes):
    return axes.get_xlabel(), axes.get_ylabel()


def test_goodness_of_fit_draws_every_observation(fit):
    rows = fit.predictions
    panels = plots.goodness_of_fit(fit, units={"conc": "mg/L", "time": "h"}).axes
    for axes, x, y in zip(panels, ("PRED", "IPRED", "TIME", "PRED"), ("DV", "DV", "CWRES", "CWRES"), strict=True):
        np.testing.assert_array_equal(_points(axes), rows[[x, y]])
    assert _labels(panels[0]) == ("Population prediction (mg/L)", "Observed conc (mg/L)")
    assert _labels(panels[2]) == ("Time (h)", "CWRES of conc")
    for axes in panels[:2]:  # the identity line is the diagonal
        assert axes.get_xlim() == axes.get_ylim() and axes.get_aspect() == 1
    for axes in panels[2:]:
        assert sum(axes.get_ylim()) == pytest.approx(0.0, abs=1e-12)


def test_values_beyond_a_limit_are_marked_and_have_no_part_in_the_trend(fit):
    """Half of them at a limit of 2 where the prediction is lower: the trend of the others stays on the identity line."""
    known = fit.predictions.assign(DV=fit.predictions["IPRED"])
    limits = known["DV"].to_numpy() < 2.0
    axes = Figure().subplots()
    agreement(axes, known["IPRED"], known["DV"].mask(limits, 2.0), False, known["DV"] < 2.0)
    points, marked, _, trend = axes.lines
    assert len(points.get_xdata()) == (~limits).sum() and list(marked.get_ydata()) == [2.0] * limits.sum() and limits.any()
    np.testing.assert_allclose(trend.get_ydata(), trend.get_xdata(), rtol=1e-6)


def test_endpoints_without_residuals_have_no_goodness_of_fit(two_endpoints):
    first, second = dict.fromkeys(two_endpoints.predictions["ENDPOINT"])
    bare = two_endpoints.predictions.copy()
    bare.loc[bare["ENDPOINT"] == second, ["IWRES", "CWRES"]] = np.nan
    event = SimpleNamespace(**{**vars(two_endpoints), "predictions": bare})
    labels = [axes.get_ylabel() for axes in plots.goodness_of_fit(event).axes]
    assert any(first in text for text in labels) and not any(second in text for text in labels)
    event.predictions = bare.assign(IWRES=np.nan, CWRES=np.nan)
    with pytest.raises(DataError, match="no residuals"):
        plots.goodness_of_fit(event)


def test_goodness_of_fit_has_one_row_per_endpoint(two_endpoints):
    panels = plots.goodness_of_fit(two_endpoints).axes
    assert len(panels) == 8
    for row, endpoint in enumerate(("conc", "effect")):
        mine = two_endpoints.predictions.query("ENDPOINT == @endpoint")
        np.testing.assert_array_equal(_points(panels[4 * row]), mine[["PRED", "DV"]])
        assert endpoint in panels[4 * row].get_ylabel()


def test_wide_positive_data_get_logarithmic_axes(fit):
    rng = np.random.default_rng(3)
    wide = theophylline_fit()
    wide.predictions = wide.predictions.assign(
        **{name: 10 ** rng.uniform(-2, 3, len(fit.predictions)) for name in ("DV", "PRED", "IPRED")}
    )
    scales = [(axes.get_xscale(), axes.get_yscale()) for axes in plots.goodness_of_fit(wide).axes]
    assert scales == [("log", "log"), ("log", "log"), ("linear", "linear"), ("log", "linear")]
    assert plots.goodness_of_fit(fit).axes[0].get_xscale() == "linear"  # theophylline has zeros


@pytest.mark.parametrize(
    ("values", "log"),
    [
        ([1.0, 2.0, 15.0], False),
        ([0.0, 1.0, 1e4], False),
        ([1e-2, 1.0, 1e3], True),
        ([np.nan, 1e-2, 1.0, 1e3], True),
        ([], False),
    ],
)
def test_wants_log(values, log):
    assert wants_log(values) is log


def test_missing_residuals_are_drawn_around():
    fit = theophylline_fit()
    fit.predictions.loc[3:9, "CWRES"] = np.nan
    panel = plots.goodness_of_fit(fit).axes[2]
    assert np.isfinite(panel.get_ylim()).all() and np.isnan(_points(panel)[:, 1]).sum() == 7


def test_individual_fits_at_the_observations(fit):
    panels = plots.individual_fits(fit, columns=3, max_subjects=5, fine=False, units={"conc": "mg/L", "time": "h"}).axes
    assert [axes.get_title(loc="left") for axes in panels if axes.get_visible()] == [f"ID {k}" for k in range(1, 6)]
    mine = fit.predictions.query("ID == 4")
    np.testing.assert_array_equal(_points(panels[3]), mine[["TIME", "DV"]])
    curves = {line.get_color(): line.get_xydata() for line in panels[3].lines}
    np.testing.assert_array_equal(curves[INDIVIDUAL["color"]], mine[["TIME", "IPRED"]])
    np.testing.assert_array_equal(curves[POPULATION["color"]], mine[["TIME", "PRED"]])
    assert _labels(panels[3]) == ("Time (h)", "conc (mg/L)")
    assert panels[2].get_xlabel() == "Time (h)"  # the panel below it is empty


def test_individual_fits_draw_the_fine_curves_they_are_given(fit, monkeypatch):
    def curves(fit, population):
        time = np.linspace(0, 24, 200)
        parts = []
        for subject in population:
            own = concentration(time, subject.amt[0], *fit.individual.loc[subject.id])
            parts.append(pd.DataFrame({"ID": subject.id, "TIME": time, "PRED": 2 * own, "IPRED": own}))
        return {"conc": pd.concat(parts)}

    monkeypatch.setattr(importlib.import_module("nlme.plots.individuals"), "fine_curves", curves)
    panels = plots.individual_fits(fit, subjects=[7]).axes
    assert len(panels) == 1
    drawn = next(line.get_ydata() for line in panels[0].lines if line.get_color() == INDIVIDUAL["color"])
    assert len(drawn) == 200
    np.testing.assert_array_equal(
        drawn, concentration(np.linspace(0, 24, 200), fit.population.subject(7).amt[0], *fit.individual.loc[7])
    )


def test_individual_fits_of_several_endpoints(two_endpoints):
    panels = plots.individual_fits(two_endpoints, columns=2, max_subjects=2, fine=False).axes
    assert [axes.get_ylabel() for axes in panels] == ["conc", "", "effect", ""]
    np.testing.assert_array_equal(
        _points(panels[3]), two_endpoints.predictions.query("ID == 2 and ENDPOINT == 'effect'")[["TIME", "DV"]]
    )


def test_censored_observations_have_their_own_mark():
    fit = theophylline_fit()
    fit.population[0].cens[-1] = 1
    panel = plots.individual_fits(fit, max_subjects=1, fine=False).axes[0]
    censored = [line.get_xydata() for line in panel.lines if line.get_marker() == "v" and len(line.get_xdata())]
    np.testing.assert_array_equal(censored[0], fit.predictions.query("ID == 1")[["TIME", "DV"]].to_numpy()[-1:])
    assert len(_points(panel)) == 10


def test_dose_times_of_additional_doses_and_infusions(fit):
    subject = fit.population[0]
    subject.addl[0], subject.ii[0], subject.rate[0] = 5, 12.0, subject.amt[0] / 2.0
    starts, ends = dose_times(subject)
    np.testing.assert_allclose(starts, [0.0, 12.0, 24.0])  # the record ends at 24 h
    np.testing.assert_allclose(ends, [2.0, 14.0, 24.0])
    subject.addl[0], subject.ii[0], subject.rate[0] = 0, 0.0, 0.0


def test_eta_distributions(fit):
    panels = plots.eta_distributions(fit).axes
    assert [axes.get_xlabel() for axes in panels] == ["η ka", "η cl", "η v"]
    for axes, name in zip(panels, fit.eta, strict=True):
        assert f"shrinkage {fit.shrinkage[name]:.1f} %" in axes.get_title()
        bars = [patch for patch in axes.patches if patch.get_facecolor() == matplotlib.colors.to_rgba(PALE)]
        assert sum(bar.get_width() * bar.get_height() for bar in bars) == pytest.approx(1.0)
        x, density = axes.lines[0].get_data()
        assert np.trapezoid(density, x) == pytest.approx(1.0, abs=0.003)  # the curve ends at 3.2 omega
        omega = next(row.value for row in fit.parameters if row.random_effect == name) ** 0.5
        assert density.max() == pytest.approx(1 / (omega * np.sqrt(2 * np.pi)), rel=1e-3)


def test_eta_covariates(fit):
    panels = plots.eta_covariates(fit).axes
    assert panels[-2].get_xlabel() == "wt (kg)" and panels[-1].get_xlabel() == "sex"
    weights = [subject.covariates["wt"][0] for subject in fit.population]
    np.testing.assert_array_equal(_points(panels[0]), np.stack([weights, fit.eta["ka"]], axis=1))
    assert [tick.get_text() for tick in panels[-1].get_xticklabels()] == ["female\n(n=6)", "male\n(n=6)"]
    assert sum(len(line.get_xdata()) for line in panels[1].lines if line.get_marker() == "o") == len(fit.eta)


def test_spearman_correlation_with_ties(fit):
    from nlme.plots.random_effects import _ranks

    scipy_stats = pytest.importorskip("scipy.stats")
    values = np.array([3.0, 1.0, 3.0, 2.0, 2.0, 2.0, 9.0])
    np.testing.assert_array_equal(_ranks(values), scipy_stats.rankdata(values) - 1)


def test_eta_covariates_says_what_is_missing(fit):
    with pytest.raises(DataError, match=r"No covariate named 'wtt'.*wt, sex.*'wt'"):
        plots.eta_covariates(fit, ["wtt"])
    bare = theophylline_fit()
    bare.population.covariates = {}
    with pytest.raises(DataError, match=r"covariates=\[\"wt\"\]"):
        plots.eta_covariates(bare)


def test_objective_history(fit):
    left, right = plots.objective_history(fit).axes
    drawn = left.lines[0].get_xydata()
    np.testing.assert_allclose(drawn[:, 1], (fit.history["objective"] - fit.history["objective"].min())[:-1])
    assert left.get_yscale() == right.get_yscale() == "log"
    np.testing.assert_array_equal(right.lines[0].get_ydata(), fit.history["gradient"])


def test_the_history_of_stochastic_approximation_is_not_said_to_be_an_objective(fit):
    saem = theophylline_fit()
    saem.history = saem.history.assign(smoothing=saem.history["iteration"] >= 10)
    left, right = plots.objective_history(saem).axes
    np.testing.assert_array_equal(left.lines[0].get_ydata(), saem.history["objective"])
    assert left.get_ylabel() == "Complete-data −2 log L" and left.get_yscale() == "linear" and right.get_yscale() == "log"
    assert [axes.lines[-1].get_xdata()[0] for axes in (left, right)] == [10, 10]


def test_residuals_that_there_are_none_of_are_said(fit):
    count = theophylline_fit()
    count.predictions["CWRES"] = np.nan
    texts = [text.get_text() for text in plots.goodness_of_fit(count).axes[2].texts]
    assert texts == ["none: not normal on any scale"]


def test_objective_history_of_a_fit_without_iterations(fit):
    empty = theophylline_fit()
    empty.history = empty.history.iloc[:1]
    assert len(plots.objective_history(empty).axes) == 2


def test_counterfactual(fit):
    rows = fit.predictions.rename(columns={"IPRED": "conc"})
    scenarios = {"as given": rows, "twice": rows.assign(conc=2 * rows["conc"])}
    figure = plots.counterfactual(scenarios, "conc", observed=fit.predictions, subjects=[2, 5, 9])
    panel = figure.axes[1]
    given, twice, observed = (line.get_ydata() for line in panel.lines)
    np.testing.assert_array_equal(twice, 2 * given)
    np.testing.assert_array_equal(observed, fit.predictions.query("ID == 5")["DV"])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["as given", "twice", "observed"]
    with pytest.raises(DataError, match="No column named 'cone'"):
        plots.counterfactual(scenarios, "cone")
    with pytest.raises(DataError, match="got 0"):
        plots.counterfactual({}, "conc")


@pytest.mark.slow
def test_no_text_leaves_the_figure_or_lies_on_other_text(fit, two_endpoints):
    """Every label inside the paper, no tick label over an axis label or title."""
    rows = fit.predictions.rename(columns={"IPRED": "conc"})
    figures = [
        plots.goodness_of_fit(fit, units={"conc": "mg/L"}),
        plots.goodness_of_fit(two_endpoints),
        plots.individual_fits(fit, fine=False),
        plots.individual_fits(two_endpoints, columns=2, max_subjects=3, fine=False),
        plots.eta_distributions(fit),
        plots.eta_covariates(fit),
        plots.objective_history(fit),
        plots.counterfactual({"as given": rows}, "conc"),
    ]
    for figure in figures:
        renderer = FigureCanvasAgg(figure).get_renderer()
        figure.draw(renderer)
        paper = figure.bbox.padded(1)
        labels = []
        for axes in (axes for axes in figure.axes if axes.get_visible()):
            labels += [axes.xaxis.label, axes.yaxis.label, axes.title, axes._left_title, axes._right_title]
        labels += [text for legend in figure.legends for text in legend.get_texts()]
        boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in labels if text.get_text()]
        for text, box in boxes:
            assert paper.fully_contains(box.x0, box.y0) and paper.fully_contains(box.x1, box.y1), f"{text!r} leaves the figure"
        for k, (text, box) in enumerate(boxes):
            for other, second in boxes[k + 1 :]:
                assert not box.overlaps(second), f"{text!r} lies on {other!r}"


def test_a_picture_shows_itself_and_leaves_the_users_settings_alone(fit):
    before = matplotlib.rcParams["font.size"], matplotlib.rcParams["axes.spines.top"]
    figure = plots.objective_history(fit)
    assert figure._repr_png_().startswith(b"\x89PNG")
    assert (matplotlib.rcParams["font.size"], matplotlib.rcParams["axes.spines.top"]) == before
    import sys

    assert "matplotlib.pyplot" not in sys.modules or not matplotlib.pyplot.get_fignums()


def test_the_unit_of_time_is_the_users_alone(fit):
    """Clearances in L/h do not say that the data count hours: the model may convert."""
    for given, label in ((None, "Time"), ({"time": "min"}, "Time (min)")):
        assert plots.individual_fits(fit, max_subjects=1, fine=False, units=given).axes[0].get_xlabel() == label
        assert plots.goodness_of_fit(fit, given).axes[2].get_xlabel() == label


@pytest.mark.parametrize("given", [{"Time": "h"}, {"cp": "mg/L"}, {"conc": "mg/L", "cl": "L/h"}, "h"])
def test_a_unit_of_what_is_not_there_is_refused(fit, given):
    rows = fit.predictions.rename(columns={"IPRED": "conc"})[["ID", "TIME", "conc"]]
    drawings = (
        lambda: plots.goodness_of_fit(fit, given),
        lambda: plots.individual_fits(fit, fine=False, units=given),
        lambda: individual_fit_pages(fit, units=given),
        lambda: plots.residuals(fit, units=given),
        lambda: plots.data(fit.population, units=given),
        lambda: plots.counterfactual({"one": rows}, "conc", units=given),
        lambda: plots.forecast(SimpleNamespace(frame=pd.DataFrame({"ENDPOINT": ["conc"]})), units=given),
        lambda: plots.held_out(SimpleNamespace(predictions=lambda: fit.predictions, plain=None), units=given),
    )
    words = "units=: a dict" if given == "h" else "units=: No quantity named .*: .*conc.*time, dose"
    for draw in drawings:
        with pytest.raises(DataError, match=words):
            draw()


def test_a_unit_may_be_given_by_the_name_that_the_data_have():
    fit = theophylline_fit()
    fit.population.endpoints = ("DV",)
    for given in ({"DV": "mg/L"}, {"conc": "mg/L"}):
        assert units_of(fit, given) == {"DV": "mg/L", "conc": "mg/L"}
        assert plots.goodness_of_fit(fit, given).axes[0].get_ylabel() == "Observed conc (mg/L)"


def test_many_covariates_continue_in_a_second_band():
    fit = theophylline_fit()
    info = fit.population.covariates["wt"]
    for subject in fit.population:
        subject.covariates |= {f"x{k}": subject.covariates["wt"] + k for k in range(5)}
    fit.population.covariates |= {f"x{k}": info for k in range(5)}
    panels = plots.eta_covariates(fit).axes
    visible = [axes for axes in panels if axes.get_visible()]
    assert len(visible) == 7 * 3 and len(panels) == 10 * 3
    assert [axes.get_ylabel() for axes in panels[::5]] == ["η ka", "η cl", "η v"] * 2
    np.testing.assert_array_equal(_points(panels[15])[:, 1], fit.eta["ka"])  # the sixth covariate opens the second band


def test_learned_function_draws_median_and_bands():
    x = np.geomspace(0.05, 2.7, 40)
    curves = 8.0 + np.random.default_rng(5).normal(size=(400, 1)) * x
    axes = plots.learned_function(x, curves, x_label="Concentration (mg/L)", y_label="Clearance (L/h)", title="Learned").axes[0]
    np.testing.assert_array_equal(axes.lines[-1].get_xydata(), np.stack([x, np.median(curves, axis=0)], axis=1))
    edges = axes.collections[0].get_paths()[0].get_extents()
    assert edges.y0 == pytest.approx(np.quantile(curves, 0.05, axis=0).min())
    assert edges.y1 == pytest.approx(np.quantile(curves, 0.95, axis=0).max())
    assert axes.get_xscale() == "log" and _labels(axes) == ("Concentration (mg/L)", "Clearance (L/h)")
    with pytest.raises(DataError, match=r"\(draws, 40\).*\(40, 400\)"):
        plots.learned_function(x, curves.T)


def test_the_grid_of_times_sees_peaks_in_a_long_record(fit):
    from nlme.data.subject import Subject
    from nlme.plots.curves import _grid

    time = np.array([0.0, 3.0, 4000.0, 4002.0])
    subject = Subject(1, time=time, evid=[1, 0, 1, 0], amt=[100.0, 0.0, 100.0, 0.0])
    grid = _grid(subject)
    assert np.isin(time, grid).all() and (np.diff(grid) > 0).all() and grid[0] == 0 and grid[-1] == 4002
    for dose in (0.0, 4000.0):
        assert ((grid > dose) & (grid < dose + 2)).sum() > 20
    assert ((grid < 4000) & (grid > 3999)).any()  # the trough before the second dose
    assert len(grid) < 400


def _texts(figure):
    return [text for text in figure.findobj(matplotlib.text.Text) if text.get_text()]


@pytest.mark.slow
def test_a_dollar_is_a_letter_and_an_underscore_no_reason_to_be_left_out(fit):
    """Also where the user's own settings say otherwise."""
    strange = theophylline_fit(endpoints=("$c_1$",))
    for subject in strange.population:
        subject.id = f"$${subject.id}"
    strange.predictions["ID"] = [f"$${i}" for i in strange.predictions["ID"]]
    rows = strange.predictions.rename(columns={"IPRED": "$c_1$"})
    x = np.linspace(0.1, 1, 20)
    with matplotlib.rc_context({"text.parse_math": True, "text.usetex": True}):
        figures = [
            plots.goodness_of_fit(strange, units={"$c_1$": "$mg$", "time": "$"}),
            plots.individual_fits(strange, fine=False, units={"time": "a_$b$"}),
            plots.eta_covariates(strange),
            plots.counterfactual({"_one": rows, "$two$": rows}, "$c_1$", observed=strange.predictions),
            plots.learned_function(x, np.tile(x, (9, 1)), reference=x, reference_label="_r", x_label="$x$", title="$$"),
        ]
        for figure in figures:
            assert figure._repr_png_().startswith(b"\x89PNG")
            assert _texts(figure) and not any(text.get_parse_math() or text.get_usetex() for text in _texts(figure))
    assert [text.get_text() for text in figures[3].legends[0].get_texts()] == ["_one", "$two$", "observed"]
    assert figures[4].axes[0].get_legend().get_texts()[-1].get_text() == "_r"


def test_a_long_id_stays_in_its_panel(fit):
    strange = theophylline_fit()
    strange.population[0].id = "a very long name of a subject"
    title = plots.individual_fits(strange, max_subjects=1, fine=False).axes[0].get_title(loc="left")
    assert title == "ID a very long name of…"


def test_what_has_nothing_to_draw_is_said(fit):
    from types import SimpleNamespace

    without = theophylline_fit()
    without.eta = without.eta.iloc[:, :0]
    for draw in (plots.eta_distributions, plots.eta_covariates):
        with pytest.raises(DataError, match="Theophylline has no random effects"):
            draw(without)
    with pytest.raises(DataError, match="has no history"):
        plots.objective_history(SimpleNamespace())
