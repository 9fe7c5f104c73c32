"""The parameter table: its formulas by hand, its exports by their own parsers."""

from __future__ import annotations

import csv
import math
import pickle
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pandas as pd
import pytest
from fit_stand_in import theophylline_fit

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


def test_wald_interval_and_rse_by_hand(fit, parameters):
    se = fit.covariance.standard_errors["cl"]
    row = parameters.loc["cl"]
    assert row["estimate"] == 2.786 and row["se"] == se
    assert row["rse_percent"] == pytest.approx(100 * se / 2.786, rel=1e-14)
    assert row["lower"] == pytest.approx(2.786 - 1.959963984540054 * se, rel=1e-14)
    assert row["upper"] == pytest.approx(2.786 + 1.959963984540054 * se, rel=1e-14)


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
