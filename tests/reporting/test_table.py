"""The parameter table: its formulas by hand, its exports by their own parsers."""

from __future__ import annotations

import csv
import json
import math
import pickle
import re
import xml.etree.ElementTree as ElementTree
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from fit_stand_in import theophylline_fit

from nlme.errors import FitError
from nlme.parameters.domains import Domain
from nlme.reporting.table import COLUMNS, ParameterTable, table


@pytest.fixture(scope="module")
def fit():
    return theophylline_fit(weights=5)


@pytest.fixture(scope="module")
def parameters(fit):
    return table(fit)


def test_one_row_per_parameter_in_the_order_of_the_model(fit, parameters):
    assert list(parameters.columns) == list(COLUMNS)
    expected = [row.name for row in fit.parameters if row.kind != "weight"]
    assert list(parameters.index) == list(parameters["parameter"]) == expected
    assert len(table(fit, weights=True)) == len(fit.parameters)


def test_intervals_and_rse_by_hand(fit, parameters):
    se, z = fit.covariance.standard_errors, 1.959963984540054
    row = parameters.loc["cl"]
    assert row["estimate"] == 2.786 and row["se"] == se["cl"]
    assert row["rse_percent"] == pytest.approx(100 * se["cl"] / 2.786, rel=1e-14)
    # even on the log scale for what is positive, variances too; a covariance may have either sign
    for name in ("cl", "omega.cl", "add"):
        x, grown = parameters.loc[name, "estimate"], math.exp(z * se[name] / parameters.loc[name, "estimate"])
        assert tuple(parameters.loc[name, ["lower", "upper"]]) == pytest.approx((x / grown, x * grown), rel=1e-12)
    x = parameters.loc["omega.v,cl", "estimate"]
    reach = z * se["omega.v,cl"]
    assert tuple(parameters.loc["omega.v,cl", ["lower", "upper"]]) == pytest.approx((x - reach, x + reach), rel=1e-12)
    assert (parameters.drop(index=["omega.v,cl", "f"])["lower"] > 0).all()


def test_wald_intervals_on_the_natural_scale(fit):
    wald = table(fit, intervals="wald", level=0.9)
    se, x = fit.covariance.standard_errors["omega.cl"], 0.0646
    assert tuple(wald.loc["omega.cl", ["lower", "upper"]]) == pytest.approx(
        (x - 1.6448536269514722 * se, x + 1.6448536269514722 * se), rel=1e-12
    )
    assert "90 % CI" in wald.display() and "estimate ± 1.645 SE on the natural scale" in " ".join(wald.notes)


def test_a_bounded_parameter_has_its_interval_on_the_logit(fit):
    other = theophylline_fit()
    other.parameters[0].range, other.parameters[0].value = Domain("bounded", 1.0, 3.0), 1.48
    low, high = table(other).loc["ka", ["lower", "upper"]]
    t, se = 0.24, other.covariance.standard_errors["ka"]
    ends = [math.log(t / (1 - t)) + d * 1.959963984540054 * se / (2 * t * (1 - t)) for d in (-1, 1)]
    assert (low, high) == pytest.approx([1 + 2 / (1 + math.exp(-u)) for u in ends], rel=1e-12)
    assert "on the logit scale for bounded ones" in " ".join(table(other).notes)


def test_a_correlation_has_its_interval_on_fishers_z(fit, parameters):
    """By Monte Carlo on the covariance matrix, small enough for the delta method to be exact."""
    names, small = ["omega.v,cl", "omega.v", "omega.cl"], theophylline_fit(weights=5)
    small.covariance.matrix = small.covariance.matrix * 1e-4
    row = table(small).loc["omega.v,cl"]
    centre = parameters.loc[names, "estimate"].to_numpy()
    draws = np.random.default_rng(1).multivariate_normal(centre, small.covariance.matrix.loc[names, names], 200_000)
    z = np.arctanh(draws[:, 0] / np.sqrt(draws[:, 1] * draws[:, 2]))
    expected = np.tanh(z.mean() + np.array([-1.96, 1.96]) * z.std())
    np.testing.assert_allclose(row[["correlation_lower", "correlation_upper"]].astype(float), expected, atol=2e-4)
    text = parameters.display().loc["omega.v,cl", "IIV"]
    assert re.fullmatch(r"corr\. 0\.35 \[-?\d\.\d\d, \d\.\d\d\]", text)
    assert "correlations on Fisher's z" in " ".join(parameters.notes)


class _Refits:
    """What a bootstrap is to a table."""

    words, messages = "bootstrap, subjects resampled: percentiles of 3 of 3 replicates", ["One was strange."]

    def __init__(self, fit, factors=(0.5, 1.0, 2.0)):
        names = [row.name for row in fit.parameters if not row.fixed]
        values = np.array([row.value for row in fit.parameters if not row.fixed])
        fit.inventory = SimpleNamespace(
            names=names, kinds=[row.kind for row in fit.parameters if not row.fixed], natural=lambda model: values
        )
        self.fit, self.draws = fit, pd.DataFrame([values * f for f in factors], columns=names)
        self.standard_errors = self.draws.std()

    def interval(self, level):
        tail = 0.5 - 0.5 * level
        return pd.DataFrame({"lower": self.draws.quantile(tail), "upper": self.draws.quantile(1 - tail)})


def test_intervals_of_refits(fit):
    own = theophylline_fit(weights=5)
    found = _Refits(own)
    shown = table(own, intervals=found)
    assert tuple(shown.loc["cl", ["lower", "upper"]]) == pytest.approx((2.786 * 0.525, 2.786 * 1.95))
    assert shown.loc["cl", "se"] == found.standard_errors["cl"] and shown.loc["omega.v,cl", "correlation_lower"] == pytest.approx(
        0.3506, abs=1e-3
    )
    notes = " ".join(shown.notes)
    assert (
        found.words in notes
        and "SE: standard deviation of the same" in notes
        and "One was strange." in notes
        and "sandwich" not in notes
    )
    assert table(found).equals(shown)
    other = theophylline_fit(weights=5)
    other.parameters[0].value = 3.0
    _Refits(other)
    with pytest.raises(FitError, match="of another fit"):
        table(other, intervals=found)


def test_a_profile_of_some_parameters_says_which_have_none(fit):
    own = theophylline_fit()
    found = _Refits(own)
    found.draws, found.interval = None, lambda level: pd.DataFrame({"lower": [2.0], "upper": [np.inf]}, index=["cl"])
    shown = table(own, intervals=found)
    assert shown.loc["cl", "upper"] == np.inf and shown.display().loc["cl", "95 % CI"] == "[2.000, ∞]"
    assert np.isnan(shown.loc["ka", "lower"]) and shown.loc["ka", "se"] == own.covariance.standard_errors["ka"]
    assert any(note.startswith("Not profiled: ka, v, omega.ka") for note in shown.notes)


@pytest.mark.parametrize(
    ("given", "options", "words"),
    [
        (3, {}, "table takes a fit, several fits.*got int"),
        (None, {}, "got NoneType"),
        ([], {}, "table got no fits"),
        ({"a": 3}, {}, "'a' is int"),
        ("fit", {"intervals": "log"}, "'transformed'.*got 'log'"),
        ("fit", {"intervals": 3}, "got 'int'"),
        ("fit", {"level": 95}, "level is a probability.*got 95"),
        ("fit", {"level": 1.0}, "level is a probability"),
    ],
)
def test_what_is_no_table_is_said(fit, given, options, words):
    with pytest.raises(FitError, match=words):
        table(fit if given == "fit" else given, **options)


def test_a_held_parameter_is_not_said_to_be_obtained():
    fit = theophylline_fit()
    fit.covariance.standard_errors["omega.v"] = np.nan
    fit.covariance.verdict = "Obtained (sandwich); condition number 12. omega.v at a bound."
    fit.covariance.missing = "No standard error: omega.v (at a bound, taken as known by the others)."
    notes = table(fit).notes
    assert fit.covariance.missing in notes and not any("missing: Obtained" in note or "Obtained" in note for note in notes)


def test_a_verdict_against_the_fit_and_priors_stand_below_its_table():
    fit = theophylline_fit(problems=True)
    fit.priors, fit.penalty = {"cl": "LogNormal(loc=1, scale=0.3)"}, 2.0
    notes = table(fit).notes
    assert notes[0] == fit.verdict and any(note.startswith("Priors on cl") for note in notes)
    fit.priors = {}
    assert any(note.startswith("A penalty of 2.000") for note in table(fit).notes)


def test_a_runaway_variance_has_no_traceback():
    fit = theophylline_fit()
    fit.parameters[4].value = 1e5
    shown = table(fit)
    assert shown.loc["omega.ka", "cv_percent"] == np.inf and "CV ∞ %" in repr(shown)


# -- several fits side by side -----------------------------------------------------------------------------------------


@pytest.fixture
def several():
    base, final = theophylline_fit(), theophylline_fit(seed=8)
    final.parameters = [row for row in final.parameters if row.name != "omega.v,cl"] + [
        final.parameters[0].__class__(**{**vars(final.parameters[1]), "name": "age", "label": "Age", "unit": "1/year"})
    ]
    final.covariance.standard_errors["age"] = 0.5
    final.objective, final.model = 99.5, final.model
    return {"base": base, "final $1": final}


def test_models_side_by_side(several):
    shown = table(several)
    base, final = (table(fit) for fit in several.values())
    assert list(shown.index) == [*base.index, "age"]
    assert shown.loc["cl", ("base", "se")] == base.loc["cl", "se"] and np.isnan(shown.loc["omega.v,cl", ("final $1", "estimate")])
    lines = repr(shown).splitlines()
    assert lines[0].split() == ["Parameter", "Label", "Unit", "base", "final", "$1"]
    text = "\n".join(lines)
    assert re.search(r"Objective +104\.322 +99\.500", text) and re.search(r"f +Bioavailability +1\.000 \(fixed\)", text)
    assert f"2.786 ({base.loc['cl', 'rse_percent']:.1f})" in text and "Estimate (RSE %); –: not in the model." in text
    assert "CI" not in text and "Shrinkage" not in text  # nothing of it is shown
    assert (
        "final \\$1" in shown.to_markdown()
        and r"final \$1" in shown.to_latex()
        and len(shown.to_csv().splitlines()) == 1 + len(shown)
    )


def test_intervals_side_by_side_and_what_stands_against_a_fit(several):
    base = several["base"]
    base.converged, base.verdict, base.population.hash = False, "Do not use as it is.", "0" * 64
    shown = table(several, intervals="wald")
    low, high = table(base, intervals="wald").loc["cl", ["lower", "upper"]]
    assert f"2.786 [{low:.3f}, {high:.3f}]" in repr(shown) and "Estimates with 95 % CI" in repr(shown)
    assert any(note == "base: Do not use as it is." for note in shown.notes) and any(
        "different data" in note for note in shown.notes
    )
    assert len(table(list(several.values())).columns.levels[0]) == 2
    with pytest.raises(FitError, match="names 'other', which is none"):
        table(several, intervals={"other": "wald"})


# -- a posterior -------------------------------------------------------------------------------------------------------


def test_a_posterior_in_the_table(tmp_path):
    import arviz

    rng = np.random.default_rng(4)
    draws = {
        "cl": np.exp(1 + 0.1 * rng.standard_normal((2, 500))),
        "omega.cl": 0.1 * np.exp(0.2 * rng.standard_normal((2, 500))),
        "omega.v": 0.04 * np.exp(0.2 * rng.standard_normal((2, 500))),
        "eta": rng.standard_normal((2, 500, 3, 1)),
        "beta": rng.standard_normal((2, 500, 2)),
    }
    draws["omega.v,cl"] = 0.5 * np.sqrt(draws["omega.cl"] * draws["omega.v"])
    kinds = {
        "cl": "fixed effect",
        "omega.cl": "variance",
        "omega.v,cl": "covariance",
        "omega.v": "variance",
        "beta[0]": "fixed effect",
        "beta[1]": "weight",
    }
    told = [
        {"name": name, "label": f"L {name}", "unit": "L/h", "kind": kind, "transform": "log-normal"}
        for name, kind in kinds.items()
    ]
    posterior = arviz.from_dict(
        posterior=draws,
        coords={"beta_element": ["beta[0]", "beta[1]"]},
        dims={"beta": ["beta_element"]},
        attrs={"parameters": json.dumps(told), "model": "Mine", "messages": ["Run longer."]},
    )
    for one in (posterior, _through_a_file(posterior, tmp_path)):
        shown = table(one, level=0.9)
        assert set(shown.index) == {"cl", "omega.cl", "omega.v", "omega.v,cl", "beta[0]"}
        assert shown.loc["cl", "estimate"] == np.median(draws["cl"]) and shown.loc["cl", "se"] == np.std(draws["cl"], ddof=1)
        assert tuple(shown.loc["cl", ["lower", "upper"]]) == tuple(np.quantile(draws["cl"], [0.05, 0.95]))
        assert shown.loc["omega.cl", "sd"] == np.median(np.sqrt(draws["omega.cl"])) and shown.loc[
            "omega.v,cl", "correlation"
        ] == pytest.approx(0.5)
        assert abs(shown.loc["cl", "r_hat"] - 1) < 0.02 and 500 < shown.loc["cl", "ess"] < 1500
        text = repr(shown)
        assert all(
            word in text
            for word in ("Mine: 2 chains of 500 draws", "Median", "90 % CrI", "R-hat", "Run longer.", "1 network weights")
        )
    assert "beta[1]" in table(posterior, weights=True).index
    del posterior.attrs["parameters"]
    with pytest.raises(FitError, match="posterior that nlme.sample returned"):
        table(posterior)


def _through_a_file(posterior, folder):
    import arviz

    return arviz.from_netcdf(posterior.to_netcdf(str(folder / "x.nc")))


def test_rse_is_positive_for_a_negative_estimate():
    fit = theophylline_fit()
    fit.parameters[0].value = -1.48
    assert table(fit).loc["ka", "rse_percent"] > 0


def test_variability_between_subjects(fit, parameters):
    # omega2 = 0.0646 on a log-normal clearance: sd of the log 0.254, coefficient of variation 25.83 %
    assert parameters.loc["omega.cl", "cv_percent"] == pytest.approx(25.8326, abs=1e-4)
    assert parameters.loc["omega.cl", "sd"] == pytest.approx(math.sqrt(0.0646), rel=1e-14)
    # an effect that is added has a standard deviation but no coefficient of variation
    assert math.isnan(parameters.loc["omega.v", "cv_percent"])
    assert parameters.loc["omega.v", "sd"] == pytest.approx(math.sqrt(0.0158), rel=1e-14)
    assert parameters.loc["omega.v,cl", "correlation"] == pytest.approx(0.0112 / math.sqrt(0.0158 * 0.0646), rel=1e-14)
    for name in ("cl", "add", "omega.v,cl"):
        assert np.isnan(parameters.loc[name, ["cv_percent", "sd", "shrinkage_percent"]].astype(float)).all()
    assert parameters.loc["omega.ka", "shrinkage_percent"] == fit.shrinkage["ka"]


def test_a_fixed_parameter_has_no_error(parameters):
    row = parameters.loc["f"]
    assert row["fixed"] and np.isnan(row[["se", "rse_percent", "lower", "upper"]].astype(float)).all()
    assert parameters.display().loc["f", "SE"] == "fixed"
    assert not parameters.drop(index="f")["fixed"].any()


def test_missing_standard_errors_are_explained():
    fit = theophylline_fit(problems=True)
    parameters = table(fit)
    assert parameters["se"].isna().all()
    assert any(fit.covariance.verdict in note for note in parameters.notes)
    assert "95 % CI" not in parameters.display()


def test_notes_say_how_it_was_computed(parameters):
    notes = " ".join(parameters.notes)
    for phrase in ("sandwich", "natural scale", "Wald", "exp(ω²)", "SD(η)", "9.1 %", "5 network weights"):
        assert phrase in notes


def test_it_prints_rounded_and_keeps_full_precision(parameters):
    shown = repr(parameters)
    assert "32.00" in shown and "CV 25.8 %" in shown and parameters.title in shown
    assert parameters.loc["omega.cl", "rse_percent"] != round(parameters.loc["omega.cl", "rse_percent"], 6)


def test_selected_rows_keep_the_exports(parameters):
    variances = parameters.query("kind == 'variance'")
    assert isinstance(variances, ParameterTable) and variances.notes == parameters.notes
    assert variances.to_markdown().count("\n|") == 1 + len(variances)  # the rule and the rows after the header
    again = pickle.loads(pickle.dumps(parameters))
    assert again.title == parameters.title
    pd.testing.assert_frame_equal(pd.DataFrame(again), pd.DataFrame(parameters))


def test_without_estimates_it_is_an_ordinary_frame(parameters):
    assert "Clearance" in repr(parameters[["label", "unit"]])
    with pytest.raises(TypeError, match="estimate"):
        parameters[["label"]].to_markdown()


def test_csv_has_full_precision(parameters, tmp_path):
    parameters.to_csv(tmp_path / "p.csv")
    with open(tmp_path / "p.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for name in (name for name in COLUMNS if parameters[name].dtype == float):
        np.testing.assert_array_equal([float(row[name] or "nan") for row in rows], parameters[name])
    assert [row["parameter"] for row in rows] == list(parameters["parameter"])
    assert rows[list(parameters.index).index("add")]["label"] == "Additive error, 100 % of LLOQ"


def test_markdown_is_a_rectangle(parameters):
    lines = [line for line in parameters.to_markdown().splitlines() if line.startswith("|")]
    assert len(lines) == 2 + len(parameters)
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1
    assert len({len(line) for line in lines}) == 1


def test_html_parses_and_escapes(tmp_path):
    fit = theophylline_fit()
    fit.parameters[1].label = 'CL <"typical"> & more'
    fragment = table(fit).to_html(tmp_path / "p.html")
    assert (tmp_path / "p.html").read_text(encoding="utf-8") == fragment
    tree = ElementTree.fromstring(f"<div>{fragment}</div>")
    rows = tree.findall(".//tbody/tr")
    assert len(rows) == 10 and {len(row) for row in rows} == {len(tree.findall(".//thead/tr/th"))}
    assert rows[1][1].text == 'CL <"typical"> & more'
    assert all("style" in cell.attrib for row in rows for cell in row)  # a clipboard carries no style sheet


def test_latex_is_escaped_and_balanced():
    fit = theophylline_fit()
    fit.parameters[1].label = "50 % of V_max ^ {a} & b #1 $ \\ ~"
    source = table(fit).to_latex(caption="A_1", label="tab:parameters")
    body = source.split("\\midrule")[1].split("\\bottomrule")[0]
    rows = [line for line in body.splitlines() if line]
    assert all(line.endswith(r" \\") for line in rows)
    columns = len(re.search(r"\\begin\{tabular\}\{(\w+)\}", source)[1])
    assert {len(re.findall(r"(?<!\\)&", line)) for line in rows} == {columns - 1}
    assert r"50 \% of V\_max \textasciicircum{} \{a\} \& b \#1 \$ \textbackslash{} \textasciitilde{}" in body
    assert re.sub(r"\\[{}]", "", source).count("{") == re.sub(r"\\[{}]", "", source).count("}")
    assert not re.search(r"(?<!\\)[%_#]", body) and r"\caption{A\_1}" in source and r"\label{tab:parameters}" in source
    assert source.isascii()  # every sign of the standard notes has a LaTeX name


def test_rtf_is_one_table_with_every_cell(parameters):
    source = parameters.to_rtf()
    assert source.startswith(r"{\rtf1") and source.isascii()
    rows, columns = 1 + len(parameters), parameters.display().shape[1]
    assert source.count(r"\row") - source.count(r"\rowd") == rows == source.count(r"\trowd")
    assert source.count("\\cell\n") == rows * columns == len(re.findall(r"\\cellx\d+", source))
    plain = re.sub(r"\\[\\{}]", "", source)
    assert plain.count("{") == plain.count("}")
    assert r"R\u8315?\u185? S" in source  # R⁻¹ S: superscripts as UTF-16 code units
