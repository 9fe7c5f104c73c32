"""Predator and prey whose interaction is missing: its posterior as a network, and the probability of every term.

    x' = a x - NN(x, y)
    y' = c NN(x, y) - d y

Prey x, predators y (hundreds), time in years; a = 1.3, c = 8/9, d = 1.8 are known, the interaction is not. The data are eight
starts followed for 1.5 years, with an error of 0.02, made with

    NN = 0.9 x y

``nlme.sample`` draws the network (weights="laplace"), ``nlme.discover`` finds the terms of lowest BIC in every draw. Beside it
the sparse regression of the source: least squares on all polynomials up to degree 2, terms with a coefficient below lambda
taken away and the others fitted again until none is (sequential thresholds), for every draw and several lambda. AIC = n
log(error^2) + 2 terms.

Reference: R. Dandekar et al. (2020), Bayesian neural ordinary differential equations, arXiv:2012.07244; S. L. Brunton et al.
(2016), doi:10.1073/pnas.1517384113 (sequential thresholds); the rates: C. Rackauckas et al. (2020), arXiv:2001.04385.
"""

from __future__ import annotations

import warnings
from collections import Counter

import numpy as np
import numpyro.distributions as dist
import pandas as pd

import nlme
from nlme import Scalar
from nlme.discovery.terms import polynomials
from nlme.models.science import Number, Shown
from nlme.models.science._observed import observed
from nlme.plots.style import BLUE, GREY, INK, new_figure, picture

STARTS = [dict(x0=x, y0=y) for x, y in ((0.5, 0.5), (1, 2.5), (2.5, 0.6), (3, 2), (0.6, 1.5), (1.8, 1.2), (2.8, 1.2), (1.2, 0.4))]
LAMBDAS = (0.05, 0.1, 0.2, 0.5, 1.5)
RIGHT = "x * y"


class Missing(nlme.Model):
    """Growth, death and yield are known; who meets whom is a network."""

    net: nlme.MLP = nlme.mlp(inputs=("x", "y"), outputs=1, width=8, depth=1, key=1, center=1.5, scale=1.0)
    sd: Scalar = nlme.positive(0.05)
    covariates = {"x0": "", "y0": ""}

    def individual(self, eta, cov):
        return dict(x0=cov.x0, y0=cov.y0)

    def interaction(self, x, y):
        return self.net(x, y)[0]

    def dynamics(self, ind):
        def rhs(t, s):
            eaten = self.interaction(s.x, s.y)
            return dict(x=1.3 * s.x - eaten, y=8 / 9 * eaten - 1.8 * s.y)

        return nlme.ODE(rhs, ("x", "y"), initial=dict(x=ind.x0, y=ind.y0))

    def observe(self, ind, state, t):
        return {"prey": nlme.additive(state.x, self.sd), "predator": nlme.additive(state.y, self.sd)}


class Truth(Missing):
    """The interaction that made the data."""

    def interaction(self, x, y):
        return 0.9 * x * y


def run(fast: bool = False) -> Shown:
    """Draws of the interaction, and what each says of its terms; ``fast``: 100 draws instead of 300."""
    data = observed(Truth(sd=0.02), STARTS, np.linspace(0.15, 1.5, 10), ("prey", "predator"))
    priors = {"net": nlme.weight_prior("gaussian", 2.0), "sd": dist.HalfNormal(0.2)}
    draws = 100 if fast else 300
    with warnings.catch_warnings():  # what the approximation says of itself is a remark below
        warnings.simplefilter("ignore")
        posterior = nlme.sample(Missing(), data, priors, key=1, weights="laplace", draws=draws, progress=False)
    found = nlme.discover(posterior, model=Missing(), draws=draws)
    table, sets = by_threshold(posterior.learned_functions)
    row = found.table.loc[RIGHT]
    middle = sets[0.5].get((RIGHT,), 0) / draws
    numbers = [
        Number("probability of x y (discover)", 1.0, row["probability"], 0.7, 1.0, "truth"),
        Number("next probable term of degree 1 or 2", 0.0, runner_up(found), 0.0, 0.5, "truth"),
        Number("coefficient of x y, 1/year", 0.9, row["coefficient"], 0.8, 1.0, "truth"),
        Number("share of draws with x y alone at lambda 0.5", 1.0, middle, 0.5, 1.0, "truth"),
    ]
    remarks = (f"NN = {found.text}", "Terms by threshold: " + "; ".join(table), *posterior.attrs["messages"])
    return Shown("Lotka-Volterra: the missing interaction, Bayesian", tuple(numbers), drawn(posterior, found), remarks)


def runner_up(found) -> float:
    """Probability of the likeliest of the other polynomials."""
    return float(max([p for name, p in found.probabilities.items() if name != RIGHT and "half" not in name], default=0.0))


def by_threshold(group) -> tuple[list[str], dict[float, Counter]]:
    """For each lambda: its line of the table, and the sets of terms of all draws."""
    x, values = group["net_inputs"].values, group["net"].values[..., 0]
    terms = polynomials(2, 2)
    columns = np.stack([np.broadcast_to(np.asarray(term.at(x)), len(x)) for term in terms], axis=1)
    names = np.array([term.text(("x", "y"), "") for term in terms])
    lines, sets = [], {}
    for threshold in LAMBDAS:
        found = [thresholded(columns, y, threshold) for y in values.reshape(-1, len(x))]
        sets[threshold] = Counter(tuple(names[c != 0]) for c, _ in found)
        (own, count), error = sets[threshold].most_common(1)[0], np.mean([e for _, e in found])
        count_terms = np.mean([np.sum(c != 0) for c, _ in found])
        aic = len(x) * np.log(error**2) + 2 * count_terms
        share = f"{100 * count / len(found):.0f} % of draws"
        said = f"{count_terms:.1f} terms, {' + '.join(own) or 'none'} in {share}, error {error:.3f}, AIC {aic:.0f}"
        lines.append(f"lambda {threshold}: {said}")
    return lines, sets


def thresholded(columns: np.ndarray, y: np.ndarray, threshold: float) -> tuple[np.ndarray, float]:
    """Coefficients by sequentially thresholded least squares, and the root mean square error."""
    active, c = np.ones(columns.shape[1], bool), np.zeros(columns.shape[1])
    while True:
        c = np.zeros(len(c))
        c[active] = np.linalg.lstsq(columns[:, active], y, rcond=None)[0]
        small = active & (np.abs(c) < threshold)
        if not small.any():
            return c, float(np.sqrt(np.mean((columns @ c - y) ** 2)))
        active &= ~small


@picture
def drawn(posterior, found):
    """The learned interaction with its 90 % band against the true one, and the probabilities of terms."""
    figure = new_figure(3.0)
    left, right = figure.subplots(1, 2)
    group = posterior.learned_functions
    true = 0.9 * np.prod(group["net_inputs"].values, axis=1)
    low, middle, high = np.quantile(group["net"].values[..., 0], [0.05, 0.5, 0.95], axis=(0, 1))
    left.errorbar(
        true, middle, yerr=[middle - low, high - middle], fmt="o", color=BLUE, markersize=3, linewidth=0.8, label="network, 90 %"
    )
    left.plot([0, true.max()], [0, true.max()], "--", color=INK, label="truth")
    left.set(xlabel="True interaction (hundreds/year)", ylabel="Learned interaction (hundreds/year)")
    left.legend()
    shown = pd.Series(found.probabilities).sort_values().tail(6)
    right.barh([name.replace("**", "^") for name in shown.index], shown.to_numpy(), color=[GREY] * (len(shown) - 1) + [BLUE])
    right.set(xlabel="Probability of the term")
    return figure
