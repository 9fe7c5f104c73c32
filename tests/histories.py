"""Random dosing histories, and what they lead to by the plain rules of NONMEM's PREDPP, one event after another.

The system is a depot and a central compartment, da/dt = [[-ka, 0], [ka, -k]] a + r, moved by scipy's matrix exponential.  Nothing here
is taken from the library.  The rules:

* What a record says (rate constants, initial amounts) holds over the interval that ends at it.  Lag, bioavailability, duration and
  rate of a dose are those of its own record, for its additional doses, too.
* At one time a dose that is due (lagged, additional) comes before a record, records in their order.
* EVID 3 and 4 empty the system, cancel what is due and running, and begin again from the initial amounts of their own record.
* SS = 1 does the same and begins from the steady state, SS = 2 adds it.  The steady state is that without a lag at the time of a dose,
  moved on by II - lag, not at all where the lag is II or longer.  The infusion given n intervals ago ends lag + length - n II later.
* SS with AMT = 0 and II = 0: an infusion for ever, that ends at its record and knows no lag and no bioavailability.
"""

from __future__ import annotations

import heapq
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from scipy.linalg import expm

import nlme
from nlme.language.layout import lay_out
from nlme.language.solution import Expansion

BLANK = dict(ID=1, TIME=0.0, EVID=0, AMT=0.0, CMT=0, RATE=0.0, DUR=0.0, II=0.0, ADDL=0, SS=0, DV=1.0)
TYPICAL = dict(ka=1.1, k=0.3, lag=1.0, f=1.0, d=1.0, r=1.0, base=1.0)  # what the columns of a record are multiplied with
COVARIATES = ("k", "lag", "f", "d", "r", "base")
STATES = ("depot", "central")


class System:
    """The amounts in (depot, central), and what is still to come."""

    def __init__(self, base):
        self.state, self.time = np.array([0.0, base]), None
        self.due: list = []  # (time, order, amount, compartment, rate or None, length)
        self.running: list[tuple[float, int, float]] = []  # (end, compartment, rate)
        self.order = itertools.count()

    def clear(self, state):
        self.state, self.due, self.running = np.array(state, float), [], []

    def give(self, time, compartment, amount, rate, length):
        heapq.heappush(self.due, (time, next(self.order), amount, compartment, rate, length))

    def until(self, time, ka, k):
        """On to ``time``, with what is due until then."""
        while self.due and self.due[0][0] <= time:
            at, _, amount, compartment, rate, length = heapq.heappop(self.due)
            self._flow(at, ka, k)
            if rate is None:
                self.state[compartment] += amount
            else:
                self.running.append((at + length, compartment, rate))
        self._flow(time, ka, k)

    def _flow(self, time, ka, k):
        ends = sorted({end for end, _, _ in self.running if self.time < end < time} | {time})
        for end in ends:
            rates = np.zeros(2)
            for last, compartment, rate in self.running:
                if last > self.time:
                    rates[compartment] += rate
            self.state = moved(self.state, rates, end - self.time, ka, k)
            self.time = max(self.time, end)
        self.running = [run for run in self.running if run[0] > self.time]


def moved(state, rates, length, ka, k):
    """The amounts after ``length`` with constant input."""
    if length <= 0.0:
        return state
    whole = np.zeros((3, 3))
    whole[:2] = np.array([[-ka, 0.0, rates[0]], [ka, -k, rates[1]]])
    return (expm(whole * length) @ np.r_[state, 1.0])[:2]


def steady(compartment, amount, rate, length, interval, lag, ka, k):
    """Amounts at a steady-state record, and how long each infusion still under way goes on."""
    unit = np.eye(2)[compartment]

    def until(state, begin, end):
        """From one time after a dose to another, the infusions of all doses under way."""
        if rate is None:
            return moved(state, np.zeros(2), end - begin, ka, k)
        changes = [x for x in length - interval * np.arange(np.ceil(length / interval) + 1) if begin < x < end]
        for a, b in itertools.pairwise(sorted([begin, *changes, end])):
            middle = 0.5 * (a + b)
            count = sum(1 for n in range(int(length / interval) + 2) if middle + n * interval < length)
            state = moved(state, count * rate * unit, b - a, ka, k)
        return state

    def cycle(state):
        return until(state + (unit * amount if rate is None else 0.0), 0.0, interval)

    offset = cycle(np.zeros(2))
    decay = np.stack([cycle(e) - offset for e in np.eye(2)], axis=1)
    trough = np.linalg.solve(np.eye(2) - decay, offset)
    phase = max(interval - lag, 0.0)
    state = until(trough + (unit * amount if rate is None else 0.0), 0.0, phase)
    left = []
    if rate is not None:
        left = [lag + length - n * interval for n in range(1, int(length / interval) + 3) if (n - 1) * interval + phase < length]
    return state, left


def followed(records: pd.DataFrame, factors: dict[str, float], initial: bool) -> np.ndarray:
    """(records, 2) amounts at every record of one subject; ``factors`` multiply the columns of the same names."""

    def value(row, name):
        return TYPICAL[name] * factors.get(name, 1.0) * getattr(row, name, 1.0)

    found, system = [], None
    for row in records.itertuples():
        ka, k, lag, f, d, r, base = (value(row, name) for name in TYPICAL)
        base = base if initial else 0.0
        if system is None:
            system = System(base)
            system.time = clock = last = row.TIME
        clock += max(row.TIME - last, 0.0)  # stands still where that of the data goes back
        last = row.TIME
        system.until(clock, ka, k)
        if row.EVID in (3, 4):
            system.clear([0.0, base])
        if row.EVID in (1, 4):
            compartment = max(int(row.CMT) - 1, 0)
            amount, rate, length = row.AMT * f, None, 0.0
            if row.RATE > 0:
                rate, length = row.RATE, amount / row.RATE
            elif row.RATE == -1:
                rate, length = r, amount / r
            elif row.RATE == -2:
                rate, length = amount / d, d
            elif row.DUR > 0:
                rate, length = amount / row.DUR, row.DUR
            if row.SS and row.AMT == 0:
                level = np.linalg.solve(-np.array([[-ka, 0.0], [ka, -k]]), np.eye(2)[compartment] * rate)
                keep = system.state if row.SS == 2 else 0.0
                if row.SS == 1:
                    system.clear([0.0, 0.0])
                system.state = keep + level
            else:
                if row.SS:
                    state, left = steady(compartment, amount, rate, length, row.II, lag, ka, k)
                    keep = system.state if row.SS == 2 else 0.0
                    if row.SS == 1:
                        system.clear([0.0, 0.0])
                    system.state = keep + state
                    system.running += [(clock + more, compartment, rate) for more in left]
                for n in range(int(row.ADDL) + 1):
                    system.give(clock + n * row.II + lag, compartment, amount, rate, length)
                now = system.due[0][0] if system.due else np.inf
                if now <= clock:
                    system.until(clock, ka, k)
        found.append(system.state.copy())
    return np.array(found)


def history(random: np.random.Generator, who: int, varying: bool, ties: bool) -> pd.DataFrame:
    """One subject's records: doses of every kind, resets, observations, some at one time; and the columns that change with them."""
    rows, time = [], 0.0
    lagged = random.random() < 0.6
    for _ in range(random.integers(7, 14)):
        time += float(random.choice([0.0, 0.5, 1.0, 2.5, 4.0], p=[0.2, 0.2, 0.2, 0.2, 0.2]))
        kind = random.choice(["seen", "dose", "reset", "other"], p=[0.5, 0.36, 0.1, 0.04])
        row = BLANK | dict(ID=who, TIME=time)
        if kind == "seen":
            rows.append(row)
            continue
        row["DV"] = np.nan
        if kind == "other":
            rows.append(row | dict(EVID=2))
            continue
        if kind == "reset":
            if rows and random.random() < 0.4:
                time = float(random.choice([0.0, min(1.0, time)]))
            row |= dict(TIME=time, EVID=int(random.choice([3, 4])))
            if row["EVID"] == 3:
                rows.append(row)
                continue
        row["EVID"] = row["EVID"] or 1
        row |= dict(AMT=float(random.choice([10.0, 25.0])), CMT=int(random.integers(0, 3)))
        how = random.choice(["bolus", "rate", "duration", "modelled rate", "modelled duration"])
        row |= {
            "bolus": {},
            "rate": dict(RATE=float(random.choice([2.0, 5.0, 40.0]))),
            "duration": dict(DUR=float(random.choice([0.5, 3.0, 9.0]))),
            "modelled rate": dict(RATE=-1.0),
            "modelled duration": dict(RATE=-2.0),
        }[how]
        repeated = random.choice(["no", "additional", "steady", "added", "for ever"], p=[0.4, 0.25, 0.2, 0.1, 0.05])
        interval = float(random.choice([1.5, 4.0, 6.0]))
        if repeated == "for ever":
            row |= dict(SS=int(random.choice([1, 2])), AMT=0.0, RATE=float(random.choice([2.0, 7.0])), DUR=0.0)
        elif repeated != "no":
            row |= dict(II=interval, ADDL=int(random.integers(1 if repeated == "additional" else 0, 4)))
            row["SS"] = {"additional": 0, "steady": 1, "added": 2}[repeated]
        rows.append(row)
    rows.append(BLANK | dict(ID=who, TIME=time + 2.0))
    count = len(rows)

    def course(choices):
        values = random.choice(choices, size=count if varying else 1)
        keep = np.cumsum(random.random(count) < 0.3) if varying else np.zeros(count, int)
        return np.resize(values, count)[keep % len(values)]

    lags = [0.0, 0.4, 1.0, 1.5, 3.0, 4.0, 7.0] if lagged else [0.0]
    columns = dict(k=[1.0, 0.6, 2.0], lag=lags, f=[1.0, 0.7], d=[0.8, 2.0, 5.0, 9.0], r=[3.0, 12.0, 30.0], base=[5.0, 20.0])
    if not ties:
        columns = {
            name: [1.0137 * x + (0.0313 if name == "lag" and lagged else 0.0) for x in choices]
            for name, choices in columns.items()
        }
    return pd.DataFrame(rows).assign(**{name: course(choices) for name, choices in columns.items()})


def histories(seed: int, count: int, varying: bool, ties: bool = True) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    return pd.concat([history(random, who + 1, varying, ties) for who in range(count)], ignore_index=True)


def population_of(table: pd.DataFrame) -> nlme.Population:
    return nlme.read_nonmem(table, covariates=list(COVARIATES), time_varying="auto", allow=["duplicated record"])


def model_of(form: str, initial: bool = False) -> nlme.Model:
    """The system as a closed form ("closed"), by its matrix exponential ("exponential"), or as equations ("equations"); every number
    with a random effect."""

    class Dosed(nlme.Model):
        sd: nlme.Scalar = nlme.positive(1.0)
        omega: nlme.Covariance = nlme.covariance(**dict.fromkeys(TYPICAL, 0.1))
        covariates = dict.fromkeys(COVARIATES, "")

        def individual(self, eta, cov):
            return {name: x * jnp.exp(eta[name]) * (cov[name] if name in COVARIATES else 1.0) for name, x in TYPICAL.items()}

        def dynamics(self, ind):
            given = dict(lag=ind.lag, bioavailability=ind.f, duration=ind.d, rate=ind.r)
            rules = {rule: dict.fromkeys(STATES, x) for rule, x in given.items()}
            if form == "closed":
                return nlme.pk.OneCompartmentOral(cl=ind.k, v=1.0, ka=ind.ka, **rules)
            if form == "exponential":
                return nlme.pk.Linear(STATES, {STATES: ind.ka, ("central", None): ind.k}, **rules)

            def rhs(t, a):
                return {"depot": -ind.ka * a.depot, "central": ind.ka * a.depot - ind.k * a.central}

            return nlme.ODE(rhs, STATES, initial={"central": ind.base} if initial else None, **rules)

        def observe(self, ind, state, t):
            return {"y": nlme.additive(state.depot + state.central, self.sd)}

    return Dosed()


def predicted(table: pd.DataFrame, form: str, ode: nlme.Tolerances, initial: bool = False) -> np.ndarray:
    """(records, 2) amounts at every record by the library."""
    return nlme.predict(model_of(form, initial), population_of(table), ode=ode)[list(STATES)].to_numpy()


def expected(table: pd.DataFrame, initial: bool = False, **factors: float) -> np.ndarray:
    """(records, 2) amounts at every record by the rules."""
    return np.concatenate([followed(subject, factors, initial) for _, subject in table.groupby("ID", sort=False)])


def slopes(table: pd.DataFrame, form: str, ode: nlme.Tolerances, initial: bool = False) -> list[np.ndarray]:
    """Amounts at the observations, and their derivatives in the logarithms of the typical values (last axis), by the library's jets."""
    model = model_of(form, initial)
    layout = lay_out(model, population_of(table))
    zero = jnp.zeros(len(TYPICAL))

    def of_subject(data):
        at = Expansion(model, layout.anatomy, zero, data.covariates, data.timeline, 1, ode)

        def states(eta):
            return at(model, eta).states

        return states(zero), jax.jacfwd(states)(zero)

    (part,) = layout.arrays.parts  # few and small: one size class
    orders = [np.argsort(own[own >= 0], kind="stable") for own in layout.positions]
    found = jax.jit(jax.vmap(of_subject))(part.data)
    return [np.concatenate([np.asarray(x)[i][order] for i, order in enumerate(orders)]) for x in found]
