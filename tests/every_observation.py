"""Population models that observe by every row of the table of observation models, and by events, censored values and memory.

One subject for each row, so that an objective by subject is that of one observation model.
"""

from __future__ import annotations

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pandas as pd
from observations import TABLE

import nlme

EVENTS = {
    "event": ((0.5, 0), (1.2, 0), (2.0, 1)),
    "interval": ((0.5, 0), (1.5, 2)),
    "events": ((0.5, 1), (1.0, 0), (2.0, 2), (2.5, 1)),
}
CENSORED = {"M1": {}, "M2": {"lloq": 0.5}, "M3": {}, "M4": {}, "Student": {}, "interval": {}}
CENSORED_RECORDS = (
    (0.5, 1.4, 0, np.nan),
    (1.0, 0.5, 1, np.nan),
    (1.5, 0.6, 0, np.nan),
    (2.0, 0.5, 1, 0.2),
    (2.5, 0.7, -1, np.nan),
)
MEMORY = ((0.5, 1.1), (0.7, 1.4), (1.5, 0.6), (2.5, 0.3))
NAMES = [*TABLE, *(f"{n} (event)" for n in EVENTS), *(f"{n} (censored)" for n in CENSORED), "memory", "memory, log"]


#: rows that methods which linearise may be used for
NORMAL = {name for name, row in TABLE.items() if row.normal} | {"M1 (censored)", "memory", "memory, log"}


class Everything(nlme.Model):
    """f = 2 exp(-k t), and the first parameter of every row scaled by one number, each with a random effect."""

    k: nlme.Scalar = nlme.positive(0.6)
    spread: nlme.Scalar = nlme.positive(1.1)
    omega: nlme.Covariance = nlme.covariance(k=0.2, spread=0.1, correlation={("k", "spread"): 0.3})
    names: tuple = eqx.field(static=True, default=tuple(NAMES))

    def individual(self, eta, cov):
        return dict(k=self.k * jnp.exp(eta.k), spread=self.spread * jnp.exp(eta.spread))

    def courses(self, ind, state, t):
        """The prediction, and 2 (1 - exp(-k t)), its loss since time 0."""
        f = 2.0 * jnp.exp(-ind.k * t)
        return f, 2.0 - f

    def observe(self, ind, state, t):
        f, lost = self.courses(ind, state, t)
        return {name: self.one(name, f, lost, t, ind) for name in self.names}

    def one(self, name, f, lost, t, ind):
        normal, lognormal = nlme.additive(f, 0.3 * ind.spread), nlme.lognormal(f, 0.3 * ind.spread)
        if name in TABLE:
            p = jnp.array(TABLE[name].parameters)
            return TABLE[name].build(f, p.at[0].multiply(ind.spread))
        if name.endswith("(event)"):
            hazard, cumulative = 0.3 * ind.spread * (ind.k * f + 0.1), 0.3 * ind.spread * (lost + 0.1 * t)
            return nlme.time_to_event(hazard, cumulative, repeated=name.startswith("events"))
        if name.endswith("(censored)"):
            name = name.removesuffix(" (censored)")
            base = {"Student": nlme.student_t(f, 0.3 * ind.spread, 4), "interval": lognormal}.get(name, normal)
            return nlme.censored(base, name if name[0] == "M" else "M3", **CENSORED[name])
        return nlme.ar1(lognormal, 0.8) if name == "memory, log" else nlme.ar1(normal, 1.5)


class EverythingByEquations(Everything):
    def dynamics(self, ind):
        return nlme.ODE(
            lambda t, a: {"central": -ind.k * a.central, "lost": ind.k * a.central},
            states=("central", "lost"),
            initial={"central": 2.0},
        )

    def courses(self, ind, state, t):
        return state.central, state.lost


def population_of(names) -> nlme.Population:
    rows = []
    for k, name in enumerate(names, start=1):
        if name in TABLE:
            records = [(0.4 + 0.6 * j, y, 0, np.nan) for j, y in enumerate(TABLE[name].values)]
        elif name.endswith("(event)"):
            records = [(t, y, 0, np.nan) for t, y in EVENTS[name.removesuffix(" (event)")]]
        else:
            records = CENSORED_RECORDS if "censored" in name else [(t, y, 0, np.nan) for t, y in MEMORY]
        rows.append((k, 0.0, np.nan, 0, np.nan, 2, k))
        rows += [(k, t, y, cens, limit, 0, k) for t, y, cens, limit in records]
    table = pd.DataFrame(rows, columns=["ID", "TIME", "DV", "CENS", "LIMIT", "EVID", "DVID"])
    return nlme.read_nonmem(table, dvid=dict(enumerate(names, start=1)))
