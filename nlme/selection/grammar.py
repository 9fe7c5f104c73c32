"""Structures of pharmacokinetics as words of a small grammar, and the model that each of them means, as Python text.

| feature        | words                                                                                           |
|----------------|-------------------------------------------------------------------------------------------------|
| compartments   | 1, 2, 3                                                                                         |
| absorption     | "none" (into the central compartment), "first order", "zero order", "transit" (Savic et al. 2007) |
| lag            | False, True; transit absorption has none                                                        |
| elimination    | "linear", "michaelis-menten", "mixed" (both)                                                    |
| iiv, iov       | which parts vary between subjects, and between occasions: "elimination" (cl, else vmax), "volume" (v), "absorption" |
|                | (ka, duration or mtt), "lag", "exchange" (q), "peripheral" (v2)                                 |
| correlated     | whether the effects of elimination and volume are                                               |
| error          | "additive", "proportional", "combined"                                                          |

What a combination cannot have is left out of it: there are different ways to say one model, and ``Candidate.of`` knows one of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from nlme.data.population import Population
from nlme.errors import ModelError
from nlme.language.files import class_in
from nlme.language.model import Model
from nlme.marginal.base import Method

ABSORPTIONS = ("none", "first order", "zero order", "transit")
ELIMINATIONS = ("linear", "michaelis-menten", "mixed")
ERRORS = ("additive", "proportional", "combined")
ROLES = ("elimination", "volume", "absorption", "lag", "exchange", "peripheral")
_NUMBER = {1: "One", 2: "Two", 3: "Three"}
_LABELS = {
    "cl": "Clearance",
    "vmax": "Largest rate of elimination",
    "km": "Concentration of half that rate",
    "v": "Central volume",
    "q": "Exchange with the peripheral volume",
    "v2": "Peripheral volume",
    "q3": "Exchange with the second peripheral volume",
    "v3": "Second peripheral volume",
    "ka": "Absorption rate constant",
    "duration": "Duration of absorption",
    "mtt": "Mean transit time",
    "n": "Number of transit compartments",
    "lag": "Lag of absorption",
    "add": "Additive error",
    "prop": "Proportional error",
}


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One structure; see the table above."""

    compartments: int = 1
    absorption: str = "first order"
    lag: bool = False
    elimination: str = "linear"
    iiv: tuple[str, ...] = ("elimination", "volume")
    correlated: bool = False
    iov: tuple[str, ...] = ()
    error: str = "combined"

    @classmethod
    def of(cls, **features: Any) -> Candidate:
        """The candidate with these features, without what does not go together."""
        new = cls(**features)
        lag = new.lag and new.absorption != "transit"
        there = {role for role in ROLES if dataclasses.replace(new, lag=lag)._parameter(role)}
        iiv, iov = (tuple(role for role in ROLES if role in own and role in there) for own in (new.iiv, new.iov))
        correlated = new.correlated and {"elimination", "volume"} <= set(iiv)
        return dataclasses.replace(new, lag=lag, iiv=iiv, iov=iov, correlated=correlated)

    def changed(self, **features: Any) -> Candidate:
        return Candidate.of(**(dataclasses.asdict(self) | features))

    def _parameter(self, role: str) -> str:
        """The parameter that a role falls to; nothing where there is none."""
        absorbed = {"none": "", "first order": "ka", "zero order": "duration", "transit": "mtt"}[self.absorption]
        return {
            "elimination": "vmax" if self.elimination == "michaelis-menten" else "cl",
            "volume": "v",
            "absorption": absorbed,
            "lag": "lag" if self.lag else "",
            "exchange": "q" if self.compartments > 1 else "",
            "peripheral": "v2" if self.compartments > 1 else "",
        }[role]

    @property
    def individual(self) -> tuple[str, ...]:
        """Names of the individual parameters."""
        eliminated = {"linear": ("cl",), "michaelis-menten": ("vmax", "km"), "mixed": ("cl", "vmax", "km")}[self.elimination]
        absorbed = {"none": (), "first order": ("ka",), "zero order": ("duration",), "transit": ("mtt", "n", "ka")}[
            self.absorption
        ]
        spaces = ("v", "q", "v2", "q3", "v3")[: 2 * self.compartments - 1]
        return (*eliminated, *spaces, *absorbed, *(("lag",) if self.lag else ()))

    @property
    def varying(self) -> tuple[str, ...]:
        """Names of the parameters that vary between subjects."""
        return tuple(self._parameter(role) for role in self.iiv)

    @property
    def moving(self) -> tuple[str, ...]:
        """Names of the parameters that vary between occasions."""
        return tuple(self._parameter(role) for role in self.iov)

    @property
    def errors(self) -> tuple[str, ...]:
        return {"additive": ("add",), "proportional": ("prop",), "combined": ("add", "prop")}[self.error]

    def contains(self, other: Candidate) -> bool:
        """Whether ``other`` is this one with something left out, so that this one's objective cannot be higher."""
        return (
            self.compartments >= other.compartments
            and self.absorption == other.absorption
            and self.lag >= other.lag
            and self.elimination in (other.elimination, "mixed")
            and (set(self.iiv) >= set(other.iiv) and set(self.iov) >= set(other.iov))
            and self.correlated >= other.correlated
            and self.error in (other.error, "combined")
        )

    @property
    def name(self) -> str:
        """Of its class."""
        absorbed = {"none": "", "first order": "Oral", "zero order": "ZeroOrder", "transit": "Transit"}[self.absorption]
        eliminated = {"linear": "", "michaelis-menten": "MichaelisMenten", "mixed": "Mixed"}[self.elimination]
        return f"{_NUMBER[self.compartments]}Compartment{absorbed}{'Lag' if self.lag else ''}{eliminated}"

    def __str__(self) -> str:
        words = [f"{self.compartments} compartment{'s' if self.compartments > 1 else ''}"]
        lag = " with lag" if self.lag else ""
        words += [f"{self.absorption} absorption{lag}" if self.absorption != "none" else lag.strip()]
        words += ["" if self.elimination == "linear" else f"{self.elimination} elimination"]
        words += [f"IIV {' '.join(self.varying) or 'none'}{' correlated' if self.correlated else ''}"]
        words += [f"IOV {' '.join(self.moving)}" if self.iov else "", f"{self.error} error"]
        return ", ".join(filter(None, words))


def text_of(candidate: Candidate, values: Mapping[str, float]) -> str:
    """The candidate as a class in Python, with these starting values: parameters by name, variances as "omega.cl", "occ.cl_occ"."""
    c = candidate
    lines = ["import jax.numpy as jnp", "", "import nlme", "from nlme import Scalar", "", ""]
    lines += [f"class {c.name}(nlme.Model):", f'    """{c}."""', ""]
    lines += [f'    {name}: Scalar = nlme.positive({values[name]:.6g}, label="{_LABELS[name]}")' for name in c.individual]
    lines += [f"    omega: nlme.Covariance = nlme.covariance({_variances(c, values)})"] if c.iiv else []
    if c.iov:
        own = ", ".join(f"{name}_occ={values[f'occ.{name}_occ']:.6g}" for name in c.moving)
        lines += [f'    occ: nlme.Covariance = nlme.covariance({own}, per="occasion")']
    lines += [f'    {name}: Scalar = nlme.positive({values[name]:.6g}, label="{_LABELS[name]}")' for name in c.errors]
    lines += ["", "    def individual(self, eta, cov):", "        return dict("]
    lines += [f"            {name}=self.{name}{_effect(c, name)}," for name in c.individual]
    lines += ["        )", "", "    def dynamics(self, ind):", *(f"        {line}" for line in _dynamics(c))]
    arguments = "".join(f", {name}=self.{name}" if c.error == "combined" else f", self.{name}" for name in c.errors)
    lines += ["", "    def observe(self, ind, state, t):"]
    lines += [f'        return {{"conc": nlme.{c.error}(state.central / ind.v{arguments})}}']
    return "\n".join([*lines, ""])


def _variances(c: Candidate, values: Mapping[str, float]) -> str:
    found = ", ".join(f"{name}={values[f'omega.{name}']:.6g}" for name in c.varying)
    pair = f'("{c._parameter("elimination")}", "v")'
    return f"{found}, correlation={{{pair}: {values['correlation']:.3g}}}" if c.correlated else found


def _effect(c: Candidate, name: str) -> str:
    parts = [f"eta.{name}"] * (name in c.varying) + [f"eta.{name}_occ"] * (name in c.moving)
    return f" * jnp.exp({' + '.join(parts)})" if parts else ""


def _dynamics(c: Candidate) -> list[str]:
    oral, lag = c.absorption in ("first order", "transit"), ", lag=ind.lag" * c.lag
    ka = ", ka=ind.ka" * oral
    spaces = {1: "v=ind.v", 2: "v1=ind.v, q=ind.q, v2=ind.v2", 3: "v1=ind.v, q2=ind.q, v2=ind.v2, q3=ind.q3, v3=ind.v3"}
    if c.elimination == "linear":
        pk = [f"nlme.pk.{_NUMBER[c.compartments]}Compartment{'Oral' * oral}(cl=ind.cl, {spaces[c.compartments]}{ka}{lag})"]
    elif c.compartments < 3:
        second = ", q=ind.q, v2=ind.v2" * (c.compartments == 2)
        linear = ", cl=ind.cl" * (c.elimination == "mixed")
        pk = [f"nlme.pk.michaelis_menten(v=ind.v, vmax=ind.vmax, km=ind.km{linear}{second}{ka}{lag})"]
    else:
        pk = _three(c, oral, lag)
    *before, pk = pk
    if c.absorption == "zero order":
        pk = f"nlme.pk.zero_order({pk}, ind.duration)"
    if c.absorption == "transit":
        pk = f"nlme.pk.transit({pk}, n=ind.n, mtt=ind.mtt)"
    return [*before, f"return {pk}"]


def _three(c: Candidate, oral: bool, lag: str) -> list[str]:
    """Equations of three compartments with saturable elimination, which has no block of its own."""
    linear = "ind.cl * conc + " * (c.elimination == "mixed")
    states = ("depot",) * oral + ("central", "peripheral1", "peripheral2")
    return [
        "def rhs(t, a):",
        "    conc = a.central / ind.v",
        f"    out = {linear}ind.vmax * conc / (ind.km + conc)",
        "    to2, to3 = ind.q * (conc - a.peripheral1 / ind.v2), ind.q3 * (conc - a.peripheral2 / ind.v3)",
        *(["    absorbed = ind.ka * a.depot"] if oral else []),
        f"    rates = dict(central={'absorbed - out' if oral else '-out'} - to2 - to3, peripheral1=to2, peripheral2=to3)",
        f"    return rates{' | dict(depot=-absorbed)' if oral else ''}",
        "",
        f"nlme.ODE(rhs, {states!r}{lag})",
    ]


def model_of(candidate: Candidate, values: Mapping[str, float]) -> Model:
    """The candidate's model with these starting values; see ``text_of``."""
    return class_in(text_of(candidate, values), candidate.name)()


def data_for(candidate: Candidate, population: Population) -> Population:
    """The data with doses as the candidate takes them: of a modelled duration (RATE = -2) for absorption of zero order."""
    if candidate.absorption != "zero order":
        return population
    subjects = [dataclasses.replace(s, rate=np.where(s.is_dose & (s.rate == 0), -2.0, s.rate)) for s in population]
    return dataclasses.replace(population, subjects=tuple(subjects))


def method_for(candidate: Candidate, method: Method) -> Method:
    """The method with an ODE solver for a search that nobody watches: "auto" for equations, unless it names one.

    On its way absorption may become a thousand times faster than elimination, where an explicit solver takes half a minute for one
    evaluation and gives up.
    """
    closed = candidate.elimination == "linear" and candidate.absorption != "transit"
    if closed or method.ode.solver is not None:
        return method
    return dataclasses.replace(method, ode=dataclasses.replace(method.ode, solver="auto"))


def require_words(feature: str, given: Iterable, known: tuple) -> tuple:
    """The options of a feature, one or several, without repetitions.

    Raises
    ------
    ModelError
        An unknown word, or none.
    """
    given = (given,) if isinstance(given, str | int | bool) else tuple(given)
    for word in given:
        if word not in known or (isinstance(word, bool) != isinstance(known[0], bool)):
            raise ModelError(f"structure_search: {feature} is one or several of {', '.join(map(repr, known))}; got {word!r}.")
    return tuple(word for word in known if word in given)
