"""The report of a posterior: what stands against it first, priors, draws and chains, and lines that sample it again."""

from __future__ import annotations

import re
import zipfile

import numpy as np
import pytest
from fit_stand_in import theophylline_fit
from normal_means import Means, groups, quietly
from posterior_stand_in import posterior_of

import nlme
from nlme.plots import traces
from nlme.reporting import sampled
from nlme.reporting.page import report

dist = pytest.importorskip("numpyro.distributions")


def _priors():
    return {"mu": dist.Normal(0.0, 2.0), "sd": dist.LogNormal(-0.5, 0.5), "omega.sd.mu": dist.HalfNormal(1.0)}


@pytest.fixture(scope="module")
def posterior():
    return quietly(Means(), groups(), _priors(), key=7, chains=2, warmup=60, draws=60)


def test_it_needs_its_model_and_its_own_data(tmp_path):
    found = posterior_of(Means(), groups(), {"mu": np.array([1.0, 2.0])})
    path = tmp_path / "x.html"
    with pytest.raises(nlme.FitError, match="holds neither its model nor its data"):
        report(found, path, population=groups())
    with pytest.raises(nlme.FitError, match="The posterior is of other data"):
        report(found, path, model=Means(), population=groups(seed=5))
    with pytest.raises(nlme.FitError, match="is of a fit"):
        report(found, path, model=Means(), population=groups(), interactive=True)
    with pytest.raises(nlme.FitError, match="are of a posterior; a fit holds its own"):
        report(theophylline_fit(), path, model=Means())
    assert not path.exists()


@pytest.mark.slow
def test_sections_and_numbers_of_a_posterior(posterior, tmp_path):
    """Checks are posterior predictive, the table is that of nlme.table, what is wrong comes first."""
    page = report(posterior, tmp_path / "x.html", model=Means(), population=groups(), priors=_priors(), checks=30).read_text()
    sections = re.findall(r'<section[^>]*id="([^"]+)"', page)
    assert sections[0] == "summary" and {"priors", "parameters", "goodness", "effects", "checks", "search", "again"} <= set(
        sections
    )
    assert "cannot be shown" not in page
    assert "Sampled; read what stands against it." in page and page.index("run longer") < page.index('id="parameters"')
    row = nlme.table(posterior).loc["mu"]
    assert f"{row.estimate:.4g}"[:4] in page
    for words in ("Normal(loc=0, scale=2)", "HalfNormal(scale=1)", "At the posterior means", "120 draws of the posterior"):
        assert words in page
    drawn = report(posterior, tmp_path / "x.docx", model=Means(), population=groups(), max_subjects=2)
    assert b"Normal(loc=0, scale=2)" in zipfile.ZipFile(drawn).read("word/document.xml")


@pytest.mark.slow
def test_its_last_lines_sample_the_same_draws_again(posterior, tmp_path):
    found = sampled.sampled_of(posterior, Means(), groups(), None)
    code = sampled._again(found)[-1].text
    call = next(line for line in code.splitlines() if "nlme.sample(" in line)
    names = dict(nlme=nlme, model=Means(), population=groups(), priors=_priors())
    with pytest.warns(UserWarning):
        exec(call, names)
    for name in ("mu", "sd", "omega.mu"):
        np.testing.assert_array_equal(names["posterior"].posterior[name], posterior.posterior[name])


def test_traces_have_a_line_for_each_chain():
    draws = np.random.default_rng(1).normal(size=20)
    found = posterior_of(Means(), groups(), {"mu": draws}, chains=2)
    figure = traces(found, parameters=["mu"])
    lines = figure.axes[0].get_lines()
    assert len(lines) == 2
    np.testing.assert_array_equal(lines[1].get_ydata(), draws[10:])
    with pytest.raises(nlme.FitError, match="No parameter named 'nu'"):
        traces(found, parameters=["nu"])


def test_a_marginal_runs_summary_says_what_leaving_subjects_out_costs():
    """Two draws whose likelihoods are alike predict as they fit; nothing is said where the marginal likelihoods are not known."""
    arviz, random = pytest.importorskip("arviz"), np.random.default_rng(3)
    found = posterior_of(Means(), groups(), {"mu": random.normal(size=400)}, chains=2)
    found.posterior["subpopulation"] = (("chain", "draw", "subject"), np.full((2, 200, 6), "low"))  # of a mixture: words
    assert not sampled._left_out(sampled.sampled_of(found, Means(), groups(), None))
    density = np.array([-3.0, -1.0, -5.0, -2.0, -4.0, -3.0]) + 1e-3 * random.normal(size=(2, 200, 6))
    found.add_groups({"log_likelihood": arviz.dict_to_dataset({"marginal": density}, dims={"marginal": ["subject"]})})
    ((_, words),) = sampled._left_out(sampled.sampled_of(found, Means(), groups(), None))
    assert words.startswith("-18.00 ±") and "Pareto" not in words
    found.attrs["weights"] = "laplace"  # whose draws are not the posterior's
    assert not sampled._left_out(sampled.sampled_of(found, Means(), groups(), None))


def test_traces_leave_weights_out_and_show_elements():
    from learned_level import LearnedLevel

    figure = traces(posterior_of(LearnedLevel(), groups(), {"level": np.arange(4.0)}))
    assert [axes.get_ylabel() for axes in figure.axes if axes.get_visible()] == ["level", "omega.level", "sd"]
