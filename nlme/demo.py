"""``nlme demo``: the library on real clinical data.

Four parts, independent of each other and run side by side in processes of their own; each returns what it has to say and writes
its files into the folder given.
"""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import time
import warnings
from collections.abc import Callable
from pathlib import Path


def theophylline(folder: Path) -> str:
    """FOCEI fit of an oral one-compartment model: table, pictures, report; the same model as an ODE; another dosing."""
    import nlme
    from nlme import datasets, plots
    from nlme.models.theophylline import Theophylline

    population = datasets.load("theophylline")
    fit = nlme.fit(Theophylline(), population, nlme.FOCEI(), progress=False)
    fit.save(folder / "theophylline.nlme")
    table = nlme.table(fit)
    table.to_csv(folder / "theophylline.csv")
    for form in ("latex", "html", "markdown", "rtf"):
        suffix = {"latex": "tex", "markdown": "md"}.get(form, form)
        getattr(table, f"to_{form}")(folder / f"theophylline.{suffix}")
    units = {"conc": "mg/L", "time": "h", "dose": "mg"}
    nlme.report(fit, folder / "theophylline.html", units=units)
    plots.goodness_of_fit(fit, units=units).savefig(folder / "theophylline_goodness_of_fit.png", dpi=150)
    plots.individual_fits(fit, units=units).savefig(folder / "theophylline_individuals.png", dpi=150)

    twice = nlme.dose(160, into="depot").every(12, n=4)
    hours = [0.5 * k for k in range(97)]
    scenarios = {
        "as given": nlme.predict(fit, population.with_times(hours)),
        "160 mg every 12 h": nlme.predict(fit, population.with_doses(twice).with_times(hours)),
    }
    scenarios["160 mg every 12 h"].to_csv(folder / "theophylline_160mg_every_12h.csv", index=False)
    picture = plots.counterfactual(scenarios, "conc", observed=fit.predictions, units=units)
    picture.savefig(folder / "theophylline_160mg_every_12h.png", dpi=150)
    trough = scenarios["160 mg every 12 h"].query("TIME == 48")["conc"]
    return (
        f"{fit}\n\n{table}\n\n"
        f"The same 12 people, each with their own estimated parameters, on 160 mg every 12 h: "
        f"concentration after 48 h {trough.min():.1f} to {trough.max():.1f} mg/L."
    )


def phenobarbital(folder: Path) -> str:
    """Neonates with covariates, the same model as a closed form and as an ODE."""
    import nlme
    from nlme import datasets
    from nlme.models.phenobarbital import Phenobarbital

    population = datasets.load("phenobarbital")
    fit = nlme.fit(Phenobarbital(), population, nlme.FOCEI(), progress=False)

    class AsODE(Phenobarbital):
        """The same model, its dynamics a differential equation."""

        def dynamics(self, ind):
            return nlme.ODE(lambda t, a: dict(central=-ind.cl / ind.v * a.central), states=("central",))

    ode = nlme.evaluate(AsODE.from_fit(fit), population, nlme.FOCEI())
    nlme.table(fit).to_csv(folder / "phenobarbital.csv")
    nlme.report(fit, folder / "phenobarbital.html", units={"conc": "mg/L", "time": "h"})
    return f"{fit}\n\n{nlme.table(fit)}\n\nClosed form {fit.objective:.6f}, the same dynamics as an ODE {ode.objective:.6f}."


def quinidine(folder: Path) -> str:
    """136 patients, covariates that change in time: a published covariate model against a network in its place."""
    import nlme
    from nlme import datasets
    from nlme.models.quinidine import Quinidine
    from nlme.models.quinidine_deep import PENALTY, QuinidineDeep

    population = datasets.load("quinidine")
    published = nlme.fit(Quinidine(), population, nlme.FOCEI(), progress=False)
    deep = nlme.fit(QuinidineDeep(), population, nlme.FOCEI(), penalty=PENALTY, starts=3, progress=False)
    nlme.report(deep, folder / "quinidine_deep.html", units={"conc": "mg/L", "time": "h"}, max_subjects=24)
    weights = sum(row.kind == "weight" for row in deep.parameters)
    return (
        f"Published covariate model: objective {published.objective:.2f} with {published.n_parameters} parameters.\n"
        f"A network of {weights} weights on the covariates in its place: objective {deep.objective:.2f} "
        f"(the penalty of {deep.penalty:.2f} on its weights is not part of it).\n{deep.verdict}"
    )


def indomethacin(folder: Path) -> str:
    """Bayesian universal ODE: elimination learned by a network inside the equations, with its posterior band."""
    import numpy as np

    import nlme
    from nlme import datasets, plots
    from nlme.models.indomethacin_ude import QUICK, IndomethacinUDE, learned, priors

    population = datasets.load("indomethacin")
    posterior = nlme.sample(IndomethacinUDE(), population, priors(), key=1, progress=False, **QUICK)
    observed = population.to_frame().query("EVID == 0")["DV"].astype(float)
    concentration = np.geomspace(observed.min(), observed.max(), 60)
    curves = learned(IndomethacinUDE(), posterior, concentration)
    picture = plots.learned_function(
        concentration,
        curves,
        observed=observed,
        x_label="Concentration (mg/L)",
        y_label="Clearance (L/h)",
        title="Indomethacin: learned clearance of a typical person",
    )
    picture.savefig(folder / "indomethacin_learned_clearance.png", dpi=150)
    lines = ["Typical clearance (L/h), posterior median and 90 % credible interval:"]
    for at in (0.1, 0.5, 2.0):
        low, middle, high = np.quantile(learned(IndomethacinUDE(), posterior, [at]), [0.05, 0.5, 0.95])
        lines.append(f"  at {at:3.1f} mg/L   {middle:5.2f}   ({low:.2f} to {high:.2f})")
    lines.append("A first look of {draws} draws in each of {chains} chains. What the sampler says about it:".format(**QUICK))
    return "\n".join(lines + [f"  {message}" for message in posterior.attrs["messages"]])


PARTS: tuple[tuple[str, Callable[[Path], str]], ...] = (
    ("Indomethacin: a Bayesian universal ODE, its elimination learned", indomethacin),
    ("Theophylline: closed form, FOCEI, report, another dosing of the same people", theophylline),
    ("Quinidine: a neural covariate model (DeepNLME)", quinidine),
    ("Phenobarbital in neonates: covariates, closed form against ODE", phenobarbital),
)


def run(out: Path) -> None:
    """Run every part, print what it says as it ends, and list what was written."""
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    clock = time.perf_counter()
    print(f"nlme demo: {len(PARTS)} parts on real trials, {_workers()} at a time; files go to {out}", flush=True)
    context = multiprocessing.get_context("spawn")
    failed = []
    with concurrent.futures.ProcessPoolExecutor(_workers(), mp_context=context) as pool:
        pending = {pool.submit(_part, part, out): title for title, part in PARTS}
        for done in concurrent.futures.as_completed(pending):
            title = pending[done]
            print(f"\n{'=' * 100}\n{title}   ({time.perf_counter() - clock:.0f} s)\n{'=' * 100}", flush=True)
            try:
                print(done.result(), flush=True)
            except Exception as error:  # one part that fails must not hide the others
                failed.append(title)
                print(f"failed: {type(error).__name__}: {error}", flush=True)
    written = ", ".join(sorted(path.name for path in out.iterdir()))
    print(f"\nDone in {time.perf_counter() - clock:.0f} s. Written to {out}: {written}")
    print(f"Open {out / 'theophylline.html'} in a browser.")
    if failed:
        raise SystemExit(1)


def _part(part: Callable[[Path], str], out: Path) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what they say stands in the part's own text
        return part(out)


def _workers() -> int:
    from nlme.language.ragged import cores

    return max(1, min(2, cores()))
